//! Serving requests where they are made.
//!
//! A caller and the thread that answers it take turns: one sleeps while the other runs. On two processors each
//! turn wakes a processor that has just gone idle, which takes several times as long as most requests; on one,
//! it is a change of threads. So while a caller makes many small requests, the serving thread *follows* it:
//! it binds itself to the processor on which the caller was seen last. While several take turns it stays where it is: some
//! of them come to it, and the others find their processor awake. A crowd ([`Company`]) is not followed: the threads that
//! serve it run where there is room.
//!
//! That alone does not help: whoever is woken while another processor is idle is moved there, and the caller
//! would flee its server, each time. So meanwhile the *keeper*, a thread of the lowest priority that gives way
//! to whoever wants the processor, keeps the other processor from being idle. It stops when no request has come
//! for a moment. With more than two processors there always is an idle one, and nothing is done.
//!
//! Where a stream of heavy requests goes on meanwhile ([`Company`]), they are served beside the place, and the others'
//! at it. Else a server would be woken where the streamer runs and wait until its turn is over, while the processor
//! that its caller has just left is idle. The keeper is not wanted then.
//!
//! A serving thread binds and frees itself, when it notes a request; so does one that was told to wait while
//! it was bound, when it serves again.
//!
//! # Bounds
//! The keeper runs while requests come, and no longer than the time given to [`Nearby::new`] after the last.
//!
//! # Locks
//! The keeper's and the window's, both leaves.

use crate::fs::fuse::company::{Company, MANY, NOBODY, Seen};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Processors between which a caller can be kept from moving.
const PROCESSORS: u32 = 2;

/// Requests for more bytes than this are not small: caller and server have enough to do side by side.
const SMALL: usize = 16 << 10;

/// One in so many, at most, is not small.
const LARGE_ONE_IN: u64 = 8;

/// The caller is looked for once in so many ticks.
const TICKS: u64 = 4;

/// Requests served by bound threads after which it is looked how they came: in how short a time many are, and how many
/// of them another caller than the one before may have made.
const WINDOW: u64 = 16;
const WINDOW_MAX: Duration = Duration::from_millis(2);
const TURNS_MAX: u64 = 2;

/// The lowest priority.
const LOWEST: i32 = 19;

/// The keeper's pauses between two looks.
const PAUSES: u32 = 20;

/// Anywhere: no processor's place.
const ANYWHERE: usize = 0;

thread_local! {
    /// The place that this thread is bound to.
    static BOUND: Cell<Bound> = const { Cell::new(Bound { place: ANYWHERE, beside: false }) };
}

/// Where a thread is bound to: a place, or the processor beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    place: usize,
    beside: bool,
}

/// Who calls, and where the serving thread is to run.
#[derive(Debug)]
pub(super) struct Nearby {
    /// The processors that this process may use, if there are two of them.
    processors: Option<CpuSet>,
    /// Two threads can serve at once.
    is_parallel: bool,
    company: Company,
    /// How long the keeper goes on after a request.
    patience: Duration,
    /// Who made the last small request.
    caller: AtomicU32,
    /// How many requests there were that were not small.
    large: AtomicU64,
    /// Where the serving thread is to run: a processor's number and one, or [`ANYWHERE`].
    place: AtomicUsize,
    /// Are requests served by threads that are bound already?
    is_bound: AtomicBool,
    window: Mutex<Window>,
    keeper: Mutex<Keeper>,
    wake: Condvar,
}

/// When it was looked how requests come, how often the caller had changed until then, and how many large ones there were.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    turns: u64,
    large: u64,
}

impl Window {
    /// Did one caller make many small requests, one soon after another, since an earlier look?
    fn is_of_one_caller(&self, earlier: &Window) -> bool {
        let quick = |since, now: Instant| now.saturating_duration_since(since) < WINDOW_MAX;
        let quick = matches!((earlier.since, self.since), (Some(since), Some(now)) if quick(since, now));
        let few_large = (self.large.saturating_sub(earlier.large)) * LARGE_ONE_IN <= WINDOW;
        quick && few_large && self.turns.saturating_sub(earlier.turns) <= TURNS_MAX
    }
}

