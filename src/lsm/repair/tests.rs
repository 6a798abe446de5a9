use super::*;
use crate::disk::sim::SimDisk;
use crate::lsm::{Batch, Store, Volume};
use std::ops::Bound;

mod shapeless;
mod volumes;

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Watch for Problems {
    fn problem(&mut self, problem: Problem) {
        self.0.push(problem);
    }
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    Options { block_size: 200, blob_min: 500, background: false, ..Options::default() }
}

fn open(sim: &Arc<SimDisk>) -> Store {
    let disk: Arc<dyn Disk> = sim.clone();
    Store::open(disk, options()).unwrap()
}

fn contents(store: &Store) -> Contents {
    let mut scan = store.volume("main").unwrap().scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut contents = Contents::new();
    while scan.next().unwrap() {
        contents.insert(scan.key().to_vec(), [scan.head(), &scan.tail().unwrap()].concat());
    }
    contents
}

/// A store with tables of several levels, blob files, tombstones, patches and something in its log, and what
/// is in it.
fn filled() -> (Arc<SimDisk>, Contents) {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let volume = store.volume("main").unwrap();
    for round in 0..5u8 {
        let mut batch = Batch::new();
        for i in (0..60u8).filter(|i| i % 5 >= round) {
            let len = if i % 7 == 0 { 700 } else { 40 };
            batch.put_split(format!("key{i:02}").as_bytes(), b"head", &vec![i ^ round; len]);
        }
        batch.delete_range(format!("key{round}7").as_bytes(), format!("key{round}9").as_bytes());
        batch.patch(format!("key{round}1").as_bytes(), 50, &[(3, b"patched")]);
        batch.delete(format!("key{round}0").as_bytes());
        volume.write(batch).unwrap();
        match round {
            1 => store.compact().unwrap(),
            4 => store.sync().unwrap(),
            _ => store.flush().unwrap(),
        }
    }
    // It states that the record before it is durable.
    let mut batch = Batch::new();
    batch.put(b"last", b"");
    volume.write(batch).unwrap();
    let contents = contents(&store);
    let killed = Arc::new(sim.crash_keep_all());
    drop((store, volume));
    (killed, contents)
}

/// Repairs; then the check finds nothing, and the store opens.
fn repaired(sim: &Arc<SimDisk>) -> (Contents, Vec<Problem>, Repaired) {
    let disk: Arc<dyn Disk> = sim.clone();
    let mut lost = Problems::default();
    let done = repair(&disk, &options(), &mut lost).unwrap();
    let mut left = Problems::default();
    check(&disk, &mut left).unwrap();
    assert!(left.0.is_empty(), "{:?}", left.0);
    let store = open(sim);
    (contents(&store), lost.0, done)
}

fn copy(sim: &SimDisk) -> Arc<SimDisk> {
    let copied = SimDisk::new(2);
    for file in sim.list().unwrap() {
        copied.write_file(&file.name, &sim.read_file(&file.name).unwrap()).unwrap();
    }
    Arc::new(copied)
}

/// Deletes the manifest, with or without its copies.
fn delete_manifest(sim: &SimDisk, copies: bool) {
    for file in sim.list().unwrap().iter().filter(|file| manifest::is_manifest_file(&file.name)) {
        if copies || !file.name.starts_with("copy-") {
            sim.delete(&file.name).unwrap();
        }
    }
}

/// Writes small values into a volume, each by itself; `between` is called after each.
fn put_each(volume: &Volume, count: u8, mut between: impl FnMut(u8)) {
    for i in 0..count {
        let mut batch = Batch::new();
        batch.put(&[b'k', i], &[i; 100]);
        volume.write(batch).unwrap();
        between(i);
    }
}

#[test]
fn what_is_sound_is_left_alone() {
    let (sim, contents) = filled();
    let before = sim.files();
    let disk: Arc<dyn Disk> = sim.clone();
    let done = repair(&disk, &options(), &mut Problems::default()).unwrap();
    assert_eq!((done, sim.files()), (Repaired::default(), before));
    assert_eq!(sim.ops().changes(), 0);
    assert_eq!(super::tests::contents(&open(&sim)), contents);
}

#[test]
fn a_lost_manifest_is_rebuilt_and_nothing_is_missing() {
    let (filled, contents) = filled();
    for lost in ["manifest-", "edits-", ""] {
        let sim = copy(&filled);
        for file in sim.list().unwrap() {
            let is_manifest = manifest::is_manifest_file(&file.name);
            if is_manifest && file.name.starts_with(lost) {
                sim.delete(&file.name).unwrap();
            }
        }
        let (found, _, done) = repaired(&sim);
        assert!(done.rebuilt, "{lost}");
        assert_eq!(found, contents, "{lost}");
    }
}

