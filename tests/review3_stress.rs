//! Threads that write large values over one another on a disk that runs full and crashes, with readers.

mod engine_common;

use engine_common::Rng;
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const KEYS: u64 = 8;

fn options() -> Options {
    Options {
        memtable_size: 3000,
        memtable_stall_size: 12_000,
        log_segment_size: 2000,
        block_size: 300,
        l0_compaction_trigger: 2,
        l0_slowdown: 6,
        l0_stop: 10,
        table_size: 1500,
        level_base_size: 3000,
        blob_min: 100,
        blob_file_size: 9000,
        open_files: 4,
        cache_size: 20_000,
        background: true,
        ..Options::default()
    }
}

fn value(thread: u64, i: u64) -> Vec<u8> {
    let mut rng = Rng(thread * 1_000_003 + i);
    let len = rng.one_of(&[20, 150, 700, 3000]) as usize;
    let mut out = i.to_be_bytes().to_vec();
    out.extend((0..len).map(|_| rng.below(256) as u8));
    out
}

fn key(thread: u64, i: u64) -> Vec<u8> {
    vec![b'k', thread as u8, (i % KEYS) as u8]
}

fn write(volume: &Volume, thread: u64, i: u64) -> Result<(), Error> {
    let mut batch = Batch::new();
    let (key, value) = (key(thread, i), value(thread, i));
    match i % 5 {
        // By way of a patch over what is there, or not.
        0 => {
            batch.delete(&key);
            batch.patch(&key, value.len() as u32, &[(0, &value)]);
        }
        1 => {
            let mut end = key.clone();
            end.push(0);
            batch.delete_range(&key, &end);
            batch.first_put(&key, b"", &value);
        }
        _ => batch.put_split(&key, b"", &value),
    }
    volume.write(batch).map(drop)
}

/// What a reader sees of one thread's keys is a state that there was; its number.
fn check(tails: &[(Vec<u8>, Vec<u8>)], thread: u64, context: &str) -> u64 {
    let mine: Vec<_> = tails.iter().filter(|(key, _)| key[1] == thread as u8).collect();
    let number = |tail: &[u8]| u64::from_be_bytes(tail[..8].try_into().unwrap());
    let newest = mine.iter().map(|(_, tail)| number(tail)).max().unwrap_or(0);
    for (key, tail) in &mine {
        let i = number(tail);
        assert_eq!(tail, &value(thread, i), "{context}: {key:?}");
        assert_eq!(i % KEYS, u64::from(key[2]), "{context}");
        assert!(newest < i + KEYS, "{context}: {key:?} has {i}, {newest} was written");
    }
    assert_eq!(mine.len() as u64, newest.min(KEYS), "{context}: {newest} were written");
    newest
}

fn tails(store: &Store) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let volume = store.volume("main")?;
    let snapshot = volume.snapshot();
    let mut scan = snapshot.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut found = Vec::new();
    while scan.next()? {
        found.push((scan.key().to_vec(), scan.tail()?.to_vec()));
    }
    Ok(found)
}

#[test]
fn threads_on_a_disk_that_runs_full_and_crashes() {
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let from = std::env::var("FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let later = std::env::var("LATER").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in from..seeds {
        let mut disk = Arc::new(SimDisk::new(seed));
        let written: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let synced: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        for round in 0..4 {
            let context = format!("seed {seed}, round {round}");
            eprintln!("{context}");
            let store = Store::open(disk.clone(), options()).unwrap_or_else(|e| panic!("{context}: {e}"));
            let found = tails(&store).unwrap_or_else(|e| panic!("{context}: {e}"));
            for t in 0..3 {
                let newest = check(&found, t as u64, &context);
                assert!(newest >= synced[t].load(Ordering::SeqCst), "{context}: {newest} < synced");
                written[t].store(newest, Ordering::SeqCst);
                synced[t].store(newest, Ordering::SeqCst);
            }
            let stop = AtomicBool::new(false);
            disk.crash_at_op(disk.ops().changes() + 50 + (seed * 37 + round * 101) % 900 + later);
            std::thread::scope(|scope| {
                for t in 0..3u64 {
                    let (store, stop, written, synced, disk) = (&store, &stop, &written, &synced, &disk);
                    let context = &context;
                    scope.spawn(move || {
                        let volume = store.volume("main").unwrap();
                        let mut i = written[t as usize].load(Ordering::SeqCst) + 1;
                        let mut tries = 0;
                        while !stop.load(Ordering::SeqCst) && !disk.is_crashed() {
                            match write(&volume, t, i) {
                                Ok(()) => {
                                    written[t as usize].store(i, Ordering::SeqCst);
                                    if i % 13 == t && store.sync().is_ok() && !disk.is_crashed() {
                                        synced[t as usize].store(i, Ordering::SeqCst);
                                    }
                                    i += 1;
                                    tries = 0;
                                }
                                Err(Error::ReadOnly(e)) => {
                                    if !stop.swap(true, Ordering::SeqCst) {
                                        eprintln!(
                                            "{context}: read-only: {e}; crashed: {}",
                                            disk.is_crashed()
                                        );
                                    }
                                    break;
                                }
                                Err(e) => {
                                    tries += 1;
                                    assert!(tries < 5000, "{context}: no write is taken: {e}");
                                }
                            }
                            if t == 0 && i % 40 == 0 {
                                let used: u64 = disk.files().iter().map(|file| file.len).sum();
                                disk.set_capacity(used + (i % 7) * 700);
                            }
                            if tries > 20 {
                                disk.set_capacity(1 << 30);
                            }
                        }
                    });
                }
                let (store, disk, stop) = (&store, &disk, &stop);
                let context = &context;
                scope.spawn(move || {
                    while !disk.is_crashed() && !stop.load(Ordering::SeqCst) {
                        match tails(store) {
                            Ok(found) => (0..3).for_each(|t| _ = check(&found, t, context)),
                            Err(Error::Disk(_)) if disk.is_crashed() => {}
                            Err(e) => panic!("{context}: {e}"),
                        }
                        if store.volume("main").is_err() {
                            break;
                        }
                    }
                });
            });
            let power = seed % 2 == 0;
            // The next to open finds the disk as it was at the crash.
            let next = Arc::new(if power { disk.crash() } else { disk.crash_keep_all() });
            drop(store);
            if !power {
                for t in 0..3 {
                    synced[t].store(written[t].load(Ordering::SeqCst), Ordering::SeqCst);
                }
            }
            next.set_capacity(1 << 40);
            disk = next;
        }
    }
}
