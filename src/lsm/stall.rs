//! Stalls: how writers are held back when flushes or compactions fall behind.
//!
//! Two things may run full: the memtables (bytes that no table has yet: a volume's, or those of all together, and
//! the log that keeps them) and L0 (tables that every read must ask). Each has a mark from which writers are
//! *slowed* and one at which they *wait*; garbage in blob files only slows ([`crate::lsm::blob`]).
//!
//! - Between the marks a writer pays for its bytes with time: the fuller, the lower the rate, from
//!   [`FASTEST_RATE`] down to [`SLOWEST_RATE`]. So throughput sinks smoothly to what the background threads
//!   carry, and waiting is rare.
//! - A writer that waits does so before its batch has taken anything (a sequence number, a place in
//!   the log). It has raised the flush signal and the compaction signal, so there is work under way that ends
//!   the stall; if that work fails, the writer gets its error instead of waiting on. What failed before
//!   the writer came is no answer: there may be room again.
//! - Whoever holds locks that readers need while it writes waits before it takes them
//!   ([`Volume::wait_for_room`]), and then writes without waiting ([`Volume::write_admitted`]).
//!
//! Each volume is judged by its own memtables and tables, and waits for its own flushes and compactions; for those
//! of others only when the memtables of all volumes, or the log, have no room left ([`crate::lsm::budget`]). Stalls
//! are counted by cause, with their time.
//!
//! # Locks
//! [`Stall::outcome`] protects the last outcomes and the waiting writers; a tree's pointer is read under it.

use crate::lsm::options::CompactionMode;
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The rate, in bytes a second, at which a slowdown sets in …
const FASTEST_RATE: f64 = (256 << 20) as f64;
/// … and the one it ends at.
const SLOWEST_RATE: f64 = (2 << 20) as f64;
/// Memtables slow writers from this part of their limit on.
const MEMTABLE_SLOWDOWN: f64 = 0.75;
/// How much garbage slows a writer, at most: it does not wait for it.
const MOST_FOR_GARBAGE: f64 = 0.99;
/// A writer sleeps when it owes this much, and never longer than the second at once.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Why writers are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The volume's memtables hold too many bytes that are in no table.
    Memtables,
    /// The memtables of all volumes do.
    Budget,
    /// The log is too long.
    Log,
    /// Blob files hold much that nothing points to. It only slows.
    Garbage,
    /// L0 has too many tables.
    L0,
}

/// The figures of one cause.
#[derive(Debug, Default)]
pub(crate) struct CauseCounters {
    /// Writes that were slowed or waited.
    pub count: AtomicU64,
    /// Nanoseconds that they lost.
    pub nanos: AtomicU64,
    /// The most that one lost.
    pub max_nanos: AtomicU64,
}

/// A volume's stalls.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    outcome: Mutex<Outcome>,
    changed: Condvar,
    /// Nanoseconds that slowed writers owe.
    debt: AtomicU64,
    pub memtables: CauseCounters,
    pub budget: CauseCounters,
    pub log: CauseCounters,
    pub garbage: CauseCounters,
    pub l0: CauseCounters,
}

#[derive(Debug, Default)]
struct Outcome {
    flushes: Attempts,
    compactions: Attempts,
    /// Writers that wait.
    waiting: usize,
}

/// Attempts to make room.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// How many have ended.
    ended: u64,
    /// What the last one failed with.
    error: Option<Error>,
}

impl Attempts {
    pub fn end(&mut self, error: Option<Error>) {
        self.ended += 1;
        self.error = error;
    }

    /// How many have ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The error of the last attempt, if it ended after the first `seen`.
    pub fn error_after(&self, seen: u64) -> Option<&Error> {
        self.error.as_ref().filter(|_| self.ended > seen)
    }
}

impl Stall {
    /// A flush ended.
    pub fn flushed(&self, error: Option<Error>) {
        self.outcome.lock().flushes.end(error);
        self.changed.notify_all();
    }

    /// A compaction ended.
    pub fn compacted(&self, error: Option<Error>) {
        self.outcome.lock().compactions.end(error);
        self.changed.notify_all();
    }

    /// What writers wait for may have come about, whoever saw to it: the volume's tree is another one (a flush or a
    /// compaction of a volume that shares with it changes both), the store is closed, or the volume is gone.
    pub fn look_again(&self) {
        // Who looked before is waiting once the lock can be had.
        drop(self.outcome.lock());
        self.changed.notify_all();
    }

    /// Writers that wait.
    pub fn waiting(&self) -> usize {
        self.outcome.lock().waiting
    }

