//! The kernel's face: each request becomes one call of [`FileSystem`].
//!
//! What is agreed with the kernel, and why:
//!
//! - This process is the only writer, so names, absent names and attributes stay valid for ever; the
//!   kernel sees every change pass through itself. The store's figures (`control.rs`) are looked up each
//!   time.
//! - OPEN and FLUSH are answered with `ENOSYS`, once: from then on opening and closing a file costs no
//!   request and keeps its pages cached. `FUSE_ATOMIC_O_TRUNC` is not asked for, so that `O_TRUNC` comes
//!   as a change of size. An unlinked file may be open: it lives until it is forgotten.
//! - OPENDIR is real: its handle keeps the listing's snapshot. `FOPEN_CACHE_DIR` is not set: a listing
//!   that goes on after the kernel dropped its cache would take one snapshot's cookies for another's.
//! - Every listing brings the attributes along (READDIRPLUS).
//! - `FUSE_HANDLE_KILLPRIV_V2`: setuid and setgid are cleared here, on the writes that say so, on changes
//!   of owner and of size.
//! - `FUSE_POSIX_ACL` with `FUSE_DONT_MASK`: the kernel checks permissions by access control lists, and
//!   remembers where there are none; the umask is applied here, where a directory's default list overrides
//!   it. Not `FUSE_SETXATTR_EXT`, of whose longer requests fuser reads the short form.
//! - Locks stay in the kernel; its write-back cache is not used, for it would lose answered writes when
//!   this process is killed.
//!
//! A handler answers on the thread that read the request, except for syncs: their reply moves to the
//! store, which answers many at once. A panic in a handler is logged and answered with `EIO`.
//!
//! Lock: the open directories' table, a leaf.

mod convert;
mod requests;

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::control;
use crate::fs::errno::errno_logged;
use crate::fs::error::{Cause, Error, Result, Subject};
use crate::fs::readdir::DirHandle;
use fuser::{Config, Errno, FileHandle, Generation, InitFlags, ReplyEmpty, SessionACL};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long the kernel may keep what it was told: for ever (136 years).
const TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the kernel may keep what it was told of an inode.
fn ttl(ino: Ino) -> &'static Duration {
    if control::is_rendering(ino) { &Duration::ZERO } else { &TTL }
}

/// Inode numbers are never used again.
const GENERATION: Generation = Generation(0);

/// The largest write request.
const MAX_WRITE: u32 = 1 << 20;

/// Requests that the kernel may have under way for itself, as readahead.
const MAX_BACKGROUND: u16 = 64;

/// What is asked of the kernel; what it does not know is left out.
const WANTED: [InitFlags; 5] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_ASYNC_DIO,
];

/// How a mount is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Threads that read and answer requests.
    pub threads: usize,
    /// Give each thread a device descriptor of its own.
    pub clone_fd: bool,
    /// Serve extended attributes and access control lists. Without them the kernel is told, once, that
    /// there are none: it then stops asking for them, which it does before first writes.
    pub xattrs: bool,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions { threads: 4, clone_fd: true, xattrs: true }
    }
}

/// A mount that is being served.
#[derive(Debug)]
pub struct Session {
    session: fuser::Session<Face>,
    stopped: Arc<AtomicBool>,
}

impl Session {
    /// Takes up a mount whose device descriptor is `device`, and agrees with the kernel on how to talk.
    /// When this returns, requests are queued by the kernel; [`Session::run`] answers them.
    pub fn start(fs: Arc<FileSystem>, device: OwnedFd, options: &ServeOptions) -> Result<Session> {
        let stopped = Arc::new(AtomicBool::new(false));
        let face = Face {
            fs,
            stopped: stopped.clone(),
            xattrs: options.xattrs,
            dirs: Mutex::default(),
            next_dir: AtomicU64::new(1),
        };
        let mut config = Config::default();
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = options.clone_fd;
        // Who may use the mount is the kernel's to decide, by `allow_other`.
        let session = fuser::Session::from_fd(face, device, SessionACL::All, config);
        Ok(Session { session: session.map_err(|e| failed("start serving", &e))?, stopped })
    }

    /// Answers requests until the mount is gone.
    pub fn run(self) -> Result<()> {
        self.session.run().map_err(|e| failed("serve requests", &e))
    }

    /// What ends the service while the mount is still there.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stopped.clone())
    }
}

/// Ends the service of a mount that is still in use.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// From now on every request gets `EIO`. Requests under way are still answered.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}

fn failed(what: &'static str, e: &io::Error) -> Error {
    let errno = rustix::io::Errno::from_io_error(e).unwrap_or(rustix::io::Errno::IO);
    Cause::System { what, errno }.of("mount", Subject::FileSystem)
}

/// The file system as fuser calls it.
#[derive(Debug)]
struct Face {
    fs: Arc<FileSystem>,
    stopped: Arc<AtomicBool>,
    xattrs: bool,
    dirs: Mutex<HashMap<u64, Arc<DirHandle>>>,
    next_dir: AtomicU64,
}

impl Face {
    /// Asks the file system; what goes wrong becomes a number.
    fn ask<T>(
        &self,
        op: &'static str,
        question: impl FnOnce(&FileSystem) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        match catch_unwind(AssertUnwindSafe(|| question(&self.fs))) {
            Ok(answer) => answer.map_err(|e| Errno::from_i32(errno_logged(&e))),
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().copied();
                let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                tracing::error!("{op} panicked: {}", said.unwrap_or("without a word"));
                Err(Errno::EIO)
            }
        }
    }

    fn dir(&self, handle: FileHandle) -> std::result::Result<Arc<DirHandle>, Errno> {
        self.dirs.lock().get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    /// Answers when everything answered before is durable.
    fn sync(&self, reply: ReplyEmpty) {
        let answered = self.ask("fsync", |fs| {
            fs.fsync_then(Box::new(move |synced| match synced {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(Errno::from_i32(errno_logged(&e))),
            }));
            Ok(())
        });
        // Where it was refused, the reply was dropped, which answers EIO.
        let _ = answered;
    }
}
