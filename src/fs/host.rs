//! An open store, and those of its volumes that somebody uses.
//!
//! A volume's locks, its table of inodes and its source of inode numbers exist once in a process: whoever works
//! with it, mounts and commands alike, shares one [`FileSystem`]. It is opened for the first who asks and closed
//! when the last has let go, so that a volume that nobody uses costs nothing here.
//!
//! Which volumes and snapshots there are changes through here too ([`changes`]), for mounts show them, and what is
//! mounted by itself must not be taken away.
//!
//! # Locks
//! `mounted` comes first: it is held over changes that take a volume away. A slot is locked over the opening and the
//! closing of its file system. `slots`, `seats` and `mounts` come after that and are leaves.

mod changes;

pub(super) use changes::{NewRoot, volume_name};

use crate::fs::attr::Caller;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::filesystem::{FileSystem, FsOptions, StatFs};
use crate::fs::news::{self, Seats};
use crate::fs::recent::Recent;
use crate::fs::views::Views;
use crate::lsm::manifest::VolumeId;
use crate::lsm::{self, Store, Volume};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

/// Between a volume's name and a snapshot's.
pub const SNAPSHOT_MARK: char = '@';

/// A store's volume of that name, or the snapshot: `VOLUME@SNAPSHOT`.
pub fn find_volume(store: &Store, name: &str) -> lsm::Result<Arc<Volume>> {
    match name.split_once(SNAPSHOT_MARK) {
        None => store.volume(name),
        Some((volume, snapshot)) => store.snapshot(&*store.volume(volume)?, snapshot),
    }
}

/// All volumes and snapshots, with their names: each volume's snapshots behind it.
pub fn volumes_and_snapshots(store: &Store) -> lsm::Result<Vec<(String, Arc<Volume>)>> {
    let mut all = Vec::new();
    for volume in store.volumes()? {
        let name = volume.name();
        let named = |snapshot: Arc<Volume>| (format!("{name}{SNAPSHOT_MARK}{}", snapshot.name()), snapshot);
        let snapshots: Vec<_> = store.snapshots(&volume)?.into_iter().map(named).collect();
        all.push((name, volume));
        all.extend(snapshots);
    }
    Ok(all)
}

/// An open store, and those of its volumes that somebody uses. All methods may be called from any thread.
#[derive(Debug)]
pub struct Host {
    store: Arc<Store>,
    options: FsOptions,
    /// Of which each volume's files have a part.
    recent: Recent,
    slots: Mutex<HashMap<VolumeId, Arc<Mutex<Slot>>>>,
    /// Of volumes that somebody uses or watches.
    seats: Mutex<HashMap<VolumeId, Weak<Seats>>>,
    /// Volumes and snapshots that are mounted by themselves, and where.
    mounted: Mutex<HashMap<VolumeId, String>>,
    /// What mounts show.
    mounts: Mutex<Vec<Weak<Views>>>,
}

/// While this lives a volume, or a snapshot, is mounted by itself, and is not taken away.
#[derive(Debug)]
pub struct Claim {
    host: Arc<Host>,
    volume: VolumeId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.host.mounted.lock().remove(&self.volume);
    }
}

/// A volume that somebody uses, or is about to.
#[derive(Debug, Default)]
struct Slot {
    /// How many [`Files`] there are of it.
    users: usize,
    /// `None` while there are none.
    files: Option<Arc<FileSystem>>,
}

/// A volume's files, shared with others who use them, and open while this lives.
#[derive(Debug)]
pub struct Files {
    host: Arc<Host>,
    slot: Arc<Mutex<Slot>>,
    volume: VolumeId,
    files: Arc<FileSystem>,
}

impl Host {
    /// For an open store, whose file systems are opened with `options`.
    pub fn new(store: Arc<Store>, options: FsOptions) -> Arc<Host> {
        let (slots, seats, mounted, mounts) = Default::default();
        Arc::new(Host { store, options, recent: Recent::new(), slots, seats, mounted, mounts })
    }

    /// The engine.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Who owns the store.
    pub(super) fn owner(&self) -> Caller {
        self.options.owner
    }

    /// Notes that a volume, or a snapshot, is mounted by itself at a place.
    ///
    /// # Errors
    /// [`Cause::Mounted`] if it is already.
    pub fn claim(self: &Arc<Self>, volume: &Volume, place: &str) -> Result<Claim> {
        let mut mounted = self.mounted.lock();
        let claimed = match mounted.get(&volume.id()) {
            Some(place) => Err(Cause::Mounted(place.clone())),
            None => volume.check_open().map_err(Cause::from),
        };
        claimed.context("mount", || Subject::Volume(volume.name()))?;
        mounted.insert(volume.id(), place.to_string());
        Ok(Claim { host: self.clone(), volume: volume.id() })
    }

