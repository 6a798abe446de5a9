//! Sorting with bounded memory: what is put is held in order, and written out as a run when it is too much.
//!
//! A run is a table that no volume refers to. Its records carry the run's number as their sequence number, so that of a
//! key's records the newest comes first. Runs are deleted when the sorter is dropped.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::level::LevelIter;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::key::{KeyRef, Kind, KindOrBound, MAX_SEQ, SeqNo};
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::store::Shared;
use crate::lsm::table::TableBuilder;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::volume::Tree;
use crate::lsm::{Error, Value};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a record takes in memory beyond its bytes, about.
const RECORD_OVERHEAD: usize = 120;

/// Runs that are merged at once; when there are more, they become one. Each takes a few blocks and a handle.
const MAX_RUNS: usize = 64;

/// Is shown records with their kinds.
type Show<'a> = dyn FnMut(Kind, &[u8], &[u8], &[u8]) -> Result<()> + 'a;

/// Receives the records that are left.
type Emit<'a> = dyn FnMut(&[u8], &[u8], &[u8]) -> Result<()> + 'a;

/// What was put last under a key; `None` if it was taken back.
type Last = Option<Value>;

/// Takes records in any order.
pub(super) struct Sorter<'v> {
    shared: &'v Shared,
    memory: usize,
    held: BTreeMap<Box<[u8]>, Last>,
    held_bytes: usize,
    /// As they are in L0: the newest first.
    runs: Tree,
    written: SeqNo,
}

impl<'v> Sorter<'v> {
    pub fn new(shared: &'v Shared, memory: usize) -> Sorter<'v> {
        Sorter { shared, memory, held: BTreeMap::new(), held_bytes: 0, runs: Tree::default(), written: 0 }
    }

    pub fn set(&mut self, key: &[u8], value: Option<(&[u8], &[u8])>) -> Result<()> {
        let size = |last: &Last| last.as_ref().map_or(0, |value| value.head.len() + value.tail.len());
        let copy = Bytes::copy_from_slice;
        let value = value.map(|(head, tail)| Value { head: copy(head), tail: copy(tail) });
        self.held_bytes += size(&value);
        match self.held.get_mut(key) {
            Some(old) => {
                self.held_bytes -= size(old);
                *old = value;
            }
            None => {
                self.held_bytes += key.len() + RECORD_OVERHEAD;
                self.held.insert(key.into(), value);
            }
        }
        if self.held_bytes < self.memory { Ok(()) } else { self.write_run() }
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        match self.held.get(key) {
            Some(last) => Ok(last.clone()),
            None if self.written == 0 => Ok(None),
            None => self.runs.get(self.shared, key, MAX_SEQ, CacheUse::Bypass),
        }
    }

    /// Hands the last record of each key to `emit`, in order.
    pub fn merge(mut self, emit: &mut Emit<'_>) -> Result<()> {
        if self.written == 0 {
            let records = std::mem::take(&mut self.held).into_iter();
            let mut kept = records.filter_map(|(key, last)| last.map(|value| (key, value)));
            return kept.try_for_each(|(key, value)| emit(&key, &value.head, &value.tail));
        }
        self.write_run()?;
        self.each_last(&mut |kind, key, head, tail| match kind {
            Kind::Tombstone => Ok(()),
            _ => emit(key, head, tail),
        })
    }

    /// Writes what is held out as a run.
    fn write_run(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        if self.runs.levels.level(0).len() >= MAX_RUNS {
            self.merge_runs()?;
        }
        let mut builder = self.shared.new_table(&self.shared.table_options)?;
        self.written += 1;
        for (key, last) in std::mem::take(&mut self.held) {
            let (kind, value) = match last {
                Some(value) => (Kind::Put, value),
                None => (Kind::Tombstone, Value::default()),
            };
            builder.add(KeyRef::new(&key, self.written, kind), &value.head, &value.tail)?;
        }
        self.held_bytes = 0;
        self.add_run(builder)
    }

    fn add_run(&mut self, builder: TableBuilder) -> Result<()> {
        let run = self.shared.live_table(builder.finish()?);
        self.runs.levels = self.runs.levels.edited(&[], &[(0, run)]);
        Ok(())
    }

    /// Makes one run of all.
    fn merge_runs(&mut self) -> Result<()> {
        let mut builder = self.shared.new_table(&self.shared.table_options)?;
        self.written += 1;
        let seq = self.written;
        self.each_last(&mut |kind, key, head, tail| builder.add(KeyRef::new(key, seq, kind), head, tail))?;
        self.runs.levels = Levels::default();
        self.add_run(builder)
    }

    /// Shows the newest record of each key in the runs.
    fn each_last(&self, show: &mut Show<'_>) -> Result<()> {
        let runs = self.runs.levels.level(0).iter();
        let cursor = |run: &Arc<LiveTable>| LevelIter::uncached(&self.shared.tables, vec![run.clone()]);
        let mut merge = MergeIter::new(runs.map(cursor).collect());
        merge.seek_to_first()?;
        let mut last: Option<Vec<u8>> = None;
        while merge.valid() {
            let key = merge.key();
            let KindOrBound::Kind(kind) = key.kind else {
                return Err(Error::Internal("a bound in a run".to_string()));
            };
            if last.as_deref() != Some(key.user) {
                show(kind, key.user, merge.head(), &merge.tail()?)?;
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(merge.key().user);
            }
            merge.next()?;
        }
        Ok(())
    }
}

impl Drop for Sorter<'_> {
    /// The runs are deleted soon.
    fn drop(&mut self) {
        self.runs.levels = Levels::default();
        self.shared.compaction_signal.raise();
    }
}
