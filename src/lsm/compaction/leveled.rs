//! Leveled compaction: each level a multiple of the one above, all but L0 sorted and disjoint.
//!
//! The targets are computed from the bottom up: the deepest level's is what it holds, each level
//! above a `level_multiplier`th of that, down to the *base level*, the first that is small enough to take
//! L0 directly. So all levels above the bottom together are about a ninth of it, whatever the size: dead
//! versions cannot cost more space than that for long. A small volume has L0 and the bottom only.
//!
//! The most urgent of: too many tables in L0; a level over its target; a table that is mostly
//! tombstones (a directory just emptied); bottom tables whose tombstones no snapshot needs any more.
//!
//! On a disk without room to spare what a step writes must fit into the room that is kept aside
//! ([`Options::working_room`]). So it takes no more of L0 than makes one due, the oldest of it; and levels that grew
//! over their targets while L0 was more urgent shrink first, table by table, until a step that takes a whole
//! level with it is the smallest that is due.

use super::{Input, Job, Reason};
use crate::lsm::Options;
use crate::lsm::key::SeqNo;
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::manifest::state::MAX_LEVEL;
use std::sync::Arc;

/// A table with at least this many tombstones, half of its records or more, is compacted.
const MANY_TOMBSTONES: u64 = 1000;

/// A bottom of up to this many base levels takes L0 directly. Merging L0 into a level between would
/// move every byte twice, and that level's tables, few and wide, overlap most of such a bottom.
pub(crate) const SINGLE_LEVEL_BASES: u64 = 3;

/// L0 is small while it holds less than one part in this many of a full memtable.
const SMALL_ONE_IN: u64 = 2;

/// What each level should hold at most.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The level that L0 is merged into.
    pub base: usize,
    /// Bytes by level; 0 above the base.
    pub bytes: [u64; MAX_LEVEL + 1],
}

/// The targets of a tree's levels.
pub(crate) fn targets(levels: &Levels, options: &Options) -> Targets {
    let mut bytes = [0; MAX_LEVEL + 1];
    // The most that any level holds stands for the bottom: data may not have arrived there yet.
    let most = (1..=MAX_LEVEL).map(|n| levels.size(n)).max().unwrap_or(0);
    let mut target = most.max(options.level_base_size);
    let mut base = MAX_LEVEL;
    bytes[base] = target;
    let mut direct = options.level_base_size.saturating_mul(SINGLE_LEVEL_BASES);
    while target > direct && base > 1 {
        direct = options.level_base_size;
        base -= 1;
        target = (target / options.level_multiplier.max(2)).max(1);
        bytes[base] = target.max(options.level_base_size / 2);
    }
    Targets { base, bytes }
}

/// What a choice depends on besides the levels.
#[derive(Debug)]
pub(crate) struct Now {
    /// What older snapshots need is kept.
    pub oldest_snapshot: SeqNo,
    /// Are there other volumes, whose forks may have cut memtables short?
    pub forked: bool,
    /// Is the disk full?
    pub scarce: bool,
}

/// The most urgent job, if any is due.
///
/// Each fork of a volume that is written cuts its memtable short. Tables of L0 that are small all together become
/// one table of L0 first: merged down, each few of them would take all of the next level with them.
pub(crate) fn pick(levels: &Levels, options: &Options, now: &Now) -> Option<Job> {
    let targets = targets(levels, options);
    let from_l0 = |reason| from_l0(levels, &targets, l0_step(options, now.scarce), reason);
    let l0 = levels.level(0);
    let is_small = levels.size(0) < options.memtable_size as u64 / SMALL_ONE_IN;
    if now.forked && is_small && l0.len() >= options.l0_compaction_trigger.max(2) {
        let inputs = l0.iter().map(|table| (0, table.clone())).collect();
        return Some(Job { inputs, output_level: 0, reason: Reason::Runs });
    }
    let runs = (l0.len() >= options.l0_compaction_trigger.max(1)).then(|| from_l0(Reason::Runs));
    let mut over: Vec<usize> = (1..MAX_LEVEL).filter(|n| levels.size(*n) > targets.bytes[*n]).collect();
    over.sort_by(|a, b| fullness(levels, &targets, *b).total_cmp(&fullness(levels, &targets, *a)));
    let shrinking = |n| cheapest(levels, n).map(|table| down(levels, &targets, n, table, Reason::Size));
    let mut due = runs.into_iter().chain(over.into_iter().filter_map(shrinking));
    let most_urgent = if now.scarce { due.min_by_key(Job::input_bytes) } else { due.next() };
    if most_urgent.is_some() {
        return most_urgent;
    }
    if l0.iter().any(|table| is_mostly_tombstones(table)) {
        return Some(from_l0(Reason::Tombstones));
    }
    for n in 1..MAX_LEVEL {
        if let Some(table) = levels.level(n).iter().find(|table| is_mostly_tombstones(table)) {
            return Some(down(levels, &targets, n, table, Reason::Tombstones));
        }
    }
    let freed = |table: &&Arc<LiveTable>| table.tombstones > 0 && table.largest_seq <= now.oldest_snapshot;
    levels.level(MAX_LEVEL).iter().find(freed).map(|table| Job {
        inputs: vec![(MAX_LEVEL, table.clone())],
        output_level: MAX_LEVEL,
        reason: Reason::Tombstones,
    })
}

