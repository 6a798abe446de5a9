//! The memtable: the sorted table in memory that takes writes.
//!
//! A skip list of keys, only ever inserted into; each has a chain of its versions, which only grows too
//! ([`node`]). Every version carries its sequence number: an overwrite is a new version above the old ones, and no
//! reader can find a key missing in between. Keys and values are read where the batch that brought them was put,
//! in the memtable's [`arena`].
//!
//! A batch is given its memtable, and noted in it, under the commit lock; freezing happens under that
//! lock too. So a frozen memtable's sequence numbers are final, and it holds all of its writes as soon as
//! the last of them is visible to readers: only then is it flushed.

mod arena;
mod cursor;
mod index;
mod node;

pub(crate) use cursor::MemtableIter;

use arena::Arena;
use index::{Index, Key};
use node::{Link, Node};

use crate::lsm::Result;
use crate::lsm::batch::{Write, Writes};
use crate::lsm::blob::LiveBlob;
use crate::lsm::key::{KeyRef, Kind, SeqNo};
use crate::lsm::range::{RangeSet, RangeTombstone};
use crate::lsm::tally::{Counter, Tally};
use crate::lsm::value::{Part, Value};
use bytes::Bytes;
use crossbeam_skiplist::SkipSet;
use parking_lot::{Mutex, RwLock};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

/// What the first write to a key takes beyond its bytes: a node with its height and, on average, two links of the
/// skip list, what the allocator adds to it, and its place in the index.
const NODE_LEN: usize = 16 + size_of::<Node>() + 3 * size_of::<usize>() + index::OVERHEAD;
/// What each further one takes: a link of the chain, aligned.
const LINK_LEN: usize = size_of::<Link>() + align_of::<Link>() / 2;

/// What a batch that was inserted does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inserted {
    /// Bytes that it takes in memory.
    pub size: usize,
    /// By how much it changes the volume's tally, which is not counted yet.
    pub tally: Tally,
}

/// A sorted table in memory.
#[derive(Debug, Default)]
pub struct Memtable {
    /// Points into `nodes`. Dropped before them.
    index: Index,
    nodes: SkipSet<Node>,
    /// What the nodes point to. Dropped after them.
    arena: Arc<Arena>,
    /// Versions of all keys.
    len: AtomicUsize,
    /// Bytes in memory.
    size: AtomicUsize,
    /// The sequence number of the first write (0: none yet). Set under the commit lock.
    first_seq: AtomicU64,
    last_seq: AtomicU64,
    /// The range tombstones, which stand in `nodes` too. A leaf lock.
    ranges: RwLock<RangeSet>,
    /// Is there any? Spares readers the lock.
    has_ranges: AtomicBool,
    /// The blob files that its records point to, and the bytes of each. A leaf lock.
    blobs: Mutex<Vec<(Arc<LiveBlob>, u64)>>,
    blob_bytes: AtomicU64,
    /// Bytes of values that its records delete, as far as their writers know.
    deleted: AtomicU64,
    /// What its batches change the volume's tally by.
    tally: Counter,
    /// Does it hold a batch that frees room?
    frees_room: AtomicBool,
}

impl Memtable {
    /// An empty memtable.
    pub fn new() -> Memtable {
        Memtable::default()
    }

    /// Notes the sequence numbers of a batch that will be inserted. The caller holds the commit lock.
    pub(crate) fn note(&self, first: SeqNo, last: SeqNo) {
        let _ = self.first_seq.compare_exchange(0, first, Relaxed, Relaxed);
        self.last_seq.fetch_max(last, Relaxed);
    }

    /// Inserts the writes of a batch, the first with sequence number `first`: `bytes` from `at` on are an
    /// encoded batch. `Err` if it is malformed.
    pub(crate) fn insert_batch(
        &self,
        first: SeqNo,
        bytes: Vec<u8>,
        at: usize,
    ) -> std::result::Result<Inserted, ()> {
        let (count, rest) =
            Writes::new(&bytes[at..]).map(|writes| (writes.left(), writes.rest())).ok_or(())?;
        let from = bytes.len() - rest.len();
        let mut size = rest.len();
        let kept = self.arena.keep(bytes, from);
        let mut writes = Writes::of(count, kept);
        for (seq, write) in (first..).zip(writes.by_ref()) {
            // SAFETY: the arena has just given out the bytes that the write is read from.
            size += unsafe { self.insert(seq, &write?) };
        }
        self.size.fetch_add(size, Relaxed);
        self.len.fetch_add(count as usize, Relaxed);
        Ok(Inserted { size, tally: writes.tally().ok_or(())? })
    }

    /// Inserts one write. What it takes beyond its bytes.
    ///
    /// # Safety
    /// The write must stand in the memtable's arena.
    unsafe fn insert(&self, seq: SeqNo, write: &Write<'_>) -> usize {
        let of_range = if write.kind == Kind::RangeTombstone { self.add_range(seq, write) } else { 0 };
        let key = Key::new(write.key());
        // SAFETY: the write stands in `arena`, as do the keys of all nodes, which are dropped before it; the index
        // has one writer at a time push to a node.
        let push = |node: &Node| unsafe { node.push(&self.arena, seq, write) };
        if self.index.write(key, push) {
            return of_range + LINK_LEN;
        }
        // SAFETY: as above.
        let entry = self.nodes.get_or_insert(unsafe { Node::new(seq, write) });
        // If not, another batch was first by a moment.
        let made = entry.is_made_by(seq);
        let push_other = |node: &Node| {
            if !made {
                push(node)
            }
        };
        // SAFETY: the node stays (see `index.rs`), and the list has one for each key.
        unsafe { self.index.insert(key, &entry, push_other) };
        of_range + if made { NODE_LEN } else { LINK_LEN }
    }

