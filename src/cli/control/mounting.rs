//! How a mount is asked of a daemon.
//!
//! ```text
//! client                          daemon
//! MOUNT (version, JSON)      →
//!                            ←    PLAN (JSON): mount, or bind what is mounted;  or LATER: ask again
//! DEVICE (JSON)              →                       after "mount": the device, passed along with the frame
//!                            ←    DONE
//! ```
//!
//! Who asks makes the mount itself, or binds: so the rights to do it, at this place, are his, and so is the place,
//! if his mounts are not the daemon's. The daemon serves.

use crate::cli::control::frame::malformed;
use crate::fs::mount::table::DeviceNumber;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// The volume, or a snapshot: `VOLUME@SNAPSHOT`; `None` for all.
    pub volume: Option<String>,
    /// The mount point, absolute and without symlinks.
    dir: Vec<u8>,
    /// Lists of mount options.
    pub options: Vec<String>,
    /// The name of the way of compaction that is asked for, if one is.
    pub compaction: Option<String>,
}

/// How it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// By a mount, whose device the daemon is to get.
    Mount,
    /// By binding what is mounted: a path in this file system.
    Bind {
        /// The path.
        from: Vec<u8>,
        /// The file system's device number.
        device: DeviceNumber,
    },
}

impl MountRequest {
    /// Asks for a mount on `dir`.
    pub fn new(
        volume: Option<String>,
        dir: &Path,
        options: Vec<String>,
        compaction: Option<String>,
    ) -> MountRequest {
        MountRequest { volume, dir: bytes(dir), options, compaction }
    }

    /// The mount point.
    pub fn dir(&self) -> PathBuf {
        path(&self.dir)
    }
}

impl Plan {
    /// Bind a path of a file system.
    pub fn bind(from: &Path, device: DeviceNumber) -> Plan {
        Plan::Bind { from: bytes(from), device }
    }
}

/// A path from its bytes.
pub fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

/// A message as bytes.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(message).map_err(io::Error::other)
}

/// Reads what [`encode`] wrote.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|_| malformed("a message that makes no sense"))
}
