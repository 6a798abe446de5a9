//! Mounting and unmounting: from a store and a directory to an open FUSE device, and back.
//!
//! As root (or with the capability) the kernel is asked directly, otherwise `fusermount3` is.
//! The session that serves the device neither mounts nor unmounts.
//!
//! A mount is known by its file system's device number, not by its path: between our unmount and
//! our exit someone may mount another file system (the same store, even) on the same path, and a
//! shutdown must never take that one down. The number is unique while our connection to the
//! kernel lives, so [`OwnMount`] asks for both before it unmounts anything.
//!
//! A mount whose daemon was killed is *dead*: the path stays mounted and every request fails with
//! `ENOTCONN`. [`clear_dead`] detaches those, and nothing else.

mod bind;
mod gone;
mod helper;
pub mod options;
pub mod table;

pub use bind::bind;
pub use gone::wait_until_gone;
pub use options::{MountOptions, OptionError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount as mount_system, unmount as unmount_system};
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use table::{DeviceNumber, Entry};

/// What can go wrong around a mount. Each message names the path and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The mount point is no directory.
    #[error("{}: not a directory: give a directory as the mount point", dir.display())]
    NotADirectory {
        /// The mount point.
        dir: PathBuf,
    },
    /// The kernel's FUSE device is missing.
    #[error(
        "/dev/fuse: {source}: load the kernel's FUSE module (modprobe fuse); in a container, pass the device in"
    )]
    NoDevice {
        /// The system's answer.
        source: io::Error,
    },
    /// There is no right to mount, and no `fusermount3` that would lend it.
    #[error(
        "no permission to mount, and fusermount3 was not found: install the package fuse3, or mount as root"
    )]
    NoHelper,
    /// `fusermount3` refused.
    #[error("fusermount3: {message}")]
    Helper {
        /// Its own words.
        message: String,
    },
    /// A store is mounted there.
    #[error("{}: the store {} is mounted here already (lsmfs umount {0} unmounts it)", dir.display(), store.display())]
    AlreadyMounted {
        /// The mount point.
        dir: PathBuf,
        /// The store that is mounted on it.
        store: PathBuf,
    },
    /// Something else is mounted there, and dead.
    #[error("{}: a dead mount of type {fs_type} is in the way: umount -l {0} clears it", dir.display())]
    DeadMount {
        /// The mount point.
        dir: PathBuf,
        /// Its file system's type.
        fs_type: String,
    },
    /// A mount does not answer.
    #[error("{}: the file system mounted here does not answer: end its daemon, then try again", dir.display())]
    Unresponsive {
        /// The mount point.
        dir: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("{}: nothing is mounted here", dir.display())]
    NotMounted {
        /// The path.
        dir: PathBuf,
    },
    /// What is mounted there is not ours.
    #[error("{}: mounted here is {fs_type}, not an lsmfs store: use umount", dir.display())]
    NotLsmfs {
        /// The path.
        dir: PathBuf,
        /// The type of what is mounted.
        fs_type: String,
    },
    /// Files are open in the mount, or it is a process's working directory.
    #[error("{}: busy: a process has a file open in it or works in it (fuser -vm {0} shows which; --lazy detaches it anyway)", dir.display())]
    Busy {
        /// The mount point.
        dir: PathBuf,
    },
    /// What is mounted can be shown at a second place by root only.
    #[error("{}: it is mounted already, at {}: use it there, or unmount it first (only root can have it at two places)", dir.display(), mounted.display())]
    OnlyRootBinds {
        /// The mount point.
        dir: PathBuf,
        /// Where it is mounted.
        mounted: PathBuf,
    },
    /// Something else is mounted over our mount.
    #[error("{}: another file system is mounted over this mount, which stays below it", dir.display())]
    Covered {
        /// The mount point.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("can't {op} {}: {source}", path.display())]
    System {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The result of an operation on mounts.
pub type Result<T> = std::result::Result<T, MountError>;

impl MountError {
    fn system(op: &'static str, path: &Path, source: impl Into<io::Error>) -> MountError {
        MountError::System { op, path: path.to_path_buf(), source: source.into() }
    }
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nobody uses it.
    Idle,
    /// Out of sight at once; it ends when the last user is gone.
    Lazy,
}

/// A mount of this process.
#[derive(Debug)]
pub struct Mounted {
    /// Where the kernel's requests arrive: for the session that serves them.
    pub device: OwnedFd,
    /// For the one that ends it.
    pub own: OwnMount,
}

/// Knows this process's mount among others on the same path.
#[derive(Debug)]
pub struct OwnMount {
    /// The connection: the same one as the session's device.
    connection: OwnedFd,
    device: DeviceNumber,
}

/// Mounts `store` on `dir`; both are absolute paths without symlinks. The kernel's requests wait
/// on the device from now on, so the caller serves it soon or unmounts.
pub fn mount(store: &Path, dir: &Path, options: &MountOptions) -> Result<Mounted> {
    let device = match mount_directly(store, dir, options)? {
        Some(device) => device,
        None => helper::mount(store, dir, options)?,
    };
    let own = OwnMount::of(&device, store, dir);
    if own.is_err() {
        // Nobody will serve it. Should this fail too, the first error is the one that tells more.
        let _ = detach(dir);
    }
    Ok(Mounted { own: own?, device })
}

/// Mounts with `mount(2)`; `None` where this process may not.
fn mount_directly(store: &Path, dir: &Path, options: &MountOptions) -> Result<Option<OwnedFd>> {
    let device = match open_device()? {
        Some(device) => device,
        None => return Ok(None),
    };
    let others = if options.allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,subtype=lsmfs{others}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let data = CString::new(data).expect("has no NUL in it");
    match mount_system(store, dir, c"fuse", options.flags, data.as_c_str()) {
        Ok(()) => Ok(Some(device)),
        Err(Errno::PERM) => Ok(None),
        Err(Errno::NOTDIR) => Err(MountError::NotADirectory { dir: dir.to_path_buf() }),
        Err(Errno::NODEV) => Err(MountError::NoDevice { source: Errno::NODEV.into() }),
        Err(error) => Err(MountError::system("mount on", dir, error)),
    }
}

/// The FUSE device; `None` where this process may not open it.
fn open_device() -> Result<Option<OwnedFd>> {
    match open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => Ok(Some(device)),
        Err(Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(error) => Err(MountError::NoDevice { source: error.into() }),
    }
}

/// Can a mount be tried at all? Asked before a store is opened or made for it.
pub fn check_device() -> Result<()> {
    open_device().map(drop)
}

impl OwnMount {
    /// Recognises the mount that was just made on `dir`.
    fn of(device: &OwnedFd, store: &Path, dir: &Path) -> Result<OwnMount> {
        let entry = entry_at(dir)?.filter(|entry| entry.is_lsmfs() && entry.source == store);
        let Some(entry) = entry else { return Err(MountError::NotMounted { dir: dir.to_path_buf() }) };
        let connection =
            device.try_clone().map_err(|error| MountError::system("keep the device of", dir, error))?;
        Ok(OwnMount { connection, device: entry.device })
    }

    /// Knows a mount that another process made on `dir`, whose file system has this number.
    pub fn adopt(device: &OwnedFd, number: DeviceNumber, dir: &Path) -> Result<OwnMount> {
        let connection = device.try_clone();
        let connection = connection.map_err(|error| MountError::system("keep the device of", dir, error))?;
        Ok(OwnMount { connection, device: number })
    }

    /// The file system's number.
    pub fn device(&self) -> DeviceNumber {
        self.device
    }

    /// Has the kernel not let go of it?
    pub fn is_alive(&self) -> bool {
        self.is_connected().unwrap_or(true)
    }

    /// Where the mount, or a directory in it, is visible now: it may have been moved, bound elsewhere, or detached.
    pub fn places(&self) -> io::Result<Vec<Entry>> {
        if !self.is_connected()? {
            return Ok(Vec::new());
        }
        Ok(table::read()?.into_iter().filter(|entry| entry.device == self.device).collect())
    }

    /// Unmounts it, wherever it is visible. Where another mount lies over it, nothing can be done.
    pub fn unmount(&self, how: Unmount) -> Result<()> {
        let places =
            self.places().map_err(|error| MountError::system("find", Path::new("the mount"), error))?;
        for Entry { mount_point: dir, .. } in places.iter().rev() {
            match entry_at(dir)? {
                Some(entry) if entry.device == self.device => unmount_path(dir, how)?,
                _ => return Err(MountError::Covered { dir: dir.clone() }),
            }
        }
        Ok(())
    }

    /// Does the kernel still hold its end? Not after an unmount that is complete.
    fn is_connected(&self) -> io::Result<bool> {
        let mut question = [PollFd::new(&self.connection, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| poll(&mut question, Some(&at_once)))?;
        Ok(!question[0].revents().contains(PollFlags::ERR))
    }
}

/// The lsmfs mount on `dir`, which has no symlinks in it.
pub fn find(dir: &Path) -> Result<Entry> {
    let dir_owned = || dir.to_path_buf();
    match entry_at(dir)? {
        Some(entry) if entry.is_lsmfs() => Ok(entry),
        Some(entry) => Err(MountError::NotLsmfs { dir: dir_owned(), fs_type: entry.fs_type }),
        None => Err(MountError::NotMounted { dir: dir_owned() }),
    }
}

/// Unmounts the lsmfs mount on `dir`, which has no symlinks in it. Its daemon may still be closing the store.
pub fn unmount(dir: &Path, how: Unmount) -> Result<()> {
    find(dir)?;
    unmount_path(dir, how)
}

/// Most dead mounts that are cleared from one path.
const DEAD_MOUNTS_MAX: usize = 16;

/// Detaches dead lsmfs mounts from `dir` and returns how many; an error where a live one, or
/// another file system's dead one, is on it.
pub fn clear_dead(dir: &Path) -> Result<usize> {
    for cleared in 0..DEAD_MOUNTS_MAX {
        let Some(entry) = entry_at(dir)? else { return Ok(cleared) };
        match (entry.is_lsmfs(), answers(dir)?) {
            (true, true) => {
                return Err(MountError::AlreadyMounted { dir: dir.to_path_buf(), store: entry.source });
            }
            (true, false) => detach(dir)?,
            (false, true) => return Ok(cleared),
            (false, false) => {
                return Err(MountError::DeadMount { dir: dir.to_path_buf(), fs_type: entry.fs_type });
            }
        }
    }
    Ok(DEAD_MOUNTS_MAX)
}

/// How long a mounted file system may take to answer one request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Does the file system mounted on `dir` answer (true), or has its daemon gone (false)? The
/// question reaches the daemon: what the kernel has cached of a dead mount does not count.
pub fn answers(dir: &Path) -> Result<bool> {
    let (answer, question) = mpsc::channel();
    let path = dir.to_path_buf();
    // A request to a daemon that hangs can't be taken back: it may outlive the wait.
    thread::spawn(move || {
        let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT;
        let _ = answer.send(statx(CWD, &path, flags, StatxFlags::BASIC_STATS).map(drop));
    });
    match question.recv_timeout(ANSWER_TIMEOUT) {
        Ok(Ok(())) => Ok(true),
        // Another user's mount, which that user's daemon serves.
        Ok(Err(Errno::ACCESS)) => Ok(true),
        // The last one over io_uring, while the daemon is dying.
        Ok(Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED)) => Ok(false),
        Ok(Err(error)) => Err(MountError::system("look at", dir, error)),
        Err(_) => Err(MountError::Unresponsive { dir: dir.to_path_buf() }),
    }
}

fn entry_at(dir: &Path) -> Result<Option<Entry>> {
    table::at(dir).map_err(|error| MountError::system("look at the mount on", dir, error))
}

fn detach(dir: &Path) -> Result<()> {
    unmount_path(dir, Unmount::Lazy)
}

fn unmount_path(dir: &Path, how: Unmount) -> Result<()> {
    let lazy = if how == Unmount::Lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount_system(dir, UnmountFlags::NOFOLLOW | lazy) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => helper::unmount(dir, how == Unmount::Lazy),
        Err(Errno::BUSY) => Err(MountError::Busy { dir: dir.to_path_buf() }),
        Err(Errno::INVAL) => Err(MountError::NotMounted { dir: dir.to_path_buf() }),
        Err(error) => Err(MountError::system("unmount", dir, error)),
    }
}
