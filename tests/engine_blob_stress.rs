//! Threads that write large values over one another on a disk that runs full, and then crashes, with a reader.
//!
//! `LSMFS_BLOB_STRESS_SEEDS` says how many histories, of four crashes each.

mod engine_common;

use engine_common::Rng;
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const KEYS: u64 = 8;
const WRITERS: u64 = 3;
/// Refused writes in a row after which a writer makes room: each may have waited for a flush that is tried again
/// only after a while.
const PATIENCE: u32 = 3;

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

/// What a writer's write `i` writes: its number, then noise of a length that may go to a blob file.
fn value(writer: u64, i: u64) -> Vec<u8> {
    let mut rng = Rng(writer * 1_000_003 + i);
    let len = rng.one_of(&[20, 150, 700, 3000]) as usize;
    let mut out = i.to_be_bytes().to_vec();
    out.extend((0..len).map(|_| rng.below(256) as u8));
    out
}

fn write(volume: &Volume, writer: u64, i: u64) -> Result<(), Error> {
    let mut batch = Batch::new();
    let (key, value) = ([b'k', writer as u8, (i % KEYS) as u8], value(writer, i));
    match i % 5 {
        0 => {
            batch.delete(&key);
            batch.patch(&key, value.len() as u32, &[(0, &value)]);
        }
        1 => {
            batch.delete_range(&key, &[&key[..], &[0]].concat());
            batch.first_put(&key, b"", &value);
        }
        _ => batch.put_split(&key, b"", &value),
    }
    volume.write(batch).map(drop)
}

/// A key and the tail of its value.
type Found = (Vec<u8>, Vec<u8>);

/// What a reader sees of one writer's keys is a state that there was; its number.
fn check(tails: &[Found], writer: u64, context: &str) -> u64 {
    let mine: Vec<_> = tails.iter().filter(|(key, _)| key[1] == writer as u8).collect();
    let number = |tail: &[u8]| u64::from_be_bytes(tail[..8].try_into().unwrap());
    let newest = mine.iter().map(|(_, tail)| number(tail)).max().unwrap_or(0);
    for (key, tail) in &mine {
        let i = number(tail);
        assert_eq!(tail, &value(writer, i), "{context}: {key:?}");
        assert_eq!(i % KEYS, u64::from(key[2]), "{context}");
        assert!(newest < i + KEYS, "{context}: {key:?} has {i}, {newest} was written");
    }
    assert_eq!(mine.len() as u64, newest.min(KEYS), "{context}: {newest} were written");
    newest
}

fn tails(store: &Store) -> Result<Vec<Found>, Error> {
    let snapshot = store.volume("main")?.snapshot();
    let mut scan = snapshot.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut found = Vec::new();
    while scan.next()? {
        found.push((scan.key().to_vec(), scan.tail()?.to_vec()));
    }
    Ok(found)
}

/// How far a writer got, over all crashes.
#[derive(Default)]
struct Progress {
    written: AtomicU64,
    synced: AtomicU64,
}

/// One opening of the store, up to the crash.
struct Round<'a> {
    disk: &'a SimDisk,
    store: &'a Store,
    progress: &'a [Progress],
    stop: AtomicBool,
    context: String,
}

impl Round<'_> {
    fn ended(&self) -> bool {
        self.stop.load(SeqCst) || self.disk.is_crashed()
    }

    fn write(&self, writer: u64) {
        let volume = self.store.volume("main").unwrap();
        let progress = &self.progress[writer as usize];
        let mut i = progress.written.load(SeqCst) + 1;
        let mut refused = 0;
        while !self.ended() {
            match write(&volume, writer, i) {
                Ok(()) => {
                    progress.written.store(i, SeqCst);
                    if i % 13 == writer && self.store.sync().is_ok() && !self.disk.is_crashed() {
                        progress.synced.store(i, SeqCst);
                    }
                    (i, refused) = (i + 1, 0);
                }
                // The crash fell on what a refused write leaves to be undone.
                Err(Error::ReadOnly(_)) => self.stop.store(true, SeqCst),
                Err(e) => {
                    refused += 1;
                    assert!(refused < 5000, "{}: no write is taken: {e}", self.context);
                }
            }
            if writer == 0 && i.is_multiple_of(40) {
                let used: u64 = self.disk.files().iter().map(|file| file.len).sum();
                self.disk.set_capacity(used + (i % 7) * 700);
            }
            if refused > PATIENCE {
                self.disk.set_capacity(1 << 30);
            }
        }
    }

    fn read(&self) {
        while !self.ended() {
            match tails(self.store) {
                Ok(found) => (0..WRITERS).for_each(|writer| _ = check(&found, writer, &self.context)),
                Err(Error::Disk(_)) if self.disk.is_crashed() => {}
                Err(e) => panic!("{}: {e}", self.context),
            }
        }
    }
}

#[test]
fn threads_on_a_disk_that_runs_full_and_crashes() {
    let seeds = std::env::var("LSMFS_BLOB_STRESS_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    for (seed, power_cut) in (0..seeds).zip([true, false].into_iter().cycle()) {
        let mut disk = Arc::new(SimDisk::new(seed));
        let progress: [Progress; WRITERS as usize] = Default::default();
        for n in 0..4 {
            let context = format!("seed {seed}, round {n}");
            let store = Store::open(disk.clone(), options()).unwrap_or_else(|e| panic!("{context}: {e}"));
            let found = tails(&store).unwrap_or_else(|e| panic!("{context}: {e}"));
            for (writer, progress) in (0..).zip(&progress) {
                let newest = check(&found, writer, &context);
                // What was answered survives the process, what was synced the power cut.
                let durable = if power_cut { &progress.synced } else { &progress.written };
                assert!(newest >= durable.load(SeqCst), "{context}: writer {writer} has {newest}");
                progress.written.store(newest, SeqCst);
                progress.synced.store(newest, SeqCst);
            }
            disk.crash_at_op(disk.ops().changes() + 50 + (seed * 37 + n * 101) % 900);
            let round =
                Round { disk: &disk, store: &store, progress: &progress, stop: false.into(), context };
            std::thread::scope(|scope| {
                let round = &round;
                (0..WRITERS).for_each(|writer| _ = scope.spawn(move || round.write(writer)));
                scope.spawn(|| round.read());
            });
            // The next to open finds the disk as it was at the crash.
            let next = if power_cut { disk.crash() } else { disk.crash_keep_all() };
            drop(round);
            drop(store);
            next.set_capacity(1 << 40);
            disk = Arc::new(next);
        }
    }
}
