//! Threads that write, read, scan and sync at once, while memtables of a few kilobytes are flushed and
//! compacted under them.
//!
//! Each batch sets all keys of a group to one number, a higher one each time. So every reader must see
//! each group whole, of one number, never an older one than was answered before it looked; and a
//! snapshot must stay as it is. `LSMFS_STRESS_BATCHES` says how many batches each writer writes (a long
//! run by hand).

mod engine_common;

use engine_common::{Rng, cut_power, open, sim, stepped};
use lsmfs::lsm::{Batch, Options, Scan, Snapshot, Store, Volume};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;

const WRITERS: u64 = 4;
const GROUPS_A_WRITER: u64 = 2;
const GROUPS: u64 = WRITERS * GROUPS_A_WRITER;
const KEYS_A_GROUP: u64 = 6;
const SNAPSHOTS_HELD: usize = 20;

/// The keys of a group lie far apart.
fn key(group: u64, n: u64) -> Vec<u8> {
    format!("{n}-{group}").into_bytes()
}

/// The numbers of each group's keys.
type Seen = BTreeMap<u64, Vec<u64>>;

fn read(mut scan: Scan) -> Seen {
    let mut seen = Seen::new();
    while scan.next().unwrap() {
        let group = std::str::from_utf8(scan.key()).unwrap().split_once('-').unwrap().1.parse().unwrap();
        let number = u64::from_be_bytes(scan.tail().unwrap().as_ref().try_into().unwrap());
        seen.entry(group).or_default().push(number);
    }
    seen
}

fn read_all(snapshot: &Snapshot) -> Seen {
    read(snapshot.scan(Bound::Unbounded, Bound::Unbounded).unwrap())
}

/// The number of each group that was answered last.
#[derive(Default)]
struct Answered([AtomicU64; GROUPS as usize]);

impl Answered {
    fn now(&self) -> Vec<u64> {
        self.0.iter().map(|number| number.load(SeqCst)).collect()
    }

    /// What a reader saw who looked after the answers `before`.
    fn check(seen: &Seen, before: &[u64]) {
        for (group, &least) in (0..).zip(before).filter(|(_, least)| **least > 0) {
            let numbers = seen.get(&group).cloned().unwrap_or_default();
            assert_eq!(numbers.len() as u64, KEYS_A_GROUP, "group {group} in part: {numbers:?}");
            assert!(numbers.iter().all(|n| *n == numbers[0]), "group {group} mixed: {numbers:?}");
            assert!(numbers[0] >= least, "group {group} went back to {numbers:?} from {least}");
        }
    }
}

fn write(volume: &Volume, answered: &Answered, writer: u64, batches: u64) {
    let mut rng = Rng(writer + 1);
    for number in 1..=batches {
        let group = writer * GROUPS_A_WRITER + rng.below(GROUPS_A_WRITER);
        let value = number.to_be_bytes();
        let mut batch = Batch::new();
        let was_there = answered.0[group as usize].load(SeqCst) > 0;
        for n in 0..KEYS_A_GROUP {
            let key = key(group, n);
            match rng.below(6) {
                0 => {
                    batch.delete(&key);
                    batch.first_put(&key, b"", &value);
                }
                1 => {
                    batch.delete_range(&key, &[&key[..], &[0]].concat());
                    batch.put_split(&key, b"", &value);
                }
                2 if was_there => batch.patch(&key, 8, &[(0, &value)]),
                3 if was_there => batch.patch_split(&key, b"", 8, 8, &[(0, &value)]),
                _ => batch.put_split(&key, b"", &value),
            }
        }
        volume.write(batch).unwrap();
        answered.0[group as usize].store(number, SeqCst);
    }
}

fn keep_reading(volume: &Arc<Volume>, answered: &Answered, done: &AtomicBool, seed: u64) {
    let mut rng = Rng(seed);
    let mut held = Vec::new();
    while !done.load(SeqCst) {
        let before = answered.now();
        let snapshot = volume.snapshot();
        let seen = read_all(&snapshot);
        Answered::check(&seen, &before);
        Answered::check(&read(volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap()), &before);
        let group = rng.below(GROUPS);
        if before[group as usize] > 0 {
            let value = volume.get(&key(group, rng.below(KEYS_A_GROUP))).unwrap().expect("the key is there");
            assert!(u64::from_be_bytes(value.tail.as_ref().try_into().unwrap()) >= before[group as usize]);
        }
        held.push((snapshot, seen));
        if held.len() > SNAPSHOTS_HELD {
            let (snapshot, seen) = held.swap_remove(rng.below(SNAPSHOTS_HELD as u64) as usize);
            assert_eq!(read_all(&snapshot), seen, "a snapshot changed");
        }
    }
}

fn keep_syncing(store: &Store, done: &AtomicBool) {
    while !done.load(SeqCst) {
        store.sync().unwrap();
        let (synced, result) = mpsc::channel();
        store.sync_then(Box::new(move |result| synced.send(result).unwrap()));
        result.recv().unwrap().unwrap();
    }
}

#[test]
fn many_threads_see_whole_batches_in_order() {
    let batches = std::env::var("LSMFS_STRESS_BATCHES").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let options = Options {
        memtable_size: 6000,
        memtable_stall_size: 40_000,
        num_memtable_limit: 2,
        log_segment_size: 5000,
        block_size: 300,
        cache_size: 20_000,
        open_files: 8,
        table_size: 4000,
        level_base_size: 8000,
        background: true,
        ..Options::default()
    };
    let disk = sim();
    let (store, volume) = open(&disk, options);
    let (answered, done) = (Answered::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (store, volume, answered, done) = (&store, &volume, &answered, &done);
        let writers: Vec<_> =
            (0..WRITERS).map(|w| scope.spawn(move || write(volume, answered, w, batches))).collect();
        (0..2).for_each(|r| _ = scope.spawn(move || keep_reading(volume, answered, done, 100 + r)));
        scope.spawn(move || keep_syncing(store, done));
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, SeqCst);
        assert!(ended.iter().all(Result::is_ok), "a writer failed");
    });
    store.sync().unwrap();
    let disk = cut_power(&disk);
    drop((store, volume));
    let (_store, volume) = open(&disk, stepped());
    Answered::check(&read_all(&volume.snapshot()), &answered.now());
}
