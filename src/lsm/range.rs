//! Range tombstones: one record that deletes every key from its own up to, not including, an end.
//!
//! As a record, its user key is the start and its head is the end. It deletes what is older than its
//! sequence number. Records stay as they were written; to be asked, they are cut into disjoint
//! *fragments*, each with the sequence numbers of all tombstones over it:
//!
//! ```text
//! tombstones   a-----------k @9         fragments   a----d @9
//!                  d-----------z @5                 d----k @9 @5
//!                                                   k----z @5
//! ```

use crate::lsm::key::SeqNo;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// One range tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeTombstone {
    pub start: Bytes,
    /// Not deleted itself.
    pub end: Bytes,
    pub seq: SeqNo,
}

#[derive(Debug, Clone)]
struct Fragment {
    end: Bytes,
    /// Descending.
    seqs: Vec<SeqNo>,
}

impl Fragment {
    /// What its numbers take, about.
    fn size(&self) -> usize {
        self.seqs.capacity() * size_of::<SeqNo>()
    }
}

/// What a fragment takes beside its numbers: its place in the map, of which a part is empty, its end's count of
/// users, and what the allocator adds.
const FRAGMENT_OVERHEAD: usize = 184;

/// What a tombstone takes beside its bounds' bytes: what the allocator adds to them.
const BOUNDS_OVERHEAD: usize = 48;

/// Range tombstones, cut into disjoint fragments.
#[derive(Debug, Clone, Default)]
pub(crate) struct RangeSet {
    /// By start.
    fragments: BTreeMap<Bytes, Fragment>,
    /// Bytes in memory, about. Tombstones one in another take the square of their number.
    size: usize,
}

impl RangeSet {
    /// Adds a tombstone; an empty range deletes nothing.
    pub fn add(&mut self, RangeTombstone { start, end, seq }: RangeTombstone) {
        if start >= end {
            return;
        }
        self.size += BOUNDS_OVERHEAD + start.len() + end.len();
        self.split_at(&start);
        self.split_at(&end);
        let mut at = start;
        while at < end {
            let next = self
                .fragments
                .range::<[u8], _>((Bound::Included(at.as_ref()), Bound::Excluded(end.as_ref())))
                .next();
            let gap_end = next.map_or_else(|| end.clone(), |(start, _)| start.clone());
            if at < gap_end {
                self.insert(at, Fragment { end: gap_end.clone(), seqs: vec![seq] });
            } else if let Some(fragment) = self.fragments.get_mut(&at) {
                let place = fragment.seqs.partition_point(|other| *other > seq);
                self.size -= fragment.size();
                fragment.seqs.insert(place, seq);
                self.size += fragment.size();
                at = fragment.end.clone();
                continue;
            }
            at = gap_end;
        }
    }