    fn counters(&self, cause: Cause) -> &CauseCounters {
        match cause {
            Cause::Memtables => &self.memtables,
            Cause::Budget => &self.budget,
            Cause::Log => &self.log,
            Cause::Garbage => &self.garbage,
            Cause::L0 => &self.l0,
        }
    }

    fn count(&self, cause: Cause, lost: Duration) {
        let counters = self.counters(cause);
        counters.count.fetch_add(1, Relaxed);
        counters.nanos.fetch_add(lost.as_nanos() as u64, Relaxed);
        counters.max_nanos.fetch_max(lost.as_nanos() as u64, Relaxed);
    }
}

impl Volume {
    /// The cause that holds writers back most, and how much: from 0 (slowing sets in) to 1 (they wait).
    fn pressure(&self) -> Option<(Cause, f64)> {
        let shared = self.shared();
        let options = &shared.options;
        let (bytes, l0) = self.load();
        // As much as is left for others.
        let most = options.memtable_stall_size.min(shared.room_for_one());
        let full = bytes as f64 / most.max(1) as f64;
        let memtables = (full - MEMTABLE_SLOWDOWN) / (1.0 - MEMTABLE_SLOWDOWN);
        // Not before a compaction is due: who waits must wait for something.
        let stop = options.l0_stop.max(options.l0_slowdown + 1).max(options.l0_compaction_trigger);
        let (slow, stop) = (options.l0_slowdown as f64, stop as f64);
        let l0 = match options.compaction {
            CompactionMode::None => -1.0,
            _ => (l0 as f64 - slow) / (stop - slow),
        };
        // Of two that hold back alike the one that is farther from the volume: its own flush may not end it.
        let causes = [
            (Cause::Budget, shared.budget_pressure()),
            (Cause::Log, shared.log_pressure()),
            (Cause::Garbage, shared.garbage_pressure().min(MOST_FOR_GARBAGE)),
            (Cause::L0, l0),
            (Cause::Memtables, memtables),
        ];
        let waits = causes.iter().find(|(_, pressure)| *pressure >= 1.0).copied();
        let slows = || causes.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        waits.or_else(slows).filter(|(_, pressure)| *pressure >= 0.0)
    }

    /// Holds a writer of about `bytes` bytes back as long as it must be: before it has taken anything. Called by
    /// [`Volume::write`], and by those who write with [`Volume::write_admitted`].
    ///
    /// # Errors
    /// That of the flush or compaction which should have made room; [`Error::Closed`] or [`Error::ReadOnly`]
    /// where nothing will.
    pub fn wait_for_room(&self, bytes: usize) -> Result<()> {
        match self.pressure() {
            _ if self.staged().is_some() => Ok(()),
            None => Ok(()),
            Some((cause, pressure)) if pressure < 1.0 => {
                self.slow_down(cause, pressure, bytes);
                Ok(())
            }
            Some((cause, _)) => {
                let start = Instant::now();
                let result = self.wait_while_full();
                self.stall.count(cause, start.elapsed());
                result
            }
        }
    }

    fn slow_down(&self, cause: Cause, pressure: f64, bytes: usize) {
        if !self.shared().options.background {
            return;
        }
        let rate = FASTEST_RATE * (SLOWEST_RATE / FASTEST_RATE).powf(pressure);
        let nanos = (bytes as f64 / rate * 1e9) as u64;
        let debt = self.stall.debt.fetch_add(nanos, Relaxed) + nanos;
        if debt >= SHORTEST_SLEEP.as_nanos() as u64 {
            self.stall.debt.store(0, Relaxed);
            let pause = Duration::from_nanos(debt).min(LONGEST_SLEEP);
            std::thread::sleep(pause);
            self.stall.count(cause, pause);
        }
    }

    fn wait_while_full(&self) -> Result<()> {
        let shared = self.shared();
        // Nothing will make room any more.
        shared.read_only.check()?;
        // What could be flushed may all be in the mutable memtable.
        self.freeze_if_full();
        shared.wait_for_budget(self, || shared.budget_pressure().max(shared.log_pressure()) >= 1.0)?;
        self.wait_for_own()
    }

