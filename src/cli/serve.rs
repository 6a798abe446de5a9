//! The life of a mount: open the store, mount it, serve it, close it.
//!
//! It ends when the session ends, which is when the kernel has let go of the mount: after `umount`,
//! `fusermount3 -u`, `lsmfs umount`, or after our own unmount upon a signal. A mount that is busy
//! then is detached; its users have [`DRAIN_TIMEOUT`] to finish, what they do afterwards fails.
//! However it ends, the lock says "closing" before the store is closed and goes only afterwards, so
//! whoever waits for the lock finds everything.

use crate::cli::control::server::{Execute, Server};
use crate::cli::error::{CliError, Result};
use crate::cli::memory;
use crate::cli::request::{Job, Request};
use crate::cli::store::{self, OpenStore};
use crate::fs::fuse::{ServeOptions, Session, Stopper};
use crate::fs::mount::{self, MountError, MountOptions, OwnMount, Unmount};
use crate::fs::{Caller, Views};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long those who still use a mount may take after it was detached.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be mounted where.
#[derive(Debug)]
pub struct Task<'a> {
    /// The store's directory, as the user gave it.
    pub store: &'a Path,
    /// The mount point, as the user gave it.
    pub dir: &'a Path,
    /// How.
    pub options: &'a MountOptions,
}

