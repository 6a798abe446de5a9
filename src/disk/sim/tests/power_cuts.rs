//! What power cuts keep, over many seeds.

use super::*;
use crate::disk::sim::file::{BLOCK_BYTES, SECTOR_BYTES};
use proptest::prelude::*;

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
            assert_eq!(suite::names(&disk.crash_keep_all()).len(), usize::from(n >= 5), "named at 4");
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
