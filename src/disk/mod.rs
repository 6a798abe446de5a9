//! The disk floor: the only code that touches the operating system's files.
//!
//! A store is a flat set of named files of two sorts:
//!
//! - **Objects** (tables, blobs, manifest snapshots) are whole and immutable: they are written
//!   once, appear under their name only when complete and synced, are read by range, listed and
//!   deleted. Object storage can serve them.
//! - **Logs** (log segments, manifest edits) are written at growing offsets and synced.
//!
//! [`real::RealDisk`] is a directory; [`sim::SimDisk`] is a simulation in memory that decides
//! from a seed what a power cut keeps and which operations fail.
//!
//! Names are plain file names (no `/`). Every method may be called from any thread.

pub mod lock;
pub mod real;
pub mod sim;

use bytes::Bytes;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A failed disk operation: what was tried, on which file, and the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("{op} {name}: {source}")]
pub struct DiskError {
    /// What was tried: `open`, `read`, `write`, `sync` …
    pub op: &'static str,
    /// The file's name in the store (or its path).
    pub name: String,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Joins an operation, a file and the system's answer.
    pub fn new(op: &'static str, name: impl Into<String>, source: io::Error) -> DiskError {
        DiskError { op, name: name.into(), source }
    }

    /// Is the disk (or the quota on it) full?
    pub fn is_full(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// Does the file not exist?
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The result of a disk operation.
pub type Result<T> = std::result::Result<T, DiskError>;

/// A file as [`Disk::list`] shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The file's name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// The room on the disk below a store, in bytes and in files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are free for anyone.
    pub available: u64,
    /// Bytes that are free, those reserved for root included.
    pub free: u64,
}

/// A store's directory.
pub trait Disk: Send + Sync + Debug {
    /// Starts an object. Nothing exists under `name` until [`ObjectWriter::finish`] returned.
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>>;

    /// Opens an existing file (object or log) for reading.
    fn open(&self, name: &str) -> Result<Arc<dyn Object>>;

    /// Creates an empty log file; an existing `name` is an error (`AlreadyExists`). The entry is
    /// durable after [`Disk::sync_dir`].
    fn create_log(&self, name: &str) -> Result<Arc<dyn LogFile>>;

    /// The store's files, in no order; directories and unfinished objects are left out.
    fn list(&self) -> Result<Vec<Listed>>;

    /// Deletes a file. That it is gone is durable after [`Disk::sync_dir`]; readers that have it
    /// open keep reading it.
    fn delete(&self, name: &str) -> Result<()>;

    /// Moves a file into the folder `lost/`, under a name that is free there.
    fn move_to_lost(&self, name: &str) -> Result<()>;

    /// Makes created, finished, deleted and moved names durable.
    fn sync_dir(&self) -> Result<()>;

    /// The room on the disk.
    fn space(&self) -> Result<Space>;
}

/// An object that is being written. Dropped unfinished, it leaves nothing behind.
pub trait ObjectWriter: Send {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Syncs the contents, gives the object its name (put if absent: an existing object of that
    /// name is an error and stays as it is) and syncs the directory.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A file open for reading.
pub trait Object: Send + Sync + Debug {
    /// Exactly `len` bytes from `offset`; an `UnexpectedEof` error where the file is shorter.
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes>;

    /// The length in bytes, asked of the system.
    fn len(&self) -> Result<u64>;

    /// Is the file empty?
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A log open for writing. Writes at different offsets and syncs may run concurrently.
pub trait LogFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> Result<()>;

    /// Makes the contents and the length durable.
    fn sync(&self) -> Result<()>;
}
