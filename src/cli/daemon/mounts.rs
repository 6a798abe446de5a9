//! The mounts that a daemon serves.
//!
//! One volume has one superblock: two would keep two opinions of one file. So whoever wants to mount what is mounted
//! gets it bound to another place, and a volume is not mounted by itself and among all at once, but bound to a place
//! of its own out of the mount of all. (A snapshot does not change: it may be mounted beside the others.)
//!
//! Lock: `table`, held over questions about mounts and over unmounts, which wait for no request.

use crate::cli::control::mounting::Plan;
use crate::cli::daemon::Event;
use crate::cli::error::{CliError, Result};
use crate::cli::store::{MAIN, OpenStore};
use crate::fs::fuse::{ServeOptions, Session, Stopper};
use crate::fs::mount::table::{self, DeviceNumber};
use crate::fs::mount::{MountError, MountOptions, OwnMount, Unmount};
use crate::fs::{Claim, Views};
use crate::lsm::Volume;
use crate::lsm::options::CompactionMode;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use tracing::{error, info, warn};

/// A mount's number.
pub type Id = u64;

/// The mounts that a daemon serves, and those about to be.
pub struct Mounts {
    store: Arc<OpenStore>,
    compaction: CompactionMode,
    events: Sender<Event>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    mounts: BTreeMap<Id, Entry>,
    next: Id,
    /// The last one is gone: there will be no other.
    ended: bool,
}

struct Entry {
    /// The volume; `None` for all.
    shows: Option<Arc<Volume>>,
    dir: PathBuf,
    /// `None` until it is there.
    served: Option<Served>,
}

struct Served {
    own: OwnMount,
    stopper: Stopper,
}

/// How somebody gets what he wants to mount.
pub enum Way {
    /// He mounts it, and it is served then.
    Mount(Place),
    /// He binds it.
    Bind(Plan),
    /// Not now: the daemon, or a mount in the way, is ending.
    Later,
}

/// A place in the table for a mount that is about to be.
pub struct Place {
    mounts: Arc<Mounts>,
    id: Id,
    views: Arc<Views>,
    claim: Option<Claim>,
    kept: bool,
}

impl Mounts {
    /// No mounts yet. The ends of mounts are `events`.
    pub fn new(store: Arc<OpenStore>, compaction: CompactionMode, events: Sender<Event>) -> Arc<Mounts> {
        Arc::new(Mounts { store, compaction, events, table: Mutex::default() })
    }

    /// Finds out how to mount on `dir` what the options say.
    pub fn plan(self: &Arc<Self>, dir: &Path, options: &MountOptions) -> Result<Way> {
        if options.compaction.is_some_and(|wanted| wanted != self.compaction) {
            let mode = self.compaction.name();
            return Err(CliError::Refused(format!(
                "the store is open with compaction={mode}, which all of its mounts share: leave the option out"
            )));
        }
        let mut table = self.table.lock();
        if table.ended {
            return Ok(Way::Later);
        }
        let (host, path) = (self.store.host(), self.store.path());
        let volume = match options.all {
            true => None,
            false => {
                let name = options.volume.as_deref().unwrap_or(MAIN);
                Some(host.volume(name).map_err(|error| CliError::engine(path, error))?)
            }
        };
        if let Some(way) = table.find(volume.as_deref())? {
            return Ok(way);
        }
        let access_times = options.access_times();
        let (views, claim) = match &volume {
            None => (Views::of_all(host.clone(), access_times), None),
            Some(volume) => {
                let claim = host.claim(volume, &dir.display().to_string())?;
                let files = host.files_of(volume.clone())?;
                (Views::of_volume(files, access_times), Some(claim))
            }
        };
        let id = table.next;
        table.next += 1;
        table.mounts.insert(id, Entry { shows: volume, dir: dir.to_path_buf(), served: None });
        Ok(Way::Mount(Place { mounts: self.clone(), id, views, claim, kept: false }))
    }

    /// A mount is gone. Says whether it was the last.
    pub fn remove(&self, id: Id) -> bool {
        let mut table = self.table.lock();
        table.mounts.remove(&id);
        let was_last = table.mounts.is_empty();
        table.ended |= was_last;
        if !was_last {
            self.say(&table);
        }
        was_last
    }

    /// The mounts that are served.
    pub fn served(&self) -> Vec<(DeviceNumber, Id)> {
        let served = |(id, entry): (&Id, &Entry)| Some((entry.served.as_ref()?.own.device(), *id));
        self.table.lock().mounts.iter().filter_map(served).collect()
    }

    /// Unmounts all of them; who uses one that is busy keeps it for a while. Whoever wants to mount from now on is told
    /// to ask later.
    pub fn unmount(&self) {
        let mut table = self.table.lock();
        table.ended = true;
        for entry in table.mounts.values() {
            let Some(served) = &entry.served else { continue };
            let unmounted = match served.own.unmount(Unmount::Idle) {
                Err(MountError::Busy { .. }) => {
                    warn!("{} is busy: detached", entry.dir.display());
                    served.own.unmount(Unmount::Lazy)
                }
                done => done,
            };
            if let Err(error) = unmounted {
                error!("{error}");
            }
        }
    }

