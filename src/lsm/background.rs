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

/// The flush thread looks for work this often while a flush that failed is due again.
const TICK: Duration = Duration::from_millis(50);
/// The longest pause between two tries of a flush that fails.
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

    /// Waits until the signal is raised or `timeout` has passed; lowers it.
    fn wait(&self, timeout: Option<Duration>) {
        let mut raised = self.raised.lock();
        if !*raised {
            match timeout {
                Some(timeout) => {
                    self.wake.wait_for(&mut raised, timeout);
                }
                None => self.wake.wait(&mut raised),
            }
        }
        *raised = false;
    }
}

/// Flushes whatever is due, until the store closes.
pub(crate) fn run_flushes(shared: &Shared) {
    let mut pause = None;
    loop {
        shared.flush_signal.wait(pause);
        if shared.is_closed() {
            return;
        }
        pause = match shared.flush_due() {
            Ok(_) => None,
            // Trying again is of no use.
            Err(Error::ReadOnly(_)) => None,
            Err(e) => {
                tracing::warn!("a flush failed and will be tried again: {e}");
                Some(pause.map_or(TICK, |p: Duration| (p * 2).min(LONGEST_PAUSE)))
            }
        };
    }
}

/// Compacts whatever is due, until the store closes.
pub(crate) fn run_compactions(shared: &Shared) {
    let mut pause = None;
    loop {
        shared.compaction_signal.wait(pause);
        if shared.is_closed() {
            return;
        }
        pause = match shared.compact_due(usize::MAX).and_then(|_| shared.reclaim()) {
            Ok(()) => None,
            Err(Error::ReadOnly(_)) => None,
            Err(e) => {
                tracing::warn!("a compaction failed and will be tried again: {e}");
                Some(pause.map_or(TICK, |p: Duration| (p * 2).min(LONGEST_PAUSE)))
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
