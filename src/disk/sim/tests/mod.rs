//! The simulated disk: that it is a disk, dies, repeats itself, counts and can be damaged.

mod faults;
mod power_cuts;

use super::*;
use crate::disk::suite;
use std::collections::BTreeSet;

const SEEDS: u64 = 300;

/// The different outcomes over many seeds of what `outcome` does with a fresh disk.
fn outcomes<T: Ord>(outcome: impl Fn(SimDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| outcome(SimDisk::new(seed))).collect()
}

fn errno<T>(result: Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.source.raw_os_error())
}

/// A log whose name and (empty) contents are durable.
fn durable_log(disk: &SimDisk, name: &str) -> Arc<dyn LogFile> {
    let log = disk.create_log(name).unwrap();
    disk.sync_dir().unwrap();
    log
}

/// Everything on the disk, even on a dead one.
fn everything(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.files().into_iter().map(|file| file.name);
    names.map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect()
}

/// The names in the folder of lost files.
fn lost(disk: &SimDisk) -> Vec<String> {
    disk.files().iter().filter_map(|file| Some(file.name.strip_prefix("lost/")?.to_owned())).collect()
}

#[test]
fn does_what_every_disk_must_do() {
    let disk = SimDisk::new(1);
    suite::run(&disk);
    let long = "n".repeat(200);
    assert_eq!(lost(&disk), [&long, "stray", "stray.1"]);
    assert_eq!(disk.read_file("lost/stray.1").unwrap(), b"two");
}

#[test]
fn a_killed_process_loses_nothing_that_the_system_has() {
    let found = outcomes(|disk| {
        let log = durable_log(&disk, "log");
        log.write_at(0, b"unsynced").unwrap();
        suite::put(&disk, "deleted", b"");
        disk.delete("deleted").unwrap();
        let mut writer = disk.create("object").unwrap();
        writer.write(b"unfinished").unwrap();
        let living = disk.crash_keep_all();
        assert_eq!(everything(&living), [("log".to_owned(), b"unsynced".to_vec())]);
        // It is as little synced as before.
        let found = living.crash();
        (suite::names(&found).len(), suite::get(&found, "log") == b"unsynced")
    });
    assert_eq!(found, BTreeSet::from([(1, false), (1, true), (2, false), (2, true)]));
}

#[test]
fn a_dead_disk_answers_nothing() {
    let disk = SimDisk::new(1);
    suite::put(&disk, "object", b"contents");
    let (object, log) = (disk.open("object").unwrap(), disk.create_log("log").unwrap());
    let mut writer = disk.create("unfinished").unwrap();
    let found = disk.crash();
    assert!(disk.is_crashed() && !found.is_crashed());
    let eio = Some(libc::EIO);
    assert_eq!([errno(object.read_at(0, 1)), errno(object.len())], [eio; 2]);
    assert_eq!([errno(log.write_at(0, b"x")), errno(log.truncate(0)), errno(log.sync())], [eio; 3]);
    assert_eq!([errno(writer.write(b"x")), errno(writer.finish())], [eio; 2]);
    assert_eq!([errno(disk.create("a")), errno(disk.open("object")), errno(disk.create_log("a"))], [eio; 3]);
    assert_eq!(
        [errno(disk.list()), errno(disk.delete("object")), errno(disk.move_to_lost("object"))],
        [eio; 3]
    );
    assert_eq!([errno(disk.sync_dir()), errno(disk.space())], [eio; 2]);
    suite::put(&found, "after", b"the new disk lives");
}

#[test]
fn one_frozen_state_has_many_outcomes() {
    let disk = SimDisk::new(1);
    let log = durable_log(&disk, "log");
    log.write_at(0, &[1; 10]).unwrap();
    let found: BTreeSet<_> = (0..50).map(|_| everything(&disk.crash())).collect();
    assert!(found.len() > 3);
    assert_eq!(everything(&disk.crash_keep_all()), [("log".to_owned(), vec![1; 10])]);
}

