//! The simulated disk: what power cuts keep, over many seeds, and what fails.

use super::file::{BLOCK_BYTES, SECTOR_BYTES};
use super::*;
use crate::disk::suite;
use proptest::prelude::*;
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
fn what_is_synced_always_survives() {
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        suite::put(&disk, "object", &[1; 10_000]);
        let log = durable_log(&disk, "log");
        log.write_at(0, &[2; 6000]).unwrap();
        log.sync().unwrap();
        log.write_at(6000, &[3; 6000]).unwrap();
        suite::put(&disk, "deleted", b"");
        disk.delete("deleted").unwrap();
        suite::put(&disk, "later", b"its finish syncs the delete too");
        let found = disk.crash();
        assert_eq!(suite::names(&found), ["later", "log", "object"]);
        assert_eq!(suite::get(&found, "object"), [1; 10_000]);
        assert_eq!(suite::get(&found, "log")[..6000], [2; 6000]);
    }
}

#[test]
fn unsynced_blocks_survive_or_not_each_by_itself() {
    let found = outcomes(|disk| {
        let log = durable_log(&disk, "log");
        log.write_at(0, &[1; 2 * BLOCK_BYTES]).unwrap();
        log.sync().unwrap();
        log.write_at(0, &[2; 2 * BLOCK_BYTES]).unwrap();
        let found = suite::get(&disk.crash(), "log");
        assert_eq!(found.len(), 2 * BLOCK_BYTES);
        let new_bytes = |block: &[u8]| {
            let new = block.iter().take_while(|byte| **byte == 2).count();
            assert!(block[new..].iter().all(|byte| *byte == 1), "old behind new");
            assert_eq!(new % SECTOR_BYTES, 0, "torn at a sector's boundary");
            new
        };
        (new_bytes(&found[..BLOCK_BYTES]), new_bytes(&found[BLOCK_BYTES..]))
    });
    for whole in [(0, 0), (0, BLOCK_BYTES), (BLOCK_BYTES, 0), (BLOCK_BYTES, BLOCK_BYTES)] {
        assert!(found.contains(&whole), "{whole:?}");
    }
    let torn = |new: usize| new != 0 && new != BLOCK_BYTES;
    assert!(found.iter().any(|(first, second)| torn(*first) || torn(*second)), "torn blocks");
}

#[test]
fn an_unsynced_end_is_there_or_cut_or_zeros() {
    let found = outcomes(|disk| {
        let log = durable_log(&disk, "log");
        log.write_at(0, &[1; 100]).unwrap();
        log.sync().unwrap();
        log.write_at(100, &[2; 300]).unwrap();
        let found = suite::get(&disk.crash(), "log");
        assert_eq!(found[..100], [1; 100]);
        assert!((100..=400).contains(&found.len()));
        let survived = found[100..].iter().filter(|byte| **byte == 2).count();
        assert!(survived == found.len() - 100 || survived == 0, "all within one sector");
        (found.len(), survived)
    });
    assert!(found.contains(&(100, 0)), "nothing");
    assert!(found.contains(&(400, 300)), "everything");
    assert!(found.contains(&(400, 0)), "the length without the data");
    assert!(found.iter().any(|(len, survived)| *len > 100 && *len < 400 && *survived > 0), "a part");
}

#[test]
fn an_unsynced_cut_happened_or_not() {
    let found = outcomes(|disk| {
        let log = durable_log(&disk, "log");
        log.write_at(0, &[1; 3 * BLOCK_BYTES]).unwrap();
        log.sync().unwrap();
        log.truncate(10).unwrap();
        let found = suite::get(&disk.crash(), "log");
        assert_eq!(found[..10], [1; 10]);
        assert!(found.iter().skip(BLOCK_BYTES).all(|byte| *byte == 1), "what was cut off is untouched");
        found.len()
    });
    assert_eq!(found, BTreeSet::from([10, 3 * BLOCK_BYTES]));
    // Synced, it happened.
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let log = durable_log(&disk, "log");
        log.write_at(0, &[1; 3 * BLOCK_BYTES]).unwrap();
        log.sync().unwrap();
        log.truncate(10).unwrap();
        log.sync().unwrap();
        log.write_at(BLOCK_BYTES as u64, &[2; 10]).unwrap();
        let found = suite::get(&disk.crash(), "log");
        assert_eq!(found[..10], [1; 10]);
        assert!(found[10..].iter().all(|byte| *byte != 1), "what was cut off does not come back");
    }
}

#[test]
fn older_unsynced_contents_may_be_what_was_written_back() {
    let found = outcomes(|disk| {
        let log = durable_log(&disk, "log");
        for version in 1..=3 {
            log.write_at(0, &[version; SECTOR_BYTES]).unwrap();
        }
        suite::get(&disk.crash(), "log").first().copied()
    });
    assert_eq!(found, BTreeSet::from([None, Some(0), Some(1), Some(2), Some(3)]));
}

