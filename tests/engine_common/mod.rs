//! What the tests of the engine share: a store on a simulated disk, without background threads.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod cuts;
pub mod disk;

use lsmfs::disk::Disk;
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// No background threads, small everything.
pub fn stepped() -> Options {
    Options {
        memtable_size: 16 << 10,
        memtable_stall_size: 64 << 10,
        log_segment_size: 8 << 10,
        block_size: 512,
        background: false,
        ..Options::default()
    }
}

pub fn sim() -> Arc<SimDisk> {
    Arc::new(SimDisk::new(1))
}

#[track_caller]
pub fn open(disk: &Arc<SimDisk>, options: Options) -> (Store, Arc<Volume>) {
    let store = Store::open(disk.clone(), options).unwrap();
    let volume = store.volume("main").unwrap();
    (store, volume)
}

/// Kills the process, as it were: the disk as the operating system keeps it.
pub fn kill(disk: &SimDisk) -> Arc<SimDisk> {
    Arc::new(disk.crash_keep_all())
}

/// Cuts the power, as it were: the disk as it is found then.
pub fn cut_power(disk: &SimDisk) -> Arc<SimDisk> {
    Arc::new(disk.crash())
}

/// Writes one key in a batch of its own.
pub fn try_put(volume: &Volume, key: &[u8], value: &[u8]) -> Result<u64, Error> {
    let mut batch = Batch::new();
    batch.put(key, value);
    volume.write(batch)
}

/// Puts a value, or patches the one that is there: by chance. Values of odd lengths have their first byte for a head,
/// the others are all head.
pub fn put_or_patch(rng: &mut Rng, batch: &mut Batch, key: Vec<u8>, contents: &mut Contents) {
    let byte = rng.below(256) as u8;
    let value = contents.get_mut(&key).filter(|value| value.len() % 2 == 1);
    match value.filter(|_| rng.below(2) == 0) {
        Some(value) => {
            value[0] = byte;
            let at = rng.below(value.len() as u64) as usize;
            if rng.below(2) == 0 {
                return batch.put_head(&key, &value[..1]);
            }
            let new_len = (at + 4).next_multiple_of(2).max(rng.below(100) as usize * 2);
            let (old_len, parts) = (value.len() as u32 - 1, [(at as u32, &[byte; 4][..])]);
            batch.patch_split(&key, &value[..1], old_len, new_len as u32, &parts);
            value.resize(1 + new_len, 0);
            value[1 + at..][..4].fill(byte);
        }
        None => {
            let value = vec![byte; rng.below(300) as usize];
            match value.len() % 2 {
                0 => batch.put(&key, &value),
                _ => batch.put_split(&key, &value[..1], &value[1..]),
            }
            contents.insert(key, value);
        }
    }
}

/// The keys and the heads of the values of a store's first volume.
pub fn contents(store: &Store) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut scan = store.volume("main")?.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut contents = BTreeMap::new();
    while scan.next()? {
        contents.insert(scan.key().to_vec(), scan.head().to_vec());
    }
    Ok(contents)
}

/// The names of the files that end so.
pub fn files(disk: &SimDisk, suffix: &str) -> Vec<String> {
    disk.list().unwrap().into_iter().map(|f| f.name).filter(|name| name.ends_with(suffix)).collect()
}

/// Every file on the disk is one that the store knows, and none was taken for a stranger's.
#[track_caller]
pub fn assert_no_leaks(disk: &SimDisk, store: &Store, context: &str) {
    let stats = store.stats();
    let tables = stats.volumes.iter().flat_map(|v| v.levels.iter().flatten()).map(|t| t.file.clone());
    let logs = stats.log_segments.iter().map(|s| format!("{:06}.log", s.number));
    let blobs = stats.blobs.files.iter().map(|blob| blob.file.clone());
    let known: Vec<String> = tables.chain(logs).chain(blobs).collect();
    let (manifest, others): (Vec<String>, Vec<String>) = disk
        .files()
        .into_iter()
        .map(|file| file.name)
        .partition(|name| ["manifest-", "edits-", "copy-"].iter().any(|sort| name.starts_with(sort)));
    let leaked: Vec<String> = others.into_iter().filter(|name| !known.contains(name)).collect();
    assert!(leaked.is_empty(), "{context}: {leaked:?}");
    assert_eq!(manifest.len(), 3, "{context}: one generation of the manifest");
}

/// The seeds of a crash test: 0 up to `default`, unless `LSMFS_CRASH_SEEDS` says how many, or which (`20..30`):
/// a long run by hand.
pub fn crash_seeds(default: u64) -> std::ops::Range<u64> {
    let Ok(told) = std::env::var("LSMFS_CRASH_SEEDS") else { return 0..default };
    let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("LSMFS_CRASH_SEEDS={told}: {e}"));
    match told.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&told),
    }
}

/// A small generator of numbers: the same for a seed, everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Keys and whole values.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a volume holds.
pub fn contents_of(volume: &Volume) -> Contents {
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut contents = Contents::new();
    while scan.next().unwrap() {
        contents.insert(scan.key().to_vec(), [scan.head(), &scan.tail().unwrap()].concat());
    }
    contents
}
