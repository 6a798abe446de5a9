//! Carrying out a compaction job.

use super::Job;
use super::progress::{Progress, Watched};
use crate::lsm::Result;
use crate::lsm::blob::{BlobOutput, LiveBlob};
use crate::lsm::iter::level::LevelIter;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::iter::source::Source;
use crate::lsm::iter::stripes::{Bottom, keep_visible};
use crate::lsm::key::{KeyRef, Kind, KindOrBound};
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::manifest::state::MAX_LEVEL;
use crate::lsm::range::{RangeSet, RangeTombstone};
use crate::lsm::shape::Change;
use crate::lsm::store::Shared;
use crate::lsm::table::{TableBuilder, TableMeta, TableOptions};
use crate::lsm::volume::Volume;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

/// An output is cut when the tables it overlaps in the level below hold this many times its size.
const MAX_PARENT_RATIO: u64 = 8;

impl Volume {
    pub(super) fn run_job(&self, job: &Job) -> Result<()> {
        let shared = self.shared();
        let levels = self.tree().levels.clone();
        let is_move = job.is_move(&levels);
        let running = self.compacting.running.start(job);
        // The new blob files are held until the tables hold them.
        let (outputs, _blobs) = match is_move {
            true => (job.inputs.iter().map(|(_, table)| TableMeta::clone(table)).collect(), Vec::new()),
            false => merge(shared, &levels, job, &running.progress)?,
        };
        let installed = self.install(&levels, job, &outputs);
        if !matches!(installed, Ok(true)) {
            let kept = |number| job.inputs.iter().any(|(_, input)| input.number == number);
            shared.discard_tables(outputs.iter().filter(|table| !kept(table.number)));
            // Otherwise the volume is gone, or another that shares its tables has done the job.
            return installed.map(drop);
        }
        tracing::debug!(reason = ?job.reason, inputs = job.inputs.len(), outputs = outputs.len(), level = job.output_level, "compacted");
        let Progress { bytes, started, .. } = *running.progress;
        match is_move {
            true => shared.metrics.moved(job.reason),
            false => shared.metrics.compacted(job.reason, bytes, total_size(&outputs), started),
        }
        shared.compaction_signal.raise();
        Ok(())
    }

    /// Puts the outputs in the inputs' place, in every volume that has them all: one manifest edit, one swap
    /// of the trees. False if no volume has.
    fn install(&self, picked: &Levels, job: &Job, outputs: &[TableMeta]) -> Result<bool> {
        let shared = self.shared();
        let level = job.output_level;
        let live = |table: &TableMeta| match job.inputs.iter().find(|(_, t)| t.number == table.number) {
            Some((_, moved)) => (level, moved.clone()),
            None => (level, shared.live_table(table.clone())),
        };
        let removed = job.inputs.iter().map(|(n, t)| (*n, t.number)).collect();
        let added = outputs.iter().map(live).collect();
        shared.install(&Change::Compaction { picked, removed, added })
    }
}

/// Merges the inputs into new tables, in key order.
fn merge(
    shared: &Shared,
    levels: &Levels,
    job: &Job,
    progress: &Progress,
) -> Result<(Vec<TableMeta>, Vec<Arc<LiveBlob>>)> {
    let stripes = shared.snapshots.stripes(&shared.commits);
    let mut source = Watched::new(MergeIter::new(sources(shared, job)), progress);
    let ranges = ranges(shared, job)?;
    let mut output = Output::new(shared, levels, job.output_level);
    let mut below = Below::new(levels, job);
    let mut blobs = BlobOutput::new(shared, shared.blobs_to_empty());
    let load = |tail: &[u8]| shared.blobs.load_uncached(tail);
    let kept = keep_visible(&mut source, &ranges, &stripes, &mut below, &load, &mut |key, head, tail| {
        blobs.add(key, head, tail, &mut |key, head, tail| output.add(key, head, tail))
    });
    let finished = kept.and_then(|()| output.finish_table(None)).and_then(|()| blobs.finish());
    if finished.is_err() {
        shared.discard_tables(output.tables.iter());
    }
    finished.map(|blobs| (output.tables, blobs))
}

fn total_size(tables: &[TableMeta]) -> u64 {
    tables.iter().map(|table| table.size).sum()
}

fn ranges(shared: &Shared, job: &Job) -> Result<RangeSet> {
    let mut ranges = RangeSet::default();
    for (_, input) in job.inputs.iter().filter(|(_, input)| input.range_tombstones > 0) {
        shared.tables.get(input)?.ranges().tombstones().for_each(|tombstone| ranges.add(tombstone));
    }
    Ok(ranges)
}

/// A cursor over each table of L0, and over each deeper level's inputs.
fn sources(shared: &Shared, job: &Job) -> Vec<Source> {
    let cursor = |tables| Source::Level(LevelIter::uncached(&shared.tables, tables));
    let of_level =
        |n| job.inputs.iter().filter(move |(level, _)| *level == n).map(|(_, table)| table.clone());
    let l0 = of_level(0).map(|table| cursor(vec![table]));
    let deeper = (1..=MAX_LEVEL).map(|n| of_level(n).collect::<Vec<_>>()).filter(|tables| !tables.is_empty());
    l0.chain(deeper.map(cursor)).collect()
}

