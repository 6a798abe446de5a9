//! Who reads requests: few threads while all goes fast, another one whenever those are held up.
//!
//! A request is handled on the thread that read it: handing it over would cost a wake-up, several times
//! what most handlers take. But a handler may be held up (a write by a stall, a read by a cold disk, either
//! by a lock or by a disk that hangs), and then the next request must find somebody who reads it. So there
//! are many threads, of which most are *parked*:
//!
//! - After its answer a thread reads again if nobody else reads or requests are waiting; else it parks.
//! - The only reader reads at once while requests come so fast that they wait for it ([`Pace`]). Else it
//!   first *lingers*: it looks out for the next request for a while before it sleeps in its read, since to
//!   wake a sleeping processor costs more than most requests take. It does so while requests come that close
//!   together, and only where nobody else wants the processor: when giving way to others takes long, no thread
//!   lingers for a while. It does not while it follows its caller ([`Nearby`]), which then runs where it would
//!   look out, nor where there is one processor only.
//! - When requests came at once again and again ([`Pace`]), and more are waiting behind the one that was
//!   just read, a parked thread reads too. Half of the processors are for readers; on the others, their
//!   callers run.
//! - While a stream goes on in company ([`Nearby::is_mixed`]) one more thread reads, so that nobody waits for a large
//!   request that is being handled. In a crowd ([`Nearby::is_crowd`]) two threads read, to serve two requests at once.
//! - A *watch* looks every millisecond while there is work. If nobody reads and no request came since it last
//!   looked, all readers are held up: it has a parked thread read. When no request came for a while it
//!   sleeps until one comes.
//! - The last thread, when all others are held up, handles nothing that could hold it up too: it waits
//!   with its request until another thread is done. Then it goes, whatever that one reads next: that one may be the
//!   last now. What comes meanwhile waits in the kernel's queue, where its caller can be killed.
//!
//! No request outlives its *deadline*, whatever the disk does: the watch answers it with `EIO`, so that who
//! waits for it can always be ended. The handler goes on and finds that its answer is not wanted any more. If
//! so many are stuck past their deadlines that only the last thread is left, it refuses every request at
//! once, until the first of them comes back.
//!
//! # Ends
//! Each thread that has handled a request has a guard that runs when the thread ends, as all do when the
//! mount is gone: it wakes those parked, who then read and learn it too. A thread parks only while another
//! one that has a guard reads. So nobody is left behind.
//!
//! # Bounds
//! No more requests are handled than there are threads. Beside those, requests wait here for syncs that hold no
//! thread up; each has a caller that waits for it.
//!
//! # Locks
//! One mutex, held for a few instructions; three conditions, one for each sort that waits: the parked, the
//! last thread, the watch. What a sleeper waits for changes only under the mutex and is followed by a
//! notification, so no wake-up is lost.

use crate::fs::fuse::answer::Expire;
use crate::fs::fuse::nearby::{Nearby, Tick};
use crate::fs::fuse::pace::Pace;
use crate::fs::fuse::under_way::{Id, UnderWay};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::fmt;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long readers may be held up before another thread reads.
const TICK: Duration = Duration::from_millis(1);

/// Ticks without a request after which the watch looks at deadlines only.
const QUIET_TICKS: u32 = 100;

/// A thread that gives way for so long has met somebody who wants the processor.
const GAVE_WAY: Duration = Duration::from_micros(10);

/// The threads that read.
pub(super) struct Readers {
    /// All of them.
    threads: usize,
    /// Threads that read while all goes fast.
    active_max: usize,
    /// The connection, to see whether requests are waiting.
    device: OwnedFd,
    /// Who calls, and where from.
    pub nearby: Nearby,
    state: Mutex<State>,
    /// Parked threads wait here.
    promoted: Condvar,
    /// The last thread waits here.
    freed: Condvar,
    /// The watch waits here.
    work: Condvar,
}

struct State {
    /// Threads that have handled a request; the others are reading their first.
    known: usize,
    /// Those of them that read, or are about to.
    reading: usize,
    /// Those that wait until they are needed.
    parked: usize,
    /// Parked threads that were told to read and have not noticed yet: they are counted as reading.
    promotions: usize,
    /// Those that wait as the last thread: one, and for a moment the next.
    last_waiting: usize,
    /// How many of them may go, each for a thread that is done, and have not noticed yet.
    released: usize,
    under_way: UnderWay,
    pace: Pace,
    /// Does the watch sleep, to be woken by the next request?
    watch_sleeps: bool,
    /// The mount is gone.
    ended: bool,
}

