//! The daemon: one process that has a store open, serves its mounts and does what commands ask.
//!
//! `lsmfs mount` finds the store free and becomes its daemon ([`serve`]), or finds that there is one and has it serve
//! the mount too ([`guest`]). The daemon lives until its last mount is gone: after `umount`, `fusermount3 -u`,
//! `lsmfs umount`, or after its own unmount of all upon a signal. Mounts that are busy then are detached; their users
//! have [`DRAIN_TIMEOUT`] to finish, what they do afterwards fails. However it ends, the lock says "closing" before
//! the store is closed and goes only afterwards, so whoever waits for the lock finds everything.

mod guest;
mod mounts;
mod point;

use crate::cli::access::{self, Reach};
use crate::cli::control::line::Line;
use crate::cli::control::mounting::{MountRequest, Plan};
use crate::cli::control::server::{Execute, Mounting, Server};
use crate::cli::daemon::mounts::{Id, Mounts, Way};
use crate::cli::error::{CliError, Result};
use crate::cli::memory;
use crate::cli::request::{Job, Request};
use crate::cli::store::{self, OpenStore};
use crate::disk::real::RealDisk;
use crate::fs::Caller;
use crate::fs::mount::{self, MountOptions, OwnMount};
use crate::lsm::options::CompactionMode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Read, Write};
use std::path::Path;
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
    /// The lists of options as the user gave them.
    pub lists: &'a [String],
    /// Is the process to stay until the mount is gone?
    pub stays: bool,
}

/// What happens in a daemon's life.
#[derive(Debug)]
pub enum Event {
    /// It is to end.
    Signal(i32),
    /// A mount is gone, or was not made.
    Ended(Id),
}

/// Mounts, and returns when the store is closed; or has the store's daemon serve the mount, and returns when it does
/// (if the task [stays](Task::stays), when it is gone). Calls `opened` with the store's directory when it is ours,
/// and `ready` when the mount answers.
pub fn serve(
    task: &Task<'_>,
    opened: impl FnOnce(&Path),
    ready: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    let cleared = point::check(task)?;
    mount::check_device()?;
    let started = Instant::now();
    let disk = loop {
        match access::reach(task.store, true)? {
            Reach::Free(disk) => break disk,
            Reach::Daemon => match guest::mount(task)? {
                Some(mounted) => return mounted.finish(task.store, ready),
                None => access::pause(task.store, started)?,
            },
        }
    };
    if !memory::keep_little() {
        warn!("the memory allocator keeps what is freed");
    }
    opened(disk.path());
    if cleared > 0 {
        info!("{}: dead mounts cleared: {cleared}", task.dir.display());
    }
    live(task, disk, ready)?;
    info!("closed");
    Ok(())
}

/// Opens the store, mounts it, serves until the end, closes it.
fn live(task: &Task<'_>, disk: RealDisk, ready: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let engine = store::options(task.options.compaction);
    let compaction = engine.compaction;
    let store = Arc::new(OpenStore::open_with(disk, engine)?);
    let served = serve_open(task, &store, compaction, ready);
    info!("closing the store");
    let said = store.disk().lock().set_closing().map_err(|error| CliError::Open(error.into()));
    let closed = store.close();
    served.and(said).and(closed)
}

/// Mounts the open store and serves it until the end.
fn serve_open(
    task: &Task<'_>,
    store: &Arc<OpenStore>,
    compaction: CompactionMode,
    ready: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    let dir = point::make(task.dir)?;
    // Somebody may have mounted here while the store was opened.
    mount::clear_dead(&dir)?;
    let mounts = Mounts::new(store.clone(), compaction, sender);
    mount_first(&dir, task.options, store, &mounts)?;
    let server = take_commands(store, &mounts);
    let announced = announce(store, &dir, ready);
    match &announced {
        Ok(()) => wait_for_end(store, &mounts, &events),
        Err(_) => end(&mounts, &events),
    }
    let said = store.disk().lock().set_closing().map_err(|error| CliError::Open(error.into()));
    if let Some(server) = server {
        server.end();
    }
    announced.and(said)
}

/// Makes the mount that the daemon was started for.
fn mount_first(dir: &Path, options: &MountOptions, store: &OpenStore, mounts: &Arc<Mounts>) -> Result<()> {
    let Way::Mount(place) = mounts.plan(dir, options)? else {
        return Err(CliError::Refused("nothing can be bound before the first mount".to_string()));
    };
    let mounted = mount::mount(store.path(), dir, options)?;
    place.serve(mounted.device, mounted.own, options)
}

/// Asks the mount one question, as any program would, and tells the one that waits for it.
fn announce(store: &OpenStore, dir: &Path, ready: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    point::check_answers(dir)?;
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

/// Waits until the last mount is gone; a signal makes them go.
fn wait_for_end(store: &OpenStore, mounts: &Mounts, events: &Receiver<Event>) {
    for event in events {
        match event {
            Event::Ended(id) if mounts.remove(id) => return,
            Event::Ended(_) => (),
            Event::Signal(signal) => {
                info!("signal {signal}: unmounting");
                // What was written is safe before anything else can go wrong.
                if let Err(error) = store.sync() {
                    error!("{error}");
                }
                return end(mounts, events);
            }
        }
    }
}

/// Unmounts all and waits, with a bound, until their sessions have ended.
fn end(mounts: &Mounts, events: &Receiver<Event>) {
    mounts.unmount();
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Signal(signal)) => info!("signal {signal}: already closing"),
            Ok(Event::Ended(id)) if mounts.remove(id) => return,
            Ok(Event::Ended(_)) => (),
            Err(_) => return mounts.stop(),
        }
    }
}

/// Lets commands reach the store. Where no socket can be made the mount is served all the same.
fn take_commands(store: &Arc<OpenStore>, mounts: &Arc<Mounts>) -> Option<Server> {
    let executor = Executor { store: store.clone(), mounts: mounts.clone() };
    let listening = Server::start(store.path(), Arc::new(executor));
    let server = listening.inspect_err(|error| warn!("commands can't reach this store: {error}")).ok()?;
    if let Err(error) = store.disk().lock().set_serving() {
        warn!("commands can't reach this store: {error}");
    }
    Some(server)
}

/// Does what is asked over the control socket.
struct Executor {
    store: Arc<OpenStore>,
    mounts: Arc<Mounts>,
}

impl Execute for Executor {
    fn execute(
        &self,
        request: &Request,
        caller: Caller,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<()> {
        request.execute(Job { store: &self.store, mounts: self.mounts.served(), caller, input, output })
    }

    fn mount(&self, request: &MountRequest, client: &Line) -> Result<Mounting> {
        let failed = |error| CliError::system("talk to the one who mounts", error);
        let mut options = MountOptions::parse(&request.options)?;
        options.show(request.volume.as_deref());
        options.compaction = request.compaction.as_deref().and_then(CompactionMode::from_name);
        match self.mounts.plan(&request.dir(), &options)? {
            Way::Later => Ok(Mounting::Later),
            Way::Bind(plan) => client.send_plan(&plan).map(|()| Mounting::Done).map_err(failed),
            Way::Mount(place) => {
                client.send_plan(&Plan::Mount).map_err(failed)?;
                let (device, number) = client.receive_device().map_err(failed)?;
                let own = OwnMount::adopt(&device, number, &request.dir())?;
                place.serve(device, own, &options).map(|()| Mounting::Done)
            }
        }
    }
}
