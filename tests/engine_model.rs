//! The engine against a `BTreeMap`: random writes, reads, scans, flushes, snapshots and reopenings
//! in any order, under hostile settings. The same operations must give the same answers under each.
//!
//! `LSMFS_MODEL_CASES` says how many runs (a long one by hand, with `--release`).

use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::options::{CompactionMode, Compression};
use lsmfs::lsm::table::PrefixRule;
use lsmfs::lsm::{Batch, Options, Scan, ScanBack, Snapshot, Store, Tally, Value, Volume};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A value's head and tail.
type Parts = (Vec<u8>, Vec<u8>);
/// A key and its value.
type Found = (Vec<u8>, Parts);
type Model = BTreeMap<Vec<u8>, Parts>;

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, head: usize, tail: usize },
    Create { key: u8, tail: usize },
    Patch { key: u8, offset: usize, len: usize, cut: usize },
    PatchSplit { key: u8, head: usize, change: Option<(usize, usize, usize)> },
    Delete { key: u8 },
    Many { from: u8, count: u8, tail: usize },
    Clear { from: u8, count: u8 },
    Batch(Vec<(u8, BatchStep)>),
    Wipe { from: u8, to: u8 },
    Get { key: u8 },
    MultiGet { from: u8, count: u8 },
    Scan { from: u8, to: u8, ends: u8 },
    Prefix { key: u8 },
    OpenScan { from: u8 },
    Advance { count: u8 },
    Flush,
    Background,
    Compact,
    Snapshot,
    Release,
    Reopen,
    Kill,
}

/// What a batch does to a key.
#[derive(Debug, Clone, Copy)]
enum BatchStep {
    Put { tail: usize },
    Patch { offset: usize, len: usize },
    PatchSplit { offset: usize, len: usize },
    PutHead,
    Delete,
    Wipe { len: u8 },
}

