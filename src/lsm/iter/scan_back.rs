//! Scans backwards: the visible keys of a range, last to first.
//!
//! Going backwards, the versions of a key come oldest first, so which of them a reader sees is known
//! only when the key is passed: until then the newest put and the patches above it are held, not loaded.

use crate::lsm::blob::BlobReader;
use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::iter::source::{Covers, Source};
use crate::lsm::iter::versions::Versions;
use crate::lsm::key::{KeyRef, KindOrBound, MAX_SEQ};
use crate::lsm::metrics::ScanCount;
use crate::lsm::store::Shared;
use crate::lsm::volume::Tree;
use crate::lsm::{Result, SeqNo, Value};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

/// A cursor over the visible keys of a range, last to first. As [`crate::lsm::Scan`], it keeps what
/// it reads alive and holds no lock.
#[derive(Debug)]
pub struct ScanBack {
    merge: MergeIter<Source>,
    covers: Covers,
    blobs: Arc<BlobReader>,
    count: ScanCount,
    seq: SeqNo,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    started: bool,
    key: Vec<u8>,
    /// What of `key` is visible. Empty before the first key and at the end.
    versions: Versions,
}

impl ScanBack {
    pub(crate) fn new(
        shared: &Shared,
        tree: &Tree,
        seq: SeqNo,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<ScanBack> {
        let sources = tree.sources(shared, seq, from, to)?;
        Ok(ScanBack {
            merge: MergeIter::new(sources.cursors),
            covers: sources.covers,
            blobs: shared.blobs.clone(),
            count: ScanCount::start(&shared.metrics),
            seq,
            from: from.map(Bytes::copy_from_slice),
            to: to.map(Bytes::copy_from_slice),
            started: false,
            key: Vec::new(),
            versions: Versions::default(),
        })
    }

    /// Moves to the key before; false at the front.
    ///
    /// # Errors
    /// After one the scan is at its end.
    #[allow(clippy::should_implement_trait, reason = "a lending cursor: `Iterator` cannot yield borrows")]
    pub fn next(&mut self) -> Result<bool> {
        self.versions.clear();
        if !std::mem::replace(&mut self.started, true) {
            match &self.to {
                Bound::Unbounded => self.merge.seek_to_last()?,
                Bound::Included(key) => self.merge.seek_before(KeyRef::bound(key, 0))?,
                Bound::Excluded(key) => self.merge.seek_before(KeyRef::bound(key, MAX_SEQ))?,
            }
        }
        while self.merge.valid() && !self.is_before_start() {
            self.key.clear();
            self.key.extend_from_slice(self.merge.key().user);
            self.pass_key()?;
            if self.versions.visible() {
                self.count.keys += 1;
                return Ok(true);
            }
        }
        self.versions.clear();
        Ok(false)
    }

    /// The key. Only after [`ScanBack::next`] said true.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value; may read it from the disk, each time. Empty unless [`ScanBack::next`] said true.
    pub fn value(&self) -> Result<Value> {
        self.versions.value(&self.key, &self.blobs)
    }

    fn is_before_start(&self) -> bool {
        let key = self.merge.key().user;
        match &self.from {
            Bound::Unbounded => false,
            Bound::Included(start) => key < start.as_ref(),
            Bound::Excluded(start) => key <= start.as_ref(),
        }
    }

    /// Passes every version of `self.key`, and keeps those that its visible value is made of.
    fn pass_key(&mut self) -> Result<()> {
        let deleted = self.covers.newest_over(&self.key, self.seq).map_or(0, |cover| cover.seq);
        self.versions.clear();
        while self.merge.valid() && self.merge.key().user == self.key {
            let key = self.merge.key();
            if let KindOrBound::Kind(kind) = key.kind
                && key.seq >= deleted
                && key.seq <= self.seq
            {
                if !kind.is_patch() {
                    self.versions.clear();
                }
                self.versions.push(kind, self.merge.head(), self.merge.tail());
            }
            self.merge.prev()?;
        }
        self.versions.reverse();
        Ok(())
    }
}
