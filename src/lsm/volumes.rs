//! A store's volumes: how they come, are forked and named, and go.
//!
//! # What a change of volumes is
//! One record in the log, in the order of all writes: the manifest's edits for it
//! ([`crate::lsm::manifest::edit`]). It is answered, and kept, as a write is; the manifest learns of it with its
//! next commit ([`crate::lsm::shape`]), and an open that finds it in the log only replays it.
//!
//! # Forks
//! Under the commit lock, between two writes, the parent's memtable is frozen if it is not empty, the record
//! takes its sequence number, and the child takes the parent's tree: its immutable memtables and its levels, all
//! by reference, and a memtable of its own. Nothing is copied and nothing flushed, however much the parent
//! holds: the cost is the record and a few pointers. All that they share is older than the fork, so no version
//! in it is hidden from either: a shared memtable becomes one table in all that share it, and a
//! compaction keeps what snapshots need, as always, forks or not. (The price is a memtable, and later a table,
//! that is small, when a volume is written between two forks.)
//!
//! What only one volume refers to goes with it; what others refer to stays: memtables, levels and tables are
//! counted references.
//!
//! A persistent snapshot is a fork, too ([`snapshots`]).
//!
//! # Locks
//! `Directory` is a leaf. `Shared::naming` is held over each change of volumes, one at a time, and inside it
//! `Shared::structure` and the commit lock; over the record's write to the log, never over a sync but when an
//! ingestion is installed (`ingest.rs`).

mod snapshots;

pub(crate) use self::snapshots::HIDDEN;
use crate::lsm::lineage::Lineage;
use crate::lsm::log::record::HEADER_LEN;
use crate::lsm::manifest::{Edit, VolumeId};
use crate::lsm::store::{Shared, Store};
use crate::lsm::tally::Quota;
use crate::lsm::volume::{Born, Tree, Volume};
use crate::lsm::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// The longest name, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// The volumes of a store.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// By their ids, ascending.
    all: Arc<Vec<Arc<Volume>>>,
    /// By owner and name.
    names: HashMap<(Option<VolumeId>, String), Arc<Volume>>,
    /// Those that were forked from one another: none else share memtables or tables.
    families: HashMap<VolumeId, Family>,
}

type Family = Arc<Vec<Arc<Volume>>>;

impl Directory {
    pub fn all(&self) -> Arc<Vec<Arc<Volume>>> {
        self.all.clone()
    }

    pub fn find(&self, owner: Option<VolumeId>, name: &str) -> Option<Arc<Volume>> {
        self.names.get(&(owner, name.to_string())).cloned()
    }

    pub fn by_id(&self, id: VolumeId) -> Option<&Arc<Volume>> {
        let at = self.all.binary_search_by_key(&id, |volume| volume.id()).ok()?;
        self.all.get(at)
    }

    /// Adds volumes that are newer than all that are here.
    pub fn add(&mut self, volumes: impl IntoIterator<Item = Arc<Volume>>) {
        let all = Arc::make_mut(&mut self.all);
        for volume in volumes {
            self.names.insert((volume.owner(), volume.name()), volume.clone());
            Arc::make_mut(self.families.entry(volume.family()).or_default()).push(volume.clone());
            all.push(volume);
        }
    }

    fn remove(&mut self, volume: &Volume) {
        let all = Arc::make_mut(&mut self.all);
        if let Ok(at) = all.binary_search_by_key(&volume.id(), |other| other.id()) {
            all.remove(at);
        }
        self.names.remove(&(volume.owner(), volume.name()));
        if let Some(family) = self.families.get_mut(&volume.family()) {
            Arc::make_mut(family).retain(|other| other.id() != volume.id());
            if family.is_empty() {
                self.families.remove(&volume.family());
            }
        }
    }

    /// Gives a volume another name or owner.
    fn rename(&mut self, volume: &Arc<Volume>, owner: Option<VolumeId>, name: &str) {
        self.names.remove(&(volume.owner(), volume.name()));
        volume.set_name(name);
        owner.into_iter().for_each(|owner| volume.set_owner(owner));
        self.names.insert((volume.owner(), name.to_string()), volume.clone());
    }

