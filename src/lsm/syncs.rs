//! The thread that syncs the log: at once for those who wait for it, together; otherwise when the oldest
//! record that is not yet durable is an interval old. When nothing was written for an interval, the log gets a
//! witness of what is durable.
//!
//! # Locks
//! [`Syncs`] has an inner lock, held only to look and to change; callbacks and I/O run without it.

use crate::lsm::Result;
use crate::lsm::store::Shared;
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    /// When the oldest unsynced record will have waited long enough, or a witness is due.
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
        // A swap on both sides: either the thread sees the write, or this sees the flag lowered.
        if !self.dirty.swap(true, Ordering::AcqRel) {
            let mut queue = self.queue.lock();
            // If the thread is to look anyway, it does within an interval: waking it now would cost a program
            // that syncs each of its writes as much as the write.
            if queue.due.is_none() {
                // An interval without an end: whoever wants a sync asks for it.
                queue.due = Instant::now().checked_add(interval);
                self.wake.notify_one();
            }
        }
    }

    /// After a sync: has the thread look in an interval, or before, if something was written meanwhile.
    fn look_after(&self, interval: Duration) {
        let mut queue = self.queue.lock();
        if queue.due.is_none() || !self.dirty.load(Ordering::Acquire) {
            queue.due = Instant::now().checked_add(interval);
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
pub(crate) fn run_syncs(shared: &Shared) {
    while let Some(waiting) = shared.syncs.next() {
        // Lowered before the sync: what is written from here on sets it again.
        let news = shared.syncs.dirty.swap(false, Ordering::AcqRel);
        if !news && waiting.is_empty() {
            if let Err(e) = shared.log.witness() {
                tracing::warn!("the log's witness could not be written: {e}");
            }
            continue;
        }
        let result = shared.log.sync();
        shared.syncs.look_after(shared.options.sync_interval);
        if let Err(e) = &result
            && waiting.is_empty()
        {
            tracing::error!("the log could not be synced: {e}");
        }
        for done in waiting {
            // Somebody else's code: a panic in it ends it alone.
            if catch_unwind(AssertUnwindSafe(|| done(result.clone()))).is_err() {
                tracing::error!("what was to be called after a sync panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_between_syncs_is_looked_at_an_interval_after_the_last_one() {
        let (syncs, hour) = (Syncs::default(), Duration::from_secs(3600));
        let sync = || {
            syncs.dirty.store(false, Ordering::Release);
            syncs.look_after(hour);
            syncs.queue.lock().due.unwrap()
        };
        let first = sync();
        syncs.note_write(hour);
        assert_eq!(syncs.queue.lock().due, Some(first), "the thread need not be woken");
        // Written while the log was being synced: that sync may not have it.
        syncs.look_after(hour);
        assert_eq!(syncs.queue.lock().due, Some(first));
        assert!(sync() > first, "what was synced on request is not synced again soon");
    }

    #[test]
    fn a_sync_interval_may_be_endless() {
        let syncs = Syncs::default();
        syncs.note_write(Duration::MAX);
        assert_eq!(syncs.queue.lock().due, None);
    }
}
