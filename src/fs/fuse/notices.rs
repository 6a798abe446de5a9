//! What the kernel is told without having asked, and what waits to be done off the requests' threads.
//!
//! Late answers change what the kernel believes, and so do commands, which come here with their news
//! ([`Audience`]) after the change is visible. A lookup that was answered with the older state is over before the
//! kernel takes the news in: it does both under the directory's lock, or drops attributes that are older.
//!
//! A thread of its own, which holds no lock: the kernel takes the directory's lock to forget a name, and
//! whoever holds that one may be waiting for us.
//!
//! The kernel keeps every inode that it has ever been told of until it wants the memory back. Past a number
//! of them this thread has it forget those that nobody asked for of late ([`Views::coldest`], [`Pruner`]),
//! unless they are in use. Each look at one shard of the table is followed by what it found. A round ends
//! when so many were told of that a sixteenth of the room is free again, or after two turns of the hand.
//! Rounds follow while there are too many and they help; where most of a sample of those that were told of stay
//! known, they are in use, which raises the mark for the next one. (Who lists a directory meanwhile makes known
//! again what was forgotten: it counts as forgotten if it was seen to be.)
//!
//! Who lists directories may make inodes known faster than that. A sixteenth past the mark the table is *full*,
//! and listings make no more of them known ([`Notices::is_full`]).
//!
//! Lock: one mutex, held to look and to change; a leaf.

use crate::fs::attr::Ino;
use crate::fs::fuse::prune::Pruner;
use crate::fs::inode::Inodes;
use crate::fs::news::Audience;
use crate::fs::views::Views;
use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at what became of a round.
const PAUSE: Duration = Duration::from_millis(2);

/// How long the kernel's answers to a round may take, before what it did not forget counts as in use.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// So many of those that a round tells of are looked at.
const SAMPLE: usize = 64;
/// So many of each look at a shard: neighbours are forgotten together, and become known together.
const SAMPLE_OF_SHARD: usize = 1;

/// News that may wait to be told, before who brings more waits too.
const NEWS_MAX: usize = 4096;

/// How long who brings news waits for room at most: should the kernel be stuck, memory is the lesser evil.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// Something to be told or done.
#[derive(Debug)]
pub(super) enum Notice {
    /// What the kernel believes of a name in a directory may be wrong.
    Name(Ino, Box<[u8]>),
    /// What it believes of an inode, and of its contents (a directory's: its names), may be wrong.
    Inode(Ino),
    /// References to give back, where there was no thread to do it.
    Forget(Ino, u64),
}

impl Notice {
    /// What is believed of a name and of its directory may be wrong.
    ///
    /// The name first. For it the kernel waits until nobody reads the directory, but where it knows nothing of
    /// the name it keeps what it knows of the directory: the attributes, and the names that whoever read it until then
    /// was told of, which those may have left in its cache.
    pub fn of_name(parent: Ino, name: &[u8]) -> [Notice; 2] {
        [Notice::Name(parent, name.into()), Notice::Inode(parent)]
    }

    /// Tells the kernel, or does it.
    pub fn tell(&self, fs: &Views, kernel: &Notifier) {
        let told = match self {
            Notice::Name(parent, name) => kernel.inval_entry(INodeNo(*parent), OsStr::from_bytes(name)),
            Notice::Inode(ino) => kernel.inval_inode(INodeNo(*ino), 0, 0),
            Notice::Forget(ino, count) => {
                fs.forget(*ino, *count);
                Ok(())
            }
        };
        // The mount may be gone, and what the kernel does not know it need not forget.
        if let Err(e) = told {
            tracing::debug!("the kernel was not told of {self:?}: {e}");
        }
    }
}

/// What waits to be told. As much as late answers bring, of which there are no more than requests, and
/// what the kernel forgets while every thread is held up, no more than it knows.
#[derive(Debug)]
pub(super) struct Notices {
    inodes_max: usize,
    /// The number of inodes past which to look for those not used: the most there may be, or more where
    /// the last round found that they are in use.
    crowd: AtomicUsize,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Who brought news waits here.
    told: Condvar,
    /// There are too many inodes, and nobody has looked after them yet.
    crowded: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Notice>,
    /// Notices in all, and of those how many were told.
    pushed: u64,
    told: u64,
    crowded: bool,
    ended: bool,
}

/// What the kernel was asked to forget.
struct Round {
    /// A sample of the inodes, but for those that were seen to be forgotten.
    left: Vec<Ino>,
    /// The sample's size.
    asked: usize,
    answered_by: Instant,
}

impl Round {
    fn new(sample: Vec<Ino>) -> Round {
        Round { asked: sample.len(), left: sample, answered_by: Instant::now() + ANSWER_TIMEOUT }
    }

    /// Have most been forgotten? Not where there is none.
    fn has_helped(&mut self, is_known: impl Fn(Ino) -> bool) -> bool {
        self.left.retain(|ino| is_known(*ino));
        2 * self.left.len() < self.asked
    }

    fn is_over(&self) -> bool {
        self.asked == 0 || Instant::now() >= self.answered_by
    }
}

