//! Compactions for the sake of blob files and packs, when no other is due: records with pointers are small, so the
//! levels' sizes say little of the bytes that dead ones keep.
//!
//! - **Shadowed** values: a table whose range tombstones, or whose own pointers, may hide many bytes of blob
//!   files in older tables goes down. How many is estimated from the tables' metas: of a table that a range
//!   overlaps in part, half.
//! - **Scattered** values: a table that points to a blob file that is to be emptied (`blob::gc`) is
//!   rewritten in its place, which moves those values. So is a table in a pack of which little is in use any more.
//!
//! Each job makes progress: what hides others sinks, and stops at the bottom; a rewritten table no longer
//! points to the files that were emptied, nor stands in a sparse pack.

use super::{Job, Reason, leveled, tiered};
use crate::lsm::Result;
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::manifest::state::MAX_LEVEL;
use crate::lsm::options::CompactionMode;
use crate::lsm::store::Shared;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// Pointers that may hide more than one byte in this many of all are worth a job.
const SHADOWED_ONE_IN: u64 = 4;

/// The job that is due, if any; `emptied` are the blob files that are to be.
pub(super) fn pick(shared: &Shared, levels: &Levels, emptied: &BTreeSet<u64>) -> Result<Option<Job>> {
    let total: u64 = levels.iter().flatten().map(|table| table.blob_bytes()).sum();
    let low = shared.reserve.wants_room();
    if total == 0 && !low && !levels.iter().flatten().any(|table| table.is_in_sparse_pack()) {
        return Ok(None);
    }
    match shared.options.compaction {
        CompactionMode::None => return Ok(None),
        CompactionMode::Leveled => {
            if let Some(job) = shadowing(shared, levels, total)? {
                return Ok(Some(job));
            }
        }
        // Its runs stay apart while they are large, whatever they hide.
        CompactionMode::Tiered => {}
    }
    Ok(scattered(shared, levels, emptied))
}

fn shadowing(shared: &Shared, levels: &Levels, total: u64) -> Result<Option<Job>> {
    // On a full disk whatever is dead is worth a job.
    let low = shared.reserve.wants_room();
    let share = if low { 1 } else { (total / SHADOWED_ONE_IN).max(1) };
    let deepest = levels.deepest().unwrap_or(0);
    let (deleted_due, overwritten_due) = (share.min(shared.options.blob_file_size), share);
    let mut overwritten = 0;
    let mut most: Option<(u64, usize, &Arc<LiveTable>)> = None;
    for n in 0..MAX_LEVEL {
        for (at, table) in levels.level(n).iter().enumerate() {
            // L0 is listed newest first.
            let same_level = if n == 0 { &levels.level(0)[at + 1..] } else { &[] };
            let older = Older { same_level, levels, level: n };
            let hidden = older.blob_bytes_deleted_by(shared, table)?;
            if hidden >= deleted_due || (low && table.tombstones > 0 && n < deepest.max(1)) {
                return Ok(Some(sink(shared, levels, n, table)));
            }
            if table.blob_bytes() > 0 {
                let (smallest, largest) = (table.smallest.as_ref(), table.largest.as_ref());
                let below = older.blob_bytes_in(Bound::Included(smallest), Bound::Included(largest));
                let hidden = below.min(table.blob_bytes());
                overwritten += hidden;
                if hidden > most.map_or(0, |(most, ..)| most) {
                    most = Some((hidden, n, table));
                }
            }
        }
    }
    let due = most.filter(|_| overwritten > overwritten_due);
    Ok(due.map(|(_, n, table)| sink(shared, levels, n, table)))
}

fn sink(shared: &Shared, levels: &Levels, n: usize, table: &Arc<LiveTable>) -> Job {
    let targets = leveled::targets(levels, &shared.options);
    match n {
        0 => leveled::from_l0(levels, &targets, l0_step(shared), Reason::Garbage),
        _ => leveled::down(levels, &targets, n, table, Reason::Garbage),
    }
}

fn l0_step(shared: &Shared) -> usize {
    leveled::l0_step(&shared.options, shared.reserve.wants_room())
}

/// The tables that hold older records than one table does.
struct Older<'a> {
    same_level: &'a [Arc<LiveTable>],
    levels: &'a Levels,
    level: usize,
}

impl Older<'_> {
    fn blob_bytes_deleted_by(&self, shared: &Shared, table: &LiveTable) -> Result<u64> {
        if table.range_tombstones == 0 {
            return Ok(0);
        }
        let table = shared.tables.get(table)?;
        let hidden =
            |start: &[u8], end: &[u8]| self.blob_bytes_in(Bound::Included(start), Bound::Excluded(end));
        Ok(table.ranges().tombstones().map(|t| hidden(&t.start, &t.end)).max().unwrap_or(0))
    }

    /// Bytes that records between the bounds point to, as far as the metas tell.
    fn blob_bytes_in(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> u64 {
        let deeper = (self.level + 1..=MAX_LEVEL).flat_map(|n| self.levels.level(n));
        let tables = self.same_level.iter().chain(deeper).filter(|table| table.overlaps(from, to));
        let share = |table: &Arc<LiveTable>| {
            let inside = is_after(from, &table.smallest) && is_before(&table.largest, to);
            if inside { table.blob_bytes() } else { table.blob_bytes() / 2 }
        };
        tables.map(share).sum()
    }
}

fn is_after(from: Bound<&[u8]>, key: &[u8]) -> bool {
    matches!(from, Bound::Included(from) if key >= from)
}

fn is_before(key: &[u8], to: Bound<&[u8]>) -> bool {
    match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    }
}

fn scattered(shared: &Shared, levels: &Levels, emptied: &BTreeSet<u64>) -> Option<Job> {
    let points_there = |table: &&Arc<LiveTable>| {
        table.is_in_sparse_pack() || table.blobs.iter().any(|used| emptied.contains(&used.file))
    };
    for n in (1..=MAX_LEVEL).rev() {
        if let Some(table) = levels.level(n).iter().find(points_there) {
            let inputs = vec![(n, table.clone())];
            return Some(Job { inputs, output_level: n, reason: Reason::Garbage });
        }
    }
    levels.level(0).iter().find(points_there)?;
    Some(match shared.options.compaction {
        CompactionMode::Tiered => tiered::merge(levels, Reason::Garbage),
        _ => {
            let targets = leveled::targets(levels, &shared.options);
            leveled::from_l0(levels, &targets, l0_step(shared), Reason::Garbage)
        }
    })
}