fn fullness(levels: &Levels, targets: &Targets, n: usize) -> f64 {
    levels.size(n) as f64 / targets.bytes[n].max(1) as f64
}

fn is_mostly_tombstones(table: &LiveTable) -> bool {
    table.tombstones >= MANY_TOMBSTONES && table.tombstones * 2 >= table.entries
}

/// The tables of L0 that one step takes at most.
pub(super) fn l0_step(options: &Options, scarce: bool) -> usize {
    if scarce { options.l0_compaction_trigger.max(1) } else { usize::MAX }
}

/// All of L0, or its oldest `most` tables: they overlap, and what is older must go down first.
pub(super) fn from_l0(levels: &Levels, targets: &Targets, most: usize, reason: Reason) -> Job {
    let newest_first = levels.level(0);
    let oldest = &newest_first[newest_first.len().saturating_sub(most)..];
    let inputs: Vec<Input> = oldest.iter().map(|table| (0, table.clone())).collect();
    // Levels above the base may still hold tables, from when the volume was larger.
    let shallowest = (1..=targets.base).find(|n| !levels.level(*n).is_empty()).unwrap_or(targets.base);
    Job { inputs, output_level: shallowest, reason }.with_overlapped(levels)
}

pub(super) fn down(
    levels: &Levels,
    targets: &Targets,
    n: usize,
    table: &Arc<LiveTable>,
    reason: Reason,
) -> Job {
    // Past empty levels above the base, but never past one that holds tables.
    let next = (n + 1..=MAX_LEVEL).find(|n| *n >= targets.base || !levels.level(*n).is_empty());
    let job = Job { inputs: vec![(n, table.clone())], output_level: next.unwrap_or(MAX_LEVEL), reason };
    job.with_overlapped(levels)
}

/// The table of a level that takes the fewest bytes of the next level with it, for its size.
fn cheapest(levels: &Levels, n: usize) -> Option<&Arc<LiveTable>> {
    let cost = |table: &Arc<LiveTable>| {
        let below = levels.overlapping(n + 1, &table.smallest, &table.largest);
        below.iter().map(|t| t.size).sum::<u64>() as f64 / table.size.max(1) as f64
    };
    levels.level(n).iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::blob::LiveBlobs;
    use crate::lsm::graveyard::Graveyard;
    use crate::lsm::table::TableMeta;

    const TABLE_BYTES: u64 = 1 << 20;

    fn options() -> Options {
        Options {
            memtable_size: TABLE_BYTES as usize,
            table_size: TABLE_BYTES,
            level_base_size: 4 * TABLE_BYTES,
            ..Options::default()
        }
    }

    /// Levels of tables, each as (level, smallest key, largest key).
    fn levels(tables: &[(usize, &'static str, &'static str)]) -> Levels {
        let (graveyard, blobs) = (Arc::new(Graveyard::default()), LiveBlobs::default());
        let live = |(at, (level, smallest, largest)): (usize, &(usize, &'static str, &'static str))| {
            let mut meta = TableMeta::empty(at as u64);
            (meta.size, meta.entries, meta.largest_seq) = (TABLE_BYTES, 10, 1000 - at as u64);
            (meta.smallest, meta.largest) = (smallest.as_bytes().into(), largest.as_bytes().into());
            (*level, LiveTable::new(Arc::new(meta), &graveyard, &blobs))
        };
        let added: Vec<_> = tables.iter().enumerate().map(live).collect();
        Levels::default().edited(&[], &added)
    }

    fn numbers(job: &Job) -> Vec<u64> {
        job.inputs.iter().map(|(_, table)| table.number).collect()
    }

    #[test]
    fn on_a_full_disk_the_job_that_needs_the_least_room_comes_first() {
        const LETTERS: [&str; 20] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
            "t",
        ];
        // L5 is the base, and far over its target: L0 was more urgent for long. Each step from L0 takes all of it.
        let l0 = std::iter::repeat_n((0, "a", "z"), 4);
        let l5 = LETTERS[..10].iter().map(|letter| (5, *letter, *letter));
        let l6 = LETTERS.iter().map(|letter| (6, *letter, *letter));
        let levels = levels(&l0.chain(l5).chain(l6).collect::<Vec<_>>());
        let mut now = Now { oldest_snapshot: 0, forked: false, scarce: false };

        let urgent = pick(&levels, &options(), &now).unwrap();
        assert_eq!((urgent.reason, urgent.output_level), (Reason::Runs, 5));
        assert_eq!(numbers(&urgent), (0..14).collect::<Vec<_>>());

        now.scarce = true;
        let smallest = pick(&levels, &options(), &now).unwrap();
        assert_eq!((smallest.reason, smallest.output_level), (Reason::Size, 6));
        assert_eq!(numbers(&smallest), [4, 14]);
    }
}
