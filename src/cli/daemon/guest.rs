//! A mount that the daemon of another process serves.

use crate::cli::control::client::{self, Conversation};
use crate::cli::control::mounting::{MountRequest, Plan, path};
use crate::cli::daemon::{Task, point};
use crate::cli::error::{CliError, Result};
use crate::cli::store::MAIN;
use crate::fs::mount::table::DeviceNumber;
use crate::fs::mount::{self, MountError, Unmount};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

/// A mount that the daemon serves.
pub struct Mounted {
    dir: PathBuf,
    device: DeviceNumber,
    /// Its end is the daemon's.
    daemon: OwnedFd,
    /// Those that end the mount, if the process stays with it.
    signals: Option<Signals>,
}

/// Has the daemon of the task's store serve the mount. `None` if there is no daemon any more, or it has changed its
/// mind: ask again.
pub fn mount(task: &Task<'_>) -> Result<Option<Mounted>> {
    let was_there = task.dir.exists();
    let mounted = try_mount(task);
    if mounted.is_err() && !was_there {
        // A mount point that was made in vain. It stays if it is of use to somebody by now.
        let _ = std::fs::remove_dir(task.dir);
    }
    mounted
}

fn try_mount(task: &Task<'_>) -> Result<Option<Mounted>> {
    let dir = point::make(task.dir)?;
    mount::clear_dead(&dir)?;
    // Before there is anything that a signal should end.
    let signals = task.stays.then(|| Signals::new([SIGTERM, SIGINT, SIGHUP])).transpose().map_err(waiting)?;
    let volume = match task.options.all {
        true => None,
        false => Some(task.options.volume.clone().unwrap_or_else(|| MAIN.to_string())),
    };
    let compaction = task.options.compaction.map(|mode| mode.name().to_string());
    let request = MountRequest::new(volume, &dir, task.lists.to_vec(), compaction);
    let Some((conversation, plan)) = client::ask_for_mount(task.store, &request)? else { return Ok(None) };
    let daemon = conversation.daemon().map_err(|error| CliError::system("look at the daemon", error))?;
    let device = match plan {
        Plan::Mount => serve(task, conversation, &dir)?,
        Plan::Bind { from, device } => {
            conversation.finish()?;
            if !mount::bind(&path(&from), device, &dir, task.options)? {
                return Ok(None);
            }
            device
        }
    };
    Ok(Some(Mounted { dir, device, daemon, signals }))
}

/// Mounts, and hands the device over.
fn serve(task: &Task<'_>, conversation: Conversation, dir: &Path) -> Result<DeviceNumber> {
    let store = task.store.canonicalize();
    let store = store.map_err(|error| CliError::system(task.store.display().to_string(), error))?;
    let mounted = mount::mount(&store, dir, task.options)?;
    let number = mounted.own.device();
    conversation.hand_over(&mounted.device, number).inspect_err(|_| {
        // Nobody will serve it. The first error is the one that tells more.
        let _ = mounted.own.unmount(Unmount::Lazy);
    })?;
    Ok(number)
}

fn waiting(error: io::Error) -> CliError {
    CliError::system("wait for the end of the mount", error)
}

impl Mounted {
    /// Tells that it answers; if the process stays, waits until it is gone. A signal then unmounts it.
    pub fn finish(self, store: &Path, ready: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
        point::check_answers(&self.dir)?;
        ready(store).map_err(|error| CliError::system("report that the mount answers", error))?;
        let Some(mut signals) = self.signals else { return Ok(()) };
        let dir = self.dir.clone();
        thread::spawn(move || {
            for _ in signals.forever() {
                let unmounted = match mount::unmount(&dir, Unmount::Idle) {
                    Err(MountError::Busy { .. }) => mount::unmount(&dir, Unmount::Lazy),
                    done => done,
                };
                if let Err(error) = unmounted {
                    CliError::from(error).say();
                }
            }
        });
        match mount::wait_until_gone(&self.dir, self.device, &self.daemon).map_err(waiting)? {
            true => Ok(()),
            false => Err(CliError::Refused(format!(
                "{}: the daemon that served this mount has ended: mount it again",
                self.dir.display()
            ))),
        }
    }
}
