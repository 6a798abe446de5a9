//! Persistent snapshots, and setting a volume back to one.
//!
//! A snapshot is a fork that takes no writes and belongs to its volume (its *owner*): names of snapshots stand
//! apart for each volume, and they go with it. A volume is set back by forking the snapshot under a hidden
//! name, and giving that fork the volume's name and snapshots in the record that deletes it
//! ([`Store::replace_volume`]).
//!
//! Locks: those of a change of volumes ([`super`]).

use super::check_name;
use crate::lsm::manifest::Edit;
use crate::lsm::store::{Shared, Store};
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result};
use std::sync::Arc;

/// With this a volume's name begins that is not for the world: what an interrupted restore left behind.
pub(crate) const HIDDEN: char = '.';

impl Shared {
    pub(super) fn snapshots_of(&self, volume: &Volume) -> Vec<Arc<Volume>> {
        self.volumes().iter().filter(|other| other.owner() == Some(volume.id())).cloned().collect()
    }
}

impl Store {
    /// Keeps what a volume holds at this moment readable under a name, until it is deleted.
    ///
    /// # Errors
    /// As [`Store::create_volume`].
    pub fn create_snapshot(&self, volume: &Volume, name: &str) -> Result<Arc<Volume>> {
        check_name(name)?;
        if volume.is_snapshot() {
            return Err(Error::IsSnapshot(volume.name()));
        }
        self.fork_as(volume, name, Some(volume.id()))
    }

    /// The volume's snapshot of that name: a volume that takes no writes.
    pub fn snapshot(&self, volume: &Volume, name: &str) -> Result<Arc<Volume>> {
        self.find(Some(volume), name)
    }

    /// The volume's snapshots, in the order in which they were made.
    pub fn snapshots(&self, volume: &Volume) -> Result<Vec<Arc<Volume>>> {
        self.check_open()?;
        Ok(self.shared().snapshots_of(volume))
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// As [`Store::delete_volume`].
    pub fn delete_snapshot(&self, volume: &Volume, name: &str) -> Result<()> {
        self.shared().with_reserve(|| {
            let _naming = self.shared().naming.lock();
            self.check_writable()?;
            let snapshot = self.snapshot(volume, name)?;
            self.change_volumes(Vec::new(), &[snapshot], || (), |_| ())
        })
    }

    /// Sets a volume back to one of its snapshots, which it keeps, in one step. `keep` may write to what
    /// becomes the volume before anybody sees it; it is given that, and the volume as it is. Whoever
    /// holds the volume finds it gone; the new one has its name.
    ///
    /// # Errors
    /// Those of `keep` and of [`Store::fork`].
    pub fn restore(
        &self,
        name: &str,
        snapshot: &str,
        keep: impl FnOnce(&Volume, &Volume) -> Result<()>,
    ) -> Result<Arc<Volume>> {
        let volume = self.volume(name)?;
        let snapshot = self.snapshot(&volume, snapshot)?;
        let fresh = self.fork_as(&snapshot, &format!("{HIDDEN}{}", volume.id()), None)?;
        let done = keep(&fresh, &volume).and_then(|()| self.replace_volume(name, &fresh));
        if let Err(e) = done {
            // Else the next open does.
            let _ = self.delete_volume(&fresh.name());
            return Err(e);
        }
        Ok(fresh)
    }

    /// Deletes what interrupted restores left.
    pub(crate) fn delete_hidden(&self) -> Result<()> {
        let hidden = |volume: &&Arc<Volume>| volume.name().starts_with(HIDDEN) && !volume.is_snapshot();
        let left: Vec<Arc<Volume>> = self.shared().volumes().iter().filter(hidden).cloned().collect();
        left.iter().try_for_each(|volume| self.delete_volume(&volume.name()))
    }

    /// Puts a volume in another's place: it takes that one's name and snapshots, and the other is
    /// deleted, all in one step.
    ///
    /// # Errors
    /// [`Error::NoVolume`], and those of [`Volume::write`].
    pub fn replace_volume(&self, name: &str, with: &Arc<Volume>) -> Result<()> {
        let shared = self.shared();
        let _naming = shared.naming.lock();
        self.check_writable()?;
        let old = self.volume(name)?;
        with.check_open()?;
        if with.is_snapshot() {
            return Err(Error::IsSnapshot(with.name()));
        }
        if old.id() == with.id() {
            return Ok(());
        }
        let (id, owner) = (with.id(), with.id());
        let snapshots = shared.snapshots_of(&old);
        let quota = old.quota();
        let mut edits = vec![Edit::Volume { id, name: name.to_string() }, Edit::Quota { volume: id, quota }];
        edits.extend(snapshots.iter().map(|snapshot| Edit::Owner { id: snapshot.id(), owner }));
        self.change_volumes(
            edits,
            &[old],
            || with.limits.set(quota),
            |directory| {
                directory.rename(with, None, name);
                snapshots.iter().for_each(|s| directory.rename(s, Some(owner), &s.name()));
            },
        )
    }
}
