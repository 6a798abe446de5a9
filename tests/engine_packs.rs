//! Many small volumes: they are flushed and compacted together, into packs; what of that is damaged, and what
//! becomes of the room.

mod engine_common;

use engine_common::{assert_no_leaks, files, kill, sim, stepped, try_put};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::check::{Problem, Watch, check};
use lsmfs::lsm::repair::repair;
use lsmfs::lsm::stats::VolumeStats;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

fn name(i: usize) -> String {
    format!("v{i:03}")
}

fn contents(volume: &Volume) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut contents = BTreeMap::new();
    while scan.next()? {
        contents.insert(scan.key().to_vec(), scan.head().to_vec());
    }
    Ok(contents)
}

/// A store with so many volumes, each written and flushed with all others so many times.
fn filled(count: usize, rounds: u8, options: Options) -> (Arc<SimDisk>, Store) {
    let disk = sim();
    let store = Store::open(disk.clone(), options).unwrap();
    for i in 0..count {
        store.create_volume(&name(i)).unwrap();
    }
    for round in 0..rounds {
        write(&store, count, round);
        store.flush().unwrap();
    }
    (disk, store)
}

fn write(store: &Store, count: usize, round: u8) {
    for i in 0..count {
        let volume = store.volume(&name(i)).unwrap();
        for key in 0..3 {
            try_put(&volume, &[round, key], name(i).as_bytes()).unwrap();
        }
    }
}