/// Some of everything; ends early where the disk dies.
fn work(disk: &SimDisk) -> Result<()> {
    let log = disk.create_log("log")?;
    disk.sync_dir()?;
    for round in 0..5_u8 {
        log.write_at(u64::from(round) * 3000, &[round + 1; 3000])?;
        let mut writer = disk.create(&format!("object{round}"))?;
        writer.write(&[round; 5000])?;
        writer.finish()?;
        if round % 2 == 1 {
            log.sync()?;
            disk.delete(&format!("object{}", round - 1))?;
        }
    }
    log.truncate(9000)?;
    disk.move_to_lost("object1")
}

#[test]
fn the_same_seed_and_operations_give_the_same_disk() {
    let whole = SimDisk::new(0);
    work(&whole).unwrap();
    let changes = whole.ops().changes();
    assert!(changes > 30);
    let mut seen = BTreeSet::new();
    for n in 1..=changes + 1 {
        for seed in 0..5 {
            let run = || {
                let disk = SimDisk::new(seed);
                disk.crash_at_op(n);
                assert_eq!(work(&disk).is_err(), n <= changes);
                let found = disk.crash();
                (disk.ops(), everything(&disk), everything(&found), everything(&found.crash()))
            };
            let first = run();
            assert!(first == run(), "seed {seed}, change {n}");
            seen.insert(first.2);
        }
    }
    assert!(seen.len() as u64 > 2 * changes, "seeds differ: {}", seen.len());
}

#[test]
fn operations_are_counted() {
    let disk = SimDisk::new(1);
    suite::put(&disk, "object", b"contents");
    let object = disk.open("object").unwrap();
    assert_eq!((disk.reads("object"), disk.reads("nothing")), (0, 0));
    object.read_at(0, 1).unwrap();
    object.read_at(0, 100).unwrap_err();
    object.len().unwrap();
    assert_eq!(disk.reads("object"), 2);
    let on_object = disk.ops_on("object");
    let sorts = [Op::Create, Op::Write, Op::Sync, Op::Name, Op::Open, Op::Read, Op::Len, Op::SyncDir];
    assert_eq!(sorts.map(|op| on_object.get(op)), [1, 1, 1, 1, 1, 2, 1, 0]);
    let all = disk.ops();
    assert_eq!((all.get(Op::SyncDir), all.total(), all.changes()), (1, 9, 4));
}

#[test]
fn files_can_be_damaged() {
    let disk = SimDisk::new(1);
    suite::put(&disk, "object", &[0; 100]);
    let log = durable_log(&disk, "log");
    log.write_at(0, &[0; 100]).unwrap();
    log.sync().unwrap();
    log.write_at(0, &[0; 100]).unwrap();
    for name in ["object", "log"] {
        disk.flip_bit(name, 7, 2).unwrap();
    }
    disk.truncate_file("object", 10).unwrap();
    disk.write_file("foreign", b"whatever").unwrap();
    assert!(disk.flip_bit("object", 10, 0).is_err() && disk.flip_bit("log", 0, 8).is_err());
    assert!(disk.flip_bit("missing", 0, 0).unwrap_err().is_not_found());
    assert!(disk.write_file("LOCK", b"").is_err());
    assert_eq!(disk.ops().get(Op::Write), 3);
    // Damage is durable, synced or not.
    for _ in 0..20 {
        let found = disk.crash();
        assert_eq!(suite::names(&found), ["foreign", "log", "object"]);
        assert_eq!(suite::get(&found, "foreign"), b"whatever");
        assert_eq!(suite::get(&found, "object"), [0, 0, 0, 0, 0, 0, 0, 4, 0, 0]);
        assert_eq!(suite::get(&found, "log")[7], 4);
        assert_eq!(suite::get(&found, "log").len(), 100);
    }
}