/// A thread's permission to handle a request.
#[derive(Debug)]
pub(super) struct Turn {
    /// Its request.
    pub id: Id,
    /// False: do nothing, the request is answered.
    pub goes: bool,
}

/// Tells the others when its thread ends.
struct Guard(Arc<Readers>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

thread_local! {
    /// The guard of a thread that has handled a request.
    static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Readers {
    /// For `threads` threads that read from `device`, of which this is a duplicate.
    pub fn new(device: OwnedFd, threads: usize, timeout: Duration, linger_max: Duration) -> Arc<Readers> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Arc::new(Readers {
            threads,
            active_max: (processors / 2).max(1),
            device,
            // The last thread handles nothing.
            nearby: Nearby::new(linger_max, processors > 1 && threads > 2),
            state: Mutex::new(State::new(timeout, if processors > 1 { linger_max } else { Duration::ZERO })),
            promoted: Condvar::new(),
            freed: Condvar::new(),
            work: Condvar::new(),
        })
    }

    /// This thread has read a request, which may be answered from now on: by the handler or, at the
    /// deadline, by the watch. Where it is the last thread it waits; with what has no answer it does not,
    /// nor may it go on.
    pub fn enter(self: &Arc<Self>, answer: Option<Arc<dyn Expire>>) -> Turn {
        // A thread serves one mount, to its end.
        let new = GUARD.with_borrow_mut(|guard| {
            let new = guard.is_none();
            guard.get_or_insert_with(|| Guard(self.clone()));
            new
        });
        let now = Instant::now();
        let deaf = answer.is_none();
        let mut state = self.state.lock();
        match new {
            true => state.known += 1,
            false => state.reading -= 1,
        }
        if state.pace.came(now) {
            self.nearby.note_wait();
        }
        let id = state.under_way.add(now, answer);
        if state.watch_sleeps {
            state.watch_sleeps = false;
            self.work.notify_one();
        }
        let active = state.known - state.parked;
        let beside = self.nearby.is_mixed() && active <= self.active_max;
        if state.reading == 0 && (beside || self.nearby.is_crowd() && active == 1) {
            self.promote(&mut state);
        } else if state.pace.take_backlog() {
            self.share(&mut state);
        }
        let goes = match deaf {
            true => self.threads == 1 || !self.is_last(&state),
            false => self.wait_unless_last(&mut state, id),
        };
        Turn { id, goes }
    }

    /// Has another thread read if there is something to read, nobody who reads it, and a processor for it.
    fn share(&self, state: &mut MutexGuard<'_, State>) {
        let wanted = |state: &State| state.reading == 0 && state.known - state.parked < self.active_max;
        if wanted(state) && MutexGuard::unlocked(state, || self.has_pending()) && wanted(state) {
            self.promote(state);
        }
    }

    /// Waits while all other threads are held up. False if the request is not to be handled.
    fn wait_unless_last(&self, state: &mut MutexGuard<'_, State>, id: Id) -> bool {
        while self.threads > 1 && self.is_last(state) {
            if state.under_way.is_expired(id) {
                return false;
            }
            if state.under_way.stuck() + 1 >= self.threads {
                let answer = state.under_way.take_answer(id);
                MutexGuard::unlocked(state, || answer.map(|answer| answer.expire()));
                return false;
            }
            state.last_waiting += 1;
            self.freed.wait(state);
            state.last_waiting -= 1;
            if state.released > 0 {
                state.released -= 1;
                return !state.under_way.is_expired(id);
            }
        }
        true
    }

    /// Are all threads held up but this one, which has a request?
    fn is_last(&self, state: &State) -> bool {
        state.known >= self.threads && state.reading == 0 && state.parked == 0 && !state.ended
    }

    /// The handler is done. `waits`: the request is not answered yet, which [`Readers::answered`] will
    /// tell. Returns when this thread is to read again.
    pub fn leave(&self, turn: Turn, waits: bool) {
        let now = Instant::now();
        let (linger, alone) = self.done(turn, waits, now);
        match alone {
            true if self.nearby.follows() => {}
            true => self.linger(now, linger),
            false => self.park_if_idle(),
        }
    }

    /// As [`Readers::leave`] where this thread may have more to handle of what it read: it returns at once.
    pub fn go_on(&self, turn: Turn) {
        self.done(turn, false, Instant::now());
    }

    /// Returns how long to look out for the next request, and whether nobody else reads.
    fn done(&self, turn: Turn, waits: bool, now: Instant) -> (Duration, bool) {
        let mut state = self.state.lock();
        state.reading += 1;
        let unused = match waits {
            true => {
                state.under_way.keep(turn.id);
                None
            }
            false => state.under_way.remove(turn.id),
        };
        let linger = state.pace.answered(now);
        if state.last_waiting > state.released {
            state.released += 1;
            self.freed.notify_one();
        }
        let alone = state.reading == 1;
        drop(state);
        drop(unused);
        (linger, alone)
    }

    /// A request that waited is answered.
    pub fn answered(&self, id: Id) {
        let unused = self.state.lock().under_way.remove(id);
        drop(unused);
    }

    /// May the handler of a request of `caller` do what takes long? Only where nobody else calls, and there is another
    /// thread for whoever comes, beside the last one.
    pub fn can_spare_a_thread(&self, caller: u32) -> bool {
        self.threads > 2 && self.nearby.is_alone(caller)
    }

    fn has_pending(&self) -> bool {
        let mut question = [PollFd::new(&self.device, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An error, too, is to be read.
        poll(&mut question, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// Looks out for the next request, giving way to whoever wants the processor.
    fn linger(&self, start: Instant, linger: Duration) {
        let mut looked = start;
        while looked.saturating_duration_since(start) < linger && !self.has_pending() {
            std::thread::yield_now();
            let now = Instant::now();
            if now.saturating_duration_since(looked) > GAVE_WAY {
                self.state.lock().pace.note_busy(now);
                return;
            }
            looked = now;
        }
    }

    /// Parks where others read and nothing is waiting.
    fn park_if_idle(&self) {
        if self.has_pending() {
            return;
        }
        let mut state = self.state.lock();
        if state.reading > 1 + usize::from(self.nearby.wants_another()) {
            self.park(&mut state);
        }
    }

    /// Waits until this thread is needed. The caller saw that another one reads.
    fn park(&self, state: &mut MutexGuard<'_, State>) {
        state.reading -= 1;
        state.parked += 1;
        loop {
            if state.promotions > 0 {
                state.promotions -= 1;
                return;
            }
            if state.ended {
                state.parked -= 1;
                state.reading += 1;
                return;
            }
            self.promoted.wait(state);
        }
    }

    /// Has a parked thread read, if there is one.
    fn promote(&self, state: &mut State) {
        if state.parked > 0 {
            state.parked -= 1;
            state.reading += 1;
            state.promotions += 1;
            self.promoted.notify_one();
            self.freed.notify_all();
        }
    }

    /// The mount is gone: nobody needs to wait any more.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.promoted.notify_all();
        self.freed.notify_all();
        self.work.notify_all();
        self.nearby.end();
    }

    /// The watch's thread: until the mount is gone.
    pub fn watch(&self) {
        let (mut quiet, mut tick) = (0, Tick::default());
        let mut state = self.state.lock();
        while !state.ended {
            let seen = state.under_way.count();
            self.pause(&mut state, quiet);
            MutexGuard::unlocked(&mut state, || self.nearby.tick(&mut tick));
            let expired = state.under_way.expire(Instant::now());
            if !expired.is_empty() {
                let timeout = state.under_way.timeout();
                MutexGuard::unlocked(&mut state, || answer(&expired, timeout));
                // The last thread may be waiting with one of them.
                self.freed.notify_all();
            }
            if state.under_way.count() != seen {
                quiet = 0;
                continue;
            }
            quiet = (quiet + 1).min(QUIET_TICKS);
            if state.known >= self.threads && state.reading == 0 {
                self.promote(&mut state);
            }
        }
    }

    /// Waits for a tick, or longer while nothing comes.
    fn pause(&self, state: &mut MutexGuard<'_, State>, quiet: u32) {
        if quiet < QUIET_TICKS {
            self.work.wait_for(state, TICK);
            return;
        }
        state.watch_sleeps = true;
        match state.under_way.due() {
            Some(due) => drop(self.work.wait_until(state, due)),
            None => self.work.wait(state),
        }
        state.watch_sleeps = false;
    }
}

fn answer(expired: &[Arc<dyn Expire>], timeout: Duration) {
    for request in expired {
        if let Some(op) = request.expire() {
            tracing::error!("{op} took longer than {timeout:?} and was answered with an error");
        }
    }
}

impl State {
    fn new(timeout: Duration, linger_max: Duration) -> State {
        State {
            known: 0,
            reading: 0,
            parked: 0,
            promotions: 0,
            last_waiting: 0,
            released: 0,
            under_way: UnderWay::new(timeout),
            pace: Pace::new(linger_max),
            watch_sleeps: false,
            ended: false,
        }
    }
}

#[cfg(test)]
mod tests;
