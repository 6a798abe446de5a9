//! The threads that flush and compact: one each, however many volumes there are. (`syncs.rs` has the one
//! that syncs the log.)
//!
//! A failure is tried again after a pause, unless the store is read-only. One volume's failure does not
//! keep the others from their work. A panic makes the store read-only and is an error like others: who
//! waits for room must not wait for ever.
//!
//! # Locks
//! [`Signal`] has an inner lock, held only to look and to change.

use crate::lsm::store::Shared;
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause after a flush or compaction that failed; each further failure doubles it …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often flushed memtables are looked at that a reader still uses.
const RETIRED_PAUSE: Duration = Duration::from_millis(250);

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
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let mut raised = self.raised.lock();
        while !*raised {
            match end {
                Some(end) if self.wake.wait_until(&mut raised, end).timed_out() => break,
                Some(_) => {}
                None => self.wake.wait(&mut raised),
            }
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

/// Flushes whatever is due, until the store closes; drops flushed memtables when nobody reads them any more.
pub(crate) fn run_flushes(shared: &Shared) {
    run(shared, &shared.flush_signal, "flush", || {
        shared.flush_due()?;
        Ok(shared.drop_retired().then_some(RETIRED_PAUSE))
    });
}

/// Compacts whatever is due, until the store closes.
pub(crate) fn run_compactions(shared: &Shared) {
    run(shared, &shared.compaction_signal, "compaction", || {
        shared.compact_due(usize::MAX)?;
        shared.reclaim().map(|()| None)
    });
}

/// Does `work` whenever the signal is raised, or when the work itself wants to look again, until the store
/// closes; and again after a pause when it failed. Nobody cuts that pause short: those who wait for
/// room would, each time that they are refused.
fn run(shared: &Shared, signal: &Signal, name: &str, work: impl Fn() -> Result<Option<Duration>>) {
    let mut look_again = None;
    let mut pause: Option<Duration> = None;
    loop {
        match pause {
            Some(pause) => signal.sit_out(pause, || shared.is_closed()),
            None => signal.wait(look_again.take()),
        }
        if shared.is_closed() {
            return;
        }
        pause = match work() {
            Ok(again) => {
                look_again = again;
                None
            }
            // Nothing more will come of it.
            Err(Error::ReadOnly(_) | Error::Closed) => None,
            Err(e) => {
                tracing::warn!("a {name} failed and will be tried again: {e}");
                Some(pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)))
            }
        };
    }
}

impl Shared {
    /// Flushes until no volume wants it; says whether anything was done.
    pub(crate) fn flush_due(&self) -> Result<bool> {
        let frozen: Vec<Arc<Volume>> =
            self.work.take_flushes().into_iter().filter_map(|id| self.by_id(id)).collect();
        let flushed = self.flush_wanted(&frozen);
        let left = frozen.iter().filter(|volume| !volume.tree().immutable.is_empty());
        left.for_each(|volume| self.work.froze(volume.id()));
        flushed
    }

    fn flush_wanted(&self, frozen: &[Arc<Volume>]) -> Result<bool> {
        // If it fails, those who wait for a flush of their own must learn whether that fails too.
        let kept = self.keep_budget();
        let mut worked = false;
        loop {
            let wanting: Vec<Arc<Volume>> = frozen.iter().filter(|v| v.wants_flush()).cloned().collect();
            if wanting.is_empty() {
                return kept.map(|kept| kept || worked);
            }
            worked |= self.flush_earliest(&wanting)?;
        }
    }

    /// Does `work`; a panic in it is an error, and the store's last change.
    pub(crate) fn caught<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
            let message = payload.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(self.read_only.set(Error::Internal(message.unwrap_or("a panic").to_string())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, Op, SimDisk};
    use crate::lsm::{Batch, Options, Store};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    #[test]
    fn who_waits_for_a_flush_gets_it_though_one_that_shortens_the_log_fails() {
        let disk = Arc::new(SimDisk::new(1));
        let options = Options {
            memtable_size: 2 << 10,
            log_segment_size: 2 << 10,
            log_limit: 16 << 10,
            background: false,
            ..Options::default()
        };
        let store = Store::open(disk.clone(), options).unwrap();
        let (idle, waiting) = (store.create_volume("idle").unwrap(), store.create_volume("waiting").unwrap());
        let put = |volume: &Arc<Volume>, key: u8| {
            let mut batch = Batch::new();
            batch.put(&[key], &[0; 1000]);
            volume.write(batch).unwrap();
        };
        (0..14).for_each(|key| put(&idle, key));
        (0..6).for_each(|key| put(&waiting, key));
        assert!(waiting.wants_flush());
        disk.fail(Fault::new(Op::Create, libc::EIO));
        store.shared().flush_wanted(std::slice::from_ref(&waiting)).unwrap_err();
        assert!(!waiting.wants_flush());
    }

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
        signal.wait(None);
    }
}