#[derive(Debug, Default)]
struct Keeper {
    wanted: bool,
    ended: bool,
}

/// What was seen at the last tick.
#[derive(Debug, Default)]
pub(super) struct Tick {
    caller: u32,
    count: u64,
    large: u64,
    number: u64,
    company: Seen,
}

impl Nearby {
    /// For this process, of which two threads can serve at once or not. The keeper goes on for `patience` after each
    /// request; with none, nothing is done.
    pub fn new(patience: Duration, is_parallel: bool) -> Nearby {
        let processors = sched_getaffinity(None).ok();
        let processors = processors.filter(|set| set.count() == PROCESSORS && !patience.is_zero());
        Nearby {
            processors,
            is_parallel,
            company: Company::default(),
            patience,
            caller: AtomicU32::new(NOBODY),
            large: AtomicU64::new(0),
            place: AtomicUsize::new(ANYWHERE),
            is_bound: AtomicBool::new(false),
            window: Mutex::default(),
            keeper: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// This thread serves a request for `len` bytes made by `caller`, a thread's number.
    pub fn note(&self, caller: u32, len: usize) {
        self.company.note(caller, len);
        let Some(processors) = &self.processors else { return };
        // Nobody makes what the kernel sends by itself, as when a directory is closed, nor waits for it.
        if caller != NOBODY {
            match len > SMALL {
                true => _ = self.large.fetch_add(1, Relaxed),
                // A streamer's small requests are few, and the place is for the others'.
                false if self.company.is_heavy() && self.company.streams(caller) => {}
                false => self.caller.store(caller, Relaxed),
            }
        }
        let place = self.place.load(Relaxed);
        let bound = Bound { place, beside: place != ANYWHERE && len > SMALL && self.company.is_heavy() };
        if BOUND.get() != bound {
            BOUND.set(bound);
            match bound {
                Bound { place: ANYWHERE, .. } => bind(processors),
                Bound { beside: true, .. } => bind(&without(processors, place)),
                Bound { beside: false, .. } => bind(&only(place - 1)),
            }
        }
    }

    /// This thread, which is bound to a processor, serves a request for `len` bytes made there by `caller`.
    ///
    /// There is no serving thread to follow. But a caller who makes many requests would be moved to the other processor
    /// at each answer, if that were idle.
    pub fn note_at(&self, processor: usize, caller: u32, len: usize) {
        let number = self.company.note(caller, len);
        let Some(processors) = &self.processors else { return };
        if !self.is_bound.load(Relaxed) {
            self.is_bound.store(true, Relaxed);
        }
        if len > SMALL {
            self.large.fetch_add(1, Relaxed);
        }
        if !number.is_some_and(|number| number.is_multiple_of(WINDOW)) {
            return;
        }
        let mut window = self.window.lock();
        let now = Window {
            since: Some(Instant::now()),
            turns: self.company.turns(),
            large: self.large.load(Relaxed),
        };
        let is_wanted = now.is_of_one_caller(&window) && processors.is_set(processor);
        *window = now;
        drop(window);
        self.place.store(if is_wanted { processor + 1 } else { ANYWHERE }, Relaxed);
        if is_wanted {
            self.keeper.lock().wanted = true;
            self.wake.notify_one();
        }
    }

    /// Requests are served by threads that are not bound, after all.
    pub fn free(&self) {
        self.is_bound.store(false, Relaxed);
        self.place.store(ANYWHERE, Relaxed);
    }

    /// Does the serving thread follow a caller?
    pub fn follows(&self) -> bool {
        self.place.load(Relaxed) != ANYWHERE
    }

    /// Does a stream go on while others call?
    pub fn is_mixed(&self) -> bool {
        self.company.is_mixed()
    }

    /// Is there a crowd that two threads can serve?
    pub fn is_crowd(&self) -> bool {
        self.is_parallel && self.company.is_crowd()
    }

    /// Is one more thread to read?
    pub fn wants_another(&self) -> bool {
        self.is_mixed() || self.is_crowd()
    }

    /// A request came while another one was handled, or soon after.
    pub fn note_wait(&self) {
        self.company.note_wait();
    }

    /// Does this caller call alone?
    pub fn is_alone(&self, caller: u32) -> bool {
        self.company.is_alone(caller)
    }

    /// Looks who has called since the last tick. Called every millisecond or so while there is work.
    pub fn tick(&self, last: &mut Tick) {
        self.company.tick(&mut last.company);
        let Some(processors) = self.processors.as_ref().filter(|_| !self.is_bound.load(Relaxed)) else {
            return;
        };
        let (count, large) = (self.company.calls(), self.large.load(Relaxed));
        let (came, came_large) = (count - last.count, large - last.large);
        let caller = self.caller.load(Relaxed);
        let alone = caller == last.caller;
        let may_move = alone || self.company.is_heavy();
        let look = !self.follows() || may_move && last.number.is_multiple_of(TICKS);
        (last.caller, last.count, last.large, last.number) = (caller, count, large, last.number + 1);
        let few_small = came < MANY || came_large * LARGE_ONE_IN > came;
        if !self.company.is_heavy() && (self.wants_another() || few_small) {
            return self.place.store(ANYWHERE, Relaxed);
        }
        if look {
            let found = processor_of(caller).filter(|n| processors.is_set(*n));
            self.place.store(found.map_or(ANYWHERE, |n| n + 1), Relaxed);
        }
        if self.follows() && !self.wants_another() {
            self.keeper.lock().wanted = true;
            self.wake.notify_one();
        }
    }

    /// The keeper's thread: until the mount is gone.
    pub fn keep(&self) {
        let Some(processors) = &self.processors else { return };
        // Should it fail the keeper gives way all the same.
        let _ = setpriority_process(Some(gettid()), LOWEST);
        let mut keeper = self.keeper.lock();
        while !keeper.ended {
            if std::mem::take(&mut keeper.wanted) {
                MutexGuard::unlocked(&mut keeper, || self.keep_awake(processors));
            } else {
                self.wake.wait(&mut keeper);
            }
        }
    }

    /// Keeps the processor that is not followed to from being idle, while requests come.
    fn keep_awake(&self, processors: &CpuSet) {
        let (mut bound, mut seen, mut since) = (ANYWHERE, 0, Instant::now());
        loop {
            let place = self.place.load(Relaxed);
            // Where threads are bound the place alone says it.
            if place == ANYWHERE || !self.is_bound.load(Relaxed) && self.wants_another() {
                return;
            }
            if place != bound {
                bound = place;
                bind(&without(processors, place));
            }
            let (count, now) = (self.company.calls(), Instant::now());
            if count != seen {
                (seen, since) = (count, now);
            } else if now.saturating_duration_since(since) > self.patience {
                return;
            }
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            std::thread::yield_now();
        }
    }

    /// The mount is gone.
    pub fn end(&self) {
        self.place.store(ANYWHERE, Relaxed);
        self.keeper.lock().ended = true;
        self.wake.notify_one();
    }
}

/// Binds this thread. Should it fail it runs where it does.
pub(super) fn bind(processors: &CpuSet) {
    if let Err(e) = sched_setaffinity(None, processors) {
        tracing::debug!("a thread stays where it is: {e}");
    }
}

/// One processor alone.
pub(super) fn only(processor: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(processor);
    set
}

fn without(processors: &CpuSet, place: usize) -> CpuSet {
    let mut set = *processors;
    set.unset(place - 1);
    set
}

/// The processor on which a thread ran last; `None` where that can't be seen, as in another namespace.
fn processor_of(thread: u32) -> Option<usize> {
    let pid = Pid::from_raw(i32::try_from(thread).ok()?)?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may hold anything. The processor is the 39th field, the second one the name.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests;
