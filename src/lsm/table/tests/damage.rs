//! Damaged tables: an error that names the file, or the right answer; never a wrong one.

use super::mem::{MemDisk, Record, key};
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{Kind, MAX_SEQ};
use crate::lsm::options::Compression;
use crate::lsm::table::TableOptions;
use crate::lsm::{Error, Result, Value};
use std::sync::Arc;

fn records() -> Vec<Record> {
    let record = |i: u64| {
        let kind = if i.is_multiple_of(5) { Kind::Tombstone } else { Kind::Put };
        let len = if i.is_multiple_of(3) { 40 } else { 2 };
        let tail: Vec<u8> = (0..len).map(|j| (i * 41 + j + 1) as u8).collect();
        (
            format!("key{:02}", i / 2).into_bytes(),
            100 - i,
            kind,
            Value { head: "head".into(), tail: tail.into() },
        )
    };
    (0..40).map(record).collect()
}

fn build(compression: Compression) -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    let options =
        TableOptions { block_size: 150, value_threshold: 30, compression, ..TableOptions::default() };
    disk.build(8, &options, &records());
    disk
}

/// Reads everything in every way. Wrong answers fail; the errors are returned.
fn read_all(disk: &MemDisk) -> Vec<Error> {
    let records = records();
    let mut errors = Vec::new();
    let table = match disk.open_table(8, 1 << 20) {
        Ok(table) => table,
        Err(e) => return vec![e],
    };
    let mut note = |result: Result<()>| errors.extend(result.err());
    note((|| {
        let mut iter = table.iter();
        iter.seek_to_first()?;
        for record in &records {
            assert_eq!(iter.key(), key(record));
            assert_eq!(iter.head(), record.3.head);
            assert_eq!(iter.tail()?, record.3.tail);
            iter.next()?;
        }
        assert!(!iter.valid());
        Ok(())
    })());
    note((|| {
        let mut iter = table.iter();
        iter.seek_to_last()?;
        for record in records.iter().rev() {
            assert_eq!(iter.key(), key(record));
            iter.prev()?;
        }
        assert!(!iter.valid());
        Ok(())
    })());
    for record in &records {
        note((|| {
            let iter = table.seek_key(&record.0, record.1)?.expect("the key is there");
            assert_eq!(iter.key(), key(record));
            assert_eq!(iter.tail()?, record.3.tail);
            let mut iter = table.iter();
            iter.seek_before(key(record))?;
            assert!(!iter.valid() || iter.key() < key(record));
            Ok(())
        })());
    }
    note(table.seek_key(b"absent", MAX_SEQ).map(|found| assert!(found.is_none())));
    note(table.properties().map(|properties| assert_eq!(properties.meta.entries, 40)));
    errors
}

fn assert_damage(errors: &[Error], what: &str) {
    assert!(!errors.is_empty(), "{what}: not noticed");
    for error in errors {
        let Error::Corruption { file, .. } = error else { panic!("{what}: {error}") };
        assert_eq!(file, "000008.sst");
    }
}

const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

#[test]
fn every_flipped_byte_is_noticed() {
    for compression in ALL {
        let disk = build(compression);
        assert!(read_all(&disk).is_empty());
        let sound = disk.contents(8);
        for at in 0..sound.len() {
            let mut damaged = sound.to_vec();
            damaged[at] ^= 1 << (at % 8);
            disk.set_contents(8, damaged.into());
            assert_damage(&read_all(&disk), &format!("byte {at} of {}", sound.len()));
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    for compression in ALL {
        let disk = build(compression);
        let sound = disk.contents(8);
        for len in 0..sound.len() {
            disk.set_contents(8, sound.slice(..len));
            assert_damage(&read_all(&disk), &format!("cut at {len}"));
        }
    }
}

#[test]
fn zeroed_ranges_and_swapped_pages_are_noticed() {
    let disk = build(Compression::None);
    let sound = disk.contents(8);
    for page in [16, 64, 256] {
        for at in (0..sound.len() - 2 * page).step_by(page) {
            let mut zeroed = sound.to_vec();
            zeroed[at..at + page].fill(0);
            assert!(zeroed != sound);
            disk.set_contents(8, zeroed.into());
            assert_damage(&read_all(&disk), &format!("{page} zeros at {at}"));

            let mut swapped = sound.to_vec();
            swapped[at..at + 2 * page].rotate_left(page);
            assert!(swapped != sound);
            disk.set_contents(8, swapped.into());
            assert_damage(&read_all(&disk), &format!("{page} bytes swapped at {at}"));
        }
    }
}

#[test]
fn a_table_under_another_name_is_noticed() {
    let disk = build(Compression::None);
    disk.set_contents(9, disk.contents(8));
    let error = disk.open_table(9, 0).unwrap_err();
    assert!(matches!(&error, Error::Corruption { file, .. } if file == "000009.sst"), "{error}");
}

#[test]
fn a_missing_file_is_the_disks_error() {
    let disk = build(Compression::None);
    let meta = crate::lsm::table::TableMeta { number: 77, ..crate::lsm::table::TableMeta::empty(77) };
    let blocks = Arc::new(crate::lsm::cache::BlockCache::new(0));
    let tables = crate::lsm::table::TableCache::new(disk, blocks, 1);
    assert!(matches!(tables.get(&meta), Err(Error::Disk(e)) if e.is_not_found()));
}
