//! The memtable: the sorted table in memory that takes writes.
//!
//! A skip list of records, only ever inserted into: every key carries its sequence number, so an
//! overwrite is a new node beside the old one and no reader can find a key missing in between.
//! Keys and values are slices of the batch that brought them, which is counted as a whole, once.
//!
//! A batch is given its memtable, and noted in it, under the commit lock; freezing happens under that
//! lock too. So a frozen memtable's sequence numbers are final, and it holds all of its writes as soon as
//! the last of them is visible to readers: only then is it flushed.

use crate::lsm::Result;
use crate::lsm::batch::{Write, Writes};
use crate::lsm::blob::LiveBlob;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, MAX_SEQ, SeqNo};
use crate::lsm::range::{RangeSet, RangeTombstone};
use crate::lsm::value::Value;
use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use parking_lot::{Mutex, RwLock};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

/// What the allocator adds to a piece of memory: its own header, and on average half its granularity.
const PIECE_OVERHEAD: usize = 16;
/// What a batch takes beyond its bytes: two pieces, and the count of those who share it.
const BATCH_OVERHEAD: usize = 2 * PIECE_OVERHEAD + 3 * size_of::<usize>();
/// What a write takes beyond its batch: a node with its height and, on average, two links.
const NODE_OVERHEAD: usize =
    PIECE_OVERHEAD + size_of::<MemKey>() + size_of::<MemValue>() + 3 * size_of::<usize>();
/// What a range tombstone takes beyond its write: its fragment.
const RANGE_OVERHEAD: usize = 200;

#[derive(Debug)]
struct MemKey {
    user: Bytes,
    seq: SeqNo,
    kind: Kind,
}

#[derive(Debug)]
struct MemValue {
    bytes: Bytes,
    head_len: u32,
}

/// Lets the skip list be searched by a borrowed key.
trait AsKey {
    fn as_key(&self) -> KeyRef<'_>;
}

impl AsKey for MemKey {
    fn as_key(&self) -> KeyRef<'_> {
        KeyRef::new(&self.user, self.seq, self.kind)
    }
}

impl AsKey for KeyRef<'_> {
    fn as_key(&self) -> KeyRef<'_> {
        *self
    }
}

impl<'a> Borrow<dyn AsKey + 'a> for MemKey {
    fn borrow(&self) -> &(dyn AsKey + 'a) {
        self
    }
}

