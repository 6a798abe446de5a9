//! Staged volumes: writes that are gathered, and seen by who makes them alone, until they are made as one batch.
//!
//! [`Volume::stage`] gives a volume that reads as the real one does at that moment. What is written to it goes to
//! a memtable of its own, which lies over the real one's, and is kept; [`Volume::staged_batch`] hands all of it
//! over as one batch, for the real volume to write: one record in the log, all of it or nothing. Dropped, a staged
//! volume did nothing. One that takes no writes ([`Volume::pinned`]) shows the volume at one moment.
//!
//! # What its user keeps
//! Nobody else may write, between the staging and the write of the batch, what the batch depends on or writes.
//! The staged writes' sequence numbers are not those that they get in the end.
//!
//! Or others do write meanwhile, and the batch is written only if none of it is what was read ([`crate::lsm::watch`]):
//! [`Volume::stage_apart`], and [`Volume::is_outdated`] once the writers are kept out.
//!
//! # Bounds
//! The gathered writes have as many bytes as the user allows at most; a write past that is refused and changes
//! nothing. They are in memory twice: as the batch, and as what is read.
//!
//! # Locks
//! `Staged::gathered` is held over the insertion into the volume's own memtable; nothing else is sought under it.

use crate::lsm::lineage::Lineage;
use crate::lsm::log::record::HEADER_LEN;
use crate::lsm::tally::Quota;
use crate::lsm::volume::{Born, Tree, Volume};
use crate::lsm::watch::{Reads, Watch};
use crate::lsm::{Batch, Error, Result, SeqNo};
use parking_lot::Mutex;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What makes a volume a staged one.
#[derive(Debug)]
pub(crate) struct Staged {
    gathered: Mutex<Batch>,
    /// The number of the last write.
    seq: AtomicU64,
    /// The most bytes that are gathered.
    limit: usize,
    apart: Option<Apart>,
}

/// What makes others' writes no concern of a staged volume.
#[derive(Debug)]
struct Apart {
    reads: Reads,
    /// Over the writes to the real volume.
    watch: Watch,
    /// The last of them that is seen.
    seq: SeqNo,
}

impl Staged {
    /// What readers see: everything.
    pub fn visible(&self) -> SeqNo {
        self.seq.load(Ordering::Acquire)
    }

    /// Gathers a batch.
    pub fn write(&self, volume: &Volume, batch: Batch) -> Result<SeqNo> {
        batch.check()?;
        let mut gathered = self.gathered.lock();
        let len = gathered.encoded_len() + batch.encoded_len();
        if len > self.limit {
            return Err(Error::TooLarge { what: "batch", len, limit: self.limit });
        }
        let first = self.visible() + 1;
        let last = first + batch.len() as SeqNo - 1;
        gathered.append(&batch);
        let memtable = &volume.tree().memtable;
        memtable.note(first, last);
        let inserted = memtable.insert_batch(first, batch.into_record(volume.id())?, HEADER_LEN);
        inserted.expect("a batch encodes its own writes");
        self.seq.store(last, Ordering::Release);
        Ok(last)
    }
}

impl Volume {
    /// A volume that reads as this one now, to gather up to `limit` bytes of writes: see the module's header.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::NoVolume`], [`Error::IsSnapshot`].
    pub fn stage(&self, limit: usize) -> Result<Arc<Volume>> {
        if self.is_snapshot() { Err(Error::IsSnapshot(self.name())) } else { self.staged_over(limit) }
    }

    /// A volume that stays as this one, or this snapshot, is now, and takes no writes.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::NoVolume`].
    pub fn pinned(&self) -> Result<Arc<Volume>> {
        self.staged_over(0)
    }

    /// As [`Volume::stage`], while others go on writing to this one. What they write is not seen. It freezes a memtable:
    /// not for small batches.
    ///
    /// # Errors
    /// As [`Volume::stage`].
    pub fn stage_apart(&self, limit: usize) -> Result<Arc<Volume>> {
        if self.is_snapshot() {
            return Err(Error::IsSnapshot(self.name()));
        }
        let watch = self.watchers.watch();
        let shared = self.shared();
        let tree = {
            let _structure = shared.structure.lock();
            shared.commits.between_writes(|| self.freeze_between_writes())
        };
        shared.flush_signal.raise();
        self.check_open()?;
        // All writes to it that came before; and no later one is in these memtables.
        let seq = tree.immutable.first().map_or(tree.flushed, |newest| newest.last_seq());
        shared.commits.wait_visible(seq);
        let below = tree.immutable.clone();
        let apart = Apart { reads: Reads::default(), watch, seq };
        Ok(self.staged_as(
            Tree { memtable: Arc::default(), immutable: below, ..Tree::clone(&tree) },
            seq,
            limit,
            Some(apart),
        ))
    }

