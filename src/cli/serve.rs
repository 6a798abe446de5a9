//! The life of a mount: open the store, mount it, serve it, close it.
//!
//! It ends when the session ends, which is when the kernel has let go of the mount: after `umount`,
//! `fusermount3 -u`, `lsmfs umount`, or after our own unmount upon a signal. A mount that is busy
//! then is detached; its users have [`DRAIN_TIMEOUT`] to finish, what they do afterwards fails.
//! However it ends, the lock says "closing" before the store is closed and goes only afterwards, so
//! whoever waits for the lock finds everything.

use crate::cli::error::{CliError, Result};
use crate::cli::store::{self, OpenStore};
use crate::fs::fuse::Session;
use crate::fs::mount::{self, MountError, MountOptions, OwnMount, Unmount};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
    SessionEnded(io::Result<()>),
}

/// Mounts, calls `ready` with the store's directory when the mount answers, and returns when it is
/// unmounted and the store is closed.
pub fn serve(task: &Task<'_>, ready: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let dir = mount_point(task)?;
    mount::check_device()?;
    let store = store::open_or_create(task.store)?;
    let served = make_dir(&dir).and_then(|()| serve_open(&store, &dir, task.options, ready));
    info!("closing the store");
    let closed = store.close();
    if let Err(error) = &closed {
        error!("{error}");
    }
    served.and(closed).inspect(|()| info!("closed"))
}

/// Checks the mount point and clears dead mounts from it. Returns it without symlinks.
fn mount_point(task: &Task<'_>) -> Result<PathBuf> {
    let dir = resolve(task.dir)?;
    let store = resolve(task.store)?;
    if dir.starts_with(&store) || store.starts_with(&dir) {
        let (dir, store) = (dir.display(), store.display());
        let hint = "keep the store beside the directory that it is mounted on";
        return Err(CliError::Refused(format!("{dir} and the store {store} lie within each other: {hint}")));
    }
    clear_dead(&dir)?;
    Ok(dir)
}

fn clear_dead(dir: &Path) -> Result<()> {
    match mount::clear_dead(dir) {
        Ok(0) => Ok(()),
        Ok(count) => {
            info!("cleared {count} dead mounts from {}", dir.display());
            Ok(())
        }
        // It is made later.
        Err(MountError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
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
                // Without the last slash that joining nothing would leave.
                return Ok(if missing.as_os_str().is_empty() { found } else { found.join(missing) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(absolute)
}

fn make_dir(dir: &Path) -> Result<()> {
    match std::fs::create_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(MountError::NotADirectory { dir: dir.to_path_buf() }.into())
        }
        made => made.map_err(|error| CliError::system(format!("make {}", dir.display()), error)),
    }
}

/// Mounts the open store and serves it until the end.
fn serve_open(
    store: &OpenStore,
    dir: &Path,
    options: &MountOptions,
    ready: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    // Somebody may have mounted here while the store was opened.
    clear_dead(dir)?;
    let mounted = mount::mount(store.path(), dir, options)?;
    let own = mounted.own;
    let outcome = store
        .set_mount(dir)
        .and_then(|()| Session::start(store.files(), mounted.device, options).map_err(session_failed(dir)))
        .and_then(|session| {
            thread::spawn(move || sender.send(Event::SessionEnded(session.run())));
            announce(store, dir, ready)
        })
        .map(|()| wait_for_end(&events, &own, store));
    if outcome.is_err() {
        end_session(&events, &own);
    }
    outcome
}

fn session_failed(dir: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |error| CliError::system(format!("serve {}", dir.display()), error)
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

fn wait_for_end(events: &Receiver<Event>, own: &OwnMount, store: &OpenStore) {
    match events.recv() {
        Ok(Event::SessionEnded(result)) => log_end(result),
        Ok(Event::Signal(signal)) => {
            info!("signal {signal}: unmounting");
            // What was written is safe before anything else can go wrong.
            if let Err(error) = store.sync() {
                error!("{error}");
            }
            end_session(events, own);
        }
        Err(_) => warn!("nobody serves the mount any more"),
    }
}

/// Unmounts our own mount and waits, with a bound, until the session has ended.
fn end_session(events: &Receiver<Event>, own: &OwnMount) {
    let unmounted = match own.unmount(Unmount::Idle) {
        Err(MountError::Busy { .. }) => {
            warn!("the mount is busy: detached; who uses it has {} s", DRAIN_TIMEOUT.as_secs());
            own.unmount(Unmount::Lazy)
        }
        done => done,
    };
    if let Err(error) = unmounted {
        error!("{error}");
    }
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Signal(signal)) => info!("signal {signal}: already closing"),
            Ok(Event::SessionEnded(result)) => return log_end(result),
            Err(RecvTimeoutError::Timeout) => return warn!("the mount is still in use: closing the store"),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn log_end(result: io::Result<()>) {
    match result {
        Ok(()) => info!("unmounted"),
        Err(error) => error!("the session ended: {error}"),
    }
}
