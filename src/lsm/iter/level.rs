//! A cursor over a run of tables whose ranges are disjoint and ascending: a level, or one table.
//! It opens a table only when it gets there, and passes over those whose filter excludes the prefix
//! that is asked for.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use crate::lsm::levels::LiveTable;
use crate::lsm::metrics::Metrics;
use crate::lsm::table::{PrefixRule, Table, TableCache, TableIter};
use bytes::Bytes;
use std::sync::Arc;

/// The one prefix that a scan asks for.
#[derive(Debug, Clone)]
pub(crate) struct Prefix {
    /// By which it is one.
    pub rule: PrefixRule,
    pub bytes: Bytes,
    pub metrics: Arc<Metrics>,
}

impl Prefix {
    /// Does the table's filter say that no key in it has this prefix?
    fn is_excluded(&self, table: &Table) -> Result<bool> {
        let excluded = !table.may_contain_prefix(&self.rule, &self.bytes)?;
        self.metrics.asked_prefix(excluded);
        Ok(excluded)
    }
}

/// A cursor over tables that follow one another.
#[derive(Debug)]
pub(crate) struct LevelIter {
    cache: Arc<TableCache>,
    tables: Vec<Arc<LiveTable>>,
    /// Only keys with this prefix matter.
    prefix: Option<Prefix>,
    /// Keep blocks that are read out of the block cache?
    uncached: bool,
    /// The table that `current` is on.
    at: usize,
    current: Option<TableIter>,
}

impl LevelIter {
    pub fn new(cache: &Arc<TableCache>, tables: Vec<Arc<LiveTable>>, prefix: Option<Prefix>) -> LevelIter {
        LevelIter { cache: cache.clone(), tables, prefix, uncached: false, at: 0, current: None }
    }

    /// For a job that reads everything once.
    pub fn uncached(cache: &Arc<TableCache>, tables: Vec<Arc<LiveTable>>) -> LevelIter {
        LevelIter { uncached: true, ..LevelIter::new(cache, tables, None) }
    }

    fn cursor(&self) -> &TableIter {
        self.current.as_ref().expect("the cursor is valid")
    }

    /// Makes table `at` the current one; `None` if its filter excludes the prefix.
    fn open(&mut self, at: usize) -> Result<Option<&mut TableIter>> {
        if self.current.is_none() || self.at != at {
            self.current = None;
            let table = self.cache.get(&self.tables[at])?;
            if let Some(prefix) = &self.prefix
                && prefix.is_excluded(&table)?
            {
                return Ok(None);
            }
            self.current = Some(if self.uncached { table.iter_uncached() } else { table.iter() });
            self.at = at;
        }
        Ok(self.current.as_mut())
    }

    /// Stands on the first record from table `from` on that is at or after `target`.
    fn forward(&mut self, from: usize, target: Option<KeyRef<'_>>) -> Result<()> {
        for at in from..self.tables.len() {
            let Some(cursor) = self.open(at)? else { continue };
            match target {
                Some(target) => cursor.seek(target)?,
                None => cursor.seek_to_first()?,
            }
            if cursor.valid() {
                return Ok(());
            }
        }
        self.current = None;
        Ok(())
    }

    /// Stands on the last record of the tables before `end` that is before `target`.
    fn backward(&mut self, end: usize, target: Option<KeyRef<'_>>) -> Result<()> {
        for at in (0..end).rev() {
            let Some(cursor) = self.open(at)? else { continue };
            match target {
                Some(target) => cursor.seek_before(target)?,
                None => cursor.seek_to_last()?,
            }
            if cursor.valid() {
                return Ok(());
            }
        }
        self.current = None;
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
        let from = self.tables.partition_point(|table| table.largest.as_ref() < target.user);
        self.forward(from, Some(target))
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        let end = self.tables.partition_point(|table| table.smallest.as_ref() <= target.user);
        self.backward(end, Some(target))
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.forward(0, None)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.backward(self.tables.len(), None)
    }

    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.current else { return Ok(()) };
        cursor.next()?;
        if cursor.valid() { Ok(()) } else { self.forward(self.at + 1, None) }
    }

    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.current else { return Ok(()) };
        cursor.prev()?;
        if cursor.valid() { Ok(()) } else { self.backward(self.at, None) }
    }
}