#[test]
fn a_damaged_manifest_is_rebuilt_wherever_the_damage_is() {
    let (filled, contents) = filled();
    let snapshot = filled.list().unwrap().into_iter().find(|f| f.name.starts_with("manifest-")).unwrap();
    for at in (0..snapshot.len).step_by(3) {
        let sim = copy(&filled);
        sim.flip_bit(&snapshot.name, at, (at % 8) as u8).unwrap();
        let (found, _, done) = repaired(&sim);
        assert!(done.rebuilt && done.moved.contains(&snapshot.name), "byte {at}");
        assert_eq!(found, contents, "byte {at}");
    }
}

#[test]
fn a_store_that_never_flushed_and_lost_its_manifest_is_rebuilt_from_its_log() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let volume = store.volume("main").unwrap();
    for i in 0..30u8 {
        let mut batch = Batch::new();
        batch.put_split(&[b'k', i], b"", &vec![i; usize::from(i) * 40]);
        volume.write(batch).unwrap();
    }
    let contents = contents(&store);
    let sim = Arc::new(sim.crash_keep_all());
    drop((store, volume));
    delete_manifest(&sim, true);
    assert_eq!(repaired(&sim).0, contents);
}

#[test]
fn a_damaged_table_loses_only_keys_that_are_told_of() {
    let (filled, contents) = filled();
    let tables: Vec<_> =
        filled.list().unwrap().into_iter().filter(|file| file.name.ends_with(".sst")).collect();
    assert!(tables.len() >= 2);
    for table in &tables {
        for at in (0..table.len).step_by(23) {
            let sim = copy(&filled);
            sim.flip_bit(&table.name, at, (at % 8) as u8).unwrap();
            let (found, lost, done) = repaired(&sim);
            assert_eq!(done.moved.iter().filter(|name| name.ends_with(".sst")).count(), 1, "byte {at}");
            assert!(done.moved.contains(&table.name));
            let told = |key: &[u8]| {
                lost.iter()
                    .filter_map(|problem| problem.keys.as_ref())
                    .any(|(from, to)| from.as_ref() <= key && to.as_ref().is_none_or(|to| key <= to.as_ref()))
            };
            let keys: std::collections::BTreeSet<_> = found.keys().chain(contents.keys()).collect();
            for key in keys.into_iter().filter(|key| found.get(*key) != contents.get(*key)) {
                assert!(told(key), "byte {at} of {}: {} {lost:?}", table.name, key.escape_ascii());
            }
        }
    }
}

#[test]
fn a_damaged_log_gives_the_records_around_the_damage() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let volume = store.volume("main").unwrap();
    put_each(&volume, 20, |_| store.sync().unwrap());
    let contents = contents(&store);
    let filled = Arc::new(sim.crash_keep_all());
    drop((store, volume));
    for at in (50..2000).step_by(37) {
        let sim = copy(&filled);
        sim.flip_bit("000001.log", at, 5).unwrap();
        let (found, lost, _) = repaired(&sim);
        assert!(!lost.is_empty() && found.len() + 2 >= contents.len(), "byte {at}: {} {lost:?}", found.len());
        assert!(found.iter().all(|(key, value)| contents.get(key) == Some(value)), "byte {at}");
    }
}

#[test]
fn a_damaged_value_in_a_blob_file_costs_its_key_and_no_older_value_shows() {
    let (filled, contents) = filled();
    for blob in filled.list().unwrap().into_iter().filter(|file| file.name.ends_with(".blob")) {
        for at in [45, blob.len / 2, blob.len - 1] {
            let sim = copy(&filled);
            sim.flip_bit(&blob.name, at, 2).unwrap();
            let (found, lost, _) = repaired(&sim);
            for (key, value) in &found {
                assert_eq!(contents.get(key), Some(value), "byte {at} of {}", blob.name);
            }
            let missing = contents.len() - found.len();
            assert!(missing <= 1 && (missing == 0 || !lost.is_empty()), "{missing}: {lost:?}");
        }
    }
}

#[test]
fn a_repair_that_a_power_cut_ends_can_be_made_again() {
    let (filled, contents) = filled();
    for at in 1..40 {
        let sim = copy(&filled);
        delete_manifest(&sim, true);
        sim.crash_at_op(at);
        let disk: Arc<dyn Disk> = sim.clone();
        let _ = repair(&disk, &options(), &mut Problems::default());
        let sim = Arc::new(sim.crash());
        assert_eq!(repaired(&sim).0, contents, "cut at change {at}");
    }
}

