//! The engine against a `BTreeMap`: random writes, reads, scans, flushes, snapshots and reopenings
//! in any order, under hostile settings. The same operations must give the same answers under each.

use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::options::{CompactionMode, Compression};
use lsmfs::lsm::{Batch, Options, ScanBack, Snapshot, Store, Volume};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A value's head and tail.
type Parts = (Vec<u8>, Vec<u8>);
type Model = BTreeMap<Vec<u8>, Parts>;

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, head: usize, tail: usize },
    Create { key: u8, tail: usize },
    Patch { key: u8, offset: usize, len: usize, cut: usize },
    Delete { key: u8 },
    Many { from: u8, count: u8, tail: usize },
    Clear { from: u8, count: u8 },
    Wipe { from: u8, to: u8 },
    Get { key: u8 },
    Scan { from: u8, to: u8 },
    Flush,
    Background,
    Compact,
    Snapshot,
    Release,
    Reopen,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..40usize, 1 => 200..2000usize, 1 => Just(70_000usize)];
    prop_oneof![
        6 => (any::<u8>(), 0..30usize, len()).prop_map(|(key, head, tail)| Step::Put { key, head, tail }),
        4 => (any::<u8>(), len()).prop_map(|(key, tail)| Step::Create { key, tail }),
        6 => (0..20u8, 0..300usize, 0..100usize, 0..500usize)
            .prop_map(|(key, offset, len, cut)| Step::Patch { key, offset, len, cut }),
        6 => any::<u8>().prop_map(|key| Step::Delete { key }),
        2 => (any::<u8>(), 1..40u8, 0..50usize).prop_map(|(from, count, tail)| Step::Many { from, count, tail }),
        2 => (any::<u8>(), 1..80u8).prop_map(|(from, count)| Step::Clear { from, count }),
        3 => (any::<u8>(), 0..60u8).prop_map(|(from, len)| Step::Wipe { from, to: from.saturating_add(len) }),
        6 => any::<u8>().prop_map(|key| Step::Get { key }),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Step::Scan { from, to }),
        2 => Just(Step::Flush),
        3 => Just(Step::Background),
        1 => Just(Step::Compact),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Release),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

fn hostile() -> Vec<Options> {
    let base = Options { background: false, ..Options::default() };
    let small = Options {
        memtable_size: 3000,
        memtable_stall_size: 12_000,
        table_size: 2000,
        level_base_size: 6000,
        l0_compaction_trigger: 2,
        ..base.clone()
    };
    let blobs = Options { blob_min: 1, blob_file_size: 2000, ..small.clone() };
    vec![
        blobs.clone(),
        Options { blob_min: 100, blob_file_size: 20_000, ..blobs.clone() },
        Options { blob_min: 100, compaction: CompactionMode::Tiered, cache_size: 0, ..blobs.clone() },
        Options { compaction: CompactionMode::None, open_tables: 1, ..blobs.clone() },
        Options {
            blob_file_size: 1,
            compression: Compression::Zstd,
            l0_compaction_trigger: 1,
            ..blobs.clone()
        },
        Options { level_multiplier: 2, table_size: 1, level_base_size: 1, block_size: 1, ..blobs.clone() },
        Options { background: true, blob_min: 100, cache_size: 0, ..blobs.clone() },
        Options { background: true, compaction: CompactionMode::Tiered, blob_file_size: 10_000, ..blobs },
        small.clone(),
        Options { compaction: CompactionMode::Tiered, ..small.clone() },
        Options { compaction: CompactionMode::None, ..small.clone() },
        Options { level_multiplier: 2, table_size: 1, level_base_size: 1, block_size: 1, ..small.clone() },
        Options { l0_compaction_trigger: 1, l0_slowdown: 1, l0_stop: 2, ..small.clone() },
        Options { background: true, cache_size: 0, open_tables: 1, ..small.clone() },
        Options { background: true, compaction: CompactionMode::Tiered, l0_slowdown: 2, l0_stop: 3, ..small },
        Options { memtable_size: 2000, memtable_stall_size: 8000, ..base.clone() },
        Options { block_size: 1, cache_size: 0, memtable_size: 4000, ..base.clone() },
        Options { open_tables: 1, num_memtable_limit: 1, memtable_size: 8000, ..base.clone() },
        Options { log_segment_size: 1, compression: Compression::None, ..base.clone() },
        Options { compression: Compression::Zstd, memtable_size: 1, num_memtable_limit: 5, ..base.clone() },
        Options { background: true, memtable_size: 3000, memtable_stall_size: 3000, ..base },
    ]
}

fn key(n: u8) -> Vec<u8> {
    // Keys that are prefixes of one another, and an empty one.
    "k".repeat(n as usize % 4).into_bytes().into_iter().chain((n >= 4).then_some(n)).collect()
}

fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + seed) as u8).collect()
}

struct Run {
    disk: Arc<SimDisk>,
    options: Options,
    store: Store,
    volume: Arc<Volume>,
    model: Model,
    snapshots: Vec<(Snapshot, Model)>,
    count: usize,
}

impl Run {
    fn new(options: Options) -> Run {
        let disk = Arc::new(SimDisk::new(1));
        let store = Store::open(disk.clone(), options.clone()).unwrap();
        let volume = store.volume("main").unwrap();
        Run { disk, options, store, volume, model: Model::new(), snapshots: Vec::new(), count: 0 }
    }

    fn write(&self, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        fill(&mut batch);
        self.volume.write(batch).unwrap();
    }