impl Notices {
    /// For a kernel that may know `inodes_max` inodes.
    pub fn new(inodes_max: usize) -> Notices {
        Notices {
            inodes_max,
            crowd: AtomicUsize::new(inodes_max),
            queue: Mutex::default(),
            wake: Condvar::new(),
            told: Condvar::new(),
            crowded: AtomicBool::new(false),
        }
    }

    /// Adds one. Never waits.
    pub fn push(&self, notice: Notice) {
        self.queue.lock().push(notice);
        self.wake.notify_one();
    }

    /// Adds what somebody brings who can wait while there is much.
    fn bring<const N: usize>(&self, notices: [Notice; N]) {
        let deadline = Instant::now() + ROOM_TIMEOUT;
        let mut queue = self.queue.lock();
        while queue.waiting.len() >= NEWS_MAX && !queue.ended {
            if self.told.wait_until(&mut queue, deadline).timed_out() {
                break;
            }
        }
        notices.into_iter().for_each(|notice| queue.push(notice));
        self.wake.notify_one();
    }

    /// So many inodes are known.
    pub fn look_at(&self, inodes: usize) {
        if inodes > self.crowd.load(Ordering::Relaxed) && !self.crowded.swap(true, Ordering::AcqRel) {
            self.queue.lock().crowded = true;
            self.wake.notify_one();
        }
    }

    /// Are there too many inodes for more to be made known that nobody asked for?
    pub fn is_full(&self, inodes: usize) -> bool {
        inodes > self.crowd.load(Ordering::Relaxed) + self.slack()
    }

    /// What a round makes free, and how far the mark may be passed before it.
    fn slack(&self) -> usize {
        self.inodes_max / 16
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.queue.lock().ended = true;
        self.wake.notify_one();
        self.told.notify_all();
    }

    /// The thread: until the mount is gone.
    pub fn run(&self, fs: &Views, kernel: &Notifier, pruner: &mut Pruner) {
        let mut queue = self.queue.lock();
        let mut round: Option<Round> = None;
        while !queue.ended {
            if let Some(notice) = queue.waiting.pop_front() {
                drop(queue);
                notice.tell(fs, kernel);
                queue = self.queue.lock();
                queue.told += 1;
                self.told.notify_all();
            } else if let Some(under_way) = &mut round {
                let helped = under_way.has_helped(|ino| fs.is_referenced(ino));
                if helped || under_way.is_over() {
                    queue.crowded = self.judge(helped, fs.referenced());
                    round = None;
                } else {
                    self.wake.wait_for(&mut queue, PAUSE);
                }
            } else if std::mem::take(&mut queue.crowded) {
                drop(queue);
                round = Some(Round::new(self.make_room(fs, kernel, pruner)));
                queue = self.queue.lock();
            } else {
                self.wake.wait(&mut queue);
            }
        }
    }

    /// Sets the mark by what came of a round. Is another one to follow?
    fn judge(&self, helped: bool, left: usize) -> bool {
        let crowd = match helped {
            true => self.inodes_max,
            false => self.inodes_max.max(left + self.slack()),
        };
        self.crowd.store(crowd, Ordering::Relaxed);
        self.crowded.store(false, Ordering::Release);
        left > crowd
    }

    /// Has the kernel forget what nobody used of late. Returns a sample of what it was asked to forget.
    fn make_room(&self, fs: &Views, kernel: &Notifier, pruner: &mut Pruner) -> Vec<Ino> {
        let wanted = self.inodes_max - self.slack();
        let mut excess = fs.referenced().saturating_sub(wanted);
        let mut sample = Vec::new();
        for _ in 0..2 * Inodes::TURN {
            if excess == 0 || self.queue.lock().ended {
                break;
            }
            let cold = fs.coldest(excess);
            pruner.forget(fs, kernel, &cold);
            excess -= cold.len();
            sample.extend(cold.into_iter().take(SAMPLE_OF_SHARD.min(SAMPLE - sample.len())));
        }
        sample
    }
}

impl Queue {
    fn push(&mut self, notice: Notice) {
        self.pushed += 1;
        self.waiting.push_back(notice);
    }
}

impl Audience for Notices {
    fn name(&self, parent: Ino, name: &[u8]) {
        self.bring(Notice::of_name(parent, name));
    }

    fn inode(&self, ino: Ino) {
        self.bring([Notice::Inode(ino)]);
    }

    fn heard(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut queue = self.queue.lock();
        let all = queue.pushed;
        while queue.told < all && !queue.ended {
            if self.told.wait_until(&mut queue, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_to_be_forgotten_counts_though_it_is_known_again() {
        let mut round = Round::new(vec![1, 2, 3, 4]);
        assert!(!round.has_helped(|_| true));
        assert!(!round.has_helped(|ino| ino > 2), "half");
        assert!(!round.has_helped(|_| true) && !round.is_over());
        assert!(round.has_helped(|ino| ino != 4));
        let mut none = Round::new(Vec::new());
        assert!(none.is_over() && !none.has_helped(|_| true));
    }
}
