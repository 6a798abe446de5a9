//! What volumes have to themselves, compared with what their tables and memtables really point to; and with what their
//! deletion gives back.

use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::lsm::blob::Pointer;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KindOrBound;
use crate::lsm::options::{CompactionMode, Compression};
use crate::lsm::stats::VolumeUsage;
use crate::lsm::table::walk::{Found, walk};
use crate::lsm::{Batch, Options, Store, Volume};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

fn options() -> Options {
    Options {
        background: false,
        compression: Compression::None,
        bottom_compression: Compression::None,
        blob_min: 300,
        blob_file_size: 64 << 10,
        table_size: 8 << 10,
        level_base_size: 16 << 10,
        ..Options::default()
    }
}

fn put(volume: &Volume, key: u64, len: usize) {
    let mut batch = Batch::new();
    batch.put_split(&key.to_be_bytes(), b"", &vec![key as u8; len]);
    volume.write(batch).unwrap();
}

/// Something that takes room: a table, or a value in a blob file.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Thing {
    Table(u64),
    Value { file: u64, offset: u64 },
}

/// What a volume has, with the bytes of each, by a look at every record.
fn things(store: &Store, volume: &Volume) -> HashMap<Thing, u64> {
    let mut things = HashMap::new();
    let mut see = |kind: KindOrBound, tail: &[u8]| {
        if matches!(kind, KindOrBound::Kind(kind) if kind.is_blob()) {
            let pointer = Pointer::decode(tail).unwrap();
            let value = Thing::Value { file: pointer.file, offset: pointer.offset };
            assert_eq!(things.insert(value, pointer.framed_len() as u64), None);
        }
    };
    let tree = volume.tree();
    for table in tree.levels.iter().flatten() {
        walk(&store.shared().tables.get(table).unwrap(), &mut |found| match found {
            Found::Record { key, tail, .. } => see(key.kind, &tail.unwrap()),
            Found::Beside(error) | Found::Lost { error, .. } => panic!("{error}"),
        });
    }
    for memtable in tree.memtables() {
        let mut iter = memtable.iter();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            see(iter.key().kind, &iter.tail().unwrap());
            iter.next().unwrap();
        }
    }
    things.extend(tree.levels.iter().flatten().map(|table| (Thing::Table(table.number), table.size)));
    things
}

/// What each volume says to have to itself, and what it has.
fn said_and_true(store: &Store) -> BTreeMap<String, (u64, u64)> {
    let volumes = store.shared().volumes();
    let all: Vec<_> = volumes.iter().map(|volume| things(store, volume)).collect();
    let mut holders: HashMap<&Thing, usize> = HashMap::new();
    all.iter().flat_map(HashMap::keys).for_each(|thing| *holders.entry(thing).or_default() += 1);
    let usage = store.usage();
    let compare = |(things, usage): (&HashMap<Thing, u64>, VolumeUsage)| {
        assert_eq!(usage.bytes, things.values().sum::<u64>(), "{}", usage.name);
        assert_eq!(usage.bytes, usage.own_bytes + usage.shared_bytes);
        let own = things.iter().filter(|(thing, _)| holders[thing] == 1);
        (format!("{:?}@{}", usage.snapshot_of, usage.name), (usage.own_bytes, own.map(|(_, b)| b).sum()))
    };
    all.iter().zip(usage).map(compare).collect()
}

fn settle(store: &Store) {
    while store.step().unwrap() {}
    store.shared().reclaim().unwrap();
}

