//! What was read, and what others have written meanwhile: whether the two have anything in common.
//!
//! A volume that is staged apart ([`Volume::stage_apart`](crate::lsm::Volume::stage_apart)) keeps which keys and ranges it
//! has read ([`Reads`]). Meanwhile those who write to the real volume leave the keys in a [`Journal`], each after its write
//! and before it returns. So once a writer has returned, a look at the journal tells whether it has touched what was read.
//! A volume that nobody watches has no journal, and its writers pay one look at a number.
//!
//! # Bounds
//! Both are given up when they grow past a limit, and the journal also when somebody deletes a range: then everything
//! counts as touched.
//!
//! # Locks
//! `Watchers::journals` and each journal's and each reads' own are leaves.

use crate::lsm::batch::Write;
use crate::lsm::{Batch, Kind, SeqNo};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// A journal holds keys of so many bytes at most.
const JOURNAL_MAX: usize = 16 << 20;
/// More keys, or ranges, that were read are not kept.
const READS_MAX: usize = 4 << 20;

/// Those who watch a volume.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    count: AtomicUsize,
    journals: Mutex<Vec<Arc<Journal>>>,
}

/// The keys that a batch writes; none if it deletes a range, or nobody watched when it was begun.
pub(crate) type Keys = Option<Vec<Box<[u8]>>>;

impl Watchers {
    /// From now on, as long as what is returned lives, writes are noted.
    pub fn watch(self: &Arc<Self>) -> Watch {
        let journal = Arc::<Journal>::default();
        self.journals.lock().push(journal.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
        Watch { watchers: self.clone(), journal }
    }

    /// What a batch that is about to be written will have touched.
    pub fn keys_of(&self, batch: &Batch) -> Keys {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let key = |write: Write<'_>| (write.kind != Kind::RangeTombstone).then(|| write.key().into());
        batch.writes().map(key).collect()
    }

    /// A batch was written.
    pub fn note(&self, seq: SeqNo, keys: Keys) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.journals.lock().iter().for_each(|journal| journal.note(seq, keys.as_deref()));
        }
    }
}

/// A watch over a volume's writes.
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    journal: Arc<Journal>,
}

impl Watch {
    /// Has any of the writes after `seq` touched what was read?
    pub fn has_touched(&self, reads: &Reads, seq: SeqNo) -> bool {
        let written = self.journal.0.lock();
        written.is_unknown || written.keys.iter().any(|(at, key)| *at > seq && reads.include(key))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.count.fetch_sub(1, Ordering::SeqCst);
        self.watchers.journals.lock().retain(|journal| !Arc::ptr_eq(journal, &self.journal));
    }
}

/// Keys that were written.
#[derive(Debug, Default)]
struct Journal(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    keys: Vec<(SeqNo, Box<[u8]>)>,
    bytes: usize,
    /// It may have been anything.
    is_unknown: bool,
}

impl Journal {
    fn note(&self, seq: SeqNo, keys: Option<&[Box<[u8]>]>) {
        let mut written = self.0.lock();
        let bytes =
            keys.map_or(JOURNAL_MAX, |keys| keys.iter().map(|key| key.len() + size_of_val(key)).sum());
        written.bytes = written.bytes.saturating_add(bytes);
        if written.is_unknown || keys.is_none() || written.bytes > JOURNAL_MAX {
            *written = Written { is_unknown: true, ..Written::default() };
            return;
        }
        written.keys.extend(keys.into_iter().flatten().map(|key| (seq, key.clone())));
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    /// By their hashes: two keys that have the same count as one.
    keys: HashSet<u64>,
    /// From where, and up to where (none: to the end); disjoint.
    ranges: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// There was more.
    is_everything: bool,
}

impl Reads {
    /// A key's value was read.
    pub fn key(&self, key: &[u8]) {
        self.0.lock().add(|read| _ = read.keys.insert(xxh3_64(key)));
    }

    /// The keys between two bounds were read.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) {
        let behind = |key: &[u8]| [key, &[0]].concat();
        let from = match from {
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => Vec::new(),
        };
        let to = match to {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        self.0.lock().add(|read| read.add_range(from, to));
    }

