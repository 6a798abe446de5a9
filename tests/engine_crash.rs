//! Power cuts on the simulated disk: after each, the store opens, what was synced is there, and what is
//! there is a prefix of history.

mod engine_common;

use engine_common::{Rng, assert_no_leaks, contents, crash_seeds};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::{Op, SimDisk};
use lsmfs::lsm::{Batch, Error, Options, Store};
use std::collections::BTreeMap;
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
            2 if rng.below(4) == 0 => store.flush()?,
            _ => {
                let mut batch = Batch::new();
                let mut next = history.states.last().cloned().unwrap_or_default();
                for _ in 0..=rng.below(3) {
                    let key = format!("key{}", rng.below(20)).into_bytes();
                    if rng.below(4) == 0 {
                        batch.delete(&key);
                        next.remove(&key);
                    } else {
                        let value = vec![rng.below(256) as u8; rng.below(400) as usize];
                        batch.put(&key, &value);
                        next.insert(key, value);
                    }
                }
                let count = (history.states.len() as u64).to_be_bytes();
                batch.put(b"count", &count);
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

/// Opens what a crash left and holds it against the history.
fn check(disk: &Arc<SimDisk>, history: &History, context: &str) -> Store {
    let store = Store::open(disk.clone(), options()).unwrap_or_else(|e| panic!("{context}: open: {e}"));
    let found = contents(&store).unwrap();
    let at = match found.get(&b"count"[..]) {
        Some(count) => u64::from_be_bytes(count.as_slice().try_into().unwrap()) as usize,
        None => 0,
    };
    assert!(at >= history.synced, "{context}: {at} of the history is left, {} was synced", history.synced);
    assert_eq!(found, history.states[at], "{context}: not a prefix of the history");
    store
}

fn fresh() -> History {
    History { states: vec![Contents::new()], synced: 0 }
}

/// A power cut at the nth operation of the disk, for every n of the workload, and again while the
/// store recovers from the first.
#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_of_history() {
    let (seeds, mut points) = (crash_seeds(2), 0);
    for seed in seeds.clone() {
        let disk = Arc::new(SimDisk::new(seed));
        work(&disk, seed, &mut fresh()).unwrap();
        assert!(disk.ops().get(Op::Reuse) > 0, "log segments are recycled");
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
        drop(check(&Arc::new(disk.crash_keep_all()), &history, &context));
    }
}

/// A log of 40 records; the store is then found as after a kill.
fn logged(sync_at: Option<usize>) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new(9));
    let store = Store::open(
        disk.clone(),
        Options { memtable_size: 1 << 20, memtable_stall_size: 1 << 24, ..options() },
    )
    .unwrap();
    let volume = store.volume("main").unwrap();
    for i in 0..40 {
        let mut batch = Batch::new();
        batch.put(format!("{i:02}").as_bytes(), &[i as u8; 100]);
        volume.write(batch).unwrap();
        if sync_at == Some(i) {
            store.sync().unwrap();
        }
    }
    let after = Arc::new(disk.crash_keep_all());
    drop(store);
    after
}

#[test]
fn damage_below_a_synced_position_is_an_error_and_a_torn_tail_is_not() {
    let names = |disk: &SimDisk| -> Vec<String> {
        disk.list().unwrap().into_iter().map(|f| f.name).filter(|n| n.ends_with(".log")).collect()
    };
    for (synced, refused) in [(None, false), (Some(20), true)] {
        let disk = logged(synced);
        let first = names(&disk)[0].clone();
        disk.flip_bit(&first, 300, 3).unwrap();
        match Store::open(disk.clone(), options()) {
            Err(Error::Corruption { file, .. }) if refused => assert_eq!(file, first),
            Ok(store) if !refused => assert!(contents(&store).unwrap().len() < 5),
            other => panic!("synced {synced:?}: {other:?}"),
        }
    }
    // What a torn tail hid stays hidden, though its bytes are whole.
    let disk = logged(None);
    disk.flip_bit(&names(&disk)[1], 300, 3).unwrap();
    let store = Store::open(disk.clone(), options()).unwrap();
    let found = contents(&store).unwrap();
    let mut batch = Batch::new();
    batch.put(b"new", b"1");
    store.volume("main").unwrap().write(batch).unwrap();
    let again = Arc::new(disk.crash_keep_all());
    drop(store);
    let mut want = found;
    want.insert(b"new".to_vec(), b"1".to_vec());
    assert_eq!(contents(&Store::open(again, options()).unwrap()).unwrap(), want);
}

/// Every bit of the manifest and of a durable log: the answer is right, or an error that names the file.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let build = || {
        let disk = Arc::new(SimDisk::new(3));
        let store = Store::open(disk.clone(), options()).unwrap();
        let volume = store.volume("main").unwrap();
        for i in 0..30 {
            let mut batch = Batch::new();
            batch.put(format!("{i:02}").as_bytes(), &[i as u8; 150]);
            volume.write(batch).unwrap();
            store.step().unwrap();
        }
        store.sync().unwrap();
        let want = contents(&store).unwrap();
        (Arc::new(disk.crash_keep_all()), want)
    };
    let (disk, want) = build();
    let files: Vec<_> = disk.list().unwrap();
    for file in files {
        for offset in (0..file.len).step_by(3) {
            let (disk, _) = build();
            disk.flip_bit(&file.name, offset, (offset % 8) as u8).unwrap();
            let context = format!("{} at {offset}", file.name);
            let store = match Store::open(disk, options()) {
                Ok(store) => store,
                Err(e) => {
                    assert!(
                        e.to_string().contains(&file.name) || file.name.ends_with(".log"),
                        "{context}: {e}"
                    );
                    continue;
                }
            };
            let volume = store.volume("main").unwrap();
            let mut first_gone = None;
            // In the order in which they were written.
            for (key, value) in &want {
                match volume.get(key) {
                    Ok(Some(found)) => {
                        assert_eq!(found.head, value, "{context}");
                        assert_eq!(first_gone, None, "{context}: gone, though {key:?} is there");
                    }
                    Ok(None) => first_gone = first_gone.or(Some(key)),
                    Err(e) => assert!(e.to_string().contains(&file.name), "{context}: {e}"),
                }
            }
            // The last log records may have been a torn tail, as far as anyone can tell.
            assert!(first_gone.is_none() || file.name.ends_with(".log"), "{context}: {first_gone:?} is gone");
        }
    }
}
