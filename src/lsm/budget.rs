//! One budget for the memtables of all volumes, and one log that they share: which is flushed when, who waits, and
//! why writers of one volume do not stall those of another.
//!
//! # What is flushed
//! - **A volume by itself.** It freezes a memtable that is full, and its frozen ones are flushed when there are
//!   more than `num_memtable_limit` ([`crate::lsm::flush`]).
//! - **Together.** When all memtables hold more than three quarters of `memtable_budget`, memtables are
//!   flushed, full or not, until half of it is free: the largest first, since they give the most room for a
//!   table, and those that nobody has written to for long before others: their room is not wanted soon. A
//!   volume counts for up to [`IDLE_WEIGHT`] times its bytes, the longer it has been idle.
//! - **The log.** It is needed from the oldest write on that is in no table, so a volume that was written once
//!   and never again would keep all of it. When it is longer than `log_limit`, all volumes with writes in
//!   its oldest segments are flushed, those that have been idle the longest, until it is a quarter shorter.
//! - Memtables that are flushed before they are full become tables of **one file** ([`crate::lsm::table::pack`]): a
//!   thousand volumes that hold twenty kilobytes each cost one file, one sync of it, and one commit of the
//!   manifest. So many small volumes neither keep the log nor become ten thousand small files, and a
//!   close of them all takes as long as their bytes do.
//!
//! # Who waits
//! - A volume's memtables may hold **as much as is left of the budget** (a sixteenth of it at least), and
//!   `memtable_stall_size` at most. One
//!   that is flooded fills half of the budget by itself, two a third each, and so on: what is left over
//!   is there for all who write a little. A flooded volume's writers wait for its own flushes, nobody else does.
//! - Writers of a volume that holds little wait when **all** of the budget is used, and not before; in its last
//!   sixteenth they are slowed. So it is when the log is twice as long as it should be.
//! - Who waits has work under way that ends it: the flush thread looks at once, and if it finds nothing to
//!   flush, the wait is over.
//!
//! (Ten thousand volumes, 300,000 values of 1 KiB in turn, on two processors that were busy with other work: 18,400
//! writes a second and 5.8 s to close; 3,600 and 110 s with a file and a commit for each memtable. With priority
//! over the other work: 167,000 in 442 MiB of memory, closed in 1.1 s, opened in 0.1 s.)
//!
//! A volume at rest has an empty memtable, which takes a few hundred bytes, its place in three maps, and its
//! levels, which forks share: no file, no thread, no timer, and no look: flushes and compactions look at
//! volumes that have work (`work.rs`). Its tables are opened when they are read, and at most
//! `open_files` stay so.
//!
//! # Counting
//! What is used is an estimate: each write adds what it brings, each flush takes off what it freed, and each look
//! past three quarters counts anew.
//!
//! # Locks
//! `Budget::outcome` is a leaf; writers wait under it.

use crate::lsm::stall::Attempts;
use crate::lsm::store::Shared;
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How much more than another's of its size the memtable of a volume counts that has been idle the longest.
const IDLE_WEIGHT: f64 = 4.0;
/// Writers are slowed from this part of the budget on.
const SLOWDOWN: f64 = 15.0 / 16.0;
/// Writers wait when the log is this many times as long as it should be, and two segments longer …
const LONGEST_LOG: u64 = 2;
/// … and are slowed from this part of that on.
const LOG_SLOWDOWN: f64 = 0.75;

/// What all memtables hold together.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Bytes, about.
    used: AtomicUsize,
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Outcome {
    flushes: Attempts,
    /// Looks that found nothing to flush.
    idle: u64,
}

impl Budget {
    /// A flush ended.
    pub fn flushed(&self, error: Option<Error>) {
        self.outcome.lock().flushes.end(error);
        self.changed.notify_all();
    }

    /// The flush thread looked and found nothing to do.
    fn found_nothing(&self) {
        self.outcome.lock().idle += 1;
        self.changed.notify_all();
    }

    /// The store is closed, or a volume is gone.
    pub fn closed(&self) {
        drop(self.outcome.lock());
        self.changed.notify_all();
    }

    /// Memtables of so many bytes are gone.
    pub fn freed(&self, bytes: usize) {
        let _ = self.used.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
    }
}

