//! One budget for the memtables of all volumes, and one log that they share: which is flushed when.
//!
//! # The policy
//! - **A volume by itself.** It freezes a memtable that is full, and its frozen ones are flushed when there are
//!   more than `num_memtable_limit` ([`crate::lsm::flush`]). A volume that is flooded fills its own memtables,
//!   and its own writers wait for them ([`crate::lsm::stall`]); those of others do not.
//! - **Together.** When all memtables hold more than three quarters of `memtable_budget`, the largest are
//!   flushed, full or not, until half of the budget is free: they give the most room for a table.
//!   Whoever floods has the largest; where many volumes are written a little, few tables hold most of it.
//! - **The log.** It is needed from the oldest write on that is in no table, so a volume that was written once
//!   and never again would keep all of the log. When the log is longer than `log_limit`, the volume with the
//!   oldest such write, which has been idle the longest, is flushed, until the log is short enough.
//! - **Writers** of a volume that holds little never wait for others' memtables. While the budget is used up
//!   they are slowed, as all are, to what the flushes carry.
//!
//! A volume at rest has an empty memtable, which takes a few hundred bytes, its place in two maps, and its
//! levels, which forks share: no file, no thread, no timer. Its tables are opened when they are read, and at most
//! `open_files` stay so.
//!
//! # Counting
//! `Shared::unflushed` is an estimate between two looks: each look counts anew, each write adds what it brings.

use crate::lsm::Result;
use crate::lsm::store::Shared;
use crate::lsm::volume::Volume;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a write takes in a memtable beside its bytes, about.
const WRITE_OVERHEAD: usize = 80;

impl Shared {
    /// Counts what a batch adds to the memtables; wakes the flushes when they hold too much.
    pub(crate) fn note_memtable_bytes(&self, bytes: usize, count: usize) {
        let bytes = bytes + count * WRITE_OVERHEAD;
        let before = self.unflushed.fetch_add(bytes, Relaxed);
        let high = self.high_water();
        // Once for each part that it is over: a flush that is under way need not be told again.
        let step = (self.options.memtable_budget / 64).max(1);
        if before + bytes > high && (before <= high || before / step != (before + bytes) / step) {
            self.flush_signal.raise();
        }
    }

    fn high_water(&self) -> usize {
        self.options.memtable_budget / 4 * 3
    }

    /// How full the budget is: 1 is all of it.
    pub(crate) fn budget_used(&self) -> f64 {
        self.unflushed.load(Relaxed) as f64 / self.options.memtable_budget.max(1) as f64
    }

    /// The bytes of all memtables. Counts those that volumes share once.
    fn count_memtables(&self) -> usize {
        let mut seen = HashSet::new();
        let of = |volume: &Arc<Volume>| {
            let tree = volume.tree();
            let frozen = tree.immutable.iter().filter(|memtable| seen.insert(Arc::as_ptr(memtable)));
            tree.memtable.size() + frozen.map(|memtable| memtable.size()).sum::<usize>()
        };
        let bytes = self.volumes().iter().map(of).sum();
        self.unflushed.store(bytes, Relaxed);
        bytes
    }

    /// Flushes what the budget and the log's limit ask for; says whether there was any.
    pub(crate) fn keep_budget(&self) -> Result<bool> {
        let mut worked = false;
        let mut bytes = self.count_memtables();
        if bytes > self.high_water() {
            let mut volumes: Vec<(usize, Arc<Volume>)> = self
                .volumes()
                .iter()
                .map(|volume| (volume.tree().memtable_bytes(), volume.clone()))
                .collect();
            volumes.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            for (held, volume) in volumes {
                if bytes <= self.options.memtable_budget / 2 || held == 0 || self.is_closed() {
                    break;
                }
                volume.flush_all()?;
                bytes = bytes.saturating_sub(held);
                worked = true;
            }
            self.count_memtables();
        }
        while self.log.live_len() > self.options.log_limit && !self.is_closed() {
            let oldest = |volume: &Arc<Volume>| Some((volume.tree().first_unflushed()?, volume.clone()));
            let Some((first, volume)) = self.volumes().iter().filter_map(oldest).min_by_key(|(seq, _)| *seq)
            else {
                break;
            };
            volume.flush_all()?;
            worked = true;
            // Nothing came of it: somebody else is at it.
            if volume.tree().first_unflushed().is_some_and(|seq| seq <= first) {
                break;
            }
        }
        Ok(worked)
    }
}