    /// From now on a mount shows the store.
    pub(super) fn watch(&self, views: &Arc<Views>) {
        let mut mounts = self.mounts.lock();
        mounts.retain(|mount| mount.strong_count() > 0);
        mounts.push(Arc::downgrade(views));
    }

    /// Does something with all mounts but `by`.
    fn each_mount(&self, by: Option<&Views>, mut tell: impl FnMut(&Views)) {
        let mounts: Vec<Arc<Views>> = self.mounts.lock().iter().filter_map(Weak::upgrade).collect();
        let is_by = |views: &Views| by.is_some_and(|by| std::ptr::eq(by, views));
        mounts.iter().filter(|views| !is_by(views)).for_each(|views| tell(views));
    }

    /// Waits until all mounts have heard what was said of volumes and snapshots.
    fn wait_until_told(&self) {
        self.each_mount(None, |views| news::wait_until_heard(views.audience().as_deref()));
    }

    /// Makes durable what was answered before.
    pub fn fsync(&self) -> Result<()> {
        self.store.sync().context("fsync", || Subject::FileSystem)
    }

    /// As [`FileSystem::fsync_then`].
    pub fn fsync_then(&self, done: Box<dyn FnOnce(Result<()>) + Send>) {
        self.store.sync_then(Box::new(move |synced| done(synced.context("fsync", || Subject::FileSystem))));
    }

    /// The room that is left in the store.
    pub fn statfs(&self) -> Result<StatFs> {
        let space = self.store.space().context("statfs", || Subject::FileSystem)?;
        Ok(StatFs::new(&space, 0))
    }

    /// The volume of that name, or the snapshot: `VOLUME@SNAPSHOT`.
    pub fn volume(&self, name: &str) -> lsm::Result<Arc<Volume>> {
        find_volume(&self.store, name)
    }

    /// The files of the volume, or the snapshot, of that name.
    pub fn files(self: &Arc<Self>, name: &str) -> Result<Files> {
        let volume = self.volume(name).map_err(Cause::from).context("open", || Subject::FileSystem)?;
        self.files_of(volume)
    }

    /// The files of a volume, or of a snapshot.
    pub fn files_of(self: &Arc<Self>, volume: Arc<Volume>) -> Result<Files> {
        let id = volume.id();
        let slot = self.slots.lock().entry(id).or_default().clone();
        let mut open = slot.lock();
        let files = match &open.files {
            Some(files) => Ok(files.clone()),
            None => {
                let (store, recent, seats) =
                    (self.store.clone(), self.recent.for_another(), self.seats_of(id));
                FileSystem::open_sharing(store, volume, self.options.clone(), recent, seats).map(Arc::new)
            }
        };
        if let Ok(files) = &files {
            open.files = Some(files.clone());
            open.users += 1;
        }
        drop(open);
        match files {
            Ok(files) => Ok(Files { host: self.clone(), slot, volume: id, files }),
            Err(error) => {
                self.forget(id, &slot);
                Err(error)
            }
        }
    }

    /// The seats from which a volume's files are watched, whether they are open or not.
    pub(super) fn seats_of(&self, volume: VolumeId) -> Arc<Seats> {
        let mut all = self.seats.lock();
        if let Some(seats) = all.get(&volume).and_then(Weak::upgrade) {
            return seats;
        }
        if all.len() == all.capacity() {
            all.retain(|_, seats| seats.strong_count() > 0);
            // So that this is not done again soon.
            let live = all.len();
            all.reserve(live + 1);
        }
        let seats = Arc::default();
        all.insert(volume, Arc::downgrade(&seats));
        seats
    }

    /// Takes a slot away if only the caller knows it.
    fn forget(&self, volume: VolumeId, slot: &Arc<Mutex<Slot>>) {
        let mut slots = self.slots.lock();
        // Who has it waits for it, or uses it, and asks here in turn.
        if Arc::strong_count(slot) == 2 {
            slots.remove(&volume);
        }
    }
}

impl Files {
    /// The store that they are in.
    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// To be kept by who lives no longer than this.
    pub fn share(&self) -> Arc<FileSystem> {
        self.files.clone()
    }
}

impl Deref for Files {
    type Target = FileSystem;

