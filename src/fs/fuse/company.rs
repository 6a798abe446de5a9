//! Whether one calls alone, several take turns, or a stream goes on in company: one caller makes large requests, one after
//! another, while others make small ones.
//!
//! Where several take turns, and their requests wait while others are handled, they are a *crowd*: two threads that read
//! (`readers.rs`) answer up to half as many more in a time than one, on two processors. A program that goes from thread to
//! thread is none: nothing waits.
//!
//! To handle a large request takes as long as many small ones, which should not wait for it: somebody else reads
//! meanwhile (`readers.rs`; if there are three threads or more, since the last one handles nothing), and where
//! the large ones are *heavy* on another processor (`nearby.rs`). A stream alone, small requests alone, and a caller
//! who makes both are served faster without.
//!
//! Whoever calls alone waits for nobody but himself: the thread that serves him may do what takes long (`Face::sync`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Requests for so many bytes are large.
const LARGE: usize = 64 << 10;

/// Requests for so many bytes are heavy: writes mostly, since the kernel reads ahead less at a time.
const HEAVY: usize = 256 << 10;

/// So many calls in a tick are many.
pub(super) const MANY: u64 = 8;

/// If another one calls than had called before, and a call has waited, once in so many calls or more often, it is a crowd.
const CROWD_ONE_IN: u64 = 4;

/// For so many ticks after a request more of its sort are expected.
const TICKS: u32 = 20;

/// No thread's number: whoever asks from another namespace, or the kernel itself.
pub(super) const NOBODY: u32 = 0;

/// Who calls, who makes large requests, and whether others call meanwhile.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Who made the last large request.
    streamer: AtomicU32,
    /// How many large requests there were, how many heavy ones, and how many small ones by others than the
    /// streamer.
    large: AtomicU64,
    heavy: AtomicU64,
    others: AtomicU64,
    is_mixed: AtomicBool,
    is_heavy: AtomicBool,
    /// Who called last, how many calls there were, and how often another one had called before.
    caller: AtomicU32,
    calls: AtomicU64,
    turns: AtomicU64,
    is_alone: AtomicBool,
    /// How many calls had to wait.
    waited: AtomicU64,
    is_crowd: AtomicBool,
}

/// What was seen at the last tick.
#[derive(Debug, Default)]
pub(super) struct Seen {
    large: Sort,
    heavy: Sort,
    others: Sort,
    crowded: Sort,
    calls: u64,
    turns: u64,
    waited: u64,
}

/// Requests of a sort: how many there were, and for how many ticks more are expected.
#[derive(Debug, Default)]
struct Sort {
    count: u64,
    ticks: u32,
}

impl Company {
    /// A request for `len` bytes was made by `caller`, a thread's number. Returns the call's number, unless nobody made it.
    pub fn note(&self, caller: u32, len: usize) -> Option<u64> {
        if caller == NOBODY {
            return None;
        }
        let number = self.calls.fetch_add(1, Relaxed);
        if self.caller.load(Relaxed) != caller {
            self.caller.store(caller, Relaxed);
            self.turns.fetch_add(1, Relaxed);
            self.is_alone.store(false, Relaxed);
        }
        if len >= LARGE {
            self.streamer.store(caller, Relaxed);
            self.large.fetch_add(1, Relaxed);
            self.heavy.fetch_add(u64::from(len >= HEAVY), Relaxed);
        } else if ![caller, NOBODY].contains(&self.streamer.load(Relaxed)) {
            self.others.fetch_add(1, Relaxed);
        }
        Some(number)
    }

    /// A call came while another one was handled, or soon after.
    pub fn note_wait(&self) {
        self.waited.fetch_add(1, Relaxed);
    }