/// The volumes whose contents are what was written in so many rounds.
#[track_caller]
fn assert_whole(store: &Store, of: impl Iterator<Item = usize>, rounds: u8) {
    for i in of {
        let found = contents(&store.volume(&name(i)).unwrap()).unwrap();
        assert_eq!(found.len(), usize::from(rounds) * 3, "{}", name(i));
        assert!(found.values().all(|value| value == name(i).as_bytes()), "{}", name(i));
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Watch for Problems {
    fn problem(&mut self, problem: Problem) {
        self.0.push(problem.error.to_string());
    }
}

fn problems(disk: &Arc<SimDisk>) -> Vec<String> {
    let disk: Arc<dyn Disk> = disk.clone();
    let mut found = Problems::default();
    check(&disk, &mut found).unwrap();
    found.0
}

#[test]
fn small_memtables_become_one_file_and_one_commit() {
    let (disk, store) = filled(100, 0, stepped());
    let before = disk.ops().changes();
    write(&store, 100, 0);
    let written = disk.ops().changes();
    store.flush().unwrap();
    let flushed = disk.ops().changes() - written;
    assert!(flushed < 40, "{flushed} operations, {} for the writes", written - before);
    assert_eq!((files(&disk, ".pack").len(), files(&disk, ".sst").len()), (1, 0));
    assert_whole(&store, 0..100, 1);
    assert_eq!(store.stats().flushes.count, 1);
    let disk = kill(&disk);
    assert_eq!(problems(&disk), [""; 0]);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    assert_whole(&store, 0..100, 1);
    assert_no_leaks(&disk, &store, "reopened");
}

#[test]
fn a_close_of_many_volumes_writes_few_files() {
    let (disk, store) = filled(300, 0, stepped());
    write(&store, 300, 0);
    store.close().unwrap();
    let disk = kill(&disk);
    assert!(files(&disk, ".pack").len() <= 2 && files(&disk, ".sst").is_empty());
    assert_eq!(files(&disk, ".log"), [""; 0], "nothing is left to replay");
    let store = Store::open(disk, stepped()).unwrap();
    assert_whole(&store, 0..300, 1);
}

#[test]
fn small_volumes_are_compacted_together() {
    let rounds = stepped().l0_compaction_trigger as u8;
    let (disk, store) = filled(50, rounds, stepped());
    assert_eq!(files(&disk, ".pack").len(), usize::from(rounds));
    let before = disk.ops().changes();
    while store.step().unwrap() {}
    let took = disk.ops().changes() - before;
    assert!(took < 40, "{took} operations");
    assert_eq!(store.stats().compactions.jobs.runs, 50);
    assert_whole(&store, 0..50, rounds);
    let disk = kill(&disk);
    assert_eq!(problems(&disk), [""; 0]);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    assert_eq!((files(&disk, ".pack").len(), files(&disk, ".sst").len()), (1, 0), "the old ones are gone");
    assert_whole(&store, 0..50, rounds);
}

#[test]
fn a_pack_of_which_little_is_left_gives_its_room_back() {
    let (disk, store) = filled(60, 1, stepped());
    let pack = files(&disk, ".pack");
    for i in 0..40 {
        store.delete_volume(&name(i)).unwrap();
    }
    while store.step().unwrap() {}
    // What was moved last is deleted with the commit after.
    store.compact().unwrap();
    assert!(!files(&disk, ".pack").contains(&pack[0]), "{:?}", files(&disk, ".pack"));
    assert_whole(&store, 40..60, 1);
    drop(store);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    assert_no_leaks(&disk, &store, "after deletes");
    for i in 40..60 {
        store.delete_volume(&name(i)).unwrap();
    }
    store.compact().unwrap();
    assert_eq!((files(&disk, ".pack").len(), files(&disk, ".sst").len()), (0, 0));
}

#[test]
fn forks_share_a_table_of_a_pack() {
    let (disk, store) = filled(10, 1, stepped());
    for i in 0..10 {
        store.fork(&store.volume(&name(i)).unwrap(), &format!("fork{i}")).unwrap();
    }
    for i in 0..10 {
        store.delete_volume(&name(i)).unwrap();
    }
    let disk = kill(&disk);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    for i in 0..10 {
        assert_eq!(contents(&store.volume(&format!("fork{i}")).unwrap()).unwrap().len(), 3);
    }
    assert_no_leaks(&disk, &store, "reopened");
}

/// Damage in a pack is told of with the pack's name, costs the one volume whose table it is in, and a repair
/// brings the others back whole.
#[test]
fn damage_in_a_pack_costs_one_volume() {
    let (disk, store) = filled(5, 1, stepped());
    drop(store);
    let pack = files(&disk, ".pack").remove(0);
    let len = disk.list().unwrap().iter().find(|file| file.name == pack).unwrap().len;
    // More would take long and show the same: all of a list, a trailer, a footer and some blocks are hit.
    for offset in (0..len).step_by(97) {
        let damaged = kill(&disk);
        damaged.flip_bit(&pack, offset, (offset % 8) as u8).unwrap();
        let found = problems(&damaged);
        assert!(found.iter().any(|problem| problem.contains(&pack)), "byte {offset}: {found:?}");
        let read = |disk: &Arc<SimDisk>| -> Vec<Result<usize, Error>> {
            let store = Store::open(disk.clone(), stepped()).unwrap();
            let count = |i| contents(&store.volume(&name(i)).unwrap()).map(|found| found.len());
            (0..5).map(count).collect()
        };
        let bad: Vec<_> = read(&damaged).into_iter().filter(|read| !matches!(read, Ok(3))).collect();
        assert!(bad.len() <= 1, "byte {offset}: {bad:?}");
        for error in bad {
            assert!(error.as_ref().is_err_and(|e| e.to_string().contains(&pack)), "byte {offset}: {error:?}");
        }
        let as_disk: Arc<dyn Disk> = damaged.clone();
        repair(&as_disk, &stepped(), &mut Problems::default()).unwrap();
        assert_eq!(problems(&damaged), [""; 0], "byte {offset}");
        let whole = read(&damaged).into_iter().filter(|read| matches!(read, Ok(3))).count();
        assert!(whole >= 4, "byte {offset}: {whole}");
    }
}

#[test]
fn small_volumes_that_are_compacted_on_demand_are_compacted_together() {
    let (disk, store) = filled(100, 2, stepped());
    let parent = store.volume(&name(7)).unwrap();
    (0..20).for_each(|i| _ = store.fork(&parent, &format!("fork{i}")).unwrap());
    let fork = store.volume("fork3").unwrap();
    try_put(&fork, b"own", b"value").unwrap();
    store.flush().unwrap();
    let before = disk.ops().changes();
    store.compact().unwrap();
    let changes = disk.ops().changes() - before;
    assert!(changes < 100, "{changes} changes of the disk for 121 volumes");
    let stats = store.stats();
    assert!(stats.compactions.jobs.manual >= 101);
    let deepest = |volume: &VolumeStats| volume.levels.iter().rposition(|level| !level.is_empty());
    let is_merged = |volume: &&VolumeStats| volume.levels.iter().filter(|l| !l.is_empty()).count() <= 1;
    assert!(stats.volumes.iter().all(|volume| is_merged(&volume) && deepest(volume) != Some(0)));
    let disk = kill(&disk);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    assert_whole(&store, 0..100, 2);
    assert_eq!(contents(&store.volume("fork3").unwrap()).unwrap().len(), 7);
    assert_eq!(contents(&store.volume("fork4").unwrap()).unwrap().len(), 6);
    assert_no_leaks(&disk, &store, "compacted");
}

#[test]
fn a_volume_that_cannot_be_looked_at_costs_the_others_no_compaction() {
    let options = Options { blob_min: 1000, l0_compaction_trigger: 3, ..stepped() };
    let (disk, store) = filled(3, 2, options.clone());
    // One with less to do: it is looked at last. What its tables hide in blob files its range tombstones say.
    let bad = store.create_volume("bad").unwrap();
    let mut batch = Batch::new();
    batch.put_split(b"k", b"", &[1; 2000]);
    bad.write(batch).unwrap();
    store.flush().unwrap();
    let mut batch = Batch::new();
    batch.delete_range(b"a", b"z");
    bad.write(batch).unwrap();
    store.flush().unwrap();
    write(&store, 3, 2);
    store.flush().unwrap();
    let damaged = of_volume(&store, "bad").levels[0][0].file.clone();
    drop(store);
    let disk = Arc::new(disk.crash_keep_all());
    let footer = disk.read_file(&damaged).unwrap().len() as u64 - 10;
    disk.flip_bit(&damaged, footer, 0).unwrap();
    let store = Store::open(disk.clone(), options).unwrap();
    // Each step may meet the damage once.
    let errors = (0..10).filter(|_| store.step().is_err()).count();
    assert!(errors > 0, "the damage is told");
    for i in 0..3 {
        let left = of_volume(&store, &name(i)).levels[0].len();
        assert!(left < 3, "{}: {left} tables", name(i));
    }
    assert_whole(&store, 0..3, 3);
}

fn of_volume(store: &Store, name: &str) -> VolumeStats {
    store.stats().volumes.into_iter().find(|volume| volume.usage.name == name).unwrap()
}