    pub fn clear(&mut self) {
        *self = Directory::default();
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_bad = name.is_empty()
        || name.len() > MAX_NAME_LEN
        || name.starts_with(HIDDEN)
        || name.contains(|c: char| matches!(c, '/' | '@') || c.is_control());
    if is_bad { Err(Error::BadVolumeName(name.to_string())) } else { Ok(()) }
}

fn record(edits: &[Edit]) -> Vec<u8> {
    let mut record = vec![0; HEADER_LEN];
    edits.iter().for_each(|edit| edit.encode(&mut record));
    record
}

impl Shared {
    /// The volumes, snapshots among them.
    pub fn volumes(&self) -> Arc<Vec<Arc<Volume>>> {
        self.directory.read().all()
    }

    /// The volume of that id.
    pub(crate) fn by_id(&self, id: VolumeId) -> Option<Arc<Volume>> {
        self.directory.read().by_id(id).cloned()
    }

    /// The volumes that may share memtables or tables with this one, and itself, unless it is gone.
    pub(crate) fn family_of(&self, volume: &Volume) -> Family {
        self.directory.read().families.get(&volume.family()).cloned().unwrap_or_default()
    }

    /// Has the background threads look at every volume.
    pub(crate) fn look_at_all(&self) {
        for volume in self.volumes().iter() {
            self.work.reshaped(volume.id());
            if !volume.tree().immutable.is_empty() {
                self.work.froze(volume.id());
            }
        }
    }

    fn check_free(&self, owner: Option<VolumeId>, name: &str) -> Result<()> {
        match self.directory.read().find(owner, name) {
            Some(_) => Err(Error::VolumeExists(name.to_string())),
            None => Ok(()),
        }
    }

    /// Takes volumes away that a record deletes. `structure` is held.
    fn drop_volumes(&self, volumes: &[Arc<Volume>]) {
        for volume in volumes {
            self.directory.write().remove(volume);
            let tree = volume.tree();
            volume.set_tree(Tree::default());
            // Not here: it takes its time.
            self.retired.lock().extend(tree.memtables().cloned());
            volume.stall.look_again();
        }
        self.budget.closed();
        self.flush_signal.raise();
        // Which deletes the files.
        self.compaction_signal.raise();
    }
}

impl Store {
    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Result<Arc<Volume>> {
        self.find(None, name)
    }

    fn find(&self, owner: Option<&Volume>, name: &str) -> Result<Arc<Volume>> {
        self.check_open()?;
        let found = self.shared().directory.read().find(owner.map(Volume::id), name);
        found.ok_or_else(|| match owner {
            Some(volume) => Error::NoVolume(format!("{}@{name}", volume.name())),
            None => Error::NoVolume(name.to_string()),
        })
    }

    /// The volumes, in the order in which they were made. Snapshots are not among them.
    pub fn volumes(&self) -> Result<Vec<Arc<Volume>>> {
        self.check_open()?;
        let is_shown = |volume: &&Arc<Volume>| !volume.is_snapshot() && !volume.name().starts_with(HIDDEN);
        Ok(self.shared().volumes().iter().filter(is_shown).cloned().collect())
    }

    /// Makes an empty volume.
    ///
    /// # Errors
    /// [`Error::VolumeExists`], [`Error::BadVolumeName`], and those of [`Volume::write`].
    pub fn create_volume(&self, name: &str) -> Result<Arc<Volume>> {
        check_name(name)?;
        let shared = self.shared_arc();
        let mut next_id = shared.naming.lock();
        self.check_writable()?;
        shared.check_free(None, name)?;
        let id = *next_id;
        let _structure = shared.structure.lock();
        let edits = vec![Edit::Volume { id, name: name.to_string() }];
        let seq = shared.commits.commit_edits(&shared.log, |_| record(&edits))?;
        *next_id += 1;
        shared.told.lock().tell(edits, seq);
        let (name, quota, tree) = (name.to_string(), Quota::default(), Tree::default());
        let lineage = Lineage::default();
        let born = Born { id, name, owner: None, lineage, family: id, quota, tree };
        let volume = Arc::new(Volume::new(shared.clone(), born));
        shared.directory.write().add([volume.clone()]);
        shared.syncs.note_write(shared.options.sync_interval);
        Ok(volume)
    }

