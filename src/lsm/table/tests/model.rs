//! Tables against a sorted list of records, under ordinary and hostile options.

use super::mem::{MemDisk, Record, key, put};
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, MAX_SEQ};
use crate::lsm::options::Compression;
use crate::lsm::table::builder::MAX_TABLE_KEY_LEN;
use crate::lsm::table::{PrefixRule, Table, TableBuilder, TableIter, TableMeta, TableOptions};
use crate::lsm::{Error, Value};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keys of `a` and `b` fall into groups by their first three bytes, others into none.
const RULE: PrefixRule = PrefixRule {
    id: 1,
    extract: |key| if matches!(key.first(), Some(b'a' | b'b')) { key.get(..3) } else { None },
};

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Put), Just(Kind::FirstPut), Just(Kind::Tombstone), Just(Kind::Patch)]
}

/// Keys of few bytes that collide much, and long ones that differ only at the end.
fn user_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(b'a'..b'd', 0..6),
        1 => vec(any::<u8>(), 0..2),
        1 => vec(0xfeu8..=0xff, 0..4).prop_map(|end| [vec![b'a'; 300], end].concat()),
    ]
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    let short = vec(any::<u8>(), 0..8);
    let runs = (any::<u8>(), 0..max).prop_map(|(byte, len)| vec![byte; len]);
    let noise = (any::<u64>(), 0..max).prop_map(|(seed, len)| noise(seed, len));
    prop_oneof![4 => short, 1 => runs, 1 => noise].prop_map(Bytes::from)
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| xxh3_64_with_seed(&i.to_le_bytes(), seed) as u8).collect()
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let value = (bytes(500), bytes(3000)).prop_map(|(head, tail)| Value { head, tail });
    let seq = prop_oneof![0u64..30, Just(MAX_SEQ)];
    vec((user_key(), seq, kind(), value), 1..150).prop_map(|mut records| {
        records.sort_by(|a, b| key(a).cmp(&key(b)));
        records.dedup_by(|a, b| key(a) == key(b));
        records
    })
}

fn options() -> impl Strategy<Value = TableOptions> {
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)];
    let block_size = prop_oneof![Just(0), Just(1), Just(40), Just(300), Just(8192)];
    let threshold = prop_oneof![Just(0), Just(1), Just(256), Just(usize::MAX)];
    let prefix = prop_oneof![Just(None), Just(Some(RULE))];
    (block_size, compression, threshold, prefix, prop_oneof![Just(0), Just(1), Just(10)]).prop_map(
        |(block_size, compression, value_threshold, prefix, filter_bits_per_key)| TableOptions {
            block_size,
            compression,
            value_threshold,
            prefix,
            filter_bits_per_key,
            store: 0,
            homes: Vec::new(),
            replaces: Vec::new(),
            split: 0,
        },
    )
}

fn current(iter: &TableIter) -> Option<Record> {
    let key = iter.valid().then(|| iter.key())?;
    assert_eq!(iter.head(), iter.head_bytes());
    let crate::lsm::key::KindOrBound::Kind(kind) = key.kind else { panic!("a record with a bound") };
    Some((key.user.to_vec(), key.seq, kind, Value { head: iter.head_bytes(), tail: iter.tail().unwrap() }))
}

/// The current record's key alone: seeks are many, and tails may be long.
fn current_key(iter: &TableIter) -> Option<KeyRef<'_>> {
    iter.valid().then(|| iter.key())
}

/// Targets at, just before and just behind every record, and beyond both ends.
fn targets(records: &[Record]) -> Vec<(Vec<u8>, u64)> {
    let mut targets = vec![(vec![], MAX_SEQ), (vec![0xff; 8], 0)];
    for (user, seq, ..) in records {
        let mut longer = user.clone();
        longer.push(0);
        let shorter = user[..user.len().saturating_sub(1)].to_vec();
        targets.extend([(user.clone(), *seq), (user.clone(), MAX_SEQ), (user.clone(), 0)]);
        targets.extend([(longer, 5), (shorter, 5)]);
        targets.push((user.clone(), seq.saturating_sub(1)));
    }
    targets
}

