//! Power cuts and kills at every operation of the disk that a workload takes: what is left is a state of its history,
//! and none that is older than what was firm.

use super::{assert_no_leaks, cut_power, kill};
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Error, Options, Store};
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// So small that a short workload fills log segments, memtables and levels; no background threads.
pub fn tiny() -> Options {
    Options {
        memtable_size: 3000,
        memtable_stall_size: 12_000,
        num_memtable_limit: 2,
        log_segment_size: 2000,
        block_size: 300,
        l0_compaction_trigger: 2,
        table_size: 1500,
        level_base_size: 3000,
        background: false,
        ..Options::default()
    }
}

/// What is done to a store until its disk crashes, and what a store then holds of it.
pub trait Workload {
    /// What a store holds.
    type State: Clone + Debug + PartialEq;

    fn options() -> Options;

    /// What a new store holds.
    fn start() -> Self::State;

    /// The same for a seed, until it ends or the disk crashes.
    fn run(disk: &Arc<SimDisk>, seed: u64, history: &mut History<Self::State>) -> Result<(), Error>;

    fn state(store: &Store) -> Self::State;

    /// What is done to a store that was recovered before it is opened again.
    fn go_on(_: &Store) {}
}

/// What a workload did: the state after each step, and the last that was synced.
pub struct History<S> {
    pub states: Vec<S>,
    synced: usize,
}

impl<S: Clone> History<S> {
    pub fn new(start: S) -> History<S> {
        History { states: vec![start], synced: 0 }
    }

    pub fn last(&self) -> &S {
        self.states.last().unwrap()
    }

    /// A step is about to be taken: it may survive a crash unanswered.
    pub fn push(&mut self, change: impl FnOnce(&mut S)) {
        let mut next = self.last().clone();
        change(&mut next);
        self.states.push(next);
    }

    /// Everything until now was synced.
    pub fn note_sync(&mut self) {
        self.synced = self.states.len() - 1;
    }
}

/// Opens what a crash left and holds it against the history; also tells which of its states it is.
pub fn check<W: Workload>(disk: &Arc<SimDisk>, history: &History<W::State>, context: &str) -> (Store, usize) {
    let store = Store::open(disk.clone(), W::options()).unwrap_or_else(|e| panic!("{context}: open: {e}"));
    let (found, synced) = (W::state(&store), history.synced);
    let at = history.states.iter().rposition(|state| *state == found);
    let at = at.unwrap_or_else(|| panic!("{context}: not a prefix of the history: {found:?}"));
    assert!(at >= synced, "{context}: {at} of the history is left, {synced} was synced");
    (store, at)
}

/// A workload whose disk crashed.
struct Stopped<S> {
    /// At this operation.
    at: u64,
    disk: Arc<SimDisk>,
    history: History<S>,
    died: bool,
    context: String,
}

/// Runs a workload again and again: the nth time the nth of all changes to the disk is its last.
fn stopped_everywhere<W: Workload>(seed: u64) -> impl Iterator<Item = Stopped<W::State>> {
    let run = move |crash_at: Option<u64>| {
        let (disk, mut history) = (Arc::new(SimDisk::new(seed)), History::new(W::start()));
        if let Some(at) = crash_at {
            disk.crash_at_op(at);
        }
        let done = W::run(&disk, seed, &mut history);
        (disk, history, done)
    };
    let (whole, _, done) = run(None);
    done.unwrap();
    (1..=whole.ops().changes()).map(move |at| {
        let (disk, history, done) = run(Some(at));
        Stopped { at, disk, history, died: done.is_err(), context: format!("seed {seed}, operation {at}") }
    })
}

/// A power cut at any operation of the disk, and another while the store recovers from it, leave a prefix of the
/// history and no file that the store does not know.
pub fn cut_everywhere<W: Workload>(seeds: Range<u64>) {
    let mut cuts = 0;
    for Stopped { at, disk, history, context, .. } in seeds.clone().flat_map(stopped_everywhere::<W>) {
        let disk = cut_power(&disk);
        // A second cut, somewhere in the recovery.
        disk.crash_at_op(1 + at % 11);
        drop(Store::open(disk.clone(), W::options()));
        let disk = cut_power(&disk);
        let (store, _) = check::<W>(&disk, &history, &context);
        assert_no_leaks(&disk, &store, &context);
        W::go_on(&store);
        drop(store);
        check::<W>(&disk, &history, &format!("{context}, reopened"));
        cuts += 2;
    }
    println!("{cuts} power cuts, half of them in recoveries; seeds {seeds:?}");
}

/// A process that dies (and a system that lives) keeps everything that was answered, and what a store then opens with
/// is firm.
pub fn kill_everywhere<W: Workload>(seeds: Range<u64>) {
    for Stopped { disk, mut history, died, context, .. } in seeds.flat_map(stopped_everywhere::<W>) {
        // The step that was under way may be there or not; all before it must be.
        history.synced = history.states.len() - 1 - usize::from(died && history.states.len() > 1);
        let disk = kill(&disk);
        let (store, at) = check::<W>(&disk, &history, &context);
        history.synced = at;
        let disk = cut_power(&disk);
        drop(store);
        check::<W>(&disk, &history, &format!("{context}, then a power cut"));
    }
}
