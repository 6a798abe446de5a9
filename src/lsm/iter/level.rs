//! A cursor over a run of tables whose ranges are disjoint and ascending: a level, or one table.
//! It opens a table only when it gets there.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use crate::lsm::levels::LiveTable;
use crate::lsm::table::{TableCache, TableIter};
use bytes::Bytes;
use std::sync::Arc;

/// A cursor over tables that follow one another.
#[derive(Debug)]
pub(crate) struct LevelIter {
    cache: Arc<TableCache>,
    tables: Vec<Arc<LiveTable>>,
    /// Keep blocks that are read out of the block cache?
    uncached: bool,
    /// The table that `current` is on.
    at: usize,
    current: Option<TableIter>,
}

impl LevelIter {
    pub fn new(cache: &Arc<TableCache>, tables: Vec<Arc<LiveTable>>) -> LevelIter {
        LevelIter { cache: cache.clone(), tables, uncached: false, at: 0, current: None }
    }

    /// As [`LevelIter::new`], for a job that reads everything once.
    pub fn uncached(cache: &Arc<TableCache>, tables: Vec<Arc<LiveTable>>) -> LevelIter {
        LevelIter { uncached: true, ..LevelIter::new(cache, tables) }
    }

    fn cursor(&self) -> &TableIter {
        self.current.as_ref().expect("the cursor is valid")
    }

    /// Goes to table `at`, positioned by `place`; invalid past the ends.
    fn enter(&mut self, at: usize, place: impl FnOnce(&mut TableIter) -> Result<()>) -> Result<()> {
        if self.current.is_none() || self.at != at {
            self.current = None;
            let Some(live) = self.tables.get(at) else { return Ok(()) };
            let table = self.cache.get(live)?;
            self.current = Some(if self.uncached { table.iter_uncached() } else { table.iter() });
            self.at = at;
        }
        match &mut self.current {
            Some(cursor) => place(cursor),
            None => Ok(()),
        }
    }

    /// Tables hold at least one record, so the neighbour's first (or last) is what follows.
    fn skip_forward(&mut self) -> Result<()> {
        if self.current.as_ref().is_some_and(|cursor| !cursor.valid()) {
            self.enter(self.at + 1, |cursor| cursor.seek_to_first())?;
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<()> {
        if self.current.as_ref().is_some_and(|cursor| !cursor.valid()) {
            match self.at.checked_sub(1) {
                Some(before) => self.enter(before, |cursor| cursor.seek_to_last())?,
                None => self.current = None,
            }
        }
        Ok(())
    }
}

impl InternalIterator for LevelIter {
    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(|cursor| cursor.valid())
    }

    fn key(&self) -> KeyRef<'_> {
        self.cursor().key()
    }

    fn head(&self) -> &[u8] {
        self.cursor().head()
    }

    fn tail(&self) -> Result<Bytes> {
        self.cursor().tail()
    }

    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        let at = self.tables.partition_point(|table| table.largest.as_ref() < target.user);
        self.enter(at, |cursor| cursor.seek(target))?;
        self.skip_forward()
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        let after = self.tables.partition_point(|table| table.smallest.as_ref() <= target.user);
        match after.checked_sub(1) {
            Some(at) => self.enter(at, |cursor| cursor.seek_before(target))?,
            None => self.current = None,
        }
        self.skip_backward()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.enter(0, |cursor| cursor.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        match self.tables.len().checked_sub(1) {
            Some(last) => self.enter(last, |cursor| cursor.seek_to_last()),
            None => Ok(()),
        }
    }

    fn next(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.current {
            cursor.next()?;
        }
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.current {
            cursor.prev()?;
        }
        self.skip_backward()
    }
}
