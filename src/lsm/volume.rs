//! A volume: one named tree of keys in a store, and the structure that its reads and writes share.
//!
//! The [`Tree`] is an immutable snapshot of that structure: readers clone the `Arc` and hold no lock
//! while they read, so memtables and tables that a reader uses live as long as it needs them.
//!
//! # Locks
//! `tree` protects the pointer only; it is write-locked for the swap and nothing else, never over
//! I/O. `Shared::structure` serialises the changes of all volumes' structure (freeze, flush, compaction,
//! fork): whoever changes a tree holds it from reading the old one to the swap. Order: the manifest →
//! `structure` → the commit lock → `tree`. A writer that has filled the memtable never waits for
//! `structure`, which may be held over a write to the log: it only tries, and the next write tries again.

use crate::lsm::compaction::Compacting;
use crate::lsm::levels::Levels;
use crate::lsm::lineage::Lineage;
use crate::lsm::manifest::VolumeId;
use crate::lsm::memtable::Memtable;
use crate::lsm::snapshot::Snapshot;
use crate::lsm::staged::Staged;
use crate::lsm::stall::Stall;
use crate::lsm::store::Shared;
use crate::lsm::tally::{Limits, Quota, Tally};
use crate::lsm::watch::Watchers;
use crate::lsm::{Error, Result, SeqNo};
use parking_lot::{MutexGuard, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A volume's structure at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    /// Takes the writes.
    pub memtable: Arc<Memtable>,
    /// Frozen, newest first.
    pub immutable: Vec<Arc<Memtable>>,
    /// The tables.
    pub levels: Levels,
    /// The writes up to here are in tables.
    pub flushed: SeqNo,
    /// What of the volume's tally came with its tables.
    pub tally: Tally,
    /// Does the tally lack what an earlier version wrote?
    pub uncounted: bool,
}

impl Tree {
    /// All memtables, newest first.
    pub fn memtables(&self) -> impl DoubleEndedIterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.memtable).chain(&self.immutable)
    }

    /// Bytes in all memtables.
    pub fn memtable_bytes(&self) -> usize {
        self.memtables().map(|m| m.size()).sum()
    }

    /// The sequence number of the first write that is in no table; `None` if there is none.
    pub fn first_unflushed(&self) -> Option<SeqNo> {
        self.memtables().rev().find_map(|m| m.first_seq())
    }
}

/// What a volume starts from.
#[derive(Debug)]
pub(crate) struct Born {
    pub id: VolumeId,
    pub name: String,
    pub owner: Option<VolumeId>,
    pub lineage: Lineage,
    pub family: VolumeId,
    pub quota: Quota,
    pub tree: Tree,
}

