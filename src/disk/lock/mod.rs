//! The store's lock: one process at a time has a store open.
//!
//! The lock is a `flock` on the file `LOCK` in the store's directory. The kernel releases it when
//! its owner dies, however it dies; the file itself is never removed. Its contents tell people and
//! other commands who the owner is:
//!
//! ```text
//! This lsmfs store is open. Removing this file does not close it.
//! pid 1234
//! mount /mnt/data
//! serving
//! closing
//! end
//! ```
//!
//! `mount` (one of its mounts), `serving` (commands can reach the store through the owner) and `closing` are there
//! only when they hold; a newline or backslash in the path is
//! written in octal, as in `/proc/self/mountinfo`. A closed store's file says that it is not open.
//! The contents count only while somebody holds the lock, only up to `end` (a rewrite may be under
//! way) and only while the process lives (a killed owner's contents stay until its successor wrote
//! its own).
//!
//! The lock belongs to the open file, so a daemon that forks after taking it keeps it; it then says
//! its new pid with [`StoreLock::set_mount`]. Only the process that the contents name releases the
//! lock: the parent's copy is merely closed.
//!
//! Waiting for another process has no event to wait on here, so this module polls, with a bound.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use super::{DiskError, LOCK_FILE, OpenError, Result};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, test_kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a waiting process tries again.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait at least for an owner that does not say who it is: one that is about to write
/// the contents, has just cleared them, or only asks who the owner is.
const UNNAMED_OWNER_WAIT: Duration = Duration::from_millis(100);

/// The most bytes of contents that are read: a path of 4096 bytes, all in octal, fits.
const CONTENTS_BYTES_MAX: usize = 32 * 1024;

/// The first line of an owner's contents.
const HEADER: &str = "This lsmfs store is open. Removing this file does not close it.";

/// The contents that an owner leaves. Not nothing: the file keeps its block, so that the next
/// owner can say who it is even on a full disk.
const CLOSED: &[u8] = b"This lsmfs store is not open.\nend\n";

/// The type that mountinfo shows for a mounted store.
const MOUNT_TYPE: &[u8] = b"fuse.lsmfs";

/// Who has a store open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The process; none where it has not said so yet, or has just stopped.
    pub pid: Option<u32>,
    /// Where it has the store mounted; one of the places, if there are several.
    pub mount: Option<PathBuf>,
    /// Does it do what commands ask of it, over the store's socket?
    pub serving: bool,
    /// Is it closing the store?
    pub closing: bool,
}

/// A store's lock, held until it is released or dropped.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
    path: PathBuf,
    /// What the contents say of this process, until the lock is released; the mutex orders the rewrites.
    said: Mutex<Option<Owner>>,
}

impl StoreLock {
    /// Takes the lock of the store in `dir`. While another process holds it, this waits for at
    /// most `wait`, but not for a living mount that is not closing.
    pub fn acquire(dir: &Path, wait: Duration) -> std::result::Result<StoreLock, OpenError> {
        StoreLock::acquire_unless(dir, wait, is_mounted)
    }

    /// [`StoreLock::acquire`], where `is_mounted` tells whether a store is mounted at a path.
    fn acquire_unless(
        dir: &Path,
        wait: Duration,
        is_mounted: impl Fn(&Path) -> bool,
    ) -> std::result::Result<StoreLock, OpenError> {
        let path = dir.join(LOCK_FILE);
        let failed = |e| OpenError::new(dir, "lock", &path, e);
        let file = open_lock_file(&path, OFlags::RDWR | OFlags::CREATE).map_err(failed)?;
        let started = Instant::now();
        while !try_flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
            let owner = read_owner(&file).map_err(failed)?;
            let stays = !owner.closing && owner.mount.as_deref().is_some_and(&is_mounted);
            let patience = if owner.pid.is_some() { wait } else { wait.max(UNNAMED_OWNER_WAIT) };
            if stays || started.elapsed() >= patience {
                let Owner { pid, mount, closing, .. } = owner;
                return Err(OpenError::InUse { dir: dir.to_owned(), pid, mount, closing });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let lock = StoreLock { file, path, said: Mutex::new(Some(Owner::default())) };
        match lock.set_mount(None) {
            // Only a message is missing, and a full store must open, or nothing could be deleted.
            Err(e) if !e.is_full() => Err(e.into()),
            _ => Ok(lock),
        }
    }

    /// Says where the store is mounted, and the calling process's pid: to be called after a fork.
    /// `mount` is the path as mountinfo shows it: absolute, without symbolic links.
    pub fn set_mount(&self, mount: Option<&Path>) -> Result<()> {
        self.say(|owner| owner.mount = mount.map(Path::to_owned))
    }

    /// Says that commands can reach the store through this process.
    pub fn set_serving(&self) -> Result<()> {
        self.say(|owner| owner.serving = true)
    }

    /// Says that the store is being closed: who wants to open it waits from now on.
    pub fn set_closing(&self) -> Result<()> {
        self.say(|owner| owner.closing = true)
    }

    /// Who holds the lock of the store in `dir`; none if nobody does.
    pub fn owner(dir: &Path) -> Result<Option<Owner>> {
        let path = dir.join(LOCK_FILE);
        let look = || {
            let file = open_lock_file(&path, OFlags::RDONLY)?;
            // A shared lock, so that two who ask at once do not take each other for the owner.
            if try_flock(&file, FlockOperation::NonBlockingLockShared)? {
                return Ok(None);
            }
            read_owner(&file).map(Some)
        };
        match look() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            answer => answer.map_err(|e| DiskError::new("lock", path.display().to_string(), e)),
        }
    }