    /// Makes a volume with the contents that another, or a snapshot, has at this moment. All writes that were
    /// answered before are in; of others the volume has a prefix. Its cost does not depend on the contents.
    ///
    /// # Errors
    /// As [`Store::create_volume`].
    pub fn fork(&self, from: &Volume, to: &str) -> Result<Arc<Volume>> {
        check_name(to)?;
        self.fork_as(from, to, None)
    }

    fn fork_as(&self, from: &Volume, to: &str, owner: Option<VolumeId>) -> Result<Arc<Volume>> {
        let shared = self.shared_arc();
        let mut next_id = shared.naming.lock();
        self.check_writable()?;
        from.check_open()?;
        shared.check_free(owner, to)?;
        let id = *next_id;
        let _structure = shared.structure.lock();
        let mut forked = None;
        let seq = shared.commits.commit_edits(&shared.log, |seq| {
            let tree = from.freeze_between_writes();
            let carried = from.carried(&tree);
            let edit = Edit::Fork { from: from.id(), to: id, owner, seq, carried, name: to.to_string() };
            let record = record(std::slice::from_ref(&edit));
            forked = Some((edit, tree));
            record
        })?;
        *next_id += 1;
        let (edit, tree) = forked.expect("the record was made");
        shared.told.lock().tell(vec![edit], seq);
        let flushed = if tree.immutable.is_empty() { seq } else { tree.flushed };
        let tree = Tree { memtable: Arc::default(), flushed, ..Tree::clone(&tree) };
        let (name, family, quota) = (to.to_string(), from.family(), from.quota());
        let lineage = from.note_fork(seq);
        let born = Born { id, name, owner, lineage, family, quota, tree };
        let volume = Arc::new(Volume::new(shared.clone(), born));
        shared.directory.write().add([volume.clone()]);
        shared.work.froze(id);
        shared.flush_signal.raise();
        shared.syncs.note_write(shared.options.sync_interval);
        Ok(volume)
    }

    /// Gives a volume another name.
    ///
    /// # Errors
    /// As [`Store::create_volume`].
    pub fn rename_volume(&self, from: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let shared = self.shared();
        let _naming = shared.naming.lock();
        self.check_writable()?;
        let volume = self.volume(from)?;
        shared.check_free(None, to)?;
        let edits = vec![Edit::Volume { id: volume.id(), name: to.to_string() }];
        self.change_volumes(edits, &[], || (), |directory| directory.rename(&volume, None, to))
    }

    /// Deletes a volume and its snapshots. What no other refers to gives its room back.
    ///
    /// # Errors
    /// [`Error::NoVolume`], and those of [`Volume::write`].
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        let shared = self.shared();
        shared.with_reserve(|| {
            let _naming = shared.naming.lock();
            self.check_writable()?;
            let volume = self.volume(name)?;
            let mut gone = shared.snapshots_of(&volume);
            gone.push(volume);
            self.change_volumes(Vec::new(), &gone, || (), |_| ())
        })
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        self.shared().read_only.check()
    }

    /// Logs that volumes go and `edits`, in one record, then does both here. `naming` is held. `at_once` is done
    /// between two writes: what comes later in the order sees it, even if the log refuses the record.
    pub(crate) fn change_volumes(
        &self,
        edits: Vec<Edit>,
        gone: &[Arc<Volume>],
        at_once: impl FnOnce(),
        change: impl FnOnce(&mut Directory),
    ) -> Result<()> {
        let shared = self.shared();
        let _structure = shared.structure.lock();
        let mut all: Vec<Edit> = gone.iter().map(|volume| Edit::Delete(volume.id())).collect();
        all.extend(edits);
        // A write that comes later in the order is refused.
        let logged = shared.commits.commit_edits(&shared.log, |_| {
            gone.iter().for_each(|volume| volume.set_deleted(true));
            at_once();
            record(&all)
        });
        let seq = logged.inspect_err(|_| gone.iter().for_each(|volume| volume.set_deleted(false)))?;
        shared.told.lock().tell(all, seq);
        if !gone.is_empty() {
            shared.drop_volumes(gone);
        }
        change(&mut shared.directory.write());
        shared.syncs.note_write(shared.options.sync_interval);
        Ok(())
    }
}