    /// Has a write to the real volume that has returned touched what this one, staged apart, has read?
    pub fn is_outdated(&self) -> bool {
        let apart = self.staged().and_then(|staged| staged.apart.as_ref());
        apart.is_some_and(|apart| apart.watch.has_touched(&apart.reads, apart.seq))
    }

    /// The key's value counts as read.
    pub(crate) fn note_read(&self, key: &[u8]) {
        if let Some(Staged { apart: Some(apart), .. }) = self.staged() {
            apart.reads.key(key);
        }
    }

    /// What is between the bounds counts as read.
    pub(crate) fn note_scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) {
        if let Some(Staged { apart: Some(apart), .. }) = self.staged() {
            apart.reads.range(from, to);
        }
    }

    fn staged_over(&self, limit: usize) -> Result<Arc<Volume>> {
        let (tree, seq) = self.open_read_point()?;
        let below: Vec<_> = tree.memtables().cloned().collect();
        let tree = Tree { memtable: Arc::default(), immutable: below, ..Tree::clone(&tree) };
        Ok(self.staged_as(tree, seq, limit, None))
    }

    fn staged_as(&self, tree: Tree, seq: SeqNo, limit: usize, apart: Option<Apart>) -> Arc<Volume> {
        let (id, name, family) = (self.id(), self.name(), self.family());
        // The real volume has the quota: what counts is what is written there in the end.
        let quota = Quota::default();
        let born = Born { id, name, owner: None, lineage: Lineage::default(), family, quota, tree };
        let staged = Staged { gathered: Mutex::default(), seq: AtomicU64::new(seq), limit, apart };
        Arc::new(Volume::new(self.shared_arc().clone(), born).with_staged(staged))
    }

    /// What was written to a staged volume; empty for any other. Later writes start anew.
    pub fn staged_batch(&self) -> Batch {
        self.staged().map(|staged| std::mem::take(&mut *staged.gathered.lock())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Options, Store};
    use std::ops::Bound;

    fn store() -> (Store, Arc<Volume>) {
        let options = Options { blob_min: 1000, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let volume = store.volume("main").unwrap();
        (store, volume)
    }

    fn put(volume: &Volume, key: &[u8], value: &[u8]) -> Result<SeqNo> {
        let mut batch = Batch::new();
        batch.put_split(key, b"", value);
        volume.write(batch)
    }

    fn keys(volume: &Volume) -> Vec<Vec<u8>> {
        let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
        let mut keys = Vec::new();
        while scan.next().unwrap() {
            keys.push(scan.key().to_vec());
        }
        keys
    }

    #[test]
    fn staged_writes_are_seen_there_alone_until_they_are_made_at_once() {
        let (store, volume) = store();
        put(&volume, b"a", b"1").unwrap();
        store.flush().unwrap();
        put(&volume, b"b", b"2").unwrap();
        let staged = volume.stage(1 << 20).unwrap();
        put(&staged, b"c", &[3; 5000]).unwrap();
        let mut more = Batch::new();
        more.delete(b"a");
        more.patch(b"c", 2, &[(0, b"x")]);
        more.first_put(b"d", b"", b"4");
        staged.write(more).unwrap();
        let seen = staged.snapshot();
        let mut gone = Batch::new();
        gone.delete_range(b"d", b"e");
        staged.write(gone).unwrap();
        assert_eq!(keys(&staged), [b"b", b"c"]);
        assert_eq!(staged.get(b"c").unwrap().unwrap().tail, &b"x\x03"[..]);
        assert!(seen.get(b"d").unwrap().is_some() && staged.get(b"d").unwrap().is_none());
        assert_eq!(keys(&volume), [b"a", b"b"]);
        volume.write(staged.staged_batch()).unwrap();
        assert_eq!(keys(&volume), [b"b", b"c"]);
        assert_eq!(volume.get(b"c").unwrap().unwrap().tail, &b"x\x03"[..]);
        assert!(staged.staged_batch().is_empty());
    }

    #[test]
    fn a_staged_volume_has_a_bound_and_a_snapshot_cannot_be_staged() {
        let (store, volume) = store();
        let staged = volume.stage(10_000).unwrap();
        put(&staged, b"a", &[1; 5000]).unwrap();
        let refused = put(&staged, b"b", &[1; 5000]);
        assert!(matches!(refused, Err(Error::TooLarge { what: "batch", limit: 10_000, .. })), "{refused:?}");
        assert_eq!((keys(&staged).len(), staged.staged_batch().len()), (1, 1));
        let snapshot = store.create_snapshot(&volume, "s").unwrap();
        assert!(matches!(snapshot.stage(1), Err(Error::IsSnapshot(_))));
    }
}
