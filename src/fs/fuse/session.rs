//! Serving a mount: what is agreed with the kernel at its start, the threads that it takes, and its end.
//!
//! Beside those that serve requests ([`readers`](super::readers)) there are four: the watch, which sees to it that each
//! request is answered in time; the keeper ([`nearby`](super::nearby)); one that tells the kernel what others changed
//! ([`notices`](super::notices)); and one that drops listings that nobody goes on with ([`listings`](super::listings)).
//! All of them sleep while there is nothing to do. Where requests come over io_uring, there are those that serve them
//! ([`ring`](super::ring)), and the others have what still comes over the device.

use super::kept::Kept;
use super::listings::{Listings, PATIENCE};
use super::notices::Notices;
use super::prune::Pruner;
use super::readers::Readers;
use super::requests::Requests;
use super::ring::{Forgetting, Gate, Ring};
use super::shown::Shown;
use super::{Agreed, Face};
use crate::fs::error::{Cause, Error, Result, Subject};
use crate::fs::views::{OpenDir, Views};
use fuser::{Config, SessionACL};
use parking_lot::Mutex;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Scope;
use std::time::Duration;

/// How a mount is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Threads for requests: so many may be held up at once. Few of them run (see `readers.rs`). Over io_uring each processor
    /// has its part of them.
    pub threads: usize,
    /// Give each thread a device descriptor of its own.
    pub clone_fd: bool,
    /// Serve extended attributes and access control lists. Without them the kernel is told, once, that
    /// there are none: it then stops asking for them, which it does before first writes.
    pub xattrs: bool,
    /// Have requests come over io_uring, where the kernel offers that.
    pub ring: bool,
    /// How long a request may take before it is answered with an error. Longer than disks try by
    /// themselves (Linux gives up on a command of a disk after 30 s, and may try it again); shorter than
    /// people wait before they pull the plug.
    pub timeout: Duration,
    /// How long the next request is looked out for before the thread sleeps, while they come that close
    /// together.
    pub linger: Duration,
    /// Inodes that the kernel may know before it is asked to forget those not used of late. Past a sixteenth
    /// more, listings make no more of them known.
    pub inodes: usize,
    /// Ask it by inode numbers where it knows how (Linux 6.18 and later); else by names.
    pub prune: bool,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            threads: 32,
            clone_fd: true,
            xattrs: true,
            ring: false,
            timeout: Duration::from_secs(90),
            linger: Duration::from_micros(100),
            inodes: 1 << 20,
            prune: true,
        }
    }
}

/// A mount that is being served.
pub struct Session {
    session: fuser::Session<Requests>,
    face: Arc<Face>,
    ring: Option<Ring>,
    stopped: Arc<AtomicBool>,
    readers: Arc<Readers>,
    notices: Arc<Notices>,
    listings: Arc<Listings<(OpenDir, Kept)>>,
    pruner: Pruner,
    fs: Arc<Views>,
}

impl Session {
    /// Takes up a mount whose device descriptor is `device`, and agrees with the kernel on how to talk.
    /// When this returns, requests are queued by the kernel; [`Session::run`] answers them.
    pub fn start(fs: Arc<Views>, device: OwnedFd, options: &ServeOptions) -> Result<Session> {
        let stopped = Arc::new(AtomicBool::new(false));
        let threads = options.threads.max(1);
        let duplicate = || device.try_clone().map_err(|e| failed("start serving", &e));
        let (watched, pruner) = (duplicate()?, Pruner::new(duplicate()?, options.prune));
        let ring = if options.ring { ring(duplicate()?, threads) } else { None };
        let readers = Readers::new(watched, threads, options.timeout, options.linger);
        let notices = Arc::new(Notices::new(options.inodes));
        let audience: Weak<Notices> = Arc::downgrade(&notices);
        fs.set_audience(audience);
        let listings = Arc::new(Listings::new(PATIENCE));
        let face = Arc::new(Face {
            fs: fs.clone(),
            stopped: stopped.clone(),
            xattrs: options.xattrs,
            agreed: Agreed { ring: AtomicBool::new(ring.is_some()), ..Agreed::default() },
            forgetting: Arc::new(Forgetting::default()),
            listings: listings.clone(),
            shown: Shown::default(),
            readers: readers.clone(),
            notices: notices.clone(),
            kernel: OnceLock::new(),
            dropping: Mutex::default(),
        });
        let mut config = Config::default();
        config.n_threads = Some(threads);
        config.clone_fd = options.clone_fd;
        // Who may use the mount is the kernel's to decide, by `allow_other`.
        let session = fuser::Session::from_fd(Requests(face.clone()), device, SessionACL::All, config);
        let session = session.map_err(|e| failed("start serving", &e))?;
        let ring = ring.filter(|_| face.agreed.ring.load(Ordering::Relaxed));
        Ok(Session { session, face, ring, stopped, readers, notices, listings, pruner, fs })
    }

    /// Answers requests until the mount is gone.
    pub fn run(self) -> Result<()> {
        let Session { session, face, ring, readers, notices, listings, mut pruner, fs, .. } = self;
        let (kernel, gate) = (session.notifier(), Gate::default());
        let _ = face.kernel.set(kernel.clone());
        std::thread::scope(|scope| {
            let post = || notices.run(&fs, &kernel, &mut pruner);
            let start_all = || {
                start(scope, "watch", || readers.watch())?;
                start(scope, "keeper", || readers.nearby.keep())?;
                start(scope, "notices", post)?;
                start(scope, "listings", || listings.run())?;
                let mut served = ring.into_iter().flat_map(|ring| ring.threads(&face, &gate));
                served.try_for_each(|serve| start(scope, "ring", serve))
            };
            let started = start_all();
            gate.open(started.is_ok());
            let served = started.and_then(|()| session.run());
            // Those that serve rings go on until it is unmounted.
            let _ = served
                .as_ref()
                .inspect_err(|e| tracing::error!("requests over the device are not served: {e}"));
            readers.end();
            notices.end();
            listings.end();
            served.map_err(|e| failed("serve requests", &e))
        })
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

fn start<'s>(scope: &'s Scope<'s, '_>, name: &str, work: impl FnOnce() + Send + 's) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_string());
    thread.spawn_scoped(scope, work).map(drop)
}

/// The ring of a mount, if there can be one; else it is said why not.
fn ring(device: OwnedFd, threads: usize) -> Option<Ring> {
    let ring = Ring::new(device, threads);
    ring.inspect_err(|e| tracing::warn!("requests come over the device, not over io_uring: {e}")).ok()
}

fn failed(what: &'static str, e: &io::Error) -> Error {
    let errno = rustix::io::Errno::from_io_error(e).unwrap_or(rustix::io::Errno::IO);
    Cause::System { what, errno }.of("mount", Subject::FileSystem)
}
