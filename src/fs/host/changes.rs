//! Changes of which volumes and snapshots there are.
//!
//! Each is a change of the engine, made unless it would take away what is mounted, and told to the mounts that show
//! the name. A mount that asked itself is not told: its kernel would drop what it has just made.
//!
//! # Locks
//! `Host::mounted` is held over what takes a volume away, or its name: so who holds it and has looked at the volume of
//! a name can then change what has that name.

use crate::fs::attr::{Caller, ROOT, SetAttr};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::filesystem::FileSystem;
use crate::fs::host::Host;
use crate::fs::node::{Outcome, check_name};
use crate::fs::number::restore_volume;
use crate::fs::views::Views;
use crate::lsm::manifest::VolumeId;
use crate::lsm::{self, Volume};
use std::collections::HashMap;
use std::sync::Arc;

/// What a new volume's root is to be.
#[derive(Debug, Clone, Copy)]
pub(in crate::fs) struct NewRoot {
    pub mode: u32,
    pub owner: Caller,
}

/// A name that a volume can have, as far as its form goes.
pub(in crate::fs) fn volume_name(name: &[u8]) -> Outcome<&str> {
    check_name(name)?;
    let bad = || lsm::Error::BadVolumeName(name.escape_ascii().to_string());
    std::str::from_utf8(name).map_err(|_| bad().into())
}

/// A command's change of a volume: joins what went wrong with its name, and waits until the mounts know.
macro_rules! change {
    ($host:expr, $op:literal, $name:expr, $change:expr) => {{
        let changed: Outcome<_> = $change;
        let changed = changed.context($op, || Subject::Volume($name.to_string()))?;
        $host.wait_until_told();
        Ok(changed)
    }};
}

impl Host {
    /// Makes an empty volume.
    pub fn create_volume(self: &Arc<Self>, name: &str) -> Result<Arc<Volume>> {
        change!(self, "create volume", name, self.try_create_volume(name, None, None))
    }

    /// Gives a volume another name. Mounts of it stay.
    pub fn rename_volume(&self, name: &str, new_name: &str) -> Result<()> {
        change!(self, "rename volume", name, self.try_rename_volume(name, new_name, None))
    }