#[test]
fn unsynced_names_survive_in_any_combination() {
    let found = outcomes(|disk| {
        for name in ["deleted", "moved"] {
            suite::put(&disk, name, name.as_bytes());
        }
        for name in ["new1", "new2"] {
            disk.create_log(name).unwrap().sync().unwrap();
        }
        disk.delete("deleted").unwrap();
        disk.move_to_lost("moved").unwrap();
        let found = disk.crash();
        let (names, lost) = (suite::names(&found), lost(&found));
        let has = |name: &str| names.iter().any(|found| found == name);
        assert_ne!(has("moved"), lost == ["moved"], "a move happens whole or not at all");
        if has("deleted") {
            assert_eq!(suite::get(&found, "deleted"), b"deleted");
        }
        [has("new1"), has("new2"), has("deleted"), has("moved")]
    });
    assert_eq!(found.len(), 16, "all combinations");
}

#[test]
fn an_object_appears_whole_or_not_at_all() {
    // Every change of creating one object: two writes, sync, name, directory.
    for seed in 0..SEEDS {
        for n in 1..=6 {
            let disk = SimDisk::new(seed);
            disk.crash_at_op(n);
            let make = || {
                let mut writer = disk.create("object")?;
                writer.write(&[7; 5000])?;
                writer.write(&[7; 5000])?;
                writer.finish()
            };
            let made = make();
            assert_eq!(made.is_ok(), n == 6);
            let found = disk.crash();
            match found.open("object") {
                Ok(object) => {
                    assert!(n >= 5);
                    assert_eq!(&object.read_at(0, 10_000).unwrap()[..], &[7; 10_000]);
                }
                Err(e) => assert!(e.is_not_found() && made.is_err()),
            }
        }
    }
}

#[test]
fn a_failed_sync_loses_bytes_though_the_next_one_succeeds() {
    let lost = |write_again: bool| {
        outcomes(|disk| {
            let log = durable_log(&disk, "log");
            log.write_at(0, &[1; BLOCK_BYTES]).unwrap();
            disk.fail(Fault::new(Op::Sync, libc::EIO));
            assert_eq!(errno(log.sync()), Some(libc::EIO));
            if write_again {
                log.write_at(10, &[1]).unwrap();
            }
            log.write_at(BLOCK_BYTES as u64, &[2; 10]).unwrap();
            log.sync().unwrap();
            assert_eq!(disk.read_file("log").unwrap()[..BLOCK_BYTES], [1; BLOCK_BYTES], "readers see it");
            let found = suite::get(&disk.crash(), "log");
            assert_eq!(found[BLOCK_BYTES..], [2; 10], "what came later is durable");
            found[..BLOCK_BYTES] != [1; BLOCK_BYTES]
        })
    };
    assert_eq!(lost(false), BTreeSet::from([false, true]));
    assert_eq!(lost(true), BTreeSet::from([false]));
}

