//! A cursor over a memtable.

use super::Memtable;
use super::record::{AsKey, Record};
use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use bytes::Bytes;
use crossbeam_skiplist::SkipSet;
use crossbeam_skiplist::set::Entry;
use std::ops::Bound;
use std::sync::Arc;

/// A cursor over a memtable's records. Records inserted while it lives may or may not be seen; by
/// their sequence numbers they are invisible to whoever reads through it.
#[derive(Debug)]
pub(crate) struct MemtableIter {
    /// Borrows from `table`. Declared first: dropped first.
    entry: Option<Entry<'static, Record>>,
    table: Arc<Memtable>,
}

impl MemtableIter {
    /// Not positioned yet.
    pub fn new(table: Arc<Memtable>) -> MemtableIter {
        MemtableIter { entry: None, table }
    }

    fn stand_on<'a>(&'a mut self, find: impl FnOnce(&'a SkipSet<Record>) -> Option<Entry<'a, Record>>) {
        let found = find(&self.table.records);
        // SAFETY: only the lifetime changes. The entry borrows from the skip list in `self.table`,
        // which lives on the heap, does not move with `self`, is never replaced, and outlives
        // `self.entry` because that field is dropped first. The entry is not handed out: what the
        // accessors return borrows `self`.
        let found = unsafe {
            std::mem::transmute::<Option<Entry<'a, Record>>, Option<Entry<'static, Record>>>(found)
        };
        self.entry = found;
    }

    fn current(&self) -> &Entry<'static, Record> {
        self.entry.as_ref().expect("the cursor is valid")
    }
}

impl InternalIterator for MemtableIter {
    fn valid(&self) -> bool {
        self.entry.is_some()
    }

    fn key(&self) -> KeyRef<'_> {
        self.current().key()
    }

    fn head(&self) -> &[u8] {
        self.current().head()
    }

    fn tail(&self) -> Result<Bytes> {
        Ok(self.table.arena.bytes(self.current().tail()))
    }

    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.stand_on(|records| records.lower_bound(Bound::Included(&target as &dyn AsKey)));
        Ok(())
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.stand_on(|records| records.upper_bound(Bound::Excluded(&target as &dyn AsKey)));
        Ok(())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.stand_on(|records| records.front());
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.stand_on(|records| records.back());
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
