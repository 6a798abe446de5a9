//! Scans: the visible keys of a range, in order.

use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::iter::source::{Covers, Source};
use crate::lsm::key::{KeyRef, Kind, KindOrBound, MAX_SEQ};
use crate::lsm::metrics::ScanCount;
use crate::lsm::store::Shared;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::volume::Tree;
use crate::lsm::{Result, SeqNo};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

/// After stepping over this many records of one key, a scan seeks past the rest of them.
const STEPS_BEFORE_SEEK: usize = 8;

/// A cursor over the visible keys of a range. It keeps the volume's memtables and tables of that moment alive,
/// and holds no lock.
#[derive(Debug)]
pub struct Scan {
    merge: MergeIter<Source>,
    seq: SeqNo,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    covers: Covers,
    shared: Arc<Shared>,
    tree: Arc<Tree>,
    active: usize,
    count: ScanCount,
    passed: u64,
    place: Place,
    /// The key that the scan stands on, or stood on last.
    key: Vec<u8>,
    /// The value's head, if the newest version is a patch that leaves it alone; otherwise `merge` stands on that
    /// version.
    below: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeFirst,
    /// On `key`. If there is a head from `below`, `merge` is past the newest version.
    OnKey,
    AtEnd,
}

fn owned(bound: Bound<&[u8]>) -> Bound<Bytes> {
    bound.map(Bytes::copy_from_slice)
}

impl Scan {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        tree: Arc<Tree>,
        seq: SeqNo,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Scan> {
        let sources = tree.sources(shared, seq, from, to)?;
        Ok(Scan {
            shared: shared.clone(),
            tree,
            active: sources.active,
            count: ScanCount::start(&shared.metrics),
            passed: 0,
            merge: MergeIter::new(sources.cursors),
            covers: sources.covers,
            seq,
            from: owned(from),
            to: owned(to),
            place: Place::BeforeFirst,
            key: Vec::new(),
            below: None,
        })
    }

    /// Sources (memtables and tables) inside the scan's bounds, opened or not.
    pub fn num_active_iterators(&self) -> usize {
        self.active
    }

    /// Records that the scan has gone past so far: those it showed, and the deleted and overwritten ones
    /// between them.
    pub fn records_passed(&self) -> u64 {
        self.passed
    }

    /// Moves to the next key; false at the end.
    ///
    /// # Errors
    /// After one the scan is at its end.
    #[allow(clippy::should_implement_trait, reason = "a lending cursor: `Iterator` cannot yield borrows")]
    pub fn next(&mut self) -> Result<bool> {
        let moved = self.step();
        match moved {
            Ok(true) => self.count.keys += 1,
            _ => self.place = Place::AtEnd,
        }
        moved
    }

    /// The key. Empty before the first and at the end.
    pub fn key(&self) -> &[u8] {
        if self.place == Place::OnKey { &self.key } else { &[] }
    }

    /// The head of the value. Empty before the first and at the end.
    pub fn head(&self) -> &[u8] {
        match &self.below {
            _ if self.place != Place::OnKey => &[],
            Some(head) => head,
            None => self.merge.head(),
        }
    }

    /// The tail of the value; may read it from the disk, each time. Empty before the first and at the end.
    pub fn tail(&self) -> Result<Bytes> {
        if self.place != Place::OnKey {
            return Ok(Bytes::new());
        }
        if self.below.is_some() || self.merge.key().kind == KindOrBound::Kind(Kind::HeadPatch) {
            // What it is folded from is sought now: whoever asks for heads alone pays nothing for it.
            let value = self.tree.get(&self.shared, &self.key, self.seq, CacheUse::Fill)?;
            return Ok(value.unwrap_or_default().tail);
        }
        match self.merge.key().kind.is_blob() {
            true => self.shared.blobs.load(&self.merge.tail()?, CacheUse::Fill),
            false => self.merge.tail(),
        }
    }

