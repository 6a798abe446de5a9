//! A volume: one named tree of keys in a store, and the structure that its reads and writes share.
//!
//! The [`Tree`] is an immutable snapshot of that structure: readers clone the `Arc` and hold no lock
//! while they read, so memtables and tables that a reader uses live as long as it needs them.
//!
//! # Locks
//! `tree` protects the pointer only; it is write-locked for the swap and nothing else, never over
//! I/O. `structure` serialises the changes of the structure (freeze, flush): whoever changes the tree
//! holds it from reading the old one to the swap. Order: `structure` → the manifest → the commit
//! lock → `tree`. A writer that has filled the memtable never waits for `structure`, which may be held
//! over the sync of the manifest: it only tries, and the next write tries again.

use crate::lsm::compaction::Compacting;
use crate::lsm::iter::scan::Scan;
use crate::lsm::iter::scan_back::ScanBack;
use crate::lsm::levels::Levels;
use crate::lsm::manifest::VolumeId;
use crate::lsm::memtable::Memtable;
use crate::lsm::snapshot::Snapshot;
use crate::lsm::stall::Stall;
use crate::lsm::store::Shared;
use crate::lsm::{Error, Result, SeqNo, Value};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::ops::Bound;
use std::sync::Arc;

/// A volume's structure at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    /// Takes the writes.
    pub memtable: Arc<Memtable>,
    /// Frozen, newest first.
    pub immutable: Vec<Arc<Memtable>>,
    /// The tables.
    pub levels: Levels,
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

/// One named tree of keys in a store. All methods may be called from any thread.
pub struct Volume {
    id: VolumeId,
    name: String,
    shared: Arc<Shared>,
    tree: RwLock<Arc<Tree>>,
    structure: Mutex<()>,
    pub(crate) flush_turn: Mutex<()>,
    pub(crate) stall: Stall,
    pub(crate) compacting: Compacting,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Volume {
    pub(crate) fn new(id: VolumeId, name: String, shared: Arc<Shared>, tree: Tree) -> Volume {
        let tree = RwLock::new(Arc::new(tree));
        Volume {
            id,
            name,
            shared,
            tree,
            structure: Mutex::new(()),
            flush_turn: Mutex::new(()),
            stall: Stall::default(),
            compacting: Compacting::default(),
        }
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> VolumeId {
        self.id
    }

    pub(crate) fn shared(&self) -> &Shared {
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

    /// Changes the structure. `change` gets the present tree and returns the next one, if it is to change.
    pub(crate) fn change_tree<E>(
        &self,
        change: impl FnOnce(&Tree) -> std::result::Result<Option<Tree>, E>,
    ) -> std::result::Result<(), E> {
        let _structure = self.structure.lock();
        let tree = self.tree();
        if let Some(next) = change(&tree)? {
            *self.tree.write() = Arc::new(next);
        }
        Ok(())
    }

    fn is_full(&self, memtable: &Memtable) -> bool {
        let options = &self.shared.options;
        let blob_bytes = memtable.blob_bytes().max(memtable.deleted());
        memtable.size() >= options.memtable_size || blob_bytes >= options.blob_file_size
    }

    /// Freezes the memtable if it has reached its size and nobody else changes the structure just now.
    pub(crate) fn try_freeze_if_full(&self) {
        if self.is_full(&self.tree.read().memtable)
            && let Some(structure) = self.structure.try_lock()
        {
            self.freeze_under(structure, |memtable| self.is_full(memtable));
        }
    }

    /// Freezes the memtable if it has reached its size.
    pub(crate) fn freeze_if_full(&self) {
        if self.is_full(&self.tree.read().memtable) {
            self.freeze_under(self.structure.lock(), |memtable| self.is_full(memtable));
        }
    }

    /// Freezes the memtable if it is not empty.
    pub(crate) fn freeze(&self) {
        self.freeze_under(self.structure.lock(), |_| true);
    }

    /// Freezes the memtable if it is not empty and `still` holds now that nobody else can change the
    /// structure.
    fn freeze_under(&self, _structure: MutexGuard<'_, ()>, still: impl FnOnce(&Memtable) -> bool) {
        // Between two writes: a batch has its memtable from under the commit lock, so all of the
        // frozen one's sequence numbers are below all of the new one's.
        self.shared.commits.between_writes(|| {
            let tree = self.tree();
            if tree.memtable.is_empty() || !still(&tree.memtable) {
                return;
            }
            let mut next = Tree { memtable: Arc::default(), ..Tree::clone(&tree) };
            next.immutable.insert(0, tree.memtable.clone());
            *self.tree.write() = Arc::new(next);
        });
        self.shared.flush_signal.raise();
    }

    /// A tree and a sequence number to read it at: every write that was answered before is in.
    ///
    /// The tree is taken first. Were it the other way round, a compaction in between could drop the very
    /// version that the older sequence number sees. Writes to a memtable newer than the tree are
    /// missed, all of them: what is read is still one moment.
    pub(crate) fn read_point(&self) -> (Arc<Tree>, SeqNo) {
        let tree = self.tree();
        let seq = self.shared.commits.visible();
        (tree, seq)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shared.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.check_open()?;
        let (tree, seq) = self.read_point();
        tree.get(&self.shared, key, seq)
    }

    /// The head of a key's value; its tail is not read.
    pub fn get_head(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open()?;
        let (tree, seq) = self.read_point();
        tree.get_head(&self.shared, key, seq)
    }

    /// How many patches lie over the key's newest full value (0: none, or the key is absent).
    /// Reads no tails.
    pub fn patch_depth(&self, key: &[u8]) -> Result<usize> {
        self.check_open()?;
        let (tree, seq) = self.read_point();
        tree.patch_depth(&self.shared, key, seq)
    }

    /// The keys between two bounds as they are now, in order. Positioned before the first:
    /// call [`Scan::next`].
    pub fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Scan> {
        self.check_open()?;
        let (tree, seq) = self.read_point();
        Scan::new(&self.shared, &tree, seq, from, to)
    }

    /// As [`Volume::scan`], last key first.
    pub fn scan_back(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<ScanBack> {
        self.check_open()?;
        let (tree, seq) = self.read_point();
        ScanBack::new(&self.shared, &tree, seq, from, to)
    }

    /// The values of several keys at one moment, in the order of the keys.
    pub fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.check_open()?;
        let (tree, seq) = self.read_point();
        keys.iter().map(|key| tree.get(&self.shared, key, seq)).collect()
    }

    /// The sequence number of the newest visible write in the store.
    pub fn visible_seq(&self) -> SeqNo {
        self.shared.commits.visible()
    }

    /// Keeps the present state readable until the snapshot is dropped.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot::new(self.clone())
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
            let structure = volume.structure.lock();
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