    /// From now on who still uses a mount gets errors.
    pub fn stop(&self) {
        for entry in self.table.lock().mounts.values() {
            warn!("{} is still in use: its users get errors from now on", entry.dir.display());
            entry.served.iter().for_each(|served| served.stopper.stop());
        }
    }

    /// Says in the lock where the store is mounted.
    fn say(&self, table: &Table) {
        let served = table.mounts.values().find(|entry| entry.served.is_some());
        if let Some(Err(error)) = served.map(|entry| self.store.disk().lock().set_mount(Some(&entry.dir))) {
            warn!("{error}");
        }
    }
}

impl Table {
    /// Where to bind from what is to be mounted; `None` if it is to be mounted indeed.
    fn find(&self, volume: Option<&Volume>) -> Result<Option<Way>> {
        for entry in self.mounts.values() {
            match (&entry.shows, volume) {
                (None, None) => return entry.bind(None).map(Some),
                (Some(shown), Some(volume)) if shown.is(volume) => return entry.bind(None).map(Some),
                (None, Some(volume)) if !volume.is_snapshot() => {
                    return entry.bind(Some(&volume.name())).map(Some);
                }
                (Some(shown), None) if !shown.is_snapshot() => {
                    let (name, dir) = (shown.name(), entry.dir.display());
                    return Err(CliError::Refused(format!(
                        "volume {name} is mounted by itself on {dir}: unmount it, mount all, then mount it again"
                    )));
                }
                _ => (),
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// Binds what this mount shows, or a volume in it.
    fn bind(&self, volume: Option<&str>) -> Result<Way> {
        let dir = self.dir.display();
        let Some(served) = &self.served else {
            return Err(CliError::Refused(format!("it is just being mounted on {dir}: try again")));
        };
        let places = served.own.places().map_err(|error| CliError::system("look for the mounts", error))?;
        // A place may show but a directory of the mount, or another volume than this one.
        let wanted = Path::new("/").join(volume.unwrap_or_default());
        let shown = |place: &table::Entry| place.find(&wanted).filter(|_| place.is_reached());
        if let Some(from) = places.iter().rev().find_map(shown) {
            return Ok(Way::Bind(Plan::bind(&from, served.own.device())));
        }
        match places.last() {
            Some(place) => Err(CliError::Refused(format!(
                "of its mount on {dir} only a part can be reached, on {}: unmount that, then try again",
                place.mount_point.display()
            ))),
            None if !served.own.is_alive() => Ok(Way::Later),
            None => Err(CliError::Refused(format!(
                "its mount on {dir} was detached and is still in use: end its users, then try again"
            ))),
        }
    }
}

impl Place {
    /// Serves a mount that was made for this place.
    pub fn serve(mut self, device: OwnedFd, own: OwnMount, options: &MountOptions) -> Result<()> {
        let started = Session::start(self.views.clone(), device, &serve_options(options));
        let session = started.inspect_err(|_| {
            // Nobody will serve it. The first error is the one that tells more.
            let _ = own.unmount(Unmount::Lazy);
        })?;
        let served = Served { own, stopper: session.stopper() };
        let (id, claim) = (self.id, self.claim.take());
        let mounts = self.mounts.clone();
        let served_by = thread::Builder::new().name(format!("mount {id}")).spawn(move || {
            let ran = catch_unwind(AssertUnwindSafe(|| session.run()));
            drop(claim);
            match ran {
                Ok(Ok(())) => info!("mount {id} is gone"),
                Ok(Err(error)) => error!("mount {id} ended: {error}"),
                Err(_) => error!("mount {id} ended: its session panicked"),
            }
            // Nobody listens any more where the daemon could not wait.
            let _ = mounts.events.send(Event::Ended(id));
        });
        served_by.map_err(|error| CliError::system("start a thread for the mount", error))?;
        self.kept = true;
        let mut table = self.mounts.table.lock();
        if table.ended {
            // All others were unmounted before this one was here.
            let _ = served.own.unmount(Unmount::Lazy);
        }
        // It may be gone by now.
        if let Some(entry) = table.mounts.get_mut(&self.id) {
            entry.served = Some(served);
            info!("mount {id} is on {}", entry.dir.display());
            self.mounts.say(&table);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.mounts.events.send(Event::Ended(self.id));
        }
    }
}

fn serve_options(options: &MountOptions) -> ServeOptions {
    let defaults = ServeOptions::default();
    ServeOptions {
        threads: options.threads.unwrap_or(defaults.threads),
        timeout: options.request_timeout.unwrap_or(defaults.timeout),
        linger: options.linger.unwrap_or(defaults.linger),
        xattrs: options.xattrs,
        ring: options.uring,
        ..defaults
    }
}