    /// Deletes a volume, with all that is in it and its snapshots. One that is mounted by itself is refused; where
    /// it shows among all volumes it goes, and files in it that are open fail from then on.
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        change!(self, "delete volume", name, self.try_delete_volume(name))
    }

    /// Makes a volume with what another, or a snapshot, holds at this moment: see [`lsm::Store::fork`].
    pub fn fork(&self, from: &str, to: &str) -> Result<Arc<Volume>> {
        change!(self, "fork volume", from, self.try_fork(from, to))
    }

    /// Keeps what a volume holds at this moment under a name.
    pub fn create_snapshot(self: &Arc<Self>, volume: &str, name: &str) -> Result<Arc<Volume>> {
        let create = || self.try_create_snapshot(&self.store.volume(volume)?, name, None);
        change!(self, "snapshot volume", volume, create())
    }

    /// Deletes a snapshot, unless it is mounted by itself.
    pub fn delete_snapshot(&self, volume: &str, name: &str) -> Result<()> {
        let delete = || self.try_delete_snapshot(&*self.store.volume(volume)?, name, None);
        change!(self, "delete snapshot", format!("{volume}@{name}"), delete())
    }

    /// Sets a volume back to one of its snapshots, unless it is mounted by itself: its files would change below
    /// who works with them. Where it shows among all volumes the next who looks finds the old files there, and
    /// what is open fails from then on.
    pub fn restore(&self, volume: &str, snapshot: &str) -> Result<Arc<Volume>> {
        change!(self, "restore volume", volume, self.try_restore(volume, snapshot))
    }

    pub(in crate::fs) fn try_create_volume(
        self: &Arc<Self>,
        name: &str,
        root: Option<NewRoot>,
        by: Option<&Views>,
    ) -> Outcome<Arc<Volume>> {
        let volume = self.store.create_volume(name)?;
        let made = self.make_root(&volume, root);
        if made.is_err() {
            self.take_back(&volume);
        }
        self.tell_volume(name, by);
        made.map(|()| volume)
    }

    /// Opens a new volume for the first time, which makes its root: a snapshot of it has none else.
    fn make_root(self: &Arc<Self>, volume: &Arc<Volume>, root: Option<NewRoot>) -> Outcome<()> {
        let files = self.files_of(volume.clone()).map_err(|error| error.cause)?;
        let Some(NewRoot { mode, owner }) = root else { return Ok(()) };
        let set =
            SetAttr { mode: Some(mode), uid: Some(owner.uid), gid: Some(owner.gid), ..SetAttr::default() };
        files.setattr(ROOT, &set, Caller::new(0, 0)).map_err(|error| error.cause)?;
        Ok(())
    }

    /// Deletes a volume that could not be made whole, whatever it is called by now, unless it is mounted already.
    fn take_back(&self, volume: &Volume) {
        let mounted = self.mounted.lock();
        let name = volume.name();
        let is_it = self.store.volume(&name).is_ok_and(|found| found.is(volume));
        if is_it
            && check_free(&mounted, volume).is_ok()
            && let Err(error) = self.store.delete_volume(&name)
        {
            // What was refused first tells more.
            tracing::warn!("volume {name} stays, though it could not be made whole: {error}");
        }
    }

    pub(in crate::fs) fn try_rename_volume(
        &self,
        name: &str,
        new_name: &str,
        by: Option<&Views>,
    ) -> Outcome<()> {
        let _mounted = self.mounted.lock();
        self.store.rename_volume(name, new_name)?;
        self.tell_volume(name, by);
        self.tell_volume(new_name, by);
        Ok(())
    }

    fn try_delete_volume(&self, name: &str) -> Outcome<()> {
        let mounted = self.mounted.lock();
        let volume = self.store.volume(name)?;
        check_free(&mounted, &volume)?;
        for snapshot in self.store.snapshots(&volume)? {
            check_free(&mounted, &snapshot)?;
        }
        self.store.delete_volume(name)?;
        self.tell_volume(name, None);
        Ok(())
    }

    /// Deletes a volume that holds nothing, nor snapshots.
    pub(in crate::fs) fn try_delete_empty_volume(
        self: &Arc<Self>,
        name: &str,
        by: Option<&Views>,
    ) -> Outcome<()> {
        let mounted = self.mounted.lock();
        let volume = self.store.volume(name)?;
        check_free(&mounted, &volume)?;
        let files = self.files_of(volume.clone()).map_err(|error| error.cause)?;
        files.while_empty(|| match self.store.snapshots(&volume)?.is_empty() {
            true => Ok(self.store.delete_volume(name)?),
            false => Err(Cause::NotEmpty),
        })?;
        self.tell_volume(name, by);
        Ok(())
    }

    fn try_fork(&self, from: &str, to: &str) -> Outcome<Arc<Volume>> {
        let forked = self.store.fork(&*self.volume(from)?, to)?;
        self.tell_volume(to, None);
        Ok(forked)
    }

    pub(in crate::fs) fn try_create_snapshot(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        name: &str,
        by: Option<&Views>,
    ) -> Outcome<Arc<Volume>> {
        let root = FileSystem::root_of(volume).map_err(|error| error.cause)?;
        if root.is_none() && !volume.is_snapshot() {
            self.make_root(volume, None)?;
        }
        let snapshot = self.store.create_snapshot(volume, name)?;
        self.each_mount(by, |views| views.snapshot_changed(volume, name));
        Ok(snapshot)
    }

    pub(in crate::fs) fn try_delete_snapshot(
        &self,
        volume: &Volume,
        name: &str,
        by: Option<&Views>,
    ) -> Outcome<()> {
        let mounted = self.mounted.lock();
        check_free(&mounted, &*self.store.snapshot(volume, name)?)?;
        self.store.delete_snapshot(volume, name)?;
        self.each_mount(by, |views| views.snapshot_changed(volume, name));
        Ok(())
    }

    fn try_restore(&self, volume: &str, snapshot: &str) -> Outcome<Arc<Volume>> {
        let mounted = self.mounted.lock();
        check_free(&mounted, &*self.store.volume(volume)?)?;
        let restored = restore_volume(&self.store, volume, snapshot)?;
        self.tell_volume(volume, None);
        Ok(restored)
    }

    /// Says to the mounts that the volume of this name is another one now, or none.
    fn tell_volume(&self, name: &str, by: Option<&Views>) {
        self.each_mount(by, |views| views.volume_changed(name));
    }
}

/// Refuses to take away what is mounted by itself.
fn check_free(mounted: &HashMap<VolumeId, String>, volume: &Volume) -> Outcome<()> {
    match mounted.get(&volume.id()) {
        Some(place) => Err(Cause::Mounted(place.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::fs::{FsOptions, engine_options};
    use crate::lsm::Store;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_takes_the_name_of_an_empty_volume_is_not_deleted_for_it() {
        let store = Store::open(Arc::new(SimDisk::new(1)), engine_options()).unwrap();
        let host = Host::new(Arc::new(store), FsOptions::default());
        let full = host.create_volume("full").unwrap();
        host.files_of(full.clone()).unwrap().create(ROOT, b"f", 0o644, Caller::new(0, 0)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Makes empty volumes and changes names with them.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = host.create_volume("name");
                    let _ = host.rename_volume("name", "aside");
                    let _ = host.rename_volume("full", "name");
                    let _ = host.rename_volume("name", "full");
                    let _ = host.rename_volume("aside", "name");
                }
            });
            for _ in 0..2000 {
                let _ = host.try_delete_empty_volume("name", None);
            }
            done.store(true, Ordering::Relaxed);
        });
        full.check_open().unwrap();
    }
}
