//! What can go wrong with files: the operation, the file, and why.

use crate::fs::archive::ArchiveError;
use crate::fs::attr::Ino;
use crate::lsm;
use std::sync::Arc;
use std::{fmt, io};

/// A failed operation on files.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op} {subject}: {cause}")]
pub struct Error {
    /// What was tried: `create`, `rename` …
    pub op: &'static str,
    /// On what.
    pub subject: Subject,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// The result of an operation on files.
pub type Result<T> = std::result::Result<T, Error>;

/// What an operation was tried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The whole file system.
    FileSystem,
    /// The file with this inode number.
    Inode(Ino),
    /// A name in the directory with this inode number.
    Name(Ino, Box<[u8]>),
    /// A path from the root.
    Path(Box<[u8]>),
    /// The volume or snapshot of this name.
    Volume(String),
}

impl Subject {
    /// A name in a directory.
    pub(super) fn name(dir: Ino, name: &[u8]) -> Subject {
        Subject::Name(dir, name.into())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::FileSystem => write!(f, "file system"),
            Subject::Inode(ino) => write!(f, "inode {ino}"),
            Subject::Volume(name) => write!(f, "{}", name.escape_debug()),
            Subject::Path(path) => write!(f, "{}", String::from_utf8_lossy(path).escape_debug()),
            Subject::Name(dir, name) => write!(f, "\"{}\" in inode {dir}", name.escape_ascii()),
        }
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No such name, or the directory was removed.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("file exists")]
    Exists,
    /// A directory is needed.
    #[error("not a directory")]
    NotDirectory,
    /// Not for directories.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// Not allowed, whoever asks.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// Not allowed for this sort of file.
    #[error("permission denied")]
    NotAllowed,
    /// Not a thing that this file system has.
    #[error("operation not supported")]
    NotSupported,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// An extended attribute's value is too long.
    #[error("value too long")]
    TooLong,
    /// There are as many extended attributes as can be listed.
    #[error("no room for more attributes")]
    NoRoom,
    /// A name or a link's target is too long.
    #[error("name too long")]
    NameTooLong,
    /// No room is left on the disk.
    #[error("no space left on the disk")]
    DiskFull,
    /// There is nothing of what was looked for up to the file's end.
    #[error("past the end of the file")]
    PastEnd,
    /// Past the largest size of a file.
    #[error("file too large")]
    FileTooLarge,
    /// The link count is at its limit.
    #[error("too many links")]
    TooManyLinks,
    /// The file system is mounted read-only.
    #[error("read-only file system")]
    ReadOnly,
    /// Every inode number was used.
    #[error("no inode numbers left")]
    NoInodes,
    /// From one volume into another.
    #[error("not in the same volume")]
    OtherVolume,
    /// The volume is mounted.
    #[error("mounted on {0}: unmount it first")]
    Mounted(String),
    /// Nobody looked up this inode, or it was forgotten.
    #[error("stale inode number")]
    Stale,
    /// A record that no writer writes.
    #[error("bad record at key {key}: {what}")]
    BadRecord {
        /// The record's key, escaped.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The system refused.
    #[error("{what}: {errno}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        errno: rustix::io::Errno,
    },
    /// A name that an import brings is there already.
    #[error("{0} exists already")]
    NameTaken(String),
    /// An archive cannot be read.
    #[error("{0}")]
    Archive(Arc<ArchiveError>),
    /// What is written does not go out.
    #[error("write: {0}")]
    Output(Arc<io::Error>),
    /// A batch expected something else.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was to be.
        expected: String,
        /// What is.
        found: String,
    },
    /// More than there may be.
    #[error("{count} {what}: the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] lsm::Error),
}

impl From<ArchiveError> for Cause {
    fn from(error: ArchiveError) -> Cause {
        Cause::Archive(Arc::new(error))
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::Output(Arc::new(error))
    }
}

impl Cause {
    /// Names the operation and its subject.
    pub(super) fn of(self, op: &'static str, subject: Subject) -> Error {
        Error { op, subject, cause: self }
    }

    /// A bad record at `key`.
    pub(super) fn bad_record(key: &[u8], what: &'static str) -> Cause {
        Cause::BadRecord { key: key.escape_ascii().to_string(), what }
    }
}

/// Names the operation and its subject in a failed result.
pub(super) trait Context<T> {
    /// Joins the cause with what was tried, on what.
    fn context(self, op: &'static str, subject: impl FnOnce() -> Subject) -> Result<T>;
}

impl<T, C: Into<Cause>> Context<T> for std::result::Result<T, C> {
    fn context(self, op: &'static str, subject: impl FnOnce() -> Subject) -> Result<T> {
        self.map_err(|cause| cause.into().of(op, subject()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_operation_file_and_cause() {
        let e = Cause::Exists.of("mkdir", Subject::name(7, b"a\n\xff"));
        assert_eq!(e.to_string(), r#"mkdir "a\n\xff" in inode 7: file exists"#);
        let e = Cause::bad_record(b"e\x00a", "unknown format").of("stat", Subject::Inode(3));
        assert_eq!(e.to_string(), r"stat inode 3: bad record at key e\x00a: unknown format");
    }
}
