//! Tar archives: reading and writing them, as `import` and `export` need them.
//!
//! Read are the formats that tar programs write: old (v7), ustar, GNU (long names, sparse files, numbers in base 256)
//! and pax (global and own headers; times to the nanosecond, extended attributes as `SCHILY.xattr`, access
//! control lists as `SCHILY.acl`, sparse files of versions 0.0, 0.1 and 1.0); plain or compressed with gzip or
//! zstd. Written is pax, which GNU tar and the others read. Names are bytes.
//!
//! (The `tar` crate cuts pax records at newlines, which binary attributes hold, and knows neither pax sparse files
//! nor access control lists.)
//!
//! # Bounds
//! Of a member that is read there are in memory its headers, [`META_MAX`] bytes of them at most, and a piece of its
//! contents. What goes past a bound, or makes no sense, is an error that names the byte.

pub mod acl_text;
mod header;
mod pax;
mod read;
mod sparse;
mod unpack;
mod write;

pub use read::Reader;
pub use unpack::unpacked;
pub use write::Writer;

use crate::fs::Timestamp;
use std::io;

/// The unit of an archive.
pub const BLOCK: usize = 512;

/// The most bytes of one member's names and attributes.
pub const META_MAX: u64 = 32 << 20;

/// A member of an archive: a file, without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path, as it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permissions, setuid, setgid, sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The last change of the contents.
    pub mtime: Timestamp,
    /// The last access, if it is said.
    pub atime: Option<Timestamp>,
    /// Extended attributes and access control lists, as the system's calls name and give them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The length of a regular file.
    pub size: u64,
    /// Where a regular file has data, if not everywhere: offset and length, ascending.
    pub extents: Option<Vec<(u64, u64)>>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of a member before it.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It does not come.
    #[error("read the archive: {0}")]
    Read(#[source] io::Error),
    /// It makes no sense.
    #[error("byte {offset} of the archive: {what}")]
    Malformed {
        /// Where, in what is unpacked.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

/// The result of reading an archive.
pub type Result<T> = std::result::Result<T, ArchiveError>;
