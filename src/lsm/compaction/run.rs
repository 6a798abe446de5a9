//! Carrying out a compaction job.

use super::Job;
use super::progress::{Progress, watched};
use super::schedule::Claim;
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
use crate::lsm::table::pack::PackBuilder;
use crate::lsm::table::{TableBuilder, TableMeta, TableOptions};
use bytes::Bytes;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;

/// An output is cut when the tables it overlaps in the level below hold this many times its size.
const MAX_PARENT_RATIO: u64 = 8;

/// What a job put out, before it is installed.
enum Outputs {
    /// Its inputs, as they are.
    Moved,
    /// Tables in files of their own.
    Files(Vec<TableMeta>),
    /// So many tables of the pack, from a place in it on.
    Packed(Range<usize>),
}

impl Shared {
    /// Does jobs, whose volumes have nothing in common, and installs all that they put out in one commit.
    pub(super) fn run_jobs(&self, claims: &[Claim]) -> Result<()> {
        let running: Vec<_> = claims.iter().map(|c| c.volume.compacting.running.start(&c.job)).collect();
        let merges = claims.iter().filter(|claim| !claim.is_move()).count();
        let mut pack = if merges > 1 { Some(self.new_pack()?) } else { None };
        // The new blob files are held until the tables hold them.
        let mut held = Vec::new();
        let mut outputs = Vec::with_capacity(claims.len());
        let live = OnceCell::new();
        let mut build = || -> Result<()> {
            for (claim, running) in claims.iter().zip(&running) {
                let (output, blobs) = match claim.is_move() {
                    true => (Outputs::Moved, Vec::new()),
                    false => merge(self, claim, pack.as_mut(), &live, &running.progress)?,
                };
                outputs.push(output);
                held.extend(blobs);
            }
            Ok(())
        };
        let packed = build().and_then(|()| pack.map_or(Ok(Vec::new()), PackBuilder::finish));
        let packed = packed.inspect_err(|_| {
            let files = outputs
                .iter()
                .filter_map(|o| if let Outputs::Files(tables) = o { Some(tables) } else { None });
            self.discard_tables(files.flatten());
        })?;
        let tables = |(claim, output): (&Claim, Outputs)| match output {
            Outputs::Moved => claim.job.inputs.iter().map(|(_, table)| TableMeta::clone(table)).collect(),
            Outputs::Files(tables) => tables,
            Outputs::Packed(range) => packed.get(range).map(<[_]>::to_vec).unwrap_or_default(),
        };
        let outputs: Vec<Vec<TableMeta>> = claims.iter().zip(outputs).map(tables).collect();
        self.install_outputs(claims, &outputs)?;
        for ((claim, outputs), running) in claims.iter().zip(&outputs).zip(&running) {
            let Progress { bytes, started, .. } = *running.progress;
            match claim.is_move() {
                true => self.metrics.moved(claim.job.reason),
                false => self.metrics.compacted(claim.job.reason, bytes, total_size(outputs), started),
            }
        }
        tracing::debug!(
            jobs = claims.len(),
            tables = outputs.iter().map(Vec::len).sum::<usize>(),
            "compacted"
        );
        self.compaction_signal.raise();
        Ok(())
    }

    /// Puts the outputs in the inputs' places, in every volume that has them all: one manifest edit, one swap
    /// of the trees.
    fn install_outputs(&self, claims: &[Claim], outputs: &[Vec<TableMeta>]) -> Result<()> {
        let change = |(Claim { volume, levels, job, .. }, outputs): (&'_ Claim, &Vec<TableMeta>)| {
            let level = job.output_level;
            let live = |table: &TableMeta| match job.inputs.iter().find(|(_, t)| t.number == table.number) {
                Some((_, moved)) => (level, moved.clone()),
                None => (level, self.live_table(table.clone())),
            };
            let removed = job.inputs.iter().map(|(n, t)| (*n, t.number)).collect();
            let added = outputs.iter().map(live).collect();
            Change::Compaction { volume: volume.clone(), picked: levels.clone(), removed, added }
        };
        let changes: Vec<Change> = claims.iter().zip(outputs).map(change).collect();
        let installed = self.install(&changes);
        if !matches!(&installed, Ok(fitted) if fitted.contains(&true)) {
            // Otherwise the volumes are gone, or others that share their tables have done the jobs.
            let inputs = || claims.iter().flat_map(|claim| &claim.job.inputs);
            let kept = |number| inputs().any(|(_, input)| input.number == number);
            self.discard_tables(outputs.iter().flatten().filter(|table| !kept(table.number)));
        }
        installed.map(drop)
    }
}