/// A value that does not compress.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Changes a byte of a value, which a blob file has.
fn damage_blob(sim: &SimDisk, value: &[u8]) {
    for file in sim.list().unwrap().into_iter().filter(|file| file.name.ends_with(".blob")) {
        let mut bytes = sim.read_file(&file.name).unwrap();
        if let Some(at) = bytes.windows(value.len()).position(|part| part == value) {
            bytes[at] ^= 1;
            return sim.write_file(&file.name, &bytes).unwrap();
        }
    }
    panic!("no blob file has it");
}

#[test]
fn a_value_that_never_came_is_where_the_log_ends() {
    for without_manifest in [false, true] {
        let sim = Arc::new(SimDisk::new(1));
        let store = open(&sim);
        let volume = store.volume("main").unwrap();
        let put = |key: &[u8], fill: u8, len: usize| {
            let mut batch = Batch::new();
            batch.put_split(key, b"", &noise(fill, len));
            batch.put_split(&[key, b"-beside"].concat(), b"", &[fill]);
            volume.write(batch).unwrap();
        };
        put(b"k", 1, 700);
        store.flush().unwrap();
        put(b"other", 2, 700);
        store.sync().unwrap();
        // It states that the record before it is durable.
        put(b"last", 3, 1);
        put(b"k", 4, 700);
        put(b"behind", 5, 1);
        let killed = copy(&sim.crash_keep_all());
        drop((store, volume));
        damage_blob(&killed, &noise(4, 700));
        match without_manifest {
            // What is durable is damaged, so that the log is mended at all.
            false => damage_blob(&killed, &noise(2, 700)),
            true => delete_manifest(&killed, false),
        }
        let found = repaired(&killed).0;
        assert!(found[&b"k"[..]] == noise(1, 700), "an intact value is shown");
        assert_eq!(found[&b"k-beside"[..]], [1], "all of a batch or nothing");
        assert!(!found.contains_key(&b"behind"[..]), "nothing behind what is missing");
    }
}

#[test]
fn without_a_trace_of_the_stores_id_a_lost_value_costs_its_key() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let volume = store.volume("main").unwrap();
    for i in 0..20u8 {
        let mut batch = Batch::new();
        batch.put_split(&[b'k', i], b"", &noise(i, 700));
        volume.write(batch).unwrap();
        store.sync().unwrap();
    }
    let killed = copy(&sim.crash_keep_all());
    drop((store, volume));
    delete_manifest(&killed, true);
    damage_blob(&killed, &noise(0, 700));
    let found = repaired(&killed).0;
    assert!(found.len() == 19 && !found.contains_key(&[b'k', 0][..]), "{}", found.len());
}

#[test]
fn what_is_brought_back_stays_through_a_power_cut() {
    for seed in 0..20 {
        let sim = Arc::new(SimDisk::new(seed));
        let store = open(&sim);
        let volume = store.volume("main").unwrap();
        for i in 0..10u8 {
            let mut batch = Batch::new();
            batch.put_split(&[b'k', i], b"", &[i; 700]);
            volume.write(batch).unwrap();
        }
        let killed = Arc::new(sim.crash_keep_all());
        drop((store, volume));
        delete_manifest(&killed, false);
        let disk: Arc<dyn Disk> = killed.clone();
        repair(&disk, &options(), &mut Problems::default()).unwrap();
        let cut = Arc::new(killed.crash());
        assert_eq!(contents(&open(&cut)).len(), 10, "seed {seed}");
    }
}

#[test]
fn a_range_tombstone_is_kept_though_its_place_in_the_table_is_damaged() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let volume = store.volume("main").unwrap();
    let key = |n: u8| format!("k{n:02}").into_bytes();
    let mut batch = Batch::new();
    (0..100).for_each(|n| batch.put(&key(n), &[1; 30]));
    volume.write(batch).unwrap();
    store.compact().unwrap();
    let before: Vec<String> = sim.files().into_iter().map(|file| file.name).collect();
    let mut batch = Batch::new();
    batch.delete_range(&key(10), &key(90));
    (5..15).for_each(|n| batch.put(&key(n), &[2; 30]));
    volume.write(batch).unwrap();
    store.close().unwrap();
    drop(volume);
    let is_new = |name: &String| name.ends_with(".sst") && !before.contains(name);
    let table = sim.files().into_iter().map(|file| file.name).find(is_new).unwrap();
    // Its data blocks are at its start.
    for at in (0..300).step_by(20) {
        let damaged = copy(&sim);
        damaged.flip_bit(&table, at, 0).unwrap();
        let (found, lost, _) = repaired(&damaged);
        assert!(!lost.is_empty(), "byte {at}");
        let deleted: Vec<_> = (15..90).map(key).filter(|key| found.contains_key(key)).collect();
        assert!(deleted.is_empty(), "byte {at}: {deleted:?}");
    }
}