    fn step(&mut self) -> Result<bool> {
        self.below = None;
        match self.place {
            Place::AtEnd => return Ok(false),
            Place::BeforeFirst => self.seek_to_start()?,
            Place::OnKey => self.skip_key()?,
        }
        while self.merge.valid() {
            let key = self.merge.key();
            if self.is_past_end(key.user) {
                return Ok(false);
            }
            self.key.clear();
            self.key.extend_from_slice(key.user);
            if key.seq > self.seq && !self.skip_invisible()? {
                continue;
            }
            if !self.covers.is_empty() && self.skip_deleted()? {
                continue;
            }
            match self.merge.key().kind {
                KindOrBound::Kind(kind) if kind.blob().is_some() || kind == Kind::HeadPatch => {
                    self.place = Place::OnKey;
                    return Ok(true);
                }
                KindOrBound::Kind(Kind::Patch) => {
                    self.below = Some(self.head_below()?);
                    self.place = Place::OnKey;
                    return Ok(true);
                }
                _ => self.skip_key()?,
            }
        }
        Ok(false)
    }

    fn seek_to_start(&mut self) -> Result<()> {
        match &self.from {
            Bound::Unbounded => self.merge.seek_to_first(),
            Bound::Included(key) => self.merge.seek(KeyRef::bound(key, self.seq)),
            Bound::Excluded(key) => self.merge.seek(KeyRef::bound(key, 0)),
        }
    }

    fn is_past_end(&self, key: &[u8]) -> bool {
        match &self.to {
            Bound::Unbounded => false,
            Bound::Included(end) => key > end.as_ref(),
            Bound::Excluded(end) => key >= end.as_ref(),
        }
    }

    /// Moves past every version of `self.key`.
    fn skip_key(&mut self) -> Result<()> {
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.merge.valid() || self.merge.key().user != self.key {
                return Ok(());
            }
            self.passed += 1;
            self.merge.next()?;
        }
        // Sequence number 0 is before all writes, so this is after the oldest version.
        self.merge.seek(KeyRef::bound(&self.key, 0))
    }

    /// Moves past the versions of `self.key` that are too new; false if no older one is left.
    fn skip_invisible(&mut self) -> Result<bool> {
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.merge.valid() || self.merge.key().user != self.key {
                return Ok(false);
            }
            if self.merge.key().seq <= self.seq {
                return Ok(true);
            }
            self.merge.next()?;
        }
        self.merge.seek(KeyRef::bound(&self.key, self.seq))?;
        Ok(self.merge.valid() && self.merge.key().user == self.key)
    }

    /// If a range tombstone deletes the record that the cursor stands on, moves on: the sources older
    /// than the tombstone's past all that it deletes, its own by one key.
    fn skip_deleted(&mut self) -> Result<bool> {
        let at = self.merge.key().seq;
        let Some(cover) = self.covers.newest_over(&self.key, self.seq).filter(|cover| cover.seq > at) else {
            return Ok(false);
        };
        if self.merge.age() > cover.age {
            self.merge.skip_older(cover.age, KeyRef::bound(&cover.end, MAX_SEQ))?;
        } else {
            self.skip_key()?;
        }
        Ok(true)
    }

    /// The head that the patches of `self.key` from the cursor on leave alone.
    fn head_below(&mut self) -> Result<Vec<u8>> {
        let deleted = self.covers.newest_over(&self.key, self.seq).map_or(0, |cover| cover.seq);
        while self.merge.valid() && self.merge.key().user == self.key && self.merge.key().seq >= deleted {
            match self.merge.key().kind {
                KindOrBound::Kind(kind) if kind.blob().is_some() || kind == Kind::HeadPatch => {
                    return Ok(self.merge.head().to_vec());
                }
                KindOrBound::Kind(Kind::Tombstone) => break,
                _ => self.merge.next()?,
            }
        }
        Ok(Vec::new())
    }
}
