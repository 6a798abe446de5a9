//! The listings under way.
//!
//! The kernel opens and closes directories without a word (`fuse.rs`); it asks for what follows a cookie. A listing that
//! was not read to its end is kept here, with its snapshot and its place in it, for the caller who began it, when he asks
//! for the rest. Nobody says that he does not want it any more, and what a snapshot shows takes room in the store as long
//! as it lives, also after it was removed or overwritten. So a listing that was not used for a while is dropped. Whoever
//! comes later still goes on in another moment, behind the name that he was shown last (`shown.rs`).
//!
//! A thread of its own drops them. It sleeps until one is due, and for ever where there is none.
//!
//! # Listings that get mixed
//! Linux 6.18 appends what a lister is told to what it has kept of the directory, if that ends where his part begins, whoever
//! told it the rest; with the end of any it takes the whole to be complete. Whether that is of the present it asks for those
//! only who start; who is half-way goes on in it (`fs/fuse/readdir.c`). So names of an older moment could be shown to who has
//! started after it, as one who does not find a file that he has just renamed. Hence a directory is *mixed*, of which
//! somebody was shown older entries than the present ones, or gave up half-way. What the kernel has of a mixed directory it
//! is made to drop, before it is told of the end of any listing ([`Listings::complete`]).
//!
//! Nothing changes between an answer and its being kept, for the kernel holds the directory's lock; of what commands change
//! it is told.
//!
//! # Bounds
//! So many listings; one more, and the one not used for longest is dropped. So many mixed directories: one more, and
//! all are taken to be.
//!
//! # Locks
//! One mutex, held to look and to change. Under it those of [`Views`](crate::fs::views::Views) are taken, where it is asked
//! whether a directory has changed; nothing else.

use crate::fs::attr::Ino;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How long a listing waits for whoever asks for the rest.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// So many wait.
const LISTINGS_MAX: usize = 256;

/// So many directories are known to be mixed.
const MIXED_MAX: usize = 4096;

/// Listings, by their callers and where they go on.
#[derive(Debug)]
pub(super) struct Listings<D> {
    patience: Duration,
    queue: Mutex<Queue<D>>,
    wake: Condvar,
}

#[derive(Debug)]
struct Queue<D> {
    /// The one not used for longest first.
    waiting: VecDeque<Listing<D>>,
    mixed: HashSet<Ino>,
    /// More were mixed than fit.
    all_mixed: bool,
    /// Does the thread wait for one to come?
    thread_waits: bool,
    ended: bool,
}

#[derive(Debug)]
struct Listing<D> {
    dir: Ino,
    caller: u32,
    cookie: u64,
    due: Instant,
    rest: D,
}

impl<D> Listings<D> {
    /// None are under way. Each waits for `patience`.
    pub fn new(patience: Duration) -> Listings<D> {
        let queue = Queue {
            waiting: VecDeque::new(),
            mixed: HashSet::new(),
            all_mixed: false,
            thread_waits: false,
            ended: false,
        };
        Listings { patience, queue: Mutex::new(queue), wake: Condvar::new() }
    }

    /// A caller's listing of a directory, if it goes on behind a cookie. It is kept again when it has gone on. If it
    /// `is_older` than the present the directory is mixed.
    pub fn take(&self, dir: Ino, caller: u32, cookie: u64, is_older: impl Fn(&D) -> bool) -> Option<D> {
        let queue = &mut *self.queue.lock();
        let is_it =
            |listing: &Listing<D>| (listing.dir, listing.caller, listing.cookie) == (dir, caller, cookie);
        let at = queue.waiting.iter().rposition(is_it)?;
        let rest = queue.waiting.remove(at)?.rest;
        if is_older(&rest) {
            queue.mix(dir);
        }
        Some(rest)
    }

    /// Somebody comes to the end of a directory. Is it mixed, so that the kernel must drop what it has of it? It is not any
    /// more, then.
    pub fn complete(&self, dir: Ino, is_older: impl Fn(&D) -> bool) -> bool {
        let queue = &mut *self.queue.lock();
        let mut others = queue.waiting.iter().filter(|listing| listing.dir == dir);
        let beside_older = others.any(|listing| is_older(&listing.rest));
        queue.mixed.remove(&dir) || queue.all_mixed || beside_older
    }