impl Shared {
    /// Counts what a batch adds to the memtables; wakes the flushes when they hold too much.
    pub(crate) fn note_memtable_bytes(&self, bytes: usize) {
        let before = self.budget.used.fetch_add(bytes, Relaxed);
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

    /// What one volume's memtables may hold: as much as is left of the budget.
    pub(crate) fn room_for_one(&self) -> usize {
        let budget = self.options.memtable_budget;
        // In the last part of it all writers are slowed alike.
        budget.saturating_sub(self.budget.used.load(Relaxed)).max(budget / 16)
    }

    /// How much the memtables of all volumes hold any writer back: from 0 (slowing sets in) to 1 (it waits).
    pub(crate) fn budget_pressure(&self) -> f64 {
        let used = self.budget.used.load(Relaxed) as f64 / self.options.memtable_budget.max(1) as f64;
        (used - SLOWDOWN) / (1.0 - SLOWDOWN)
    }

    /// As [`Shared::budget_pressure`], for the log.
    pub(crate) fn log_pressure(&self) -> f64 {
        let options = &self.options;
        let most = options.log_limit.saturating_mul(LONGEST_LOG);
        let most = most.saturating_add(options.log_segment_size.saturating_mul(2));
        (self.log.live_len() as f64 / most as f64 - LOG_SLOWDOWN) / (1.0 - LOG_SLOWDOWN)
    }

    /// Waits while `is_full`, for a writer of `volume`, until flushes have made room.
    ///
    /// # Errors
    /// That of the last flush; [`Error::Closed`], [`Error::NoVolume`].
    pub(crate) fn wait_for_budget(&self, volume: &Volume, is_full: impl Fn() -> bool) -> Result<()> {
        let mut outcome = self.budget.outcome.lock();
        let (flushes, idle) = (outcome.flushes.ended(), outcome.idle);
        self.flush_signal.raise();
        while is_full() && outcome.idle == idle {
            if let Some(error) = outcome.flushes.error_after(flushes) {
                return Err(error.clone());
            }
            volume.check_open()?;
            if self.options.background {
                self.budget.changed.wait(&mut outcome);
            } else if !MutexGuard::unlocked(&mut outcome, || self.keep_budget())? {
                break;
            }
        }
        Ok(())
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
        self.budget.used.store(bytes, Relaxed);
        bytes
    }

    /// Flushes what the budget and the log's limit ask for; says whether there was any.
    pub(crate) fn keep_budget(&self) -> Result<bool> {
        let mut worked = false;
        if self.budget.used.load(Relaxed) > self.high_water() {
            let bytes = self.count_memtables();
            let due = self.largest_and_idlest(bytes.saturating_sub(self.options.memtable_budget / 2));
            worked = bytes > self.high_water() && !due.is_empty();
            if worked {
                self.flush_all_of(&due)?;
            }
        }
        worked |= self.shorten_log()?;
        if !worked {
            self.budget.found_nothing();
        }
        Ok(worked)
    }

    /// Volumes whose memtables hold so many bytes together.
    fn largest_and_idlest(&self, bytes: usize) -> Vec<Arc<Volume>> {
        let now = self.commits.visible() as f64;
        let held = |volume: &Arc<Volume>| {
            let tree = volume.tree();
            let bytes = tree.memtable_bytes();
            let last = tree.memtables().map(|memtable| memtable.last_seq()).max()?;
            (bytes > 0).then(|| (bytes, last, tree.first_unflushed().unwrap_or(last), volume.clone()))
        };
        let mut volumes: Vec<_> = self.volumes().iter().filter_map(held).collect();
        let oldest = volumes.iter().map(|(_, _, first, _)| *first).min().unwrap_or(0) as f64;
        let weight = |bytes: usize, last: u64| {
            let idle = (now - last as f64).max(0.0) / (now - oldest).max(1.0);
            bytes as f64 * (1.0 + (IDLE_WEIGHT - 1.0) * idle)
        };
        volumes.sort_by(|a, b| weight(b.0, b.1).total_cmp(&weight(a.0, a.1)));
        let mut sum = 0;
        let enough = |(held, ..): &(usize, u64, u64, Arc<Volume>)| {
            let goes_on = sum < bytes;
            sum += held;
            goes_on
        };
        volumes.into_iter().take_while(enough).map(|(.., volume)| volume).collect()
    }

    /// Flushes the volumes that keep the log longer than it should be; says whether there was any.
    fn shorten_log(&self) -> Result<bool> {
        let limit = self.options.log_limit;
        let mut worked = false;
        while self.log.live_len() > limit && !self.is_closed() {
            let Some(needed) = self.log.last_seq_before_the_last(limit / 4 * 3) else { break };
            let is_due =
                |volume: &&Arc<Volume>| volume.tree().first_unflushed().is_some_and(|first| first <= needed);
            let due: Vec<Arc<Volume>> = self.volumes().iter().filter(is_due).cloned().collect();
            let before = self.log.live_len();
            if due.is_empty() {
                break;
            }
            self.flush_all_of(&due)?;
            worked = true;
            // Nothing came of it: the next flush tries again.
            if self.log.live_len() >= before {
                break;
            }
        }
        Ok(worked)
    }
}
