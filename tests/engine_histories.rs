//! Random histories: sessions on one disk, each ended by a close, a kill or a power cut, some of them
//! in the middle of the recovery from the one before, on a disk that works or one that fails now and then.
//!
//! Each opening must find a state of the history: the batches up to one of them, and at least those
//! that were answered before a kill, or synced before a power cut. What a failed disk left, the next
//! opening on a disk that works again must put right.
//!
//! `LSMFS_HISTORIES` says how many (a long run by hand), `LSMFS_SEED` runs one.

mod engine_common;

use engine_common::{Contents, Rng, assert_no_leaks, put_or_patch, stepped};
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::options::CompactionMode;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};

use std::ops::Bound;
use std::sync::Arc;

const SESSIONS: usize = 6;

struct History {
    rng: Rng,
    disk: Arc<SimDisk>,
    fails: bool,
    /// What the store may hold: the state it was last found in, and what each batch since made of it.
    states: Vec<Contents>,
    /// The last of them that was answered, and the last that was synced.
    answered: usize,
    synced: usize,
    batches: u64,
    /// What happened, for who reads a failure.
    story: Vec<String>,
}

impl History {
    fn new(seed: u64, fails: bool) -> History {
        History {
            rng: Rng(seed * 77 + 1),
            disk: Arc::new(SimDisk::new(seed)),
            fails,
            states: vec![Contents::new()],
            answered: 0,
            synced: 0,
            batches: 0,
            story: vec![format!("seed {seed}")],
        }
    }

    fn run(mut self) {
        for _ in 0..SESSIONS {
            self.session();
        }
        let store = Store::open(self.disk.clone(), self.options()).unwrap();
        store.compact().unwrap();
        assert_no_leaks(&self.disk, &store, &self.story.join("\n"));
    }

    /// One session, its end, and what is found then.
    fn session(&mut self) {
        if self.rng.below(3) > 0 {
            let within = self.rng.one_of(&[9, 60, 60, 60]);
            let at = 1 + self.rng.below(within);
            self.story.push(format!("ends at operation {at}"));
            self.disk.crash_at_op(at);
        }
        if self.fails && self.rng.below(2) == 0 {
            self.add_fault();
        }
        let store = self.open_and_work();
        if let Err(e) = &store {
            self.story.push(format!("opening: {e}"));
            assert!(self.disk.is_crashed() || self.fails, "{:#?}", self.story);
        }
        let cut = self.rng.below(2) == 0;
        self.story.push(format!(
            "{}: {} batches, {} answered, {} synced",
            if cut { "power cut" } else { "kill" },
            self.states.len() - 1,
            self.answered,
            self.synced
        ));
        self.disk = Arc::new(if cut { self.disk.crash() } else { self.disk.crash_keep_all() });
        drop(store);
        if cut {
            self.answered = self.synced;
        }
        // On a copy: the next session recovers for itself.
        let copy = Arc::new(self.disk.crash_keep_all());
        self.disk = Arc::new(self.disk.crash_keep_all());
        let store = Store::open(copy, self.options()).unwrap_or_else(|e| panic!("{e}: {:#?}", self.story));
        let at = self.found(&contents(&store).unwrap());
        self.states.truncate(at + 1);
        self.answered = at;
        if cut {
            self.is_firm();
        }
    }

    fn open_and_work(&mut self) -> Result<Store, Error> {
        let options = self.options();
        self.story.push(format!("{options:?}"));
        let store = Store::open(self.disk.clone(), options)?;
        let at = self.found(&contents(&store)?);
        self.states.truncate(at + 1);
        // Recovery made it durable.
        self.is_firm();
        let volume = store.volume("main")?;
        for _ in 0..self.rng.below(40) {
            match self.rng.below(14) {
                0 if store.sync().is_ok() => self.synced = self.answered,
                0 | 1 => drop(store.step()),
                2 if self.rng.below(3) == 0 => drop(store.flush()),
                3 if self.rng.below(3) == 0 => drop(store.compact()),
                4 if !self.disk.is_crashed() => {
                    assert_eq!(contents(&store)?, self.states[self.answered], "{:#?}", self.story);
                }
                _ => self.write(&volume),
            }
        }
        if self.rng.below(3) == 0 && store.close().is_ok() {
            self.story.push("closed".into());
            self.synced = self.answered;
        }
        Ok(store)
    }