    fn apply(&mut self, step: &Step) {
        self.count += 1;
        let seed = self.count;
        match *step {
            Step::Put { key: k, head, tail } => {
                let value = (bytes(seed, head), bytes(seed, tail));
                self.write(|batch| batch.put_split(&key(k), &value.0, &value.1));
                self.model.insert(key(k), value);
            }
            Step::Create { key: k, tail } => {
                if !self.model.contains_key(&key(k)) {
                    let value = (bytes(seed, 5), bytes(seed, tail));
                    self.write(|batch| batch.first_put(&key(k), &value.0, &value.1));
                    self.model.insert(key(k), value);
                }
            }
            Step::Patch { key: k, offset, len, cut } => {
                let part = bytes(seed, len);
                let new_len = (offset + len).max(cut);
                self.write(|batch| batch.patch(&key(k), new_len as u32, &[(offset as u32, &part)]));
                let (_, tail) = self.model.entry(key(k)).or_default();
                tail.resize(new_len, 0);
                tail[offset..offset + len].copy_from_slice(&part);
            }
            Step::Delete { key: k } => {
                self.write(|batch| batch.delete(&key(k)));
                self.model.remove(&key(k));
            }
            Step::Many { from, count, tail } => {
                let value = (Vec::new(), bytes(seed, tail));
                let keys: Vec<Vec<u8>> = (0..count).map(|i| key(from.wrapping_add(i))).collect();
                self.write(|batch| keys.iter().for_each(|k| batch.put_split(k, &value.0, &value.1)));
                self.model.extend(keys.into_iter().map(|k| (k, value.clone())));
            }
            Step::Clear { from, count } => {
                let keys: Vec<Vec<u8>> = (0..count).map(|i| key(from.wrapping_add(i))).collect();
                self.write(|batch| keys.iter().for_each(|k| batch.delete(k)));
                keys.iter().for_each(|k| drop(self.model.remove(k)));
            }
            Step::Wipe { from, to } => {
                self.write(|batch| batch.delete_range(&key(from), &key(to)));
                let doomed = |k: &Vec<u8>| key(from) <= *k && *k < key(to);
                self.model.retain(|k, _| !doomed(k));
            }
            Step::Get { key: k } => self.check_key(&key(k)),
            Step::Scan { from, to } => self.check_scan(&key(from), &key(to)),
            Step::Flush => self.store.flush().unwrap(),
            Step::Compact => self.store.compact().unwrap(),
            Step::Background => drop(self.store.step().unwrap()),
            Step::Snapshot => self.snapshots.push((self.volume.snapshot(), self.model.clone())),
            Step::Release => drop(self.snapshots.pop()),
            Step::Reopen => {
                self.snapshots.clear();
                self.store.close().unwrap();
                self.open();
            }
            Step::Kill => {
                self.snapshots.clear();
                self.disk = Arc::new(self.disk.crash_keep_all());
                self.open();
            }
        }
    }

    fn open(&mut self) {
        self.store = Store::open(self.disk.clone(), self.options.clone()).unwrap();
        self.volume = self.store.volume("main").unwrap();
    }

    fn check_key(&self, key: &[u8]) {
        let got = self.volume.get(key).unwrap().map(|v| (v.head.to_vec(), v.tail.to_vec()));
        assert_eq!(got.as_ref(), self.model.get(key), "get {key:?}");
        assert_eq!(self.volume.get_head(key).unwrap().map(|h| h.to_vec()), got.map(|(head, _)| head));
        for (snapshot, model) in &self.snapshots {
            let got = snapshot.get(key).unwrap().map(|v| (v.head.to_vec(), v.tail.to_vec()));
            assert_eq!(got.as_ref(), model.get(key), "get {key:?} at a snapshot");
        }
    }

    fn check_scan(&self, from: &[u8], to: &[u8]) {
        if from > to {
            return;
        }
        let (from, to) = (Bound::Included(from), Bound::Excluded(to));
        let want = |model: &Model| -> Vec<_> {
            model.range::<[u8], _>((from, to)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        assert_eq!(collect(self.volume.scan(from, to).unwrap()), want(&self.model), "scan");
        let mut back = collect_back(self.volume.scan_back(from, to).unwrap());
        back.reverse();
        assert_eq!(back, want(&self.model), "scan back");
        for (snapshot, model) in &self.snapshots {
            assert_eq!(collect(snapshot.scan(from, to).unwrap()), want(model), "scan at a snapshot");
            let mut back = collect_back(snapshot.scan_back(from, to).unwrap());
            back.reverse();
            assert_eq!(back, want(model), "scan back at a snapshot");
        }
    }

    fn check_all(&self) {
        let got = collect(self.volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap());
        let want: Vec<_> = self.model.clone().into_iter().collect();
        assert_eq!(got, want, "everything");
    }
}

fn collect_back(mut scan: ScanBack) -> Vec<(Vec<u8>, Parts)> {
    let mut out = Vec::new();
    while scan.next().unwrap() {
        let value = scan.value();
        out.push((scan.key().to_vec(), (value.head.to_vec(), value.tail.to_vec())));
    }
    out
}

fn collect(mut scan: lsmfs::lsm::Scan) -> Vec<(Vec<u8>, Parts)> {
    let mut out = Vec::new();
    while scan.next().unwrap() {
        out.push((scan.key().to_vec(), (scan.head().to_vec(), scan.tail().unwrap().to_vec())));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_answers_as_a_map_does(steps in proptest::collection::vec(step(), 1..150)) {
        for options in hostile() {
            let mut run = Run::new(options);
            steps.iter().for_each(|step| run.apply(step));
            run.check_all();
        }
    }
}

/// Runs, 40 unless `LSMFS_MODEL_CASES` says more (a long run by hand).
fn cases() -> u32 {
    std::env::var("LSMFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}