/// Merges a job's inputs into new tables, in key order.
fn merge(
    shared: &Shared,
    claim: &Claim,
    pack: Option<&mut PackBuilder>,
    live: &OnceCell<HashSet<u64>>,
    progress: &Progress,
) -> Result<(Outputs, Vec<Arc<LiveBlob>>)> {
    let Claim { levels, job, .. } = claim;
    let stripes = shared.snapshots.stripes(&shared.commits);
    let mut source = watched(MergeIter::new(sources(shared, job)), progress);
    let ranges = ranges(shared, job)?;
    let mut output = Output::new(shared, levels, job.output_level, pack);
    let removed = job.inputs.iter().map(|(n, t)| (*n, t.number)).collect();
    let (volume, picked) = (claim.volume.clone(), levels.clone());
    let change = Change::Compaction { volume, picked, removed, added: Vec::new() };
    output.options.homes = change.homes(&shared.volumes());
    output.options.replaces = replaced(shared, job, live)?;
    output.options.split = claim.volume.lineage().parted();
    let mut below = Below::new(levels, job);
    let mut blobs = BlobOutput::new(shared, BTreeSet::clone(&claim.emptied));
    let load = |tail: &[u8]| shared.blobs.load_uncached(tail);
    let kept = keep_visible(&mut source, &ranges, &stripes, &mut below, &load, &mut |key, head, tail| {
        // Nobody waits seconds for what the next session can do.
        shared.check_open()?;
        blobs.add(key, head, tail, &mut |key, head, tail| output.add(key, head, tail))
    });
    let finished = kept.and_then(|()| output.end()).and_then(|()| blobs.finish());
    if finished.is_err() {
        shared.discard_tables(output.tables.iter());
    }
    finished.map(|blobs| (output.finish(), blobs))
}

/// The tables in whose place the outputs are put: the inputs, and what those stand for that others still have, or that is
/// still there in a pack: a repair may find it.
/// `live`: the tables that the manifest lists, once somebody asked.
fn replaced(shared: &Shared, job: &Job, live: &OnceCell<HashSet<u64>>) -> Result<Vec<u64>> {
    let mut replaced: BTreeSet<u64> = BTreeSet::new();
    for (_, input) in &job.inputs {
        match shared.tables.get(input)?.properties() {
            Ok(properties) => replaced.extend(properties.replaces),
            // Only a repair would have wanted it.
            Err(e) => tracing::warn!("{e}"),
        }
    }
    if !replaced.is_empty() {
        let listed = || shared.manifest.lock().state().live_tables().map(|table| table.number).collect();
        let live = live.get_or_init(listed);
        let is_there = |number| shared.graveyard.still_holds(shared.disk.as_ref(), number);
        replaced.retain(|number| live.contains(number) || is_there(*number));
    }
    replaced.extend(job.inputs.iter().map(|(_, input)| input.number));
    Ok(replaced.into_iter().collect())
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
    let cursor = |tables| Source::Tables(LevelIter::uncached(&shared.tables, tables));
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
    /// What a cut left of them for the next table, newest first. They begin right behind the key at which it was cut: those
    /// still here after the next key begin at that one, of which a newer version came first.
    carried: VecDeque<RangeTombstone>,
    /// Where its tables go, if not to files of their own, and how many were there before.
    pack: Option<(&'a mut PackBuilder, usize)>,
    /// Its tables in files of their own.
    tables: Vec<TableMeta>,
}

impl<'a> Output<'a> {
    fn new(
        shared: &'a Shared,
        levels: &'a Levels,
        level: usize,
        pack: Option<&'a mut PackBuilder>,
    ) -> Output<'a> {
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
            pack: pack.map(|pack| {
                let before = pack.tables();
                (pack, before)
            }),
            tables: Vec::new(),
        }
    }

    fn add(&mut self, key: KeyRef<'_>, head: &[u8], tail: &[u8]) -> Result<()> {
        if self.last_user != key.user && self.should_cut(key.user) {
            self.cut()?;
        }
        self.put_carried(Some(key))?;
        self.put(key, head, tail)
    }

    /// Puts the range tombstones that the last cut carried over, those before `key` (without one: all).
    fn put_carried(&mut self, key: Option<KeyRef<'_>>) -> Result<()> {
        let is_before = |t: &RangeTombstone| {
            key.is_none_or(|key| KeyRef::new(&t.start, t.seq, Kind::RangeTombstone) < key)
        };
        while self.carried.front().is_some_and(is_before) {
            if let Some(RangeTombstone { start, end, seq }) = self.carried.pop_front() {
                self.put(KeyRef::new(&start, seq, Kind::RangeTombstone), &end, &[])?;
            }
        }
        Ok(())
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
            empty => empty.insert(match &self.pack {
                Some((pack, _)) => pack.table(self.shared.new_table_number()?, &self.options)?,
                None => self.shared.new_table(&self.options)?,
            }),
        };
        builder.add(key, head, tail)
    }

    /// Ends the table right behind its last key: what its range tombstones delete from there on, the
    /// next table deletes.
    fn cut(&mut self) -> Result<()> {
        self.put_carried(None)?;
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

    /// Ends the last table.
    fn end(&mut self) -> Result<()> {
        self.put_carried(None)?;
        self.finish_table(None)
    }

    fn finish_table(&mut self, clip: Option<&[u8]>) -> Result<()> {
        self.parent_bytes = 0;
        if let Some(builder) = self.builder.take() {
            let table = builder.finish_before(clip)?;
            match &mut self.pack {
                Some((pack, _)) => _ = pack.add(table),
                None => self.tables.push(table),
            }
        }
        Ok(())
    }

    fn finish(self) -> Outputs {
        match self.pack {
            Some((pack, before)) => Outputs::Packed(before..pack.tables()),
            None => Outputs::Files(self.tables),
        }
    }
}
