//! The store's threads: one that flushes, one that compacts, one that syncs the log. However many
//! volumes there are.
//!
//! # Locks
//! [`Signal`] and [`Syncs`] have one inner lock each, held only to look and to change; callbacks and I/O
//! run without it.

use crate::lsm::store::Shared;
use crate::lsm::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The pause after a flush or compaction that failed; each further failure doubles it …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Wakes one thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    wake: Condvar,
}

impl Signal {
    /// Wakes the thread, or keeps it from going to sleep.
    pub fn raise(&self) {
        *self.raised.lock() = true;
        self.wake.notify_one();
    }

    /// Waits until the signal is raised, and lowers it.
    fn wait(&self) {
        let mut raised = self.raised.lock();
        while !*raised {
            self.wake.wait(&mut raised);
        }
        *raised = false;
    }

    /// Waits for all of `pause`, however often the signal is raised, unless `stop` holds.
    fn sit_out(&self, pause: Duration, stop: impl Fn() -> bool) {
        let end = Instant::now() + pause;
        let mut raised = self.raised.lock();
        while !stop() && !self.wake.wait_until(&mut raised, end).timed_out() {}
    }
}

/// Flushes whatever is due, until the store closes.
pub(crate) fn run_flushes(shared: &Shared) {
    run(shared, &shared.flush_signal, "flush", || shared.flush_due().map(drop));
}

/// Compacts whatever is due, until the store closes.
pub(crate) fn run_compactions(shared: &Shared) {
    run(shared, &shared.compaction_signal, "compaction", || {
        shared.compact_due(usize::MAX).and_then(|_| shared.reclaim())
    });
}

/// Does `work` whenever the signal is raised, until the store closes; and again after a pause when it failed.
/// Nobody cuts the pause short: those who wait for room would, each time that they are refused.
fn run(shared: &Shared, signal: &Signal, name: &str, work: impl Fn() -> Result<()>) {
    let mut pause: Option<Duration> = None;
    loop {
        match pause {
            Some(pause) => signal.sit_out(pause, || shared.is_closed()),
            None => signal.wait(),
        }
        if shared.is_closed() {
            return;
        }
        pause = match work() {
            // Of a store that is read-only nothing more will come.
            Ok(()) | Err(Error::ReadOnly(_)) => None,
            Err(e) => {
                tracing::warn!("a {name} failed and will be tried again: {e}");
                Some(pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)))
            }
        };
    }
}

impl Shared {
    /// Does up to `most` compactions that are due; says whether there was any.
    pub(crate) fn compact_due(&self, most: usize) -> Result<bool> {
        if let Err(e) = self.read_only.check() {
            // Whoever waits for a compaction waits in vain.
            self.volumes().iter().for_each(|volume| volume.stall.compacted(Some(e.clone())));
            return Err(e);
        }
        let mut jobs = 0;
        for volume in self.volumes() {
            while jobs < most && !self.is_closed() && volume.compact_one()? {
                jobs += 1;
            }
        }
        Ok(jobs > 0)
    }

    /// Flushes until no volume wants it; says whether anything was done.
    pub(crate) fn flush_due(&self) -> Result<bool> {
        let mut worked = false;
        for volume in self.volumes() {
            while volume.wants_flush() {
                worked |= volume.flush_one()?;
            }
        }
        Ok(worked)
    }
}

/// What is called when a sync is done.
pub(crate) type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// The log's sync thread: what waits for a sync, and whether the log has news to sync.
#[derive(Default)]
pub(crate) struct Syncs {
    queue: Mutex<SyncQueue>,
    wake: Condvar,
    /// The log was written since the background sync last looked. Set without the lock.
    dirty: AtomicBool,
}

#[derive(Default)]
struct SyncQueue {
    waiting: Vec<Done>,
    /// When the oldest unsynced record will have waited long enough.
    due: Option<Instant>,
    stopped: bool,
}

impl std::fmt::Debug for Syncs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncs").field("dirty", &self.dirty).finish_non_exhaustive()
    }
}

impl Syncs {
    /// Tells that the log was written.
    pub fn note_write(&self, interval: Duration) {
        if !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel) {
            self.queue.lock().due = Some(Instant::now() + interval);
            self.wake.notify_one();
        }
    }

    /// Has `done` called after the next sync. False (and not called) if the thread has stopped.
    pub fn request(&self, done: Done) -> std::result::Result<(), Done> {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return Err(done);
        }
        queue.waiting.push(done);
        self.wake.notify_one();
        Ok(())
    }

    /// Ends the thread once all that waits is answered.
    pub fn stop(&self) {
        self.queue.lock().stopped = true;
        self.wake.notify_one();
    }

    /// Waits for work; `None` when there is none and the thread is to stop.
    fn next(&self) -> Option<Vec<Done>> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.waiting.is_empty() {
                return Some(std::mem::take(&mut queue.waiting));
            }
            if queue.stopped {
                return None;
            }
            match queue.due {
                Some(due) if due <= Instant::now() => {
                    queue.due = None;
                    return Some(Vec::new());
                }
                Some(due) => {
                    self.wake.wait_until(&mut queue, due);
                }
                None => self.wake.wait(&mut queue),
            }
        }
    }
}

/// Syncs the log when someone waits for it, and at the interval while it has news.
pub(crate) fn run_syncs(shared: &Arc<Shared>) {
    while let Some(waiting) = shared.syncs.next() {
        // Lowered before the sync: what is written from here on sets it again.
        shared.syncs.dirty.store(false, Ordering::Release);
        let result = shared.log.sync();
        if let Err(e) = &result
            && waiting.is_empty()
        {
            tracing::error!("the log could not be synced: {e}");
        }
        for done in waiting {
            done(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_pause_is_sat_out_however_often_the_signal_is_raised() {
        let (signal, stopped) = (Signal::default(), AtomicBool::new(false));
        let (looked, looks) = mpsc::channel();
        std::thread::scope(|scope| {
            let (signal, stopped) = (&signal, &stopped);
            let pausing = scope.spawn(move || {
                let stop = || {
                    let _ = looked.send(());
                    stopped.load(Ordering::Acquire)
                };
                signal.sit_out(Duration::from_secs(3600), stop);
            });
            for _ in 0..5 {
                // Each time it was woken it looks, and goes on waiting.
                while looks.try_recv().is_err() {
                    signal.raise();
                    std::thread::yield_now();
                }
            }
            assert!(!pausing.is_finished());
            stopped.store(true, Ordering::Release);
            signal.raise();
        });
        signal.wait();
    }
}
