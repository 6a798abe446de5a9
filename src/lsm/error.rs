//! The engine's errors.

use crate::disk::DiskError;
use std::sync::Arc;

/// What can go wrong in the engine. Cloning is cheap: one failure may be the answer to many callers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error("{0}")]
    Disk(Arc<DiskError>),
    /// A file holds what no writer writes: bits flipped, or part of it is lost.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Corruption {
        /// The file's name in the store.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A file was written by a later version.
    #[error("{file} has format version {found}; this lsmfs reads up to {supported}: use a newer lsmfs")]
    NewerFormat {
        /// The file's name in the store.
        file: String,
        /// The version that it says.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// The directory holds files, but no store.
    #[error("not an lsmfs store: {0}")]
    NotAStore(String),
    /// The store stopped taking writes after a failure that could lose some.
    #[error("the store is read-only since an error: {0}")]
    ReadOnly(Arc<Error>),
    /// No volume has that name.
    #[error("no volume is named {0}")]
    NoVolume(String),
    /// A volume or snapshot has that name already.
    #[error("a volume or snapshot is named {0} already")]
    VolumeExists(String),
    /// No volume can have that name.
    #[error(
        "{0:?} is no name for a volume: 1 to 255 bytes, no / or @, no control character, no dot in front"
    )]
    BadVolumeName(String),
    /// Snapshots take no writes.
    #[error("{0} is a snapshot: fork it to write")]
    IsSnapshot(String),
    /// A write would take a volume past its quota.
    #[error("the volume {volume} is at its quota of {limit} {what}")]
    OverQuota {
        /// The volume's name.
        volume: String,
        /// `bytes` or `files`.
        what: &'static str,
        /// The quota.
        limit: u64,
    },
    /// A key or a value is larger than the formats hold.
    #[error("{what} of {len} bytes: the limit is {limit}")]
    TooLarge {
        /// `key`, `value` or `batch`.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The most it may be.
        limit: usize,
    },
    /// A patch that does not fit its record, or not what it lies over.
    #[error("bad patch of key {key}: {what}")]
    BadPatch {
        /// The key, escaped.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The sequence numbers are used up: in centuries, unless a file was tampered with.
    #[error("the store has no sequence numbers left: copy its contents to a new one")]
    NoSequenceNumbers,
    /// The engine is at fault; what is durable is not harmed.
    #[error("internal error: {0}")]
    Internal(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// The result of an engine operation.
pub type Result<T> = std::result::Result<T, Error>;

impl From<DiskError> for Error {
    fn from(e: DiskError) -> Error {
        Error::Disk(Arc::new(e))
    }
}

impl Error {
    /// Damage in `file` at `offset`.
    pub fn corruption(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Error {
        Error::Corruption { file: file.into(), offset, what: what.into() }
    }

    /// Can what was to be *read* not be had, because it is damaged, or what it lies over, or the disk does not give it?
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Error::Corruption { .. } | Error::Disk(_) | Error::BadPatch { .. })
    }

    /// Is the cause a full disk?
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Disk(e) if e.is_full())
    }
}