/// The tables below the job's output level.
struct Below<'a> {
    /// All of each level.
    levels: Vec<&'a [Arc<LiveTable>]>,
    /// Of each level what is not passed yet.
    ahead: Vec<&'a [Arc<LiveTable>]>,
}

impl<'a> Below<'a> {
    fn new(levels: &'a Levels, job: &Job) -> Below<'a> {
        let deeper = (job.output_level + 1..=MAX_LEVEL).map(|n| levels.level(n));
        let levels: Vec<_> = deeper.filter(|level| !level.is_empty()).collect();
        Below { ahead: levels.clone(), levels }
    }
}

impl Bottom for Below<'_> {
    fn is_empty_at(&mut self, user: &[u8]) -> bool {
        self.ahead.iter_mut().all(|level| {
            let passed = level.iter().take_while(|table| table.largest.as_ref() < user).count();
            *level = &level[passed..];
            !level.first().is_some_and(|table| table.contains_key(user))
        })
    }

    fn is_empty_in(&self, start: &[u8], end: &[u8]) -> bool {
        let overlaps = |table: &Arc<LiveTable>| table.overlaps(Bound::Included(start), Bound::Excluded(end));
        !self.levels.iter().any(|level| level.iter().any(overlaps))
    }
}

/// The tables that a job writes.
struct Output<'a> {
    shared: &'a Shared,
    options: TableOptions,
    /// The tables below the output level that are not yet passed.
    parents: &'a [Arc<LiveTable>],
    /// Bytes of those that the present table overlaps.
    parent_bytes: u64,
    builder: Option<TableBuilder>,
    last_user: Vec<u8>,
    /// Range tombstones of the present table.
    ranges: Vec<RangeTombstone>,
    /// What a cut left of them for the next table, newest first.
    carried: VecDeque<RangeTombstone>,
    tables: Vec<TableMeta>,
}

impl<'a> Output<'a> {
    fn new(shared: &'a Shared, levels: &'a Levels, level: usize) -> Output<'a> {
        let bottom = level >= levels.deepest().unwrap_or(0);
        let mut options = shared.table_options.clone();
        if bottom {
            options.compression = shared.options.bottom_compression;
        }
        Output {
            shared,
            options,
            // What stays in L0 is one table.
            parents: if level == 0 { &[] } else { levels.level(level + 1) },
            parent_bytes: 0,
            builder: None,
            last_user: Vec::new(),
            ranges: Vec::new(),
            carried: VecDeque::new(),
            tables: Vec::new(),
        }
    }

    fn add(&mut self, key: KeyRef<'_>, head: &[u8], tail: &[u8]) -> Result<()> {
        if self.last_user != key.user && self.should_cut(key.user) {
            self.cut()?;
        }
        let is_before = |t: &RangeTombstone| KeyRef::new(&t.start, t.seq, Kind::RangeTombstone) < key;
        while self.carried.front().is_some_and(is_before) {
            if let Some(RangeTombstone { start, end, seq }) = self.carried.pop_front() {
                self.put(KeyRef::new(&start, seq, Kind::RangeTombstone), &end, &[])?;
            }
        }
        self.put(key, head, tail)
    }

    fn put(&mut self, key: KeyRef<'_>, head: &[u8], tail: &[u8]) -> Result<()> {
        if self.last_user != key.user {
            self.last_user.clear();
            self.last_user.extend_from_slice(key.user);
        }
        if key.kind == KindOrBound::Kind(Kind::RangeTombstone) {
            let (start, end) = (Bytes::copy_from_slice(key.user), Bytes::copy_from_slice(head));
            self.ranges.push(RangeTombstone { start, end, seq: key.seq });
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            empty => empty.insert(self.shared.new_table(&self.options)?),
        };
        builder.add(key, head, tail)
    }

    /// Ends the table right behind its last key: what its range tombstones delete from there on, the
    /// next table deletes.
    fn cut(&mut self) -> Result<()> {
        let behind: Bytes = [self.last_user.as_slice(), &[0]].concat().into();
        let ranges = std::mem::take(&mut self.ranges);
        let mut carried: Vec<RangeTombstone> = ranges.into_iter().filter(|t| t.end > behind).collect();
        carried.sort_by_key(|tombstone| std::cmp::Reverse(tombstone.seq));
        self.carried = carried.into_iter().map(|t| RangeTombstone { start: behind.clone(), ..t }).collect();
        self.finish_table(Some(&behind))
    }

    /// Cut before `user`, the first version of the next key?
    fn should_cut(&mut self, user: &[u8]) -> bool {
        let passed = self.parents.iter().take_while(|table| table.largest.as_ref() < user).count();
        let passed_bytes: u64 = self.parents[..passed].iter().map(|table| table.size).sum();
        self.parents = &self.parents[passed..];
        self.parent_bytes += passed_bytes;
        let Some(builder) = &self.builder else {
            self.parent_bytes = 0;
            return false;
        };
        let (size, full) = (builder.estimated_size(), self.shared.options.table_size);
        size >= full || passed > 0 && (size >= full / 2 || self.parent_bytes > full * MAX_PARENT_RATIO)
    }

    fn finish_table(&mut self, clip: Option<&[u8]>) -> Result<()> {
        self.parent_bytes = 0;
        if let Some(builder) = self.builder.take() {
            self.tables.push(builder.finish_before(clip)?);
        }
        Ok(())
    }
}