    /// Cuts the fragment that `key` lies inside of.
    fn split_at(&mut self, key: &Bytes) {
        let before = self
            .fragments
            .range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(key.as_ref())))
            .next_back();
        if let Some((_, fragment)) = before.filter(|(_, fragment)| fragment.end > *key) {
            let rest = Fragment {
                end: std::mem::replace(&mut fragment.end, key.clone()),
                seqs: fragment.seqs.clone(),
            };
            self.insert(key.clone(), rest);
        }
    }

    fn insert(&mut self, start: Bytes, fragment: Fragment) {
        self.size += FRAGMENT_OVERHEAD + fragment.size();
        self.fragments.insert(start, fragment);
    }

    /// Bytes in memory, about.
    pub fn size(&self) -> usize {
        self.size
    }

    fn fragment(&self, key: &[u8]) -> Option<&Fragment> {
        let (_, fragment) =
            self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        Some(fragment).filter(|fragment| fragment.end.as_ref() > key)
    }

    /// The newest tombstone over `key` that a reader at `seq` sees, and where its fragment ends.
    pub fn covering(&self, key: &[u8], seq: SeqNo) -> Option<(SeqNo, &Bytes)> {
        let fragment = self.fragment(key)?;
        let seen = fragment.seqs.iter().find(|other| **other <= seq)?;
        Some((*seen, &fragment.end))
    }

    /// The oldest tombstone over `key` that is newer than `seq`.
    pub fn first_after(&self, key: &[u8], seq: SeqNo) -> Option<SeqNo> {
        self.fragment(key)?.seqs.iter().rev().find(|other| **other > seq).copied()
    }

    /// The fragments as tombstones: by start, newest first.
    pub fn tombstones(&self) -> impl Iterator<Item = RangeTombstone> {
        self.fragments.iter().flat_map(|(start, fragment)| {
            let one =
                |seq: &SeqNo| RangeTombstone { start: start.clone(), end: fragment.end.clone(), seq: *seq };
            fragment.seqs.iter().map(one)
        })
    }

    /// Does any fragment overlap the bounds?
    pub fn overlaps(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
        let ends_in_time = |fragment: &Fragment| match from {
            Bound::Unbounded => true,
            Bound::Included(from) | Bound::Excluded(from) => fragment.end.as_ref() > from,
        };
        let begins_in_time = |start: &[u8]| match to {
            Bound::Unbounded => true,
            Bound::Included(to) => start <= to,
            Bound::Excluded(to) => start < to,
        };
        // Of the fragments that begin early enough the last ends last: they are disjoint.
        let last = match to {
            Bound::Unbounded => self.fragments.iter().next_back(),
            Bound::Included(to) => {
                self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Included(to))).next_back()
            }
            Bound::Excluded(to) => {
                self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(to))).next_back()
            }
        };
        last.is_some_and(|(start, fragment)| begins_in_time(start) && ends_in_time(fragment))
    }
}

impl FromIterator<RangeTombstone> for RangeSet {
    fn from_iter<T: IntoIterator<Item = RangeTombstone>>(tombstones: T) -> RangeSet {
        let mut set = RangeSet::default();
        tombstones.into_iter().for_each(|tombstone| set.add(tombstone));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tombstone(start: u8, end: u8, seq: SeqNo) -> RangeTombstone {
        RangeTombstone { start: vec![start].into(), end: vec![end].into(), seq }
    }

    proptest! {
        #[test]
        fn every_key_is_covered_as_by_the_tombstones_themselves(
            tombstones in proptest::collection::vec((0..30u8, 0..30u8), 0..20), seq in 0..25u64
        ) {
            let tombstones: Vec<_> = tombstones.iter().zip(1..).map(|((a, b), seq)| tombstone(*a, *b, seq)).collect();
            let set: RangeSet = tombstones.iter().cloned().collect();
            for key in 0..30u8 {
                let over = tombstones.iter().filter(|t| t.start <= [key][..] && [key][..] < t.end);
                let seqs: Vec<SeqNo> = over.map(|t| t.seq).collect();
                let seen = seqs.iter().copied().filter(|s| *s <= seq).max();
                prop_assert_eq!(set.covering(&[key], seq).map(|(seq, _)| seq), seen);
                prop_assert_eq!(set.first_after(&[key], seq), seqs.iter().copied().filter(|s| *s > seq).min());
                if let Some((_, end)) = set.covering(&[key], seq) {
                    let last = [end[0] - 1];
                    prop_assert_eq!(set.covering(&last, seq).map(|(seq, _)| seq), seen);
                }
                let bounds = (Bound::Included(&[key][..]), Bound::Included(&[key][..]));
                prop_assert_eq!(set.overlaps(bounds.0, bounds.1), !seqs.is_empty());
            }
        }
    }

    #[test]
    fn bounds_are_honoured() {
        let set: RangeSet = [tombstone(5, 10, 1)].into_iter().collect();
        let (a, b, c, d) = (&[3u8][..], &[5u8][..], &[9u8][..], &[10u8][..]);
        assert!(!set.overlaps(Bound::Included(a), Bound::Excluded(b)));
        assert!(set.overlaps(Bound::Included(a), Bound::Included(b)));
        assert!(set.overlaps(Bound::Included(c), Bound::Unbounded));
        assert!(!set.overlaps(Bound::Included(d), Bound::Unbounded));
        assert!(set.overlaps(Bound::Unbounded, Bound::Unbounded));
        assert!(!RangeSet::default().overlaps(Bound::Unbounded, Bound::Unbounded));
    }
}