#[test]
fn a_failed_directory_sync_leaves_no_object_behind() {
    let found = outcomes(|disk| {
        disk.fail(Fault::new(Op::SyncDir, libc::EIO));
        let mut writer = disk.create("object").unwrap();
        writer.write(b"contents").unwrap();
        assert_eq!(errno(writer.finish()), Some(libc::EIO));
        assert_eq!(suite::names(&disk), Vec::<String>::new());
        everything(&disk.crash())
    });
    let whole = vec![("object".to_owned(), b"contents".to_vec())];
    assert_eq!(found, BTreeSet::from([vec![], whole]), "a power cut may bring it back");
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
fn faults_strike_what_they_are_meant_for() {
    let disk = SimDisk::new(1);
    let (log, other) = (disk.create_log("log").unwrap(), disk.create_log("other").unwrap());
    disk.fail(Fault::new(Op::Write, libc::EIO).on("lo").after(1).times(2));
    let eio = Some(libc::EIO);
    let writes: Vec<_> =
        (0..5).map(|_| (errno(log.write_at(0, b"x")), errno(other.write_at(0, b"x")))).collect();
    assert_eq!(writes, [(None, None), (eio, None), (eio, None), (None, None), (None, None)]);

    disk.fail(Fault::new(Op::Open, libc::EMFILE).always());
    assert_eq!([errno(disk.open("log")), errno(disk.open("other"))], [Some(libc::EMFILE); 2]);
    disk.clear_faults();
    disk.open("log").unwrap();

    disk.fail(Fault::new(Op::Name, libc::EIO));
    let writer = disk.create("object").unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!((error.op, error.name.as_str()), ("finish", "object"));
    assert!(disk.open("object").err().unwrap().is_not_found());
    disk.fail(Fault::new(Op::CreateLog, libc::ENOSPC));
    assert!(disk.create_log("new").err().unwrap().is_full());
    disk.create_log("new").unwrap();
}

#[test]
fn a_short_write_writes_a_part() {
    let found = outcomes(|disk| {
        let log = disk.create_log("log").unwrap();
        disk.fail(Fault::new(Op::Write, libc::EIO).short());
        assert_eq!(errno(log.write_at(0, &[1; 10])), Some(libc::EIO));
        let contents = disk.read_file("log").unwrap();
        assert!(contents.iter().all(|byte| *byte == 1));
        contents.len()
    });
    assert_eq!(found, (0..10).collect());
    // An object's writer takes none of them.
    let disk = SimDisk::new(2);
    disk.fail(Fault::new(Op::Write, libc::EIO).after(1).short());
    let mut writer = disk.create("object").unwrap();
    writer.write(b"one ").unwrap();
    writer.write(&[0; 100]).unwrap_err();
    writer.write(b"two").unwrap();
    writer.finish().unwrap();
    assert_eq!(suite::get(&disk, "object"), b"one two");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new(1);
    disk.set_capacity(1000);
    let log = disk.create_log("log").unwrap();
    log.write_at(0, &[1; 600]).unwrap();
    assert!(log.write_at(600, &[2; 600]).unwrap_err().is_full());
    assert_eq!(disk.read_file("log").unwrap().len(), 1000);
    assert_eq!(disk.space().unwrap(), Space { total: 1000, available: 0, free: 0 });
    log.write_at(0, &[3; 1000]).unwrap();
    assert!(log.truncate(1001).unwrap_err().is_full());
    log.truncate(500).unwrap();
    assert!(log.write_at(2000, b"x").unwrap_err().is_full());
    assert_eq!(disk.read_file("log").unwrap().len(), 500);

    // What is unfinished or open takes room, too, until it is gone.
    let mut writer = disk.create("object").unwrap();
    writer.write(&[0; 500]).unwrap();
    assert!(writer.write(b"x").unwrap_err().is_full());
    assert_eq!(disk.space().unwrap().available, 0);
    drop(writer);
    assert_eq!(disk.space().unwrap().available, 500);
    disk.delete("log").unwrap();
    assert_eq!(disk.space().unwrap().available, 500);
    drop(log);
    assert_eq!(disk.space().unwrap().available, 1000);

    suite::put(&disk, "object", &[0; 400]);
    let found = disk.crash();
    assert!(found.space().unwrap().total == 1000 && found.space().unwrap().available <= 600);
}

#[test]
fn wild_offsets_are_errors() {
    let disk = SimDisk::new(1);
    let log = disk.create_log("log").unwrap();
    for offset in [u64::MAX, u64::MAX - 1, 1 << 40] {
        assert_eq!(errno(log.write_at(offset, b"xy")), Some(libc::EFBIG));
    }
    assert_eq!(errno(log.truncate(u64::MAX)), Some(libc::EFBIG));
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

#[derive(Debug, Clone)]
enum Step {
    Write(usize, usize),
    Truncate(usize),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..20_000_usize, 1..9000_usize).prop_map(|(offset, len)| Step::Write(offset, len)),
        1 => (0..20_000_usize).prop_map(Step::Truncate),
        2 => Just(Step::Sync),
    ]
}

proptest! {
    /// After a power cut each byte is one that the file had there since it was last synced (or a
    /// zero, if the file had no byte there once), and the length is within those that it had.
    #[test]
    fn a_power_cut_leaves_only_what_was_there_since_the_last_sync(
        seed: u64,
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let disk = SimDisk::new(seed);
        let log = durable_log(&disk, "log");
        let mut versions: Vec<Vec<u8>> = vec![vec![]];
        for (number, step) in steps.into_iter().enumerate() {
            let mut contents = versions.last().unwrap().clone();
            match step {
                Step::Write(offset, len) => {
                    let bytes = vec![number as u8 + 1; len];
                    log.write_at(offset as u64, &bytes).unwrap();
                    contents.resize(contents.len().max(offset + len), 0);
                    contents[offset..offset + len].copy_from_slice(&bytes);
                }
                Step::Truncate(len) => {
                    log.truncate(len as u64).unwrap();
                    contents.resize(len, 0);
                }
                Step::Sync => {
                    log.sync().unwrap();
                    versions.clear();
                }
            }
            prop_assert!(disk.read_file("log").unwrap() == contents);
            versions.push(contents);
        }
        for _ in 0..5 {
            let found = suite::get(&disk.crash(), "log");
            let lens = || versions.iter().map(Vec::len);
            prop_assert!(lens().min().unwrap() <= found.len() && found.len() <= lens().max().unwrap());
            for (offset, byte) in found.iter().enumerate() {
                let had = versions.iter().any(|version| version.get(offset).copied().unwrap_or(0) == *byte);
                prop_assert!(had, "byte {} at {}", byte, offset);
            }
        }
    }
}