fn compact(volume: &Arc<Volume>) {
    volume.shared().compact_volumes(std::slice::from_ref(volume)).unwrap();
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn what_counts_as_own_is_own_and_that_is_nearly_all() {
    let (mut said, mut own) = (0, 0);
    for seed in 0..20 {
        let mut random = Random(seed);
        let disk = Arc::new(SimDisk::new(seed));
        let mut store = Store::open(disk.clone(), options()).unwrap();
        store.create_volume("other").unwrap();
        let mut next = 0;
        for step in 0..120 {
            let volumes = store.volumes().unwrap();
            let volume = &volumes[random.below(volumes.len() as u64) as usize];
            next += 1;
            match random.below(20) {
                0..=9 => {
                    (0..random.below(20)).for_each(|_| put(volume, random.below(40), 400));
                    (0..random.below(10)).for_each(|_| put(volume, random.below(400), 100));
                }
                10 => _ = store.fork(volume, &format!("fork{next}")).unwrap(),
                11 => _ = store.create_snapshot(volume, &format!("snapshot{next}")).unwrap(),
                12 if volumes.len() > 2 => store.delete_volume(&volume.name()).unwrap(),
                13 => store.flush().unwrap(),
                14..=15 => compact(volume),
                16 if step % 2 == 0 => {
                    store.close().unwrap();
                    drop((volumes, store));
                    store = Store::open(disk.clone(), options()).unwrap();
                }
                _ => settle(&store),
            }
            for (name, (of_said, of_own)) in said_and_true(&store) {
                assert!(
                    of_said <= of_own,
                    "seed {seed}, step {step}: {name} has {of_own} and says {of_said}"
                );
                (said, own) = (said + of_said, own + of_own);
            }
        }
    }
    assert!(said * 100 >= own * 95, "of {own} bytes {said} are known to be own");
}

/// A volume, and a fork of it, that both write large values to the same blob files, small ones to tables, and what is
/// flushed early to packs.
fn apart(store: &Store) -> [Arc<Volume>; 2] {
    let main = store.volume("main").unwrap();
    (0..100).for_each(|key| put(&main, 4 * key, 2000));
    store.compact().unwrap();
    let fork = store.fork(&main, "fork").unwrap();
    for key in 0..100 {
        put(&fork, 4 * key + 1, 2000);
        put(&main, 4 * key + 2, 2000);
        put(&fork, 4 * key + 3, 200);
    }
    store.flush().unwrap();
    [main, fork]
}

#[test]
fn what_two_write_into_the_same_files_is_told_apart() {
    let store = Store::open(Arc::new(SimDisk::new(1)), options()).unwrap();
    let [main, fork] = apart(&store);
    let check = || {
        let found = said_and_true(&store);
        assert!(found.values().all(|(said, own)| said == own), "{found:?}");
        let of = |name: &str| found[&format!("None@{name}")].0;
        assert!((200_000..240_000).contains(&of("main")) && of("fork") >= of("main") + 20_000, "{found:?}");
    };
    check();
    // Now tables hold both what they share and what they do not.
    [&main, &fork].into_iter().for_each(compact);
    assert!(main.tree().levels.iter().flatten().any(|table| table.split > 0));
    check();
    store.close().unwrap();
}

#[test]
fn a_deletion_gives_back_what_was_own() {
    for mode in [CompactionMode::Leveled, CompactionMode::Tiered] {
        let disk = Arc::new(SimDisk::new(1));
        let store = Store::open(disk.clone(), Options { compaction: mode, ..options() }).unwrap();
        let others: Vec<_> = (0..20).map(|i| store.create_volume(&format!("v{i}")).unwrap()).collect();
        let [main, fork] = apart(&store);
        // Tables in packs.
        (0..20).for_each(|i| put(&others[i as usize], i, 250));
        (0..300).for_each(|key| put(&fork, 5000 + key, 250));
        store.flush().unwrap();
        [&main, &fork].into_iter().for_each(compact);
        settle(&store);
        let packed = |volume: &Volume| volume.tree().levels.iter().flatten().any(|t| t.section.is_some());
        assert!(others.iter().all(|volume| packed(volume)));
        let size = || -> u64 {
            let is_held =
                |name: &str| name.ends_with(".sst") || name.ends_with(".blob") || name.ends_with(".pack");
            disk.list().unwrap().iter().filter(|file| is_held(&file.name)).map(|file| file.len).sum()
        };
        let own = store.usage().into_iter().find(|usage| usage.name == "fork").unwrap().own_bytes;
        let before = size();
        store.delete_volume("fork").unwrap();
        drop(fork);
        settle(&store);
        store.compact().unwrap();
        settle(&store);
        let freed = before - size();
        // Blob files may keep garbage, a third of what is live.
        assert!(
            freed + 140_000 > own && freed < own + 20_000,
            "{mode:?}: {own} own, {freed} freed of {before}"
        );
        store.close().unwrap();
    }
}

#[test]
fn ten_megabytes_in_a_fork_are_ten_more_of_its_own() {
    let options = Options { blob_min: 4096, blob_file_size: 4 << 20, ..options() };
    let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
    let main = store.volume("main").unwrap();
    (0..50).for_each(|key| put(&main, key, 64 << 10));
    let fork = store.fork(&main, "fork").unwrap();
    let own = || said_and_true(&store)["None@fork"].0;
    assert_eq!(own(), 0);
    for key in 0..160 {
        put(&fork, 1000 + key, 64 << 10);
        put(&main, 2000 + key, 64 << 10);
    }
    let is_ten = |bytes: u64| (10 << 20..(10 << 20) + (64 << 10)).contains(&bytes);
    assert!(is_ten(own()), "{}", own());
    store.flush().unwrap();
    assert!(is_ten(own()), "{}", own());
    [&fork, &main].into_iter().for_each(compact);
    assert!(is_ten(own()), "{}", own());
}