    /// Notes a range tombstone. What it takes.
    fn add_range(&self, seq: SeqNo, write: &Write<'_>) -> usize {
        let (start, end) = (Bytes::copy_from_slice(write.key()), Bytes::copy_from_slice(write.head()));
        let mut ranges = self.ranges.write();
        let before = ranges.size();
        ranges.add(RangeTombstone { start, end, seq });
        self.has_ranges.store(true, Release);
        ranges.size() - before
    }

    /// Bytes in memory: batches, nodes and what the allocator adds.
    pub fn size(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// Its records point to `bytes` bytes of a blob file, which it holds from now on.
    pub(crate) fn refer(&self, blob: Arc<LiveBlob>, bytes: u64) {
        let mut blobs = self.blobs.lock();
        match blobs.iter_mut().find(|(other, _)| other.number == blob.number) {
            Some((_, sum)) => *sum += bytes,
            None => blobs.push((blob, bytes)),
        }
        self.blob_bytes.fetch_add(bytes, Relaxed);
    }

    /// The blob files that its records point to, and how many bytes of each.
    pub(crate) fn blob_uses(&self) -> Vec<(u64, u64)> {
        self.blobs.lock().iter().map(|(blob, bytes)| (blob.number, *bytes)).collect()
    }

    /// Bytes in blob files that its records point to.
    pub fn blob_bytes(&self) -> u64 {
        self.blob_bytes.load(Relaxed)
    }

    /// Adds to what its batches change the tally by: under the commit lock, or for a batch that failed.
    pub(crate) fn count(&self, change: Tally) {
        self.tally.add(change);
    }

    /// What its batches change the volume's tally by. Final once it is frozen and its last write is visible.
    pub fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// It holds a batch that frees room.
    pub(crate) fn note_frees_room(&self) {
        self.frees_room.store(true, Relaxed);
    }

    /// Does its flush lead to room being given back?
    pub(crate) fn frees_room(&self) -> bool {
        self.frees_room.load(Relaxed)
    }

    /// Its records delete values of about this many bytes.
    pub(crate) fn note_deleted(&self, bytes: u64) {
        self.deleted.fetch_add(bytes, Relaxed);
    }

    /// Bytes of values that its records delete, as far as is known.
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Relaxed)
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Has nothing been written to it?
    pub fn is_empty(&self) -> bool {
        self.first_seq.load(Relaxed) == 0
    }

    /// The sequence number of its first write; `None` if there is none.
    pub fn first_seq(&self) -> Option<SeqNo> {
        Some(self.first_seq.load(Relaxed)).filter(|seq| *seq > 0)
    }

    /// The largest sequence number in it.
    pub fn last_seq(&self) -> SeqNo {
        self.last_seq.load(Relaxed)
    }

    /// The newest range tombstone over `key` that a reader at `seq` sees (0: none).
    pub(crate) fn covering(&self, key: &[u8], seq: SeqNo) -> SeqNo {
        if !self.has_ranges() {
            return 0;
        }
        self.ranges.read().covering(key, seq).map_or(0, |(seq, _)| seq)
    }

    /// Is there a range tombstone?
    pub(crate) fn has_ranges(&self) -> bool {
        self.has_ranges.load(Acquire)
    }

    /// Runs `look` over the range tombstones.
    pub(crate) fn with_ranges<R>(&self, look: impl FnOnce(&RangeSet) -> R) -> R {
        look(&self.ranges.read())
    }

    /// Shows the versions of `key` that a reader at `seq` may see, newest first, to `visit`, until it
    /// breaks. The values are whole only if the reader needs all of them.
    pub(crate) fn versions(
        &self,
        key: &[u8],
        seq: SeqNo,
        part: Part,
        mut visit: impl FnMut(SeqNo, Kind, Value) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let Some(node) = self.index.node(Key::new(key)) else { return Ok(ControlFlow::Continue(())) };
        let mut bound = Some(KeyRef::bound(key, seq).trailer());
        while let Some(version) = bound.and_then(|bound| node.at_most(bound)) {
            let tail = if part == Part::Whole { self.arena.bytes(version.tail) } else { Bytes::new() };
            let value = Value { head: self.arena.bytes(version.head), tail };
            if visit(version.seq(), version.kind(), value)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            bound = version.trailer.checked_sub(1);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// May a key between the bounds be in it? (No false "no".)
    pub(crate) fn overlaps(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
        let has_key = self.nodes.lower_bound(from).is_some_and(|first| match to {
            Bound::Unbounded => true,
            Bound::Included(k) => first.key() <= k,
            Bound::Excluded(k) => first.key() < k,
        });
        has_key || self.has_ranges() && self.ranges.read().overlaps(from, to)
    }

    /// A cursor over the records.
    pub(crate) fn iter(self: &Arc<Self>) -> MemtableIter {
        MemtableIter::new(self.clone())
    }

    /// A cursor over what a reader at `seq` needs of the records.
    pub(crate) fn iter_for(self: &Arc<Self>, seq: SeqNo) -> MemtableIter {
        MemtableIter::for_reader(self.clone(), seq)
    }
}

#[cfg(test)]
impl Memtable {
    /// Inserts a batch, the first write with sequence number `first`.
    pub(crate) fn insert_all(&self, first: SeqNo, batch: crate::lsm::Batch) {
        let record = batch.into_record(0).unwrap();
        self.insert_batch(first, record, crate::lsm::log::record::HEADER_LEN).unwrap();
    }
}

#[cfg(test)]
mod tests;
