//! Checking the files of a volume: do its records fit together, and what would mend them.
//!
//! One pass over all records ([`gather`]) keeps of each file its inode number, of each directory and of each
//! file with several names a little more: about 10 bytes a file, 150 a directory. Then [`judge`] compares:
//!
//! - the tree: every directory has one entry, in a directory, and its `p` record says which; nothing lies in a
//!   directory that is not there, or in itself;
//! - names: an entry that only points to a file has the file's record and its `i inode directory name`; link
//!   counts are the numbers of names, and of subdirectories;
//! - contents: chunks belong to a file and lie below its size, and it says how many of their pages are stored;
//! - extended attributes belong to a file that says that it has some; the counter of inode numbers is past all;
//! - the volume's tally is what its records count.
//!
//! Unlinked files that wait for the next open to give back their room (`o` records) are no problem.
//!
//! Each [`Finding`] knows its mend, so that `repair` is: check, mend, and check again until nothing is found
//! ([`mend()`]). What lost its name gets one in the root, `lost+found.INODE`.

mod gather;
mod judge;
mod mend;

pub use mend::{Mended, mend};

use crate::fs::attr::{FileKind, Ino};
use crate::fs::entry::Record;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::lsm::{Tally, Volume};
use gather::Gathered;
use std::fmt;

/// So many findings are kept of one pass; more are counted.
const FINDINGS_MAX: usize = 10_000;

/// Names of files and directories that lost theirs.
const FOUND_PREFIX: &str = "lost+found.";

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The path, or as much as is known of where.
    pub place: String,
    /// What is wrong.
    pub what: String,
    mends: Vec<Mend>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A change that mends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mend {
    Delete(Vec<u8>),
    Put {
        key: Vec<u8>,
        head: Vec<u8>,
    },
    Change {
        key: Vec<u8>,
        field: Field,
    },
    /// All keys from the first up to the second.
    DeleteRange(Vec<u8>, Vec<u8>),
    /// The file's record, wherever its entry is, says that it has extended attributes.
    SayAttributes(Ino),
    /// The volume's tally is this.
    Count(Tally),
}

/// A field of a record and what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Links(u32),
    Pages(u64),
    Size(u64),
    HasXattrs(bool),
}

impl Field {
    fn set(self, record: &mut Record) {
        match self {
            Field::Links(links) => record.nlink = links,
            Field::Pages(pages) => record.pages = pages,
            Field::Size(size) => record.size = size,
            Field::HasXattrs(has) => record.has_xattrs = has,
        }
    }
}

/// Where something is wrong.
#[derive(Debug, Clone)]
enum Place {
    Key(Vec<u8>),
    Entry(Ino, Box<[u8]>),
    Inode(Ino),
    Volume,
}

/// What a check saw.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Regular files, links, devices: everything but directories.
    pub files: u64,
    /// Directories, the root too.
    pub directories: u64,
    /// Unlinked files whose room the next open gives back.
    pub orphans: u64,
    /// What does not fit; at most ten thousand of them.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub more: u64,
}

/// Checks a volume's records. `seen` is called for each.
///
/// # Errors
/// What keeps a record from being read.
pub fn check(volume: &Volume, seen: &mut dyn FnMut()) -> Result<Report> {
    let mut look = || -> std::result::Result<Report, Cause> {
        let gathered = Gathered::of(volume, seen)?;
        judge::judge(volume, gathered)
    };
    look().context("check", || Subject::FileSystem)
}

/// Findings, gathered.
#[derive(Debug, Default)]
struct Findings {
    list: Vec<(Place, String, Vec<Mend>)>,
    more: u64,
}

impl Findings {
    fn add(&mut self, place: Place, what: impl Into<String>, mends: Vec<Mend>) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push((place, what.into(), mends));
        } else {
            self.more += 1;
        }
    }
}

/// May this kind of file have chunks?
fn has_contents(kind: FileKind) -> bool {
    kind == FileKind::File
}

/// Where an entry stands, as its key says.
fn entry_place(key: &[u8]) -> Option<(Ino, &[u8])> {
    let name = keys::entry_name(key)?;
    Some((keys::ino_of(key)?, name))
}