    fn write(&mut self, volume: &Volume) {
        let (batch, next) = self.batch();
        self.states.truncate(self.answered + 2);
        let unclear = self.states.len() > self.answered + 1;
        if !unclear {
            self.states.push(next);
        }
        match volume.write(batch) {
            Ok(_) => {
                assert!(!unclear, "a write after one whose outcome is unclear: {:#?}", self.story);
                self.answered += 1;
            }
            // Whether the batch is in the log decides the next opening.
            Err(_) if unclear || self.disk.is_crashed() || is_read_only(volume) => {}
            Err(_) => drop(self.states.pop()),
        }
    }

    /// A batch and what it makes of the contents.
    fn batch(&mut self) -> (Batch, Contents) {
        let rng = &mut self.rng;
        let (mut batch, mut next) = (Batch::new(), self.states[self.answered].clone());
        for _ in 0..=rng.below(3) {
            let key = format!("key{:02}", rng.below(12)).into_bytes();
            match rng.below(8) {
                0 => {
                    let end = format!("key{:02}", rng.below(12)).into_bytes();
                    batch.delete_range(&key, &end);
                    next.retain(|k, _| *k < key || *k >= end);
                }
                1 | 2 => {
                    batch.delete(&key);
                    next.remove(&key);
                }
                _ => put_or_patch(rng, &mut batch, key, &mut next),
            }
        }
        // No two states are equal.
        self.batches += 1;
        batch.put(b"count", &self.batches.to_be_bytes());
        next.insert(b"count".to_vec(), self.batches.to_be_bytes().to_vec());
        (batch, next)
    }

    /// Which state was found; at least what was answered must be there.
    fn found(&self, found: &Contents) -> usize {
        let at = self.states.iter().rposition(|state| state == found);
        let at = at.unwrap_or_else(|| panic!("not a state of the history: {:#?}", self.story));
        assert!(at >= self.answered, "only {at} of {}: {:#?}", self.answered, self.story);
        at
    }

    /// The last state is on the disk for good.
    fn is_firm(&mut self) {
        self.states.drain(..self.states.len() - 1);
        (self.answered, self.synced) = (0, 0);
    }

    fn add_fault(&mut self) {
        let rng = &mut self.rng;
        let ops =
            [Op::Write, Op::Sync, Op::Truncate, Op::CreateLog, Op::Reuse, Op::Delete, Op::SyncDir, Op::Name];
        let op = rng.one_of(&ops);
        let name = if op == Op::SyncDir {
            ""
        } else {
            rng.one_of(&["", ".log", "edits-", "manifest-", ".sst", ".blob"])
        };
        let mut fault = Fault::new(op, rng.one_of(&[libc::EIO, libc::ENOSPC])).on(name).after(rng.below(10));
        if rng.below(2) == 0 {
            fault = fault.short();
        }
        if rng.below(3) == 0 {
            fault = fault.times(1 + rng.below(5));
        }
        self.story.push(format!("{fault:?}"));
        self.disk.fail(fault);
    }

    fn options(&mut self) -> Options {
        let rng = &mut self.rng;
        Options {
            memtable_size: rng.one_of(&[1, 1000, 3000]),
            memtable_stall_size: 12_000,
            num_memtable_limit: 1 + rng.below(3) as usize,
            log_segment_size: rng.one_of(&[1, 500, 2000, 100_000]),
            spare_log_segments: rng.below(3) as usize,
            block_size: 300,
            compaction: rng.one_of(&[CompactionMode::Leveled, CompactionMode::Tiered, CompactionMode::None]),
            l0_compaction_trigger: 2 + rng.below(3) as usize,
            table_size: rng.one_of(&[1, 1500]),
            level_base_size: 3000,
            blob_min: rng.one_of(&[0, 1, 100, 100]),
            blob_file_size: rng.one_of(&[1, 2000, 100_000]),
            ..stepped()
        }
    }
}

/// The keys and the values, head and tail end to end, of a store's first volume.
fn contents(store: &Store) -> Result<Contents, Error> {
    let mut scan = store.volume("main")?.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut contents = Contents::new();
    while scan.next()? {
        contents.insert(scan.key().to_vec(), [scan.head(), &scan.tail()?].concat());
    }
    Ok(contents)
}

fn is_read_only(volume: &Volume) -> bool {
    let mut probe = Batch::new();
    probe.delete(b"nothing");
    matches!(volume.write(probe), Err(Error::ReadOnly(_)))
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    match number("LSMFS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LSMFS_HISTORIES").unwrap_or(100),
    }
}

#[test]
fn every_opening_finds_a_state_of_the_history() {
    seeds().for_each(|seed| History::new(seed, false).run());
}

#[test]
fn every_opening_finds_a_state_of_the_history_on_a_disk_that_fails() {
    seeds().for_each(|seed| History::new(seed, true).run());
}