    /// Keeps a caller's listing that goes on behind a cookie, in place of an earlier one of the same directory: that may
    /// have been given up, and would show an older moment to who began anew.
    pub fn keep(&self, dir: Ino, caller: u32, cookie: u64, rest: D) {
        let mut queue = self.queue.lock();
        let is_earlier = |listing: &Listing<D>| (listing.dir, listing.caller) == (dir, caller);
        let earlier = queue.waiting.iter().position(is_earlier).and_then(|at| queue.waiting.remove(at));
        queue.waiting.push_back(Listing { dir, caller, cookie, due: Instant::now() + self.patience, rest });
        let dropped = if queue.waiting.len() > LISTINGS_MAX { queue.waiting.pop_front() } else { None };
        earlier.iter().chain(&dropped).for_each(|given_up| queue.mix(given_up.dir));
        if std::mem::take(&mut queue.thread_waits) {
            self.wake.notify_one();
        }
        drop(queue);
        drop((earlier, dropped));
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.queue.lock().ended = true;
        self.wake.notify_one();
    }

    /// The thread, until the mount is gone: drops what nobody came for.
    pub fn run(&self) {
        let mut queue = self.queue.lock();
        while !queue.ended {
            match queue.waiting.front().map(|listing| listing.due) {
                None => {
                    queue.thread_waits = true;
                    self.wake.wait(&mut queue);
                    queue.thread_waits = false;
                }
                Some(due) if due > Instant::now() => _ = self.wake.wait_until(&mut queue, due),
                Some(_) => {
                    let dropped = queue.waiting.pop_front();
                    dropped.iter().for_each(|given_up| queue.mix(given_up.dir));
                    MutexGuard::unlocked(&mut queue, || drop(dropped));
                }
            }
        }
    }
}

impl<D> Queue<D> {
    /// The kernel may have entries of a directory that are not of one moment.
    fn mix(&mut self, dir: Ino) {
        if self.mixed.len() < MIXED_MAX {
            self.mixed.insert(dir);
        } else {
            self.all_mixed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_listing_is_found_by_its_caller_where_it_goes_on_and_is_taken_once() {
        let listings = Listings::new(PATIENCE);
        listings.keep(7, 1, 10, "given up");
        listings.keep(8, 1, 10, "elsewhere");
        listings.keep(7, 2, 10, "other's");
        listings.keep(7, 1, 10, "mine");
        assert_eq!(
            (
                listings.take(7, 3, 10, |_| false),
                listings.take(9, 1, 10, |_| false),
                listings.take(7, 1, 20, |_| false)
            ),
            (None, None, None)
        );
        assert_eq!(
            (listings.take(7, 1, 10, |_| false), listings.take(7, 1, 10, |_| false)),
            (Some("mine"), None)
        );
        assert_eq!(
            (listings.take(7, 2, 10, |_| false), listings.take(8, 1, 10, |_| false)),
            (Some("other's"), Some("elsewhere"))
        );
    }

    #[test]
    fn a_directory_is_mixed_once_older_entries_of_it_were_shown_or_somebody_gave_up() {
        let listings = Listings::new(PATIENCE);
        let (older, present) = (|older: &bool| *older, |_: &bool| false);
        assert!(!listings.complete(7, older), "nobody is under way");
        listings.keep(7, 1, 10, false);
        assert!(!listings.complete(7, older) && !listings.complete(8, older), "of the present");
        listings.keep(7, 2, 10, true);
        assert!(listings.complete(7, older) && listings.complete(7, older), "an older one may go on");
        assert_eq!(listings.take(7, 2, 10, older), Some(true));
        assert!(listings.complete(7, older), "it has gone on");
        assert!(!listings.complete(7, older), "what it has left is dropped");
        listings.keep(7, 1, 20, false);
        assert!(listings.complete(7, present), "his earlier one was given up");
        (0..=MIXED_MAX as u64).for_each(|dir| (0..2).for_each(|_| listings.keep(dir, 1, 10, false)));
        assert!(listings.complete(5, present) && listings.complete(1 << 40, present), "more than are known");
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let listings = Listings::new(PATIENCE);
        (0..=LISTINGS_MAX as u64).for_each(|dir| listings.keep(dir, 1, 3, dir));
        assert_eq!((listings.take(0, 1, 3, |_| false), listings.take(1, 1, 3, |_| false)), (None, Some(1)));
    }

    /// Says when it is dropped.
    struct Told(&'static str, mpsc::Sender<&'static str>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.1.send(self.0);
        }
    }

    #[test]
    fn what_nobody_comes_for_is_dropped() {
        let listings = Listings::new(Duration::ZERO);
        let (told, said) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| listings.run());
            for name in ["a", "b"] {
                listings.keep(1, 1, 3, Told(name, told.clone()));
                assert_eq!(said.recv().unwrap(), name);
            }
            listings.end();
        });
        // Those who are patient wait.
        let listings = Listings::new(PATIENCE);
        listings.keep(1, 1, 3, Told("c", told));
        std::thread::scope(|scope| {
            scope.spawn(|| listings.run());
            listings.end();
        });
        assert!(said.try_recv().is_err());
        drop(listings);
        assert_eq!(said.recv().unwrap(), "c");
    }
}