macro_rules! ordered_as_key {
    ($($t:ty),*) => {$(
        impl PartialEq for $t {
            fn eq(&self, other: &Self) -> bool {
                self.as_key() == other.as_key()
            }
        }
        impl Eq for $t {}
        impl Ord for $t {
            fn cmp(&self, other: &Self) -> Ordering {
                self.as_key().cmp(&other.as_key())
            }
        }
        impl PartialOrd for $t {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    )*};
}
ordered_as_key!(MemKey, dyn AsKey + '_);

impl MemValue {
    fn head(&self) -> &[u8] {
        &self.bytes[..self.head_len as usize]
    }

    fn tail(&self) -> Bytes {
        self.bytes.slice(self.head_len as usize..)
    }

    fn value(&self) -> Value {
        Value { head: self.bytes.slice(..self.head_len as usize), tail: self.tail() }
    }
}

/// A sorted table in memory.
#[derive(Debug, Default)]
pub struct Memtable {
    map: SkipMap<MemKey, MemValue>,
    /// Bytes in memory.
    size: AtomicUsize,
    /// The sequence number of the first write (0: none yet). Set under the commit lock.
    first_seq: AtomicU64,
    last_seq: AtomicU64,
    /// The range tombstones, which stand in `map` too. A leaf lock.
    ranges: RwLock<RangeSet>,
    /// Is there any? Spares readers the lock.
    has_ranges: AtomicBool,
    /// The blob files that its records point to, and the bytes of each. A leaf lock.
    blobs: Mutex<Vec<(Arc<LiveBlob>, u64)>>,
    blob_bytes: AtomicU64,
    /// Bytes of values that its records delete, as far as their writers know.
    deleted: AtomicU64,
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

    /// Inserts the writes of a batch, the first with sequence number `first`. They are slices of `bytes`
    /// bytes, which the memtable keeps in memory. `Err` if one is malformed.
    pub(crate) fn insert_all(
        &self,
        first: SeqNo,
        writes: Writes,
        bytes: usize,
    ) -> std::result::Result<(), ()> {
        let nodes = writes.left() as usize * NODE_OVERHEAD;
        self.size.fetch_add(bytes + BATCH_OVERHEAD + nodes, Relaxed);
        (first..).zip(writes).try_for_each(|(seq, write)| write.map(|write| self.insert(seq, write)))
    }

    /// Inserts one write, whose size is counted already.
    pub(crate) fn insert(&self, seq: SeqNo, write: Write) {
        if write.kind == Kind::RangeTombstone {
            let end = write.value.slice(..write.head_len as usize);
            self.ranges.write().add(RangeTombstone { start: write.key.clone(), end, seq });
            self.has_ranges.store(true, Release);
            self.size.fetch_add(RANGE_OVERHEAD, Relaxed);
        }
        self.map.insert(
            MemKey { user: write.key, seq, kind: write.kind },
            MemValue { bytes: write.value, head_len: write.head_len },
        );
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
        self.map.len()
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
    /// breaks.
    pub(crate) fn versions(
        &self,
        key: &[u8],
        seq: SeqNo,
        mut visit: impl FnMut(SeqNo, Kind, Value) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let bound = KeyRef::bound(key, seq);
        let mut entry = self.map.lower_bound(Bound::Included(&bound as &dyn AsKey));
        while let Some(e) = entry {
            if e.key().user != key {
                break;
            }
            if visit(e.key().seq, e.key().kind, e.value().value())?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            entry = e.next();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// May a key between the bounds be in it? (No false "no".)
    pub(crate) fn overlaps(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
        let first = match from {
            Bound::Unbounded => self.map.front(),
            Bound::Included(k) => {
                self.map.lower_bound(Bound::Included(&KeyRef::bound(k, MAX_SEQ) as &dyn AsKey))
            }
            Bound::Excluded(k) => self.map.lower_bound(Bound::Excluded(&KeyRef::bound(k, 0) as &dyn AsKey)),
        };
        let has_record = first.is_some_and(|e| match to {
            Bound::Unbounded => true,
            Bound::Included(k) => e.key().user.as_ref() <= k,
            Bound::Excluded(k) => e.key().user.as_ref() < k,
        });
        has_record || self.has_ranges() && self.ranges.read().overlaps(from, to)
    }

    /// A cursor over the records.
    pub(crate) fn iter(self: &Arc<Self>) -> MemtableIter {
        MemtableIter { entry: None, table: self.clone() }
    }
}

/// A cursor over a memtable's records. Records inserted while it lives may or may not be seen; by
/// their sequence numbers they are invisible to whoever reads through it.
#[derive(Debug)]
pub(crate) struct MemtableIter {
    /// Borrows from `table`. Declared first: dropped first.
    entry: Option<Entry<'static, MemKey, MemValue>>,
    table: Arc<Memtable>,
}

impl MemtableIter {
    fn stand_on<'a>(
        &'a mut self,
        find: impl FnOnce(&'a SkipMap<MemKey, MemValue>) -> Option<Entry<'a, MemKey, MemValue>>,
    ) {
        let found = find(&self.table.map);
        // SAFETY: only the lifetime changes. The entry borrows from the skip list in `self.table`,
        // which lives on the heap, does not move with `self`, is never replaced, and outlives
        // `self.entry` because that field is dropped first. The entry is not handed out: what the
        // accessors return borrows `self`.
        let found = unsafe {
            std::mem::transmute::<Option<Entry<'a, MemKey, MemValue>>, Option<Entry<'static, MemKey, MemValue>>>(
                found,
            )
        };
        self.entry = found;
    }

    fn current(&self) -> &Entry<'static, MemKey, MemValue> {
        self.entry.as_ref().expect("the cursor is valid")
    }
}

impl InternalIterator for MemtableIter {
    fn valid(&self) -> bool {
        self.entry.is_some()
    }

    fn key(&self) -> KeyRef<'_> {
        self.current().key().as_key()
    }

    fn head(&self) -> &[u8] {
        self.current().value().head()
    }

    fn tail(&self) -> Result<Bytes> {
        Ok(self.current().value().tail())
    }

    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.stand_on(|map| map.lower_bound(Bound::Included(&target as &dyn AsKey)));
        Ok(())
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.stand_on(|map| map.upper_bound(Bound::Excluded(&target as &dyn AsKey)));
        Ok(())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.stand_on(|map| map.front());
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.stand_on(|map| map.back());
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.entry = self.current().next();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.entry = self.current().prev();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(kind: Kind, key: &str, value: &str) -> Write {
        Write {
            kind,
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            head_len: 1,
        }
    }

    fn table() -> Arc<Memtable> {
        let table = Arc::new(Memtable::new());
        for (seq, key, value) in [(1, "a", "1x"), (2, "b", "2y"), (3, "a", "3z"), (4, "c", "4w")] {
            table.insert(seq, write(Kind::Put, key, value));
        }
        table
    }

    fn seen(table: &Memtable, key: &str, seq: SeqNo) -> Vec<Bytes> {
        let mut seen = Vec::new();
        let _ = table
            .versions(key.as_bytes(), seq, |_, _, value| {
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