fn batch_step() -> impl Strategy<Value = BatchStep> {
    prop_oneof![
        4 => (0..60usize).prop_map(|tail| BatchStep::Put { tail }),
        3 => (0..100usize, 0..60usize).prop_map(|(offset, len)| BatchStep::Patch { offset, len }),
        2 => (0..100usize, 0..60usize).prop_map(|(offset, len)| BatchStep::PatchSplit { offset, len }),
        2 => Just(BatchStep::PutHead),
        3 => Just(BatchStep::Delete),
        1 => (0..20u8).prop_map(|len| BatchStep::Wipe { len }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..40usize, 1 => 200..2000usize, 1 => Just(70_000usize)];
    prop_oneof![
        6 => (any::<u8>(), 0..30usize, len()).prop_map(|(key, head, tail)| Step::Put { key, head, tail }),
        4 => (any::<u8>(), len()).prop_map(|(key, tail)| Step::Create { key, tail }),
        6 => (0..20u8, 0..300usize, 0..100usize, 0..500usize)
            .prop_map(|(key, offset, len, cut)| Step::Patch { key, offset, len, cut }),
        6 => (0..20u8, 0..30usize, proptest::option::of((0..300usize, 0..100usize, 0..500usize)))
            .prop_map(|(key, head, change)| Step::PatchSplit { key, head, change }),
        6 => any::<u8>().prop_map(|key| Step::Delete { key }),
        2 => (any::<u8>(), 1..40u8, 0..50usize).prop_map(|(from, count, tail)| Step::Many { from, count, tail }),
        2 => (any::<u8>(), 1..80u8).prop_map(|(from, count)| Step::Clear { from, count }),
        3 => (any::<u8>(), 0..60u8).prop_map(|(from, len)| Step::Wipe { from, to: from.saturating_add(len) }),
        6 => any::<u8>().prop_map(|key| Step::Get { key }),
        3 => proptest::collection::vec((0..40u8, batch_step()), 1..8).prop_map(Step::Batch),
        2 => (any::<u8>(), 1..20u8).prop_map(|(from, count)| Step::MultiGet { from, count }),
        4 => (any::<u8>(), any::<u8>(), 0..9u8).prop_map(|(from, to, ends)| Step::Scan { from, to, ends }),
        2 => any::<u8>().prop_map(|key| Step::Prefix { key }),
        1 => any::<u8>().prop_map(|from| Step::OpenScan { from }),
        2 => (1..40u8).prop_map(|count| Step::Advance { count }),
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
    let shape = |change: &dyn Fn(&mut Options)| {
        let mut options = small.clone();
        change(&mut options);
        options
    };
    let blobs = |change: &dyn Fn(&mut Options)| {
        shape(&|o| {
            (o.blob_min, o.blob_file_size) = (1, 2000);
            change(o);
        })
    };
    let mode = |compaction| Options { compaction, ..small.clone() };
    let compressed = |compression| Options { compression, bottom_compression: compression, ..small.clone() };
    vec![
        mode(CompactionMode::Leveled),
        mode(CompactionMode::Tiered),
        mode(CompactionMode::None),
        // Everything as small as can be.
        shape(&|o| (o.level_multiplier, o.table_size, o.level_base_size, o.block_size) = (2, 1, 1, 1)),
        shape(&|o| (o.l0_compaction_trigger, o.l0_slowdown, o.l0_stop) = (1, 1, 2)),
        shape(&|o| (o.l0_compaction_trigger, o.l0_slowdown, o.l0_stop, o.block_size) = (1, 0, 0, 1)),
        shape(&|o| (o.compaction, o.l0_compaction_trigger, o.table_size) = (CompactionMode::Tiered, 1, 500)),
        shape(&|o| (o.memtable_size, o.memtable_stall_size, o.num_memtable_limit) = (1, 1, 1)),
        shape(&|o| (o.memtable_size, o.memtable_stall_size, o.num_memtable_limit) = (1, 50_000, 9)),
        // Threads.
        shape(&|o| (o.background, o.cache_size, o.open_files) = (true, 0, 1)),
        shape(&|o| {
            (o.background, o.compaction, o.l0_slowdown, o.l0_stop) = (true, CompactionMode::Tiered, 2, 3);
        }),
        shape(&|o| {
            (o.background, o.l0_compaction_trigger, o.level_multiplier, o.table_size) = (true, 1, 2, 300)
        }),
        Options { background: true, memtable_size: 3000, memtable_stall_size: 3000, ..base.clone() },
        // No room for what is read.
        shape(&|o| (o.cache_size, o.open_files) = (0, 1)),
        Options { block_size: 1, cache_size: 0, memtable_size: 4000, ..base.clone() },
        Options { open_files: 1, num_memtable_limit: 1, memtable_size: 8000, ..base.clone() },
        Options { memtable_size: 2000, memtable_stall_size: 8000, ..base.clone() },
        // Compression.
        compressed(Compression::None),
        compressed(Compression::Lz4),
        compressed(Compression::Zstd),
        // The log.
        Options { log_segment_size: 1, compression: Compression::None, ..base.clone() },
        shape(&|o| (o.log_segment_size, o.spare_log_segments) = (500, 0)),
        shape(&|o| (o.log_segment_size, o.spare_log_segments) = (500, 2)),
        shape(&|o| (o.background, o.log_segment_size, o.spare_log_segments) = (true, 4000, 9)),
        // Values in blob files.
        blobs(&|_| {}),
        blobs(&|o| (o.blob_min, o.blob_file_size) = (100, 20_000)),
        blobs(&|o| (o.blob_min, o.compaction, o.cache_size) = (100, CompactionMode::Tiered, 0)),
        blobs(&|o| (o.compaction, o.open_files) = (CompactionMode::None, 1)),
        blobs(&|o| (o.blob_file_size, o.compression, o.l0_compaction_trigger) = (1, Compression::Zstd, 1)),
        blobs(&|o| (o.level_multiplier, o.table_size, o.level_base_size, o.block_size) = (2, 1, 1, 1)),
        blobs(&|o| (o.background, o.blob_min, o.cache_size) = (true, 100, 0)),
        blobs(&|o| {
            (o.background, o.compaction, o.blob_file_size) = (true, CompactionMode::Tiered, 10_000);
        }),
        blobs(&|o| (o.log_segment_size, o.spare_log_segments) = (500, 2)),
        // Filters that answer for prefixes.
        shape(&|o| o.prefix = Some(FIRST_TWO_BYTES)),
        shape(&|o| {
            (o.prefix, o.block_size, o.cache_size, o.compaction) =
                (Some(FIRST_TWO_BYTES), 1, 0, CompactionMode::None)
        }),
        // Large: nothing but memtables until somebody flushes.
        base,
    ]
}

/// Keys that are long enough are grouped by their first two bytes.
const FIRST_TWO_BYTES: PrefixRule = PrefixRule { id: 7, extract: |key| key.get(..2) };

fn key(n: u8) -> Vec<u8> {
    if n >= 4 && n % 4 == 3 {
        // No key can be between this one and the one before.
        return [key(n - 1), vec![0]].concat();
    }
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
    /// An open scan, and what it has yet to give.
    scan: Option<(Scan, Vec<Found>)>,
    count: usize,
    tally: Tally,
}

impl Run {
    fn new(options: Options) -> Run {
        let disk = Arc::new(SimDisk::new(1));
        let store = Store::open(disk.clone(), options.clone()).unwrap();
        let volume = store.volume("main").unwrap();
        Run {
            disk,
            options,
            store,
            volume,
            model: Model::new(),
            snapshots: Vec::new(),
            scan: None,
            count: 0,
            tally: Tally::default(),
        }
    }

    fn write(&mut self, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        fill(&mut batch);
        self.count(&mut batch);
        self.volume.write(batch).unwrap();
    }

    /// Two of three batches change the tally.
    fn count(&mut self, batch: &mut Batch) {
        let n = self.count as i64;
        if !batch.is_empty() && n % 3 > 0 {
            let change = Tally { files: n % 5 - 2, bytes: (n * 7919) % 100_000 - 40_000 };
            batch.count(change);
            self.tally += change;
        }
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
                patch(self.model.entry(key(k)).or_default(), offset, &part, new_len);
            }
            Step::PatchSplit { key: k, head, change } => {
                let head = bytes(seed, head);
                let value = self.model.entry(key(k)).or_default();
                value.0.clone_from(&head);
                let Some((offset, len, cut)) = change else {
                    return self.write(|batch| batch.put_head(&key(k), &head));
                };
                let (part, old_len, new_len) = (bytes(seed, len), value.1.len(), (offset + len).max(cut));
                patch(value, offset, &part, new_len);
                let parts = [(offset as u32, &part[..])];
                self.write(|batch| batch.patch_split(&key(k), &head, old_len as u32, new_len as u32, &parts));
            }
            Step::Batch(ref steps) => self.batch(steps),
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
            Step::MultiGet { from, count } => self.check_keys(from, count),
            Step::Scan { from, to, ends } => {
                let (from, to) = (key(from), key(to));
                if from <= to {
                    self.check_scan(bound(ends % 3, &from), bound(ends / 3, &to));
                }
            }
            Step::Prefix { key: k } => {
                let mut prefix = key(k);
                prefix.truncate(2);
                let mut behind = prefix.clone();
                let Some(last) = behind.last_mut().filter(|last| **last < u8::MAX) else { return };
                *last += 1;
                self.check_scan(Bound::Included(&prefix), Bound::Excluded(&behind));
            }
            Step::OpenScan { from } => {
                let range = (Bound::Included(key(from)), Bound::Unbounded);
                let ahead = self.model.range(range).rev().map(|(k, v)| (k.clone(), v.clone())).collect();
                let scan = self.volume.scan(Bound::Included(&key(from)), Bound::Unbounded).unwrap();
                self.scan = Some((scan, ahead));
            }
            Step::Advance { count } => self.advance(count),
            Step::Flush => self.store.flush().unwrap(),
            Step::Compact => self.store.compact().unwrap(),
            Step::Background => drop(self.store.step().unwrap()),
            Step::Snapshot => self.snapshots.push((self.volume.snapshot(), self.model.clone())),
            Step::Release => drop(self.snapshots.pop()),
            Step::Reopen => {
                self.snapshots.clear();
                self.scan = None;
                self.store.close().unwrap();
                self.open();
            }
            Step::Kill => {
                self.snapshots.clear();
                self.scan = None;
                self.disk = Arc::new(self.disk.crash_keep_all());
                self.open();
            }
        }
    }

    /// Writes to many keys, some of them more than once, in one batch.
    fn batch(&mut self, steps: &[(u8, BatchStep)]) {
        let (mut batch, seed) = (Batch::new(), self.count);
        for (i, &(k, step)) in steps.iter().enumerate() {
            let key = key(k);
            match step {
                BatchStep::Put { tail } => {
                    let value = (bytes(seed + i, 3), bytes(seed + i, tail));
                    batch.put_split(&key, &value.0, &value.1);
                    self.model.insert(key, value);
                }
                BatchStep::Patch { offset, len } => {
                    let part = bytes(seed + i, len);
                    batch.patch(&key, (offset + len) as u32, &[(offset as u32, &part)]);
                    patch(self.model.entry(key).or_default(), offset, &part, offset + len);
                }
                BatchStep::PatchSplit { offset, len } => {
                    let (head, part) = (bytes(seed + i, 4), bytes(seed + i, len));
                    let value = self.model.entry(key.clone()).or_default();
                    let (old_len, new_len) = (value.1.len() as u32, (offset + len) as u32);
                    batch.patch_split(&key, &head, old_len, new_len, &[(offset as u32, &part)]);
                    value.0 = head;
                    patch(value, offset, &part, offset + len);
                }
                BatchStep::PutHead => {
                    let head = bytes(seed + i, 5);
                    batch.put_head(&key, &head);
                    self.model.entry(key).or_default().0 = head;
                }
                BatchStep::Delete => {
                    batch.delete(&key);
                    self.model.remove(&key);
                }
                BatchStep::Wipe { len } => {
                    let end = self::key(k + len);
                    batch.delete_range(&key, &end);
                    self.model.retain(|k, _| *k < key || *k >= end);
                }
            }
        }
        self.count(&mut batch);
        self.volume.write(batch).unwrap();
    }

    /// Reads on in the open scan: it sees what was there when it was opened.
    fn advance(&mut self, count: u8) {
        let Some((scan, ahead)) = &mut self.scan else { return };
        for _ in 0..count {
            let found = scan.next().unwrap();
            let found =
                found.then(|| (scan.key().to_vec(), (scan.head().to_vec(), scan.tail().unwrap().to_vec())));
            assert_eq!(found, ahead.pop(), "a scan that stays open");
            if found.is_none() {
                self.scan = None;
                return;
            }
        }
    }

    fn open(&mut self) {
        self.store = Store::open(self.disk.clone(), self.options.clone()).unwrap();
        self.volume = self.store.volume("main").unwrap();
        assert_eq!(self.volume.tally(), Some(self.tally), "tally");
    }

    fn check_key(&self, key: &[u8]) {
        let got = self.volume.get(key).unwrap().as_ref().map(parts);
        assert_eq!(got.as_ref(), self.model.get(key), "get {key:?}");
        assert_eq!(self.volume.get_head(key).unwrap().map(|h| h.to_vec()), got.map(|(head, _)| head));
        for (snapshot, model) in &self.snapshots {
            let got = snapshot.get(key).unwrap().as_ref().map(parts);
            assert_eq!(got.as_ref(), model.get(key), "get {key:?} at a snapshot");
        }
    }

    fn check_keys(&self, from: u8, count: u8) {
        let keys: Vec<Vec<u8>> = (0..count).map(|i| key(from.wrapping_add(i * 3))).collect();
        let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let found: Vec<Option<Parts>> =
            self.volume.multi_get(&asked).unwrap().iter().map(|value| value.as_ref().map(parts)).collect();
        let want: Vec<Option<Parts>> = keys.iter().map(|key| self.model.get(key).cloned()).collect();
        assert_eq!(found, want, "multi_get {keys:?}");
    }

    fn check_scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) {
        // A range that a map refuses.
        if matches!((from, to), (Bound::Excluded(from), Bound::Excluded(to)) if from == to) {
            return;
        }
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
        assert_eq!(self.volume.tally(), Some(self.tally), "tally");
    }
}

/// One of the three sorts of bounds.
fn bound(sort: u8, key: &[u8]) -> Bound<&[u8]> {
    match sort {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    }
}

fn parts(value: &Value) -> Parts {
    (value.head.to_vec(), value.tail.to_vec())
}

fn patch((_, tail): &mut Parts, offset: usize, part: &[u8], new_len: usize) {
    tail.resize(new_len, 0);
    tail[offset..offset + part.len()].copy_from_slice(part);
}

fn collect_back(mut scan: ScanBack) -> Vec<Found> {
    let mut out = Vec::new();
    while scan.next().unwrap() {
        out.push((scan.key().to_vec(), parts(&scan.value().unwrap())));
    }
    out
}

fn collect(mut scan: Scan) -> Vec<Found> {
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