    /// Looks what has come since the last tick. Called every millisecond or so while there is work.
    pub fn tick(&self, seen: &mut Seen) {
        let large = seen.large.expected(self.large.load(Relaxed));
        let heavy = seen.heavy.expected(self.heavy.load(Relaxed));
        let others = seen.others.expected(self.others.load(Relaxed));
        self.is_mixed.store(large && others, Relaxed);
        self.is_heavy.store(heavy && others, Relaxed);
        let (calls, turns) = (self.calls(), self.turns.load(Relaxed));
        let (came, changed) = (calls - seen.calls, turns - seen.turns);
        // A few calls by one say nothing: the others may be waiting for answers.
        let alone = came >= MANY && changed == 0;
        self.is_alone.store(alone, Relaxed);
        let waited = self.waited.load(Relaxed);
        let crowded = came >= MANY && changed.min(waited - seen.waited) * CROWD_ONE_IN >= came;
        if alone {
            seen.crowded.ticks = 0;
        }
        self.is_crowd.store(seen.crowded.expected(seen.crowded.count + u64::from(crowded)), Relaxed);
        (seen.calls, seen.turns, seen.waited) = (calls, turns, waited);
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// How often another one called than had called before.
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// Has nobody but this caller called of late, and he many times?
    pub fn is_alone(&self, caller: u32) -> bool {
        self.is_alone.load(Relaxed) && self.caller.load(Relaxed) == caller
    }

    /// Do several take turns, often, and wait?
    pub fn is_crowd(&self) -> bool {
        self.is_crowd.load(Relaxed)
    }

    /// Does a stream go on while others call?
    pub fn is_mixed(&self) -> bool {
        self.is_mixed.load(Relaxed)
    }

    /// Does this caller make the large requests?
    pub fn streams(&self, caller: u32) -> bool {
        self.streamer.load(Relaxed) == caller
    }

    /// Is it one of heavy requests?
    pub fn is_heavy(&self) -> bool {
        self.is_heavy.load(Relaxed)
    }
}

impl Sort {
    /// There were `count` so far. Are more expected?
    fn expected(&mut self, count: u64) -> bool {
        self.ticks = if count == self.count { self.ticks.saturating_sub(1) } else { TICKS };
        self.count = count;
        self.ticks > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told {
        company: Company,
        seen: Seen,
    }

    impl Told {
        /// The company after these requests and so many ticks.
        fn after(&mut self, requests: &[(u32, usize)], ticks: u32) -> &Company {
            requests.iter().for_each(|(caller, len)| _ = self.company.note(*caller, *len));
            (0..ticks).for_each(|_| self.company.tick(&mut self.seen));
            &self.company
        }
    }

    #[test]
    fn a_stream_is_in_company_while_another_caller_makes_small_requests() {
        let mut told = Told::default();
        let (large, small) = (LARGE, LARGE - 1);
        assert!(!told.after(&[(1, small), (2, small)], 1).is_mixed(), "small ones alone");
        assert!(!told.after(&[(1, large), (1, small), (1, large)], 1).is_mixed(), "one caller of both sorts");
        assert!(!told.after(&[(NOBODY, small), (NOBODY, large)], 1).is_mixed(), "callers that nobody knows");
        assert!(told.after(&[(2, small)], 1).is_mixed());
        assert!(told.after(&[(1, large)], TICKS - 1).is_mixed());
        assert!(!told.after(&[(1, large)], 1).is_mixed(), "the other one has gone");
        assert!(told.after(&[(2, small)], 1).is_mixed());
        assert!(!told.after(&[(2, small)], TICKS).is_mixed(), "the stream has ended");
    }

    #[test]
    fn who_calls_alone_is_known_a_tick_later_and_until_another_calls() {
        let mut told = Told::default();
        let many = [(1, 0); MANY as usize];
        assert!(!told.after(&many, 1).is_alone(1), "he came since the last tick");
        assert!(!told.after(&[(1, 0)], 1).is_alone(1), "others may wait for answers");
        assert!(told.after(&[&many[..], &[(NOBODY, 0)]].concat(), 1).is_alone(1));
        assert!(told.after(&[(1, 0)], 0).is_alone(1) && !told.company.is_alone(2));
        assert!(!told.after(&[(2, 0)], 0).is_alone(1) && !told.company.is_alone(2));
        assert!(!told.after(&[&many[..], &[(2, 0)]].concat(), 1).is_alone(2));
        assert!(told.after(&many.map(|_| (2, 0)), 1).is_alone(2), "the other has not come again");
    }

    #[test]
    fn several_who_wait_are_a_crowd_until_one_calls_alone() {
        let mut told = Told::default();
        let turns = [(1, 0), (2, 0)].repeat(MANY as usize / 2);
        assert!(!told.after(&turns, 1).is_crowd(), "nothing waits");
        let mut after = |waited, requests: &[(u32, usize)], ticks| {
            (0..waited).for_each(|_| told.company.note_wait());
            told.after(requests, ticks).is_crowd()
        };
        assert!(after(2, &turns, 1));
        assert!(after(0, &[(1, 0)], TICKS - 1));
        assert!(!after(0, &[], 1), "they have gone");
        assert!(!after(8, &turns[1..], 1), "few calls");
        let seldom = [&[(1, 0); 8][..], &[(2, 0)]].concat();
        assert!(!after(8, &seldom, 1), "another one calls now and then");
        assert!(after(2, &turns, 1));
        assert!(!after(8, &[(2, 0); MANY as usize], 1), "one goes on alone");
        assert!(!after(1, &[(1, 0)], 1), "it does not come back by itself");
    }

    #[test]
    fn a_stream_is_heavy_while_heavy_requests_come() {
        let mut told = Told::default();
        assert!(!told.after(&[(1, HEAVY - 1), (2, 0)], 1).is_heavy());
        assert!(told.after(&[(1, HEAVY)], 1).is_heavy());
        assert!(told.after(&[(1, LARGE), (2, 0)], TICKS - 1).is_heavy());
        assert!(!told.after(&[(1, LARGE), (2, 0)], 1).is_heavy(), "only large ones now");
        assert!(told.company.is_mixed());
    }
}
