//! Large values in blob files on the simulated disk: crashes, failing operations and damage.

mod engine_common;

use engine_common::{Rng, assert_no_leaks, crash_seeds, cut_power};

use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Batch, Error, Options, Store};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

fn options() -> Options {
    Options {
        memtable_size: 3000,
        memtable_stall_size: 12_000,
        num_memtable_limit: 2,
        log_segment_size: 2000,
        block_size: 300,
        l0_compaction_trigger: 2,
        table_size: 1500,
        level_base_size: 3000,
        blob_min: 100,
        blob_file_size: 6000,
        background: false,
        ..Options::default()
    }
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a workload did: the contents after each batch, and the last that was synced.
struct History {
    states: Vec<Contents>,
    synced: usize,
}

fn fresh() -> History {
    History { states: vec![Contents::new()], synced: 0 }
}

/// A value that compresses by half, more or less.
fn value(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|at| if at % 2 == 0 { rng.below(256) as u8 } else { 7 }).collect()
}

/// Adds a random write to a batch, and to what it makes of the contents.
fn change(rng: &mut Rng, batch: &mut Batch, next: &mut Contents) {
    let key = format!("key{:02}", rng.below(20)).into_bytes();
    match rng.below(10) {
        0 => {
            batch.delete(&key);
            next.remove(&key);
        }
        1 => {
            let end = format!("key{:02}", rng.below(20)).into_bytes();
            batch.delete_range(&key, &end);
            next.retain(|k, _| !(key <= *k && *k < end));
        }
        2 => {
            let part = value(rng, 30);
            let len = next.get(&key).map_or(0, Vec::len).max(50);
            batch.patch(&key, len as u32, &[(20, &part)]);
            let tail = next.entry(key).or_default();
            tail.resize(len, 0);
            tail[20..50].copy_from_slice(&part);
        }
        _ => {
            let len = rng.one_of(&[10, 150, 700, 3000, 9000]);
            let tail = value(rng, len);
            batch.put_split(&key, b"head", &tail);
            next.insert(key, tail);
        }
    }
}

/// Runs a workload until it ends or the disk crashes. Each batch also writes a counter.
fn work(disk: &Arc<SimDisk>, seed: u64, history: &mut History) -> Result<(), Error> {
    let mut rng = Rng(seed);
    let store = Store::open(disk.clone(), options())?;
    let volume = store.volume("main")?;
    for _ in 0..60 {
        match rng.below(12) {
            0 => {
                let now = history.states.len() - 1;
                store.sync()?;
                history.synced = now;
            }
            1 => while store.step()? {},
            2 if rng.below(3) == 0 => store.flush()?,
            3 if rng.below(4) == 0 => store.compact()?,
            _ => {
                let mut batch = Batch::new();
                let mut next = history.states.last().cloned().unwrap_or_default();
                for _ in 0..=rng.below(3) {
                    change(&mut rng, &mut batch, &mut next);
                }
                let count = (history.states.len() as u64).to_be_bytes();
                batch.put_split(b"count", b"", &count);
                next.insert(b"count".to_vec(), count.to_vec());
                // Before the answer: a crash may keep a batch that was never answered.
                history.states.push(next);
                volume.write(batch)?;
            }
        }
    }
    store.close()?;
    history.synced = history.states.len() - 1;
    Ok(())
}

/// The keys and the tails of their values.
fn contents(store: &Store) -> Result<Contents, Error> {
    let mut scan = store.volume("main")?.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut contents = Contents::new();
    while scan.next()? {
        contents.insert(scan.key().to_vec(), scan.tail()?.to_vec());
    }
    Ok(contents)
}

/// Opens what a crash left and holds it against the history.
fn check(disk: &Arc<SimDisk>, history: &History, context: &str) -> Store {
    let store = Store::open(disk.clone(), options()).unwrap_or_else(|e| panic!("{context}: open: {e}"));
    let found = contents(&store).unwrap_or_else(|e| panic!("{context}: {e}"));
    let at = match found.get(&b"count"[..]) {
        Some(count) => u64::from_be_bytes(count.as_slice().try_into().unwrap()) as usize,
        None => 0,
    };
    assert!(at >= history.synced, "{context}: {at} of the history is left, {} was synced", history.synced);
    assert_eq!(found, history.states[at], "{context}: not a prefix of the history");
    store
}

/// A power cut at every operation of a workload with blobs and their garbage collection, and again while
/// the store recovers from the first.
#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_of_history() {
    let (seeds, mut points) = (crash_seeds(2), 0);
    for seed in seeds.clone() {
        let disk = Arc::new(SimDisk::new(seed));
        work(&disk, seed, &mut fresh()).unwrap();
        for at in 1..=disk.ops().changes() {
            let context = format!("seed {seed}, operation {at}");
            let disk = Arc::new(SimDisk::new(seed));
            disk.crash_at_op(at);
            let mut history = fresh();
            let _ = work(&disk, seed, &mut history);
            let disk = Arc::new(disk.crash());
            // A second cut, somewhere in the recovery.
            disk.crash_at_op(1 + at % 11);
            drop(Store::open(disk.clone(), options()));
            let disk = Arc::new(disk.crash());
            let store = check(&disk, &history, &context);
            assert_no_leaks(&disk, &store, &context);
            while store.step().unwrap() {}
            drop(store);
            drop(check(&disk, &history, &format!("{context}, reopened")));
            points += 2;
        }
    }
    println!("{points} power cuts, half of them in recoveries; seeds {seeds:?}");
}

/// A process that dies (and a system that lives) keeps everything that was answered.
#[test]
fn a_kill_at_any_operation_keeps_what_was_answered() {
    let seed = 5;
    let disk = Arc::new(SimDisk::new(seed));
    work(&disk, seed, &mut fresh()).unwrap();
    for at in 1..=disk.ops().changes() {
        let context = format!("operation {at}");
        let disk = Arc::new(SimDisk::new(seed));
        disk.crash_at_op(at);
        let mut history = fresh();
        let died = work(&disk, seed, &mut history).is_err();
        // The batch that was under way may be there or not; all before it must be.
        history.synced = history.states.len() - 1 - usize::from(died && history.states.len() > 1);
        let disk = Arc::new(disk.crash_keep_all());
        let store = check(&disk, &history, &context);
        // What a kill left unsynced is firm once the store was opened.
        history.synced = store
            .volume("main")
            .unwrap()
            .get(b"count")
            .unwrap()
            .map_or(0, |count| u64::from_be_bytes(count.tail.as_ref().try_into().unwrap()) as usize);
        let disk = cut_power(&disk);
        drop(store);
        drop(check(&disk, &history, &format!("{context}, then a power cut")));
    }
}