    fn include(&self, key: &[u8]) -> bool {
        let read = self.0.lock();
        let in_range = || {
            let up_to_key = (Bound::Unbounded, Bound::Included(key));
            let last = read.ranges.range::<[u8], _>(up_to_key).next_back();
            last.is_some_and(|(_, to)| to.as_deref().is_none_or(|to| key < to))
        };
        read.is_everything || read.keys.contains(&xxh3_64(key)) || in_range()
    }
}

impl Read {
    fn add(&mut self, add: impl FnOnce(&mut Read)) {
        if !self.is_everything {
            add(self);
        }
        if self.keys.len().max(self.ranges.len()) > READS_MAX {
            *self = Read { is_everything: true, ..Read::default() };
        }
    }

    fn add_range(&mut self, mut from: Vec<u8>, mut to: Option<Vec<u8>>) {
        let ends_before = |end: &Option<Vec<u8>>, key: &Vec<u8>| end.as_ref().is_some_and(|end| end < key);
        // Those that it overlaps become part of it.
        loop {
            let last = match &to {
                Some(to) => self.ranges.range(..=to.clone()).next_back(),
                None => self.ranges.iter().next_back(),
            };
            let Some((start, end)) = last.filter(|(_, end)| !ends_before(end, &from)) else { break };
            let (start, end) = (start.clone(), end.clone());
            self.ranges.remove(&start);
            from = from.min(start);
            to = to.zip(end).map(|(to, end)| to.max(end));
        }
        self.ranges.insert(from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(keys: &[&[u8]]) -> Batch {
        let mut batch = Batch::new();
        keys.iter().for_each(|key| batch.put(key, b"value"));
        batch
    }

    #[test]
    fn who_reads_what_others_write_later_is_told() {
        let watchers = Arc::<Watchers>::default();
        let unwatched = watchers.keys_of(&batch(&[b"a"]));
        watchers.note(1, unwatched.clone());
        let watch = watchers.watch();
        let write = |seq, batch: &Batch| watchers.note(seq, watchers.keys_of(batch));
        let reads = Reads::default();
        reads.key(b"a");
        reads.range(Bound::Excluded(b"d"), Bound::Included(b"f"));
        write(5, &batch(&[b"a"]));
        write(6, &batch(&[b"aa", b"d", b"f\0"]));
        assert!(!watch.has_touched(&reads, 5) && watch.has_touched(&reads, 4));
        for key in [&b"a"[..], b"d\0", b"f"] {
            let watch = watchers.watch();
            write(7, &batch(&[b"z", key]));
            assert!(watch.has_touched(&reads, 5) && !watch.has_touched(&reads, 7), "{key:?}");
        }
        // One that was begun before the watch.
        watchers.note(8, unwatched);
        assert!(watch.has_touched(&Reads::default(), 9));
        drop(watch);
        assert!(watchers.journals.lock().is_empty() && watchers.keys_of(&batch(&[b"a"])).is_none());
    }

    #[test]
    fn a_range_that_is_deleted_and_a_journal_that_is_full_may_touch_anything() {
        let watchers = Arc::<Watchers>::default();
        let (first, second) = (watchers.watch(), watchers.watch());
        let mut range = Batch::new();
        range.delete_range(b"a", b"b");
        watchers.note(5, watchers.keys_of(&range));
        let third = watchers.watch();
        for _ in 0..300 {
            watchers.note(6, watchers.keys_of(&batch(&[&[b'k'; 60_000]])));
        }
        let touched = [first, second, third].map(|watch| watch.has_touched(&Reads::default(), 6));
        assert_eq!(touched, [true; 3]);
    }

    proptest! {
        #[test]
        fn ranges_include_what_they_were_made_of(
            ranges in prop::collection::vec((0u8..40, prop::option::of(0u8..40)), 0..12),
            keys in prop::collection::vec(0u8..40, 20),
        ) {
            let reads = Reads::default();
            for (from, len) in &ranges {
                let to = len.map(|len| [from.saturating_add(len)]);
                let to = to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(&to[..]));
                reads.range(Bound::Included(&[*from]), to);
            }
            for key in keys {
                let is_in = |(from, len): &(u8, Option<u8>)| {
                    *from <= key && len.is_none_or(|len| key < from.saturating_add(len))
                };
                prop_assert_eq!(reads.include(&[key]), ranges.iter().any(is_in), "{}", key);
            }
        }
    }
}
