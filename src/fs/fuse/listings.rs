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
//! The kernel keeps the first entries that come to it of a directory of which it has nothing, and takes them to be as new
//! as the directory was when somebody last *started* to list it (`fuse_readdir_cached` in Linux 6.18). So of two who start
//! at the same time, one before a change and one after it, the older one's names may be kept, and shown as if they were the
//! newer ones'. Hence each that starts is noted ([`Listings::start`]): who starts beside an older moment does not leave a
//! listing with the kernel, nor does whoever comes to the end of one that is not the present any more (`list.rs`).
//!
//! # Bounds
//! So many listings; one more, and the one not used for longest is dropped.
//!
//! # Locks
//! One mutex, held to look and to change; a leaf.

use crate::fs::attr::Ino;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a listing waits for whoever asks for the rest.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// So many wait.
const LISTINGS_MAX: usize = 256;

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
    /// Directories of which somebody is being given the first entries.
    starting: Vec<Ino>,
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
        let queue =
            Queue { waiting: VecDeque::new(), starting: Vec::new(), thread_waits: false, ended: false };
        Listings { patience, queue: Mutex::new(queue), wake: Condvar::new() }
    }

    /// Somebody starts to list a directory, and has shown the first entries when what is returned is dropped. Also returned
    /// is whether others show older ones: who is starting too, or shows what `is_older`.
    pub fn start(&self, dir: Ino, is_older: impl Fn(&D) -> bool) -> (Start<'_, D>, bool) {
        let mut queue = self.queue.lock();
        let mut others = queue.waiting.iter().filter(|listing| listing.dir == dir);
        let beside = queue.starting.contains(&dir) || others.any(|listing| is_older(&listing.rest));
        queue.starting.push(dir);
        (Start { listings: self, dir }, beside)
    }

    /// A caller's listing of a directory, if it goes on behind a cookie. It is kept again when it has gone on.
    pub fn take(&self, dir: Ino, caller: u32, cookie: u64) -> Option<D> {
        let waiting = &mut self.queue.lock().waiting;
        let is_it =
            |listing: &Listing<D>| (listing.dir, listing.caller, listing.cookie) == (dir, caller, cookie);
        waiting.iter().rposition(is_it).and_then(|at| waiting.remove(at)).map(|listing| listing.rest)
    }

    /// Keeps a caller's listing that goes on behind a cookie, in place of an earlier one of the same directory: that may
    /// have been given up, and would show an older moment to who began anew.
    pub fn keep(&self, dir: Ino, caller: u32, cookie: u64, rest: D) {
        let mut queue = self.queue.lock();
        let is_earlier = |listing: &Listing<D>| (listing.dir, listing.caller) == (dir, caller);
        let earlier = queue.waiting.iter().position(is_earlier).and_then(|at| queue.waiting.remove(at));
        queue.waiting.push_back(Listing { dir, caller, cookie, due: Instant::now() + self.patience, rest });
        let dropped = if queue.waiting.len() > LISTINGS_MAX { queue.waiting.pop_front() } else { None };
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
                    MutexGuard::unlocked(&mut queue, || drop(dropped));
                }
            }
        }
    }
}

/// Somebody is being given a directory's first entries.
pub(super) struct Start<'a, D> {
    listings: &'a Listings<D>,
    dir: Ino,
}

impl<D> Drop for Start<'_, D> {
    fn drop(&mut self) {
        let starting = &mut self.listings.queue.lock().starting;
        if let Some(at) = starting.iter().position(|dir| *dir == self.dir) {
            starting.swap_remove(at);
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
            (listings.take(7, 3, 10), listings.take(9, 1, 10), listings.take(7, 1, 20)),
            (None, None, None)
        );
        assert_eq!((listings.take(7, 1, 10), listings.take(7, 1, 10)), (Some("mine"), None));
        assert_eq!((listings.take(7, 2, 10), listings.take(8, 1, 10)), (Some("other's"), Some("elsewhere")));
    }

    #[test]
    fn whoever_starts_beside_an_older_listing_is_told() {
        let listings = Listings::new(PATIENCE);
        let beside = |dir, is_older: bool| listings.start(dir, |_: &i32| is_older).1;
        assert!(!beside(7, true), "alone");
        let (first, other) = listings.start(7, |_| true);
        assert!(!other && beside(7, false), "both start");
        assert!(!beside(8, true), "elsewhere");
        listings.keep(7, 1, 10, 0);
        drop(first);
        assert!(beside(7, true) && !beside(7, false));
        assert_eq!(listings.take(7, 1, 10), Some(0));
        assert!(!beside(7, true), "it has come to its end");
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let listings = Listings::new(PATIENCE);
        (0..=LISTINGS_MAX as u64).for_each(|dir| listings.keep(dir, 1, 3, dir));
        assert_eq!((listings.take(0, 1, 3), listings.take(1, 1, 3)), (None, Some(1)));
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