/// What may end a mount's life.
enum Event {
    Signal(i32),
    SessionEnded(std::result::Result<crate::fs::Result<()>, &'static str>),
}

/// Mounts, and returns when it is unmounted and the store is closed. Calls `opened` with the store's
/// directory when it is ours, and `ready` when the mount answers.
pub fn serve(
    task: &Task<'_>,
    opened: impl FnOnce(&Path),
    ready: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    if !memory::keep_little() {
        warn!("the memory allocator keeps what is freed");
    }
    let cleared = check_mount_point(task)?;
    mount::check_device()?;
    let disk = store::lock_or_create(task.store)?;
    opened(disk.path());
    if cleared > 0 {
        info!("{}: dead mounts cleared: {cleared}", task.dir.display());
    }
    let engine = store::options(task.options.compaction);
    let store = Arc::new(OpenStore::open_with(disk, engine)?);
    let served = make_dir(task.dir).and_then(|dir| serve_open(&store, &dir, task.options, ready));
    info!("closing the store");
    let closed = store.close();
    served.and(closed)?;
    info!("closed");
    Ok(())
}

/// Checks the mount point, before anything is made, and clears dead mounts from it. Returns how many.
fn check_mount_point(task: &Task<'_>) -> Result<usize> {
    let dir = resolve(task.dir)?;
    let store = resolve(task.store)?;
    if dir.starts_with(&store) || store.starts_with(&dir) {
        let (dir, store) = (dir.display(), store.display());
        let hint = "keep the store beside the directory that it is mounted on";
        return Err(CliError::Refused(format!("{dir} and the store {store} lie within each other: {hint}")));
    }
    // Before anything else asks the directory a question, which a dead or hanging mount would not answer.
    let cleared = match mount::clear_dead(&dir) {
        Err(MountError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(0),
        cleared => cleared?,
    };
    match dir.is_dir() {
        true => Ok(cleared),
        false => Err(MountError::NotADirectory { dir }.into()),
    }
}

/// The path without symlinks; what is missing at its end stays as it is.
fn resolve(path: &Path) -> Result<PathBuf> {
    let failed = |error| CliError::system(path.display().to_string(), error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    for existing in absolute.ancestors() {
        match existing.canonicalize() {
            Ok(found) => {
                let missing = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
                return Ok(found.components().chain(missing.components()).collect());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(absolute)
}

/// Makes the mount point if it is missing. Returns it without symlinks.
fn make_dir(dir: &Path) -> Result<PathBuf> {
    let failed = |error| CliError::system(format!("make {}", dir.display()), error);
    match std::fs::create_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(MountError::NotADirectory { dir: dir.to_path_buf() }.into())
        }
        made => made.and_then(|()| dir.canonicalize()).map_err(failed),
    }
}

/// Mounts the open store and serves it until the end.
fn serve_open(
    store: &Arc<OpenStore>,
    dir: &Path,
    options: &MountOptions,
    ready: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    // Somebody may have mounted here while the store was opened.
    mount::clear_dead(dir)?;
    let files = store.files(options.volume.as_deref().unwrap_or(store::MAIN))?;
    let views = Views::of_volume(files, options.access_times());
    let mounted = mount::mount(store.path(), dir, options)?;
    let mut service = Service { own: mounted.own, events, stopper: None };
    let said = store.disk().lock().set_mount(Some(dir)).map_err(|error| CliError::Open(error.into()));
    let server = take_commands(store);
    let announced = said.and_then(|()| {
        let session = Session::start(views, mounted.device, &serve_options(options))?;
        service.stopper = Some(session.stopper());
        thread::spawn(move || {
            let ran = catch_unwind(AssertUnwindSafe(|| session.run()));
            sender.send(Event::SessionEnded(ran.map_err(|_| "the session panicked")))
        });
        announce(store, dir, ready)
    });
    match &announced {
        Ok(()) => service.wait_for_end(store),
        Err(_) => service.end(),
    }
    let said = store.disk().lock().set_closing().map_err(|error| CliError::Open(error.into()));
    if let Some(server) = server {
        server.end();
    }
    announced.and(said)
}

/// Lets commands reach the store. Where no socket can be made the mount is served all the same.
fn take_commands(store: &Arc<OpenStore>) -> Option<Server> {
    let listening = Server::start(store.path(), Arc::new(Executor { store: store.clone() }));
    let server = listening.inspect_err(|error| warn!("commands can't reach this store: {error}")).ok()?;
    if let Err(error) = store.disk().lock().set_serving() {
        warn!("commands can't reach this store: {error}");
    }
    Some(server)
}

/// Executes what commands ask for.
struct Executor {
    store: Arc<OpenStore>,
}

impl Execute for Executor {
    fn execute(
        &self,
        request: &Request,
        caller: Caller,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<()> {
        request.execute(Job { store: &self.store, caller, input, output })
    }
}

fn serve_options(options: &MountOptions) -> ServeOptions {
    let defaults = ServeOptions::default();
    ServeOptions {
        threads: options.threads.unwrap_or(defaults.threads),
        timeout: options.request_timeout.unwrap_or(defaults.timeout),
        linger: options.linger.unwrap_or(defaults.linger),
        ..defaults
    }
}

/// Asks the mount one question, as any program would, and tells the one that waits for it.
fn announce(store: &OpenStore, dir: &Path, ready: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    if !mount::answers(dir)? {
        return Err(CliError::Refused(format!("{}: the mount was gone before it answered", dir.display())));
    }
    ready(store.path()).map_err(|error| CliError::system("report that the mount answers", error))?;
    info!("{} is mounted on {} (process {})", store.path().display(), dir.display(), std::process::id());
    Ok(())
}

/// Signals become events. A second one changes nothing: the first is being obeyed.
fn watch_signals(sender: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| CliError::system("listen to signals", error))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// A mount that is being served, and what may end it.
struct Service {
    own: OwnMount,
    events: Receiver<Event>,
    /// None where the service never began.
    stopper: Option<Stopper>,
}

impl Service {
    /// Waits until the mount is gone; a signal makes it go.
    fn wait_for_end(&self, store: &OpenStore) {
        match self.events.recv() {
            Ok(Event::SessionEnded(how)) => log_end(how),
            Ok(Event::Signal(signal)) => {
                info!("signal {signal}: unmounting");
                // What was written is safe before anything else can go wrong.
                if let Err(error) = store.sync() {
                    error!("{error}");
                }
                self.end();
            }
            Err(_) => warn!("nobody serves the mount any more"),
        }
    }

    /// Unmounts our own mount and waits, with a bound, until the session has ended.
    fn end(&self) {
        let unmounted = match self.own.unmount(Unmount::Idle) {
            Err(MountError::Busy { .. }) => {
                warn!("the mount is busy: detached; who uses it has {} s", DRAIN_TIMEOUT.as_secs());
                self.own.unmount(Unmount::Lazy)
            }
            done => done,
        };
        if let Err(error) = unmounted {
            error!("{error}");
        }
        let Some(stopper) = &self.stopper else { return };
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Signal(signal)) => info!("signal {signal}: already closing"),
                Ok(Event::SessionEnded(how)) => return log_end(how),
                Err(_) => break,
            }
        }
        warn!("the mount is still in use: its users get errors from now on");
        stopper.stop();
    }
}

fn log_end(how: std::result::Result<crate::fs::Result<()>, &'static str>) {
    match how {
        Ok(Ok(())) => info!("unmounted"),
        Ok(Err(error)) => error!("the session ended: {error}"),
        Err(error) => error!("{error}"),
    }
}