    /// Waits while the volume's own memtables or its L0 hold its writers back.
    fn wait_for_own(&self) -> Result<()> {
        let shared = self.shared();
        let mut outcome = self.stall.outcome.lock();
        outcome.waiting += 1;
        let (flushes, compactions) = (outcome.flushes.ended, outcome.compactions.ended);
        // Even if it was looked at before, when nobody waited.
        shared.work.reshaped(self.id());
        shared.flush_signal.raise();
        shared.compaction_signal.raise();
        let result = loop {
            let Some((cause, _)) = self.pressure().filter(|(_, pressure)| *pressure >= 1.0) else {
                break Ok(());
            };
            let error = match cause {
                // Nothing is frozen, so nothing will be flushed: one batch alone is over the limit.
                Cause::Memtables if self.tree().immutable.is_empty() => break Ok(()),
                // Since this one came; others wait for it.
                Cause::Budget | Cause::Log | Cause::Garbage => break Ok(()),
                Cause::Memtables => outcome.flushes.error_after(flushes),
                Cause::L0 => outcome.compactions.error_after(compactions),
            };
            if let Some(error) = error {
                break Err(error.clone());
            }
            if let Err(e) = self.check_open() {
                break Err(e);
            }
            if shared.options.background {
                self.stall.changed.wait(&mut outcome);
            } else if let Err(e) = MutexGuard::unlocked(&mut outcome, || self.make_room(cause)) {
                break Err(e);
            }
        };
        outcome.waiting -= 1;
        result
    }

    /// Without the background threads the writer does their work.
    fn make_room(&self, cause: Cause) -> Result<()> {
        let Some(volume) = self.shared().by_id(self.id()) else { return self.check_open() };
        match cause {
            Cause::L0 => volume.compact_one().map(drop),
            _ => volume.flush_one().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Batch, Options, Store};
    use std::sync::{Arc, mpsc};

    /// Far longer than anything here takes: a test that hangs fails instead.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn who_overwrites_blobs_is_slowed_until_they_are_collected() {
        let (blob_min, blob_file_size) = (100, 1000);
        let options = Options { blob_min, blob_file_size, background: false, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let volume = store.volume("main").unwrap();
        // One in ten values of each file stays.
        let put = |keys: &mut dyn Iterator<Item = u8>, len: usize| {
            let mut batch = Batch::new();
            keys.for_each(|key| batch.put_split(&[key], b"", &vec![key; len]));
            volume.write(batch).unwrap();
        };
        (0..20).for_each(|part| put(&mut (part * 10..part * 10 + 10), 200));
        store.flush().unwrap();
        put(&mut (0..200).filter(|key| key % 10 > 0), 1);
        store.compact().unwrap();
        store.shared().blobs_to_empty();
        assert!(matches!(volume.pressure(), Some((Cause::Garbage, pressure)) if pressure < 1.0));
        while store.step().unwrap() {}
        store.shared().blobs_to_empty();
        assert_eq!(volume.pressure(), None);
        (0..200).for_each(|key| assert_eq!(volume.get(&[key]).unwrap().unwrap().tail[0], key));
    }

    #[test]
    fn the_first_write_to_a_fork_of_many_tables_has_them_merged() {
        for background in [false, true] {
            let quiet = Options { background: false, ..Options::default() };
            let sim = Arc::new(SimDisk::new(1));
            let store = Store::open(sim.clone(), quiet.clone()).unwrap();
            let main = store.volume("main").unwrap();
            let one_more_table = || {
                let mut batch = Batch::new();
                batch.put(b"key", b"value");
                // As somebody who came before there were so many.
                main.write_admitted(batch).unwrap();
                store.flush().unwrap();
            };
            (0..quiet.l0_stop).for_each(|_| one_more_table());
            store.fork(&main, "fork").unwrap();
            // What is merged here is not what the fork has.
            one_more_table();
            store.close().unwrap();
            let store = Store::open(sim, Options { background, ..quiet }).unwrap();
            let fork = store.volume("fork").unwrap();
            let (done, is_done) = mpsc::channel();
            // Not within a scope: if it waits for ever, the test ends all the same.
            std::thread::spawn(move || {
                let mut batch = Batch::new();
                batch.put(b"other", b"");
                done.send(fork.write(batch)).unwrap();
            });
            let written = is_done.recv_timeout(PATIENCE);
            assert!(matches!(written, Ok(Ok(_))), "background {background}: {written:?}");
        }
    }

    #[test]
    fn writers_that_wait_learn_of_a_close_at_once() {
        let options = Options { memtable_size: 1000, memtable_stall_size: 2000, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let volume = store.volume("main").unwrap();
        // No flush comes about, before the close or in it.
        let flush_turn = store.shared().flush_turn.lock();
        let (refused, refusal) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let error = (0..100u32).find_map(|i| {
                    let mut batch = Batch::new();
                    batch.put(&i.to_be_bytes(), &[0; 200]);
                    volume.write(batch).err()
                });
                refused.send(error).unwrap();
            });
            while volume.stall.waiting() == 0 {
                std::thread::yield_now();
            }
            scope.spawn(|| store.close());
            let error = refusal.recv_timeout(PATIENCE);
            drop(flush_turn);
            assert!(matches!(error, Ok(Some(Error::Closed))), "{error:?}");
        });
    }
}
