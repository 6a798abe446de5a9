//! Compaction: merging tables so that reads stay fast and dead versions give their space back.
//!
//! A strategy looks at a tree's levels and picks a [`Job`] ([`leveled`], [`tiered`]; with `none`
//! there is no job, ever); [`run`] carries it out. One job of a volume runs at a time.
//!
//! - A table that overlaps nothing in the level below is *moved*: only the manifest changes.
//! - Otherwise the inputs are merged; of each key what some reader can see is kept
//!   ([`crate::lsm::iter::stripes`]), and tombstones go where nothing lies below. The output is cut into tables,
//!   never between versions of one key, by size and at the boundaries of the level below, so
//!   that a later job over one of them takes few tables with it.
//! - Values in blob files stay where they are, but for those in files that are to be emptied (`garbage.rs`,
//!   [`crate::lsm::blob`]).
//! - The outputs replace the inputs in one manifest edit and one swap of the tree. Readers of the
//!   old tree keep the inputs alive; their files are deleted when nobody uses them.
//! - So they do in every volume that has all of the inputs in the same place and the same tables below
//!   ([`crate::lsm::shape`]): what forks share is compacted once. A fork without tables of its own starts no
//!   compaction (but to collect the garbage of blob files).
//!
//! # Disk overhead
//! A job's outputs and inputs exist side by side until the next job is done. A leveled job is at most L0 and what
//! it overlaps, or one table and what it overlaps; a tiered one may be the whole volume.
//!
//! Which job comes next, and how small ones are done together, is for [`schedule`]; what somebody asks for is for [`manual`].
//!
//! # Locks
//! [`Compacting::turn`] lets one job of a volume run at a time; it is outside the structure lock.

mod garbage;
pub(crate) mod leveled;
mod manual;
mod progress;
mod run;
mod schedule;
pub(crate) mod tiered;

use crate::lsm::Options;
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::options::CompactionMode;
use parking_lot::{Mutex, MutexGuard};
pub(crate) use progress::Progress;
use progress::Running;
use serde::Serialize;
use std::sync::Arc;

/// A table among the inputs, and its level.
pub(crate) type Input = (usize, Arc<LiveTable>);

/// What to compact.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The tables to replace; those of L0 newest first.
    pub inputs: Vec<Input>,
    /// The level that the output goes to.
    pub output_level: usize,
    /// Why, for the figures.
    pub reason: Reason,
}

/// What made a job worth doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// L0 has many tables, or there are many runs.
    Runs,
    /// A level is larger than it should be.
    Size,
    /// A table is mostly tombstones.
    Tombstones,
    /// Blob files keep dead values.
    Garbage,
    /// Somebody asked.
    Manual,
}

impl Job {
    /// Bytes of the inputs: what a merge writes at most, but for a little.
    fn input_bytes(&self) -> u64 {
        self.inputs.iter().map(|(_, table)| table.size).sum()
    }

    /// The range of the inputs' user keys.
    fn range(&self) -> Option<(&[u8], &[u8])> {
        let smallest = self.inputs.iter().map(|(_, t)| t.smallest.as_ref()).min()?;
        let largest = self.inputs.iter().map(|(_, t)| t.largest.as_ref()).max()?;
        Some((smallest, largest))
    }

    /// Adds the tables of the output level that the inputs overlap.
    fn with_overlapped(mut self, levels: &Levels) -> Job {
        if let Some((smallest, largest)) = self.range() {
            let below = levels.overlapping(self.output_level, smallest, largest);
            let below: Vec<Input> = below.iter().map(|t| (self.output_level, t.clone())).collect();
            self.inputs.extend(below);
        }
        self
    }

    /// Can the inputs go down as they are? They must all come from one level above and overlap nothing
    /// in the output level (it has none among the inputs then), nor each other; and where their
    /// tombstones would vanish, they are merged.
    fn is_move(&self, levels: &Levels) -> bool {
        let one_source = self.inputs.iter().all(|(n, _)| *n == self.inputs[0].0 && *n != self.output_level);
        let disjoint = self.inputs[0].0 > 0 || self.inputs.len() == 1;
        let sinks = |t: &LiveTable| t.tombstones > 0 && self.is_bottom_for(levels, t);
        one_source && disjoint && !self.inputs.iter().any(|(_, t)| sinks(t))
    }

    fn is_bottom_for(&self, levels: &Levels, table: &LiveTable) -> bool {
        (self.output_level + 1..)
            .take_while(|n| *n <= crate::lsm::manifest::state::MAX_LEVEL)
            .all(|n| levels.overlapping(n, &table.smallest, &table.largest).is_empty())
    }
}

/// A volume's compactions.
#[derive(Debug, Default)]
pub(crate) struct Compacting {
    turn: Arc<Mutex<()>>,
    /// The jobs that merge tables now.
    pub running: Running,
}

impl Compacting {
    /// Keeps jobs of the volume from running.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }
}

/// The job that is due, if any.
fn pick(levels: &Levels, options: &Options, now: &leveled::Now) -> Option<Job> {
    match options.compaction {
        CompactionMode::None => None,
        CompactionMode::Leveled => leveled::pick(levels, options, now),
        CompactionMode::Tiered => tiered::pick(levels, options),
    }
}
