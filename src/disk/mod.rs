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
//! from a seed what a power cut keeps and which operations fail. [`overlay::Overlay`] is a view of a disk that is
//! only looked at.
//!
//! Names are plain file names (no `/`). Every method may be called from any thread.
//!
//! What else lies in the directory is not the store's data and no [`Disk`] method sees it: the
//! lock's file ([`LOCK_FILE`]), the daemon's messages ([`DAEMON_LOG`]) and socket ([`CONTROL_SOCKET`]), room kept aside ([`RESERVE_FILE`]), unfinished objects
//! (`*.lsmfs.tmp`) and folders, [`LOST_DIR`] among them.

pub mod lock;
pub mod overlay;
pub mod real;
pub mod sim;
#[cfg(test)]
mod suite;

use bytes::Bytes;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that the store's lock is on.
pub const LOCK_FILE: &str = "LOCK";

/// Where a daemon in the background writes its messages.
pub const DAEMON_LOG: &str = "daemon.log";

/// The socket on which the process that has the store open takes requests.
pub const CONTROL_SOCKET: &str = "control";

/// What keeps room aside: see [`Disk::set_reserve`].
pub const RESERVE_FILE: &str = "reserve";

/// The folder of files that the store does not know.
pub const LOST_DIR: &str = "lost";

/// How the name of an unfinished object ends: unlike a plain `.tmp`, nobody else's file is called
/// so, and leftovers can be removed from a directory that turns out to be no store.
const UNFINISHED_SUFFIX: &str = ".lsmfs.tmp";

/// The longest name of a file; it leaves room for what is appended to it (`NAME_MAX` is 255).
const NAME_BYTES_MAX: usize = 200;

/// The most files of one name that [`LOST_DIR`] takes.
const LOST_SAME_NAME_MAX: u32 = 10_000;

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

/// Why a store's directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory does not exist.
    #[error("{}: no such directory", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The path, or a part of it, is something other than a directory.
    #[error("{}: not a directory", dir.display())]
    NotADirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// The user may not open, make or write to the directory.
    #[error("{}: permission denied", dir.display())]
    Denied {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory has no [`LOCK_FILE`], so no store was ever made in it.
    #[error("{}: not an lsmfs store (it has no file {LOCK_FILE})", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process has the store open.
    #[error("{}", in_use_message(dir, *pid, mount.as_deref(), *closing))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The owner; none where it had not said so yet, or had just stopped.
        pid: Option<u32>,
        /// Where it has the store mounted.
        mount: Option<PathBuf>,
        /// Is it closing the store?
        closing: bool,
    },
    /// The system refused something else.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    /// The error for the system's answer `source` to `op` on `path`, which is `dir` or lies in it.
    fn new(dir: &Path, op: &'static str, path: &Path, source: io::Error) -> OpenError {
        let dir = dir.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { dir },
            io::ErrorKind::NotADirectory => OpenError::NotADirectory { dir },
            io::ErrorKind::PermissionDenied => OpenError::Denied { dir },
            _ => OpenError::Disk(DiskError::new(op, path.display().to_string(), source)),
        }
    }
}

fn in_use_message(dir: &Path, pid: Option<u32>, mount: Option<&Path>, closing: bool) -> String {
    let mut message = format!("{}: the store is in use by ", dir.display());
    match pid {
        Some(pid) => message += &format!("process {pid}"),
        None => message += "another process",
    }
    if closing {
        message += ", which is closing it";
    } else if let Some(mount) = mount {
        message += &format!(", mounted at {}", mount.display());
    }
    message
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

/// The room on the disk below a store, in bytes.
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

    /// Gives the log `old`, which nobody writes to any more, the name `name` (an error, `AlreadyExists`,
    /// if there is such a file) and opens it for writing, with the contents that it has. The new
    /// name is durable after [`Disk::sync_dir`].
    fn reuse_log(&self, old: &str, name: &str) -> Result<Arc<dyn LogFile>>;

    /// The store's files, in no order; directories and unfinished objects are left out.
    fn list(&self) -> Result<Vec<Listed>>;

    /// Deletes a file. That it is gone is durable after [`Disk::sync_dir`]; readers that have it
    /// open keep reading it.
    fn delete(&self, name: &str) -> Result<()>;

    /// Moves a file into the folder `lost/`, under a name that is free there.
    fn move_to_lost(&self, name: &str) -> Result<()>;

    /// Writes `contents`, what is read of an existing log from its start, over themselves, cuts the
    /// log behind them and syncs it. A sync alone would not do: after one that failed, the system
    /// counts as clean what never reached the disk, and goes on to show it to readers. Takes no
    /// room.
    fn rewrite_log(&self, name: &str, contents: &[u8]) -> Result<()>;

    /// Makes created, finished, deleted and moved names durable.
    fn sync_dir(&self) -> Result<()>;

    /// The room on the disk.
    fn space(&self) -> Result<Space>;

    /// Keeps so many bytes of the disk's room aside, in the place of what was kept; it takes no other room.
    /// 0 gives it back. After an error any part of it may be kept. It is not kept after the process.
    fn set_reserve(&self, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// Lets others have the store, whoever still holds this disk or a file of it: from now on each
    /// change through them fails. Files can still be read.
    fn release(&self);
}

/// An object that is being written. Dropped unfinished, it leaves nothing behind.
pub trait ObjectWriter: Send {
    /// Appends `bytes`. A write that failed appended none of them.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Syncs the contents, gives the object its name (put if absent: an existing object of that
    /// name is an error and stays as it is) and syncs the directory. After an error nothing is
    /// left under the name, unless there is a power cut: then the object may be found, whole.
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

/// Refuses a name that is no plain file name, or one that is not for the store's data.
fn check_name(op: &'static str, name: &str) -> Result<()> {
    let plain = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']);
    if plain && name.len() <= NAME_BYTES_MAX && !is_hidden(name) && name != LOST_DIR {
        return Ok(());
    }
    Err(DiskError::new(
        op,
        name,
        io::Error::new(io::ErrorKind::InvalidInput, "not a name for a store's file"),
    ))
}

/// Is `name` a file beside the store's data?
fn is_hidden(name: &str) -> bool {
    [LOCK_FILE, DAEMON_LOG, CONTROL_SOCKET, RESERVE_FILE].contains(&name) || name.ends_with(UNFINISHED_SUFFIX)
}

/// The names to try in [`LOST_DIR`] for a file called `name`.
fn lost_names(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((1..LOST_SAME_NAME_MAX).map(move |n| format!("{name}.{n}")))
}