    fn deref(&self) -> &FileSystem {
        &self.files
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        slot.users -= 1;
        if slot.users > 0 {
            return;
        }
        slot.files = None;
        if let Err(error) = self.files.close() {
            // A deleted volume has nothing to close.
            tracing::debug!("{error}");
        }
        drop(slot);
        self.host.forget(self.volume, &self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::fs::access::AccessTimes;
    use crate::fs::attr::{FileKind, Ino};
    use crate::fs::errno::errno;
    use crate::fs::readdir::DirEntry;
    use crate::fs::{Caller, ROOT, engine_options};

    fn host() -> Arc<Host> {
        let store = Store::open(Arc::new(SimDisk::new(1)), engine_options()).unwrap();
        Host::new(Arc::new(store), FsOptions::default())
    }

    #[test]
    fn those_who_use_a_volume_share_its_files() {
        let host = host();
        let (one, two) = (host.files("main").unwrap(), host.files("main").unwrap());
        assert!(Arc::ptr_eq(&one.share(), &two.share()));
        let made = one.create(ROOT, b"a", 0o644, Caller::new(0, 0)).unwrap();
        drop(one);
        assert_eq!(two.getattr(made.ino).unwrap().ino, made.ino, "it is known still");
        drop(two);
        assert!(host.slots.lock().is_empty());
        assert!(host.files("main").unwrap().getattr(made.ino).is_err(), "opened anew it knows no inode");
    }

    #[test]
    fn seats_of_what_nobody_watches_are_not_kept() {
        let host = host();
        let watched = host.seats_of(7);
        (0..1000).for_each(|volume| drop(host.seats_of(volume)));
        assert!(host.seats.lock().len() < 10 && Arc::ptr_eq(&watched, &host.seats_of(7)));
    }

    #[test]
    fn a_volume_that_comes_and_goes_uses_no_number_twice() {
        let host = host();
        let numbers = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (host, numbers) = (&host, &numbers);
                scope.spawn(move || {
                    for n in 0..100 {
                        let name = format!("{worker}-{n}");
                        let files = host.files("main").unwrap();
                        let attr = files.create(ROOT, name.as_bytes(), 0o644, Caller::new(0, 0)).unwrap();
                        numbers.lock().push(attr.ino);
                    }
                });
            }
        });
        let mut numbers = numbers.into_inner();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 400);
    }

    #[test]
    fn what_was_open_in_a_volume_that_is_gone_is_stale() {
        for gone in
            [|host: &Host| host.delete_volume("work"), |host: &Host| host.restore("work", "s").map(drop)]
        {
            let host = host();
            host.create_volume("work").unwrap();
            host.create_snapshot("work", "s").unwrap();
            let views = Views::of_all(host.clone(), AccessTimes::Kept);
            let root = views.lookup(ROOT, b"work").unwrap().unwrap().ino;
            let make = |name: &[u8]| -> Ino {
                views.mknod(root, name, FileKind::File, 0o644, 0, Caller::new(0, 0)).unwrap().ino
            };
            let (file, unlinked) = (make(b"f"), make(b"g"));
            views.unlink(root, b"g").unwrap();
            let top = views.opendir(ROOT).unwrap();
            gone(&host).unwrap();
            let answers = [
                views.getattr(file).map(drop),
                views.getattr(unlinked).map(drop),
                views.getattr(root).map(drop),
                views.read(file, 0, 1).map(drop),
                views.read(unlinked, 0, 1).map(drop),
                views.write(file, 0, b"x").map(drop),
                views.getxattr(file, b"user.a").map(drop),
                views.listxattr(file).map(drop),
                views.opendir(root).map(drop),
            ];
            let numbers = answers.map(|answer| answer.err().map(|error| errno(&error)));
            assert_eq!(numbers, [Some(libc::ESTALE); 9]);
            let mut names = Vec::new();
            let list = &mut |entry: DirEntry<'_>| {
                names.push(entry.name.to_vec());
                false
            };
            views.readdir_plus(&top, 0, list).unwrap();
            assert_eq!(names, [&b"."[..], b"..", b"main"]);
        }
    }

    #[test]
    fn who_lists_volumes_goes_on_whatever_comes_and_goes() {
        let host = host();
        let create = |name: String| host.create_volume(&name).map(drop).unwrap();
        (0..10).for_each(|n| create(format!("v{n}")));
        let views = Views::of_all(host.clone(), AccessTimes::Kept);
        let (mut seen, mut cookie) = (Vec::new(), 0);
        let mut read = |most: usize| {
            let (mut left, from) = (most, cookie);
            // Who comes back has nothing left from before.
            let top = views.opendir(ROOT).unwrap();
            let add = &mut |entry: DirEntry<'_>| {
                if left > 0 {
                    (cookie, left) = (entry.cookie, left - 1);
                    seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
                    return false;
                }
                true
            };
            views.readdir(&top, from, add).unwrap();
            seen.clone()
        };
        assert_eq!(read(7), [".", "..", "main", "v0", "v1", "v2", "v3"]);
        ["v0", "v3", "v7"].iter().for_each(|name| host.delete_volume(name).unwrap());
        create("a-new-one".to_string());
        assert_eq!(read(usize::MAX)[7..], ["v4", "v5", "v6", "v8", "v9", "a-new-one"]);
    }
}