fn check_meta(meta: &TableMeta, records: &[Record]) {
    let count = |wanted| records.iter().filter(|(_, _, kind, _)| *kind == wanted).count() as u64;
    assert_eq!(meta.entries, records.len() as u64);
    assert_eq!((meta.tombstones, meta.patches), (count(Kind::Tombstone), count(Kind::Patch)));
    assert_eq!(meta.smallest, records[0].0);
    assert_eq!(meta.largest, records[records.len() - 1].0);
    assert_eq!(Some(meta.smallest_seq), records.iter().map(|record| record.1).min());
    assert_eq!(Some(meta.largest_seq), records.iter().map(|record| record.1).max());
    let sum = |len: fn(&Record) -> usize| records.iter().map(len).sum::<usize>() as u64;
    assert_eq!(meta.key_bytes, sum(|record| record.0.len()));
    assert_eq!(meta.head_bytes, sum(|record| record.3.head.len()));
    assert_eq!(meta.tail_bytes, sum(|record| record.3.tail.len()));
}

fn check_walks(table: &Arc<Table>, records: &[Record]) {
    for mut iter in [table.iter(), table.iter_uncached()] {
        assert!(!iter.valid());
        iter.seek_to_first().unwrap();
        for record in records {
            assert_eq!(current(&iter).as_ref(), Some(record));
            iter.next().unwrap();
        }
        assert!(!iter.valid());
        iter.seek_to_last().unwrap();
        for record in records.iter().rev() {
            assert_eq!(current(&iter).as_ref(), Some(record));
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
    }
}

fn check_seeks(table: &Arc<Table>, records: &[Record]) {
    let mut reused = table.iter();
    for (user, seq) in targets(records) {
        let exact = KeyRef::new(&user, seq, Kind::Put);
        for target in [KeyRef::bound(&user, seq), exact] {
            let at = records.partition_point(|record| key(record) < target);
            reused.seek(target).unwrap();
            assert_eq!(current_key(&reused), records.get(at).map(key));
            // From a seek on in either direction, across blocks.
            if reused.valid() {
                reused.next().unwrap();
                assert_eq!(current_key(&reused), records.get(at + 1).map(key));
                if reused.valid() {
                    reused.prev().unwrap();
                    assert_eq!(current_key(&reused), records.get(at).map(key));
                }
            }
            reused.seek_before(target).unwrap();
            assert_eq!(current_key(&reused), at.checked_sub(1).map(|at| key(&records[at])));
            if reused.valid() {
                reused.next().unwrap();
                assert_eq!(current_key(&reused), records.get(at).map(key));
            }
        }
    }
}

fn check_point_reads(table: &Arc<Table>, records: &[Record]) {
    for (user, seq) in targets(records) {
        let at = records.partition_point(|record| key(record) < KeyRef::bound(&user, seq));
        let versions: Vec<_> = records[at..].iter().take_while(|record| record.0 == user).collect();
        let mut found = table.seek_key(&user, seq).unwrap();
        assert_eq!(found.is_some(), !versions.is_empty());
        for version in versions {
            let iter = found.as_mut().unwrap();
            assert_eq!(current(iter).as_ref(), Some(version));
            iter.next().unwrap();
        }
    }
    for (user, ..) in records {
        assert!(table.may_contain(user).unwrap());
        for len in 0..=user.len() {
            assert!(table.may_contain_prefix(&RULE, &user[..len]).unwrap());
        }
    }
}

fn check(options: &TableOptions, records: &[Record], cache_size: u64) {
    let disk = Arc::new(MemDisk::default());
    let meta = disk.build(3, options, records);
    check_meta(&meta, records);
    let table = disk.open_table(3, cache_size).unwrap();
    let properties = table.properties().unwrap();
    assert_eq!(properties.meta, meta);
    assert_eq!(properties.partitions, table.partitions() as u64);
    check_walks(&table, records);
    check_seeks(&table, records);
    check_point_reads(&table, records);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_table_agrees_with_the_list(
        records in records(),
        options in options(),
        cache_size in prop_oneof![Just(0u64), Just(2000), Just(1 << 20)],
    ) {
        check(&options, &records, cache_size);
    }
}

#[test]
fn many_versions_of_one_key_span_blocks_and_partitions() {
    let mut records = vec![put("a", 1, "")];
    records.extend((1..=500).rev().map(|seq| put("key", seq, format!("version {seq}"))));
    records.push(put("key\0", 7, ""));
    for block_size in [1, 100, 1000] {
        let options = TableOptions { block_size, prefix: Some(RULE), ..TableOptions::default() };
        check(&options, &records, 1 << 20);
    }
}

#[test]
fn a_table_of_one_empty_record() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let options = TableOptions { compression, ..TableOptions::default() };
        check(&options, &[put("", 0, "")], 1 << 20);
    }
}

