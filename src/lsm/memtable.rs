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
    /// encoded batch. By how much it changes the tally, which is not counted here. `Err` if it is malformed.
    pub(crate) fn insert_batch(
        &self,
        first: SeqNo,
        bytes: Vec<u8>,
        at: usize,
    ) -> std::result::Result<Tally, ()> {
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
        writes.tally().ok_or(())
    }

    /// Inserts one write. What it takes beyond its bytes.
    ///
    /// # Safety
    /// The write must stand in the memtable's arena.
    unsafe fn insert(&self, seq: SeqNo, write: &Write<'_>) -> usize {
        if write.kind == Kind::RangeTombstone {
            self.add_range(seq, write);
        }
        let key = Key::new(write.key());
        // SAFETY: the write stands in `arena`, as do the keys of all nodes, which are dropped before it; the index
        // has one writer at a time push to a node.
        let push = |node: &Node| unsafe { node.push(&self.arena, seq, write) };
        if self.index.write(key, push) {
            return LINK_LEN;
        }
        // SAFETY: as above.
        let entry = self.nodes.get_or_insert(unsafe { Node::new(seq, write) });
        if !entry.is_made_by(seq) {
            // Another batch was first by a moment.
            self.index.alone(key, || push(&entry));
            return LINK_LEN;
        }
        // SAFETY: the node stays (see `index.rs`).
        unsafe { self.index.insert(key, &entry) };
        NODE_LEN
    }

    fn add_range(&self, seq: SeqNo, write: &Write<'_>) {
        let (start, end) = (Bytes::copy_from_slice(write.key()), Bytes::copy_from_slice(write.head()));
        let mut ranges = self.ranges.write();
        let before = ranges.size();
        ranges.add(RangeTombstone { start, end, seq });
        self.size.fetch_add(ranges.size() - before, Relaxed);
        self.has_ranges.store(true, Release);
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
mod tests {
    use super::*;
    use crate::lsm::Batch;
    use crate::lsm::iter::InternalIterator;
    use crate::lsm::key::MAX_SEQ;

    fn table() -> Arc<Memtable> {
        let table = Arc::new(Memtable::new());
        for (seq, key, value) in [(1, "a", "1x"), (2, "b", "2y"), (3, "a", "3z"), (4, "c", "4w")] {
            let mut batch = Batch::new();
            batch.put_split(key.as_bytes(), &value.as_bytes()[..1], &value.as_bytes()[1..]);
            table.insert_all(seq, batch);
        }
        table
    }

    fn seen(table: &Memtable, key: &str, seq: SeqNo) -> Vec<Bytes> {
        let mut seen = Vec::new();
        let _ = table
            .versions(key.as_bytes(), seq, Part::Whole, |_, _, value| {
                seen.push(value.tail);
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        seen
    }

    #[test]
    fn a_reader_sees_the_versions_up_to_its_sequence_number() {
        let table = table();
        assert_eq!(seen(&table, "a", 9), ["z", "x"]);
        assert_eq!(seen(&table, "a", 2), ["x"]);
        assert!(seen(&table, "a", 0).is_empty());
        assert!(seen(&table, "aa", 9).is_empty());
    }

    #[test]
    fn a_batch_that_is_inserted_late_does_not_hide_a_newer_one() {
        let table = table();
        for (seq, value) in [(9, b"9n"), (7, b"7s")] {
            let mut batch = Batch::new();
            batch.put_split(b"b", &value[..1], &value[1..]);
            table.insert_all(seq, batch);
        }
        assert_eq!(seen(&table, "b", 20), ["n", "s", "y"]);
        assert_eq!(seen(&table, "b", 8), ["s", "y"]);
    }

    #[test]
    fn the_cursor_goes_both_ways_and_outlives_other_handles() {
        let table = table();
        let mut iter = table.iter();
        drop(table);
        let mut forward = Vec::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            forward.push(iter.key().seq);
            iter.next().unwrap();
        }
        assert_eq!(forward, [3, 1, 2, 4]);
        let mut backward = Vec::new();
        iter.seek_to_last().unwrap();
        while iter.valid() {
            backward.push(iter.key().seq);
            iter.prev().unwrap();
        }
        assert_eq!(backward, [4, 2, 1, 3]);
        iter.seek(KeyRef::bound(b"a", 2)).unwrap();
        assert_eq!((iter.key().seq, iter.head(), iter.tail().unwrap().as_ref()), (1, &b"1"[..], &b"x"[..]));
        iter.seek_before(KeyRef::bound(b"b", 9)).unwrap();
        assert_eq!(iter.key().seq, 1);
    }

    #[test]
    fn the_cursor_finds_all_versions_from_either_side() {
        let table = Arc::new(Memtable::new());
        // Late ones too.
        for seq in [2, 5, 3, 1, 9, 7, 8, 4, 6] {
            let mut batch = Batch::new();
            batch.put(if seq % 3 == 0 { b"a" } else { b"b" }, b"");
            table.insert_all(seq, batch);
        }
        let all = [9, 6, 3, 8, 7, 5, 4, 2, 1];
        let mut iter = table.iter();
        iter.seek_to_first().unwrap();
        for seq in all {
            assert_eq!(iter.key().seq, seq);
            iter.next().unwrap();
        }
        assert!(!iter.valid());
        iter.seek_to_last().unwrap();
        for seq in all.iter().rev() {
            assert_eq!(iter.key().seq, *seq);
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
        let stands = |iter: &MemtableIter| iter.valid().then(|| iter.key().seq);
        for (key, seq, from, before) in [
            ("", 9, Some(9), None),
            ("a", MAX_SEQ, Some(9), None),
            ("a", 5, Some(3), Some(6)),
            ("a", 2, Some(8), Some(3)),
            ("aa", 5, Some(8), Some(3)),
            ("b", 9, Some(8), Some(3)),
            ("b", 6, Some(5), Some(7)),
            ("b", 0, None, Some(1)),
            ("c", 5, None, Some(1)),
        ] {
            let target = KeyRef::bound(key.as_bytes(), seq);
            iter.seek(target).unwrap();
            assert_eq!(stands(&iter), from, "from {key} {seq}");
            iter.seek_before(target).unwrap();
            assert_eq!(stands(&iter), before, "before {key} {seq}");
        }
        assert_eq!(table.len(), 9);
    }

    #[test]
    fn a_reader_is_shown_what_makes_his_values() {
        let table = Arc::new(Memtable::new());
        let writes: [fn(&mut Batch); 8] = [
            |batch| batch.put(b"a", b""),
            |batch| batch.put(b"b", b""),
            |batch| batch.put(b"a", b""),
            |batch| batch.patch(b"b", 1, &[(0, b"x")]),
            |batch| batch.put(b"c", b""),
            |batch| batch.delete(b"a"),
            |batch| batch.patch(b"b", 1, &[(0, b"y")]),
            |batch| batch.delete_range(b"b", b"bb"),
        ];
        for (seq, write) in (1..).zip(writes) {
            let mut batch = Batch::new();
            write(&mut batch);
            table.insert_all(seq, batch);
        }
        let shown = |seq, from: &str| {
            let (mut iter, mut shown) = (table.iter_for(seq), Vec::new());
            iter.seek(KeyRef::bound(from.as_bytes(), MAX_SEQ)).unwrap();
            while iter.valid() {
                shown.push(iter.key().seq);
                iter.next().unwrap();
            }
            shown
        };
        assert_eq!(shown(MAX_SEQ, ""), [6, 8, 7, 4, 2, 5]);
        assert_eq!(shown(7, ""), [6, 7, 4, 2, 5]);
        assert_eq!(shown(5, ""), [3, 4, 2, 5]);
        assert_eq!(shown(4, ""), [3, 4, 2], "c was not there yet");
        assert_eq!(shown(5, "b"), [4, 2, 5]);
        assert_eq!(shown(1, ""), [1]);
        assert!(shown(0, "").is_empty());
        let mut iter = table.iter_for(4);
        iter.seek_to_last().unwrap();
        for seq in [2, 4, 1, 3] {
            assert_eq!(iter.key().seq, seq);
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
        iter.seek_before(KeyRef::bound(b"b", MAX_SEQ)).unwrap();
        assert_eq!(iter.key().seq, 1);
    }

    #[test]
    fn threads_that_write_the_same_keys_lose_nothing() {
        const THREADS: u64 = 4;
        const EACH: u64 = 2000;
        let table = Arc::new(Memtable::new());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut batch = Batch::new();
                        batch.put(format!("{}", n % 50).as_bytes(), b"");
                        table.insert_all(1 + n * THREADS + thread, batch);
                    }
                });
            }
        });
        let mut seqs = Vec::new();
        let mut iter = table.iter();
        iter.seek_to_first().unwrap();
        let mut last: Option<(Vec<u8>, SeqNo)> = None;
        while iter.valid() {
            let (user, seq) = (iter.key().user.to_vec(), iter.key().seq);
            assert!(last.is_none_or(|(key, newer)| key < user || key == user && newer > seq));
            seqs.push(seq);
            last = Some((user, seq));
            iter.next().unwrap();
        }
        seqs.sort_unstable();
        assert!(seqs.into_iter().eq(1..=THREADS * EACH));
        assert_eq!(table.len() as u64, THREADS * EACH);
        for n in 0..50 {
            assert_eq!(seen(&table, &n.to_string(), MAX_SEQ).len() as u64, THREADS * EACH / 50);
        }
    }

    #[test]
    fn ranges_are_known() {
        let table = table();
        let (a, c) = (&b"a"[..], &b"c"[..]);
        assert!(table.overlaps(Bound::Included(a), Bound::Excluded(b"aa")));
        assert!(!table.overlaps(Bound::Excluded(a), Bound::Excluded(b"b")));
        assert!(!table.overlaps(Bound::Excluded(c), Bound::Unbounded));
        assert!(table.overlaps(Bound::Included(c), Bound::Unbounded));
        assert!(!Memtable::new().overlaps(Bound::Unbounded, Bound::Unbounded));
    }
}