    /// Waits until nobody holds the lock of the store in `dir`, for at most `timeout`. Says whether
    /// that came about.
    pub fn wait_released(dir: &Path, timeout: Duration) -> Result<bool> {
        let started = Instant::now();
        while StoreLock::owner(dir)?.is_some() {
            if started.elapsed() >= timeout {
                return Ok(false);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(true)
    }

    /// Releases the lock, if this is the process that the contents name.
    pub fn release(&self) {
        let mut said = self.said.lock();
        if said.take().is_none() {
            return;
        }
        let named = read_contents(&self.file).map(|contents| decode_owner(&contents).pid);
        if named.is_ok_and(|pid| pid == Some(std::process::id())) {
            // Stale contents do no harm, so a failure here is none.
            let _ = self.rewrite(CLOSED);
            // Closing would do, were there not a child somewhere between fork and exec.
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }

    fn say(&self, change: impl FnOnce(&mut Owner)) -> Result<()> {
        let mut said = self.said.lock();
        // The contents are another owner's now.
        let Some(owner) = said.as_mut() else { return Ok(()) };
        change(owner);
        owner.pid = Some(std::process::id());
        self.rewrite(&encode_owner(owner))
            .map_err(|e| DiskError::new("lock", self.path.display().to_string(), e))
    }

    /// The new contents first, then the cut: a reader in between stops at the new `end`.
    fn rewrite(&self, contents: &[u8]) -> io::Result<()> {
        self.file.write_all_at(contents, 0)?;
        self.file.set_len(contents.len() as u64)
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        self.release();
    }
}

fn open_lock_file(path: &Path, access: OFlags) -> io::Result<File> {
    // Nonblocking, so that a fifo of that name does not block the open.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR));
    let file = match opened {
        Ok(fd) => File::from(fd),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_regular()),
        Err(e) => return Err(e.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Takes the lock if nobody holds one against it.
fn try_flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// What the contents say, if the process that wrote them lives.
fn read_owner(file: &File) -> io::Result<Owner> {
    let owner = decode_owner(&read_contents(file)?);
    Ok(if owner.pid.is_some_and(is_alive) { owner } else { Owner::default() })
}

fn read_contents(file: &File) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    let mut chunk = [0; 4096];
    while contents.len() < CONTENTS_BYTES_MAX {
        match file.read_at(&mut chunk, contents.len() as u64) {
            Ok(0) => break,
            Ok(n) => contents.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(contents)
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    // Another user's process may not be signalled, but it is there.
    pid.is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}

fn encode_owner(owner: &Owner) -> Vec<u8> {
    let mut contents = format!("{HEADER}\n").into_bytes();
    if let Some(pid) = owner.pid {
        contents.extend_from_slice(format!("pid {pid}\n").as_bytes());
    }
    if let Some(mount) = &owner.mount {
        contents.extend_from_slice(b"mount ");
        for &byte in mount.as_os_str().as_bytes() {
            match byte {
                b'\n' | b'\\' => contents.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
                _ => contents.push(byte),
            }
        }
        contents.push(b'\n');
    }
    if owner.serving {
        contents.extend_from_slice(b"serving\n");
    }
    if owner.closing {
        contents.extend_from_slice(b"closing\n");
    }
    contents.extend_from_slice(b"end\n");
    contents
}

/// Reads what [`encode_owner`] wrote; of anything else, and of half of it, nothing.
fn decode_owner(contents: &[u8]) -> Owner {
    let mut owner = Owner::default();
    for line in contents.split(|byte| *byte == b'\n') {
        match line {
            b"end" => return owner,
            b"serving" => owner.serving = true,
            b"closing" => owner.closing = true,
            _ => {
                if let Some(pid) = line.strip_prefix(b"pid ") {
                    owner.pid = std::str::from_utf8(pid).ok().and_then(|pid| pid.parse().ok());
                } else if let Some(mount) = line.strip_prefix(b"mount ") {
                    owner.mount = Some(PathBuf::from(decode_octal(mount)));
                }
            }
        }
    }
    Owner::default()
}

/// Is a store mounted at `path`, dead mounts included?
fn is_mounted(path: &Path) -> bool {
    std::fs::read("/proc/self/mountinfo").is_ok_and(|mountinfo| mountinfo_shows(&mountinfo, path))
}

/// Does `mountinfo` have a `fuse.lsmfs` mount at `path`? A line is (see proc_pid_mountinfo(5)):
/// `36 35 98:0 /root /mount/point options optional-fields… - type source options`.
fn mountinfo_shows(mountinfo: &[u8], path: &Path) -> bool {
    mountinfo.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let at_path = fields.nth(4).is_some_and(|point| decode_octal(point) == path.as_os_str());
        at_path && fields.skip_while(|field| *field != b"-").nth(1) == Some(MOUNT_TYPE)
    })
}

/// Turns `\040` and the like into the bytes that they stand for.
fn decode_octal(escaped: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&first, after)) = rest.split_first() {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests;
