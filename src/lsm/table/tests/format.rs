//! The format stays readable: a table that version 1 wrote, byte by byte.

use super::mem::{MemDisk, Record, key};
use crate::lsm::Value;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{Kind, MAX_SEQ};
use crate::lsm::options::Compression;
use crate::lsm::table::{PrefixRule, TableOptions};
use bytes::Bytes;
use std::sync::Arc;

/// What this test's records gave when version 1 was fixed. Later versions must read it; while
/// version 1 is the one that is written, they must write it too.
const VERSION_1: &[u8] = include_bytes!("version1.sst");

const RULE: PrefixRule = PrefixRule { id: 1, extract: |key| key.get(..3) };

fn records() -> Vec<Record> {
    let record = |i: u64| {
        let kinds = [Kind::Put, Kind::FirstPut, Kind::Patch, Kind::Tombstone, Kind::RangeTombstone];
        let kind = kinds[i as usize % kinds.len()];
        let value = match kind {
            // It deletes up to "l".
            Kind::RangeTombstone => Value { head: "l".into(), tail: Bytes::new() },
            _ => Value {
                head: Bytes::from(vec![b'h'; i as usize % 5]),
                tail: Bytes::from(vec![i as u8; i as usize * 3]),
            },
        };
        (format!("key{:02}", i / 3).into_bytes(), 1000 - i, kind, value)
    };
    (0..40).map(record).collect()
}

#[test]
fn a_table_of_version_1_reads_back_and_is_still_written_so() {
    let disk = Arc::new(MemDisk::default());
    let options = TableOptions {
        block_size: 100,
        compression: Compression::None,
        value_threshold: 50,
        prefix: Some(RULE),
        filter_bits_per_key: 10,
        store: 0,
        homes: Vec::new(),
        replaces: Vec::new(),
        split: 0,
    };
    disk.build(5, &options, &records());
    assert!(
        disk.contents(5) == VERSION_1,
        "other bytes are written: a new version, or, if version 1 describes them too, a new file here"
    );

    disk.set_contents(5, Bytes::from_static(VERSION_1));
    let table = disk.open_table(5, 1 << 20).unwrap();
    let mut iter = table.iter();
    iter.seek_to_first().unwrap();
    for record in &records() {
        assert_eq!(iter.key(), key(record));
        let head = if record.2 == Kind::RangeTombstone { &[] } else { &*record.3.head };
        assert_eq!((iter.head(), iter.tail().unwrap()), (head, record.3.tail.clone()));
        assert!(table.seek_key(&record.0, MAX_SEQ).unwrap().is_some());
        iter.next().unwrap();
    }
    assert!(!iter.valid());
    let deleted = |key: &[u8], seq| table.ranges().covering(key, seq).map(|(seq, _)| seq);
    assert_eq!(
        (deleted(b"key99", MAX_SEQ), deleted(b"key99", 960), deleted(b"l", MAX_SEQ)),
        (Some(996), None, None)
    );
    assert!(table.may_contain_prefix(&RULE, b"key").unwrap());
    assert!(!table.may_contain(b"absent").unwrap());
    let properties = table.properties().unwrap();
    assert_eq!((properties.partitions, properties.data_blocks, properties.value_blocks), (3, 15, 18));
}
