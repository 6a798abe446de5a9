//! Carrying out a compaction job.

use super::Job;
use crate::lsm::iter::level::LevelIter;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::iter::source::Source;
use crate::lsm::iter::stripes::keep_visible;
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::manifest::Edit;
use crate::lsm::manifest::state::MAX_LEVEL;
use crate::lsm::store::Shared;
use crate::lsm::table::{TableBuilder, TableMeta, TableOptions};
use crate::lsm::volume::{Tree, Volume};
use crate::lsm::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// An output is cut when the tables it overlaps in the level below hold this many times its size.
const MAX_PARENT_RATIO: u64 = 8;

impl Volume {
    pub(super) fn run_job(&self, job: &Job) -> Result<()> {
        let shared = self.shared();
        let levels = self.tree().levels.clone();
        let outputs = match job.is_move(&levels) {
            true => job.inputs.iter().map(|(_, table)| TableMeta::clone(table)).collect(),
            false => merge(shared, &levels, job)?,
        };
        if let Err(e) = self.install(job, &outputs) {
            let kept = |number| job.inputs.iter().any(|(_, input)| input.number == number);
            shared.discard_tables(outputs.iter().filter(|table| !kept(table.number)));
            return Err(e);
        }
        tracing::debug!(reason = ?job.reason, inputs = job.inputs.len(), outputs = outputs.len(), level = job.output_level, "compacted");
        self.compacting.jobs.fetch_add(1, Relaxed);
        shared.compaction_signal.raise();
        Ok(())
    }

    /// Puts the outputs in the inputs' place: one manifest edit, one swap of the tree.
    fn install(&self, job: &Job, outputs: &[TableMeta]) -> Result<()> {
        let shared = self.shared();
        let (volume, level) = (self.id(), job.output_level);
        self.change_tree(|tree| {
            let removed: Vec<(usize, u64)> = job.inputs.iter().map(|(n, t)| (*n, t.number)).collect();
            let leave = removed.iter().map(|&(level, number)| Edit::RemoveTable { volume, level, number });
            let join = outputs.iter().map(|table| Edit::AddTable { volume, level, table: table.clone() });
            shared.manifest.lock().commit(leave.chain(join).collect())?;
            let live = |table: &TableMeta| match job.inputs.iter().find(|(_, t)| t.number == table.number) {
                Some((_, moved)) => (level, moved.clone()),
                None => (level, LiveTable::new(table.clone(), shared.graveyard.clone())),
            };
            let added: Vec<(usize, Arc<LiveTable>)> = outputs.iter().map(live).collect();
            let replaced = |input: &LiveTable| !outputs.iter().any(|table| table.number == input.number);
            job.inputs.iter().filter(|(_, t)| replaced(t)).for_each(|(_, t)| t.doom());
            let levels = tree.levels.edited(&removed, &added);
            Ok::<_, Error>(Some(Tree { levels, ..tree.clone() }))
        })
    }
}

/// Merges the inputs into new tables, in key order.
fn merge(shared: &Shared, levels: &Levels, job: &Job) -> Result<Vec<TableMeta>> {
    let stripes = shared.snapshots.stripes(&shared.commits);
    let mut source = MergeIter::new(sources(shared, job)?);
    let mut output = Output::new(shared, levels, job.output_level);
    let mut below = Below::new(levels, job);
    let kept =
        keep_visible(&mut source, &stripes, &mut |user| below.is_empty_at(user), &mut |key, head, tail| {
            output.add(key, head, tail)
        });
    let outputs = kept.and_then(|()| output.finish_table()).map(|()| std::mem::take(&mut output.tables));
    if outputs.is_err() {
        shared.discard_tables(output.tables.iter());
    }
    outputs
}

fn sources(shared: &Shared, job: &Job) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for n in 0..=MAX_LEVEL {
        let tables: Vec<Arc<LiveTable>> =
            job.inputs.iter().filter(|(level, _)| *level == n).map(|(_, t)| t.clone()).collect();
        match n {
            0 => {
                for table in tables {
                    sources.push(Source::Level(LevelIter::uncached(&shared.tables, vec![table])));
                }
            }
            _ if tables.is_empty() => {}
            _ => sources.push(Source::Level(LevelIter::uncached(&shared.tables, tables))),
        }
    }
    Ok(sources)
}

/// Says for ascending keys whether any table below the job's output level may hold them.
struct Below<'a> {
    levels: Vec<&'a [Arc<LiveTable>]>,
}

impl<'a> Below<'a> {
    fn new(levels: &'a Levels, job: &Job) -> Below<'a> {
        let deeper = (job.output_level + 1..=MAX_LEVEL).map(|n| levels.level(n));
        Below { levels: deeper.filter(|level| !level.is_empty()).collect() }
    }

    fn is_empty_at(&mut self, user: &[u8]) -> bool {
        self.levels.iter_mut().all(|level| {
            let passed = level.iter().take_while(|table| table.largest.as_ref() < user).count();
            *level = &level[passed..];
            !level.first().is_some_and(|table| table.contains_key(user))
        })
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
    tables: Vec<TableMeta>,
}

impl<'a> Output<'a> {
    fn new(shared: &'a Shared, levels: &'a Levels, level: usize) -> Output<'a> {
        let bottom = level >= levels.deepest().unwrap_or(0);
        let mut options = shared.table_options.clone();
        if bottom {
            options.compression = shared.options.bottom_compression;
        }
        let parents = levels.level(level + 1);
        Output {
            shared,
            options,
            parents,
            parent_bytes: 0,
            builder: None,
            last_user: Vec::new(),
            tables: Vec::new(),
        }
    }

    fn add(&mut self, key: crate::lsm::key::KeyRef<'_>, head: &[u8], tail: &[u8]) -> Result<()> {
        if self.last_user != key.user {
            if self.should_cut(key.user) {
                self.finish_table()?;
            }
            self.last_user.clear();
            self.last_user.extend_from_slice(key.user);
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            empty => empty.insert(self.shared.new_table(&self.options)?),
        };
        builder.add(key, head, tail)
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

    fn finish_table(&mut self) -> Result<()> {
        self.parent_bytes = 0;
        if let Some(builder) = self.builder.take() {
            self.tables.push(builder.finish()?);
        }
        Ok(())
    }
}
