//! The socket's place in the store's directory.
//!
//! An address of a Unix socket holds about a hundred bytes, fewer than a path may have. So the directory is opened,
//! and the address leads through the descriptor, however long the store's path is.

use crate::disk::CONTROL_SOCKET;
use rustix::fs::{AtFlags, Mode, OFlags, unlinkat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

fn open(store: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(store, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Valid while `dir` is open.
fn address(dir: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}/{CONTROL_SOCKET}", dir.as_raw_fd()).into()
}

/// Listens in the directory of a store that this process has locked: what is left there is nobody's.
pub fn listen(store: &Path) -> io::Result<UnixListener> {
    let dir = open(store)?;
    remove_from(&dir)?;
    let listener = UnixListener::bind(address(&dir))?;
    std::fs::set_permissions(address(&dir), PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket.
pub fn remove(store: &Path) -> io::Result<()> {
    remove_from(&open(store)?)
}

fn remove_from(dir: &OwnedFd) -> io::Result<()> {
    match unlinkat(dir, CONTROL_SOCKET, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Connects to who listens in a store's directory; `None` if nobody does.
pub fn connect(store: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(address(&open(store)?)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
