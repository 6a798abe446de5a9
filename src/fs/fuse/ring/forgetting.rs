//! Letting the kernel gather what it forgets, which comes over the device also where all else comes over rings.
//!
//! It tells of an inode as soon as it has forgotten it, and wakes a thread for that, which takes a processor from those who
//! call. So one thread takes what there is and then leaves the device alone for a moment. (It is told of each inode by
//! itself, also where the kernel sends many at once, so it goes by time.) Others that were woken before wait until that
//! one ends, as all do when the mount is gone; or until requests come over the device after all.
//!
//! Lock: who takes; a leaf.

use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the device is left alone.
const PAUSE: Duration = Duration::from_millis(1);

/// How long it is attended to in between: a hundred inodes and more.
const BURST: Duration = Duration::from_micros(100);

/// What threads that forget have in common.
#[derive(Debug, Default)]
pub struct Forgetting {
    is_taken: Mutex<bool>,
    freed: Condvar,
}

/// The one that takes what there is; the next one may when its thread ends.
struct Taker {
    forgetting: Arc<Forgetting>,
    /// The end of its last pause.
    since: Option<Instant>,
}

impl Taker {
    fn new(forgetting: Arc<Forgetting>) -> Taker {
        Taker { forgetting, since: None }
    }

    /// Leaves the device alone, if that is due.
    fn pause(&mut self) {
        if self.since.is_none_or(|since| since.elapsed() >= BURST) {
            std::thread::sleep(PAUSE);
            self.since = Some(Instant::now());
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        *self.forgetting.is_taken.lock() = false;
        self.forgetting.freed.notify_one();
    }
}

thread_local! {
    static TAKER: RefCell<Option<Taker>> = const { RefCell::new(None) };
}

impl Forgetting {
    /// This thread has taken something. It may take more when this returns.
    pub fn gather(self: &Arc<Self>, over_ring: &AtomicBool) {
        TAKER.with_borrow_mut(|taker| {
            if taker.is_none() && self.becomes_taker(over_ring) {
                *taker = Some(Taker::new(self.clone()));
            }
            taker.iter_mut().for_each(Taker::pause);
        });
    }

    /// `over_ring` has become false.
    pub fn end(&self) {
        // Whoever is about to wait has looked at it before, under the lock.
        drop(self.is_taken.lock());
        self.freed.notify_all();
    }

    fn becomes_taker(&self, over_ring: &AtomicBool) -> bool {
        let mut is_taken = self.is_taken.lock();
        while *is_taken && over_ring.load(Ordering::Relaxed) {
            self.freed.wait(&mut is_taken);
        }
        !std::mem::replace(&mut *is_taken, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn one_takes_all_until_its_thread_ends_or_none_is_needed() {
        let (forgetting, over_ring) = (Arc::new(Forgetting::default()), AtomicBool::new(true));
        let (gathered, said) = mpsc::channel();
        std::thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            let (forgetting, over_ring, told) = (&forgetting, &over_ring, gathered.clone());
            scope.spawn(move || {
                (0..3).for_each(|_| forgetting.gather(over_ring));
                told.send("first").unwrap();
                ended.recv().unwrap();
            });
            assert_eq!(said.recv().unwrap(), "first");
            let told = gathered.clone();
            scope.spawn(move || {
                forgetting.gather(over_ring);
                told.send("second").unwrap();
            });
            assert!(said.try_recv().is_err());
            end.send(()).unwrap();
            assert_eq!(said.recv().unwrap(), "second");
        });
        // Over the device all are needed.
        let taker = Taker::new(forgetting.clone());
        *forgetting.is_taken.lock() = true;
        std::thread::scope(|scope| {
            scope.spawn(|| forgetting.gather(&over_ring));
            over_ring.store(false, Ordering::Relaxed);
            forgetting.end();
        });
        drop(taker);
    }
}