/// One named tree of keys in a store. All methods may be called from any thread.
///
/// A volume that was deleted, or whose place another took, answers [`Error::NoVolume`] from then on.
pub struct Volume {
    id: VolumeId,
    name: RwLock<String>,
    /// The volume that it is a snapshot of (0: none).
    owner: AtomicU32,
    /// Where it was forked, and others from it. A leaf lock.
    lineage: RwLock<Lineage>,
    /// Those that were forked from one another have the same.
    family: VolumeId,
    /// Set under the commit lock.
    deleted: AtomicBool,
    /// What gathers its writes, if it is a staged one.
    staged: Option<Staged>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) limits: Limits,
    shared: Arc<Shared>,
    tree: RwLock<Arc<Tree>>,
    pub(crate) stall: Stall,
    pub(crate) compacting: Compacting,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Volume {
    pub(crate) fn new(shared: Arc<Shared>, born: Born) -> Volume {
        let Born { id, name, owner, lineage, family, quota, tree } = born;
        Volume {
            id,
            name: RwLock::new(name),
            owner: AtomicU32::new(owner.unwrap_or(0)),
            lineage: RwLock::new(lineage),
            family,
            deleted: AtomicBool::new(false),
            staged: None,
            watchers: Arc::default(),
            limits: Limits::new(quota),
            shared,
            tree: RwLock::new(Arc::new(tree)),
            stall: Stall::default(),
            compacting: Compacting::default(),
        }
    }

    pub(crate) fn with_staged(self, staged: Staged) -> Volume {
        Volume { staged: Some(staged), ..self }
    }

    pub(crate) fn staged(&self) -> Option<&Staged> {
        self.staged.as_ref()
    }

    /// The volume's name.
    pub fn name(&self) -> String {
        self.name.read().clone()
    }

    pub(crate) fn set_name(&self, name: &str) {
        *self.name.write() = name.to_string();
    }

    /// The volume that it is a snapshot of, if it is one.
    pub(crate) fn owner(&self) -> Option<VolumeId> {
        Some(self.owner.load(Ordering::Acquire)).filter(|owner| *owner > 0)
    }

    pub(crate) fn set_owner(&self, owner: VolumeId) {
        self.owner.store(owner, Ordering::Release);
    }

    /// Is it a snapshot, which takes no writes?
    pub fn is_snapshot(&self) -> bool {
        self.owner().is_some()
    }

    /// Is it gone? Under the commit lock, for certain.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn set_deleted(&self, deleted: bool) {
        self.deleted.store(deleted, Ordering::Release);
    }

    /// Are the two one volume?
    pub fn is(&self, other: &Volume) -> bool {
        self.id == other.id
    }

    pub(crate) fn id(&self) -> VolumeId {
        self.id
    }

    pub(crate) fn family(&self) -> VolumeId {
        self.family
    }

    /// Where it was forked, and others from it.
    pub fn lineage(&self) -> Lineage {
        *self.lineage.read()
    }

    /// It is forked at `seq`: the fork's lineage. `Shared::naming` is held.
    pub(crate) fn note_fork(&self, seq: SeqNo) -> Lineage {
        let mut lineage = self.lineage.write();
        lineage.last_fork = seq;
        lineage.of_fork(self.id, seq)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn tree(&self) -> Arc<Tree> {
        self.tree.read().clone()
    }

    /// Bytes in the memtables, and tables in L0.
    pub(crate) fn load(&self) -> (usize, usize) {
        let tree = self.tree.read();
        (tree.memtable_bytes(), tree.levels.level(0).len())
    }

    /// Swaps the tree; gives the one before, which may take its time to drop. The caller has held `structure` since
    /// it read that.
    pub(crate) fn set_tree(&self, tree: Tree) -> Arc<Tree> {
        std::mem::replace(&mut *self.tree.write(), Arc::new(tree))
    }

    fn is_full(&self, memtable: &Memtable) -> bool {
        let options = &self.shared.options;
        let blob_bytes = memtable.blob_bytes().max(memtable.deleted());
        memtable.size() >= options.memtable_size || blob_bytes >= options.blob_file_size
    }

    /// Freezes the memtable if it has reached its size and nobody else changes the structure just now.
    pub(crate) fn try_freeze_if_full(&self) {
        if self.is_full(&self.tree.read().memtable)
            && let Some(structure) = self.shared.structure.try_lock()
        {
            self.freeze_under(structure, |memtable| self.is_full(memtable));
        }
    }

    /// Freezes the memtable if it has reached its size.
    pub(crate) fn freeze_if_full(&self) {
        if self.is_full(&self.tree.read().memtable) {
            self.freeze_under(self.shared.structure.lock(), |memtable| self.is_full(memtable));
        }
    }

    /// Freezes the memtable if it is not empty and `still` holds now that nobody else can change the
    /// structure.
    fn freeze_under(&self, _structure: MutexGuard<'_, ()>, still: impl FnOnce(&Memtable) -> bool) {
        // Between two writes: a batch has its memtable from under the commit lock, so all of the
        // frozen one's sequence numbers are below all of the new one's.
        self.shared.commits.between_writes(|| {
            if still(&self.tree().memtable) {
                self.freeze_between_writes();
            }
        });
        self.shared.flush_signal.raise();
    }

    /// Freezes the memtable if it is not empty; the tree then. The caller holds `structure` and the
    /// commit lock.
    pub(crate) fn freeze_between_writes(&self) -> Arc<Tree> {
        let tree = self.tree();
        if tree.memtable.is_empty() {
            return tree;
        }
        let mut next = Tree { memtable: Arc::default(), ..Tree::clone(&tree) };
        next.immutable.insert(0, tree.memtable.clone());
        self.set_tree(next);
        self.shared.work.froze(self.id);
        self.tree()
    }

    /// A tree and a sequence number to read it at: every write that was answered before is in.
    ///
    /// The tree is taken first. Were it the other way round, a compaction in between could drop the very
    /// version that the older sequence number sees. Writes to a memtable newer than the tree are
    /// missed, all of them: what is read is still one moment.
    pub(crate) fn read_point(&self) -> (Arc<Tree>, SeqNo) {
        let tree = self.tree();
        (tree, self.visible_seq())
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        self.shared.check_open()?;
        if self.is_deleted() { Err(Error::NoVolume(self.name())) } else { Ok(()) }
    }

    /// As `read_point`, if what was read there counts.
    pub(crate) fn open_read_point(&self) -> Result<(Arc<Tree>, SeqNo)> {
        let point = self.read_point();
        // Afterwards: the tree of a volume that is gone is empty.
        self.check_open()?;
        Ok(point)
    }

    /// The sequence number of the newest visible write in the store.
    pub fn visible_seq(&self) -> SeqNo {
        self.staged.as_ref().map_or_else(|| self.shared.commits.visible(), Staged::visible)
    }

    /// Keeps the present state readable until the snapshot is dropped.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot::new(self.clone())
    }
}

impl Shared {
    /// Freezes the memtables of volumes that are not empty.
    pub(crate) fn freeze(&self, volumes: &[Arc<Volume>]) {
        let _structure = self.structure.lock();
        self.commits.between_writes(|| volumes.iter().for_each(|volume| _ = volume.freeze_between_writes()));
        self.flush_signal.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Batch, Options, Store};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_writer_that_fills_the_memtable_does_not_wait_for_a_change_of_the_structure() {
        let options = Options { memtable_size: 1000, background: false, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let volume = store.volume("main").unwrap();
        let write = |value: &[u8]| {
            let mut batch = Batch::new();
            batch.put(b"key", value);
            volume.write(batch).unwrap();
        };
        let (wrote, written) = mpsc::channel();
        std::thread::scope(|scope| {
            let structure = volume.shared.structure.lock();
            scope.spawn(|| {
                write(&[0; 2000]);
                wrote.send(())
            });
            let answered = written.recv_timeout(Duration::from_secs(60));
            drop(structure);
            answered.unwrap();
        });
        assert_eq!(volume.tree().immutable.len(), 0);
        write(b"");
        assert_eq!(volume.tree().immutable.len(), 1, "the next write froze it");
    }
}