#[test]
fn tails_of_all_sizes() {
    let lens = [0, 1, 255, 256, 257, 4000, 4200, 8191, 8192, 8193, 65_535, 65_536, 65_537, 1 << 20];
    let mut records: Vec<Record> = Vec::new();
    for (i, len) in lens.into_iter().chain(lens.into_iter().rev()).enumerate() {
        let tail = if i % 3 == 0 { vec![7; len] } else { noise(i as u64, len) };
        let value = Value { head: Bytes::from_static(b"head"), tail: tail.into() };
        records.push((format!("{i:03}").into_bytes(), 1, Kind::Put, value));
    }
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for (block_size, value_threshold) in [(8192, 256), (1, 0), (8192, usize::MAX)] {
            let options =
                TableOptions { block_size, value_threshold, compression, ..TableOptions::default() };
            check(&options, &records, 1 << 22);
        }
    }
}

/// The prefixes of keys in the middle of partitions, at their ends, and of none.
#[test]
fn prefixes_that_span_partitions_are_found() {
    let mut records = Vec::new();
    for group in (0..200u32).step_by(2) {
        for name in 0..group % 7 * 10 + 1 {
            records.push(put(format!("a{group:03}{name:03}"), 1, "some head"));
        }
    }
    let rule = PrefixRule { id: 5, extract: |key| key.get(..4) };
    let options = TableOptions { block_size: 200, prefix: Some(rule), ..TableOptions::default() };
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &options, &records);
    let table = disk.open_table(1, 1 << 20).unwrap();
    assert!(table.partitions() > 40, "{} partitions", table.partitions());
    let mut wrong = 0;
    for group in 0..200 {
        let found = table.may_contain_prefix(&rule, format!("a{group:03}").as_bytes()).unwrap();
        assert!(found || group % 2 == 1, "group {group} is there");
        wrong += u32::from(found && group % 2 == 1);
    }
    assert!(wrong <= 10, "{wrong} of 100 absent prefixes look present");
}

#[test]
fn about_one_percent_of_absent_keys_are_looked_for() {
    let records: Vec<Record> = (0..20_000).map(|i| put(format!("key{i:06}"), 1, noise(i, 60))).collect();
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &TableOptions::default(), &records);
    let table = disk.open_table(1, 16 << 20).unwrap();
    assert!(table.partitions() > 1);
    let absent = |i: &u32| table.may_contain(format!("key{i:06}x").as_bytes()).unwrap();
    let found = (0..10_000).filter(absent).count();
    assert!(found <= 300, "{found} of 10000 absent keys");
    for (user, ..) in &records {
        assert!(table.may_contain(user).unwrap());
    }
}

#[test]
fn the_same_records_give_the_same_bytes_and_estimates_are_close() {
    let records: Vec<Record> = (0..5000).map(|i| put(format!("{i:06}"), i, noise(i, 100))).collect();
    let disk = Arc::new(MemDisk::default());
    let options = TableOptions::default();
    disk.build(1, &options, &records);
    let first = disk.contents(1);
    disk.build(1, &options, &records);
    assert_eq!(first, disk.contents(1));

    let mut builder = TableBuilder::new(disk.create_object(2), 2, &options).unwrap();
    for record in &records {
        builder.add(key(record), &record.3.head, b"").unwrap();
    }
    let estimate = builder.estimated_size();
    let size = builder.finish().unwrap().size;
    assert!(estimate.abs_diff(size) < size / 20, "{estimate} for {size} bytes");
}

#[test]
#[should_panic(expected = "out of order")]
fn records_out_of_order_are_refused() {
    Arc::new(MemDisk::default()).build(1, &TableOptions::default(), &[put("b", 1, ""), put("a", 1, "")]);
}

#[test]
fn keys_and_values_past_the_limits_are_refused() {
    let disk = Arc::new(MemDisk::default());
    let mut builder = TableBuilder::new(disk.create_object(1), 1, &TableOptions::default()).unwrap();
    let longest = vec![7; MAX_TABLE_KEY_LEN];
    builder.add(KeyRef::new(&longest, 1, Kind::Put), b"", b"").unwrap();
    let longer = vec![8; MAX_TABLE_KEY_LEN + 1];
    let refused = builder.add(KeyRef::new(&longer, 1, Kind::Put), b"", b"");
    assert!(matches!(refused, Err(Error::TooLarge { what: "key", .. })));
    builder.finish().unwrap();
    assert!(disk.open_table(1, 0).unwrap().seek_key(&longest, MAX_SEQ).unwrap().is_some());
}
