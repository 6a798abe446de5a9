//! What reads cost: which parts of the file are read, and how often.

use super::mem::{MemDisk, Record, put};
use crate::lsm::Value;
use crate::lsm::cache::BlockCache;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, MAX_SEQ};
use crate::lsm::table::{PrefixRule, TableCache, TableOptions, file_name, parse_file_name};
use bytes::Bytes;
use std::sync::Arc;

fn uncompressed() -> TableOptions {
    TableOptions { compression: crate::lsm::options::Compression::None, ..TableOptions::default() }
}

/// About 4 MB in several partitions.
fn many() -> Vec<Record> {
    (0..40_000).map(|i| put(format!("key{i:06}"), 1, [i as u8; 80])).collect()
}

#[test]
fn opening_reads_once_and_a_cursor_nothing_before_it_is_positioned() {
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &uncompressed(), &many());
    let table = disk.open_table(1, 1 << 20).unwrap();
    assert_eq!(disk.take_reads().len(), 1);
    let mut iter = table.iter();
    assert!(disk.take_reads().is_empty());
    // An index partition and a data block.
    iter.seek(KeyRef::bound(b"key020000", MAX_SEQ)).unwrap();
    assert_eq!(disk.take_reads().len(), 2);
    assert_eq!(iter.key().user, b"key020000");
    // The same block again, from the cursor itself.
    iter.seek(KeyRef::bound(b"key020001", MAX_SEQ)).unwrap();
    assert!(disk.take_reads().is_empty());
    assert_eq!(iter.key().user, b"key020001");
}

#[test]
fn a_point_read_costs_a_filter_an_index_and_a_data_block() {
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &uncompressed(), &many());
    for i in [0, 1, 12_345, 39_999] {
        let table = disk.open_table(1, 1 << 20).unwrap();
        disk.take_reads();
        let user = format!("key{i:06}");
        assert!(table.seek_key(user.as_bytes(), MAX_SEQ).unwrap().is_some());
        assert_eq!(disk.take_reads().len(), 3);
        assert!(table.seek_key(user.as_bytes(), MAX_SEQ).unwrap().is_some());
        assert!(disk.take_reads().is_empty(), "all of it is cached");
        let cold = disk.open_table(1, 0).unwrap();
        disk.take_reads();
        assert!(cold.seek_key(user.as_bytes(), MAX_SEQ).unwrap().is_some());
        assert_eq!(disk.take_reads().len(), 3);
    }
}

#[test]
fn an_absent_key_or_prefix_costs_a_filter() {
    let rule = PrefixRule { id: 2, extract: |key| key.get(..6) };
    let options = TableOptions { prefix: Some(rule), ..uncompressed() };
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &options, &many());
    let (mut keys, mut prefixes) = (0, 0);
    for i in 0..100 {
        let table = disk.open_table(1, 0).unwrap();
        disk.take_reads();
        assert!(table.seek_key(format!("key{i:06}x").as_bytes(), MAX_SEQ).unwrap().is_none());
        keys += disk.take_reads().len();
        table.may_contain_prefix(&rule, format!("kez{i:03}").as_bytes()).unwrap();
        prefixes += disk.take_reads().len();
    }
    assert!((100..110).contains(&keys), "{keys} reads for 100 absent keys");
    assert_eq!(prefixes, 100);
}

#[test]
fn a_scan_of_heads_reads_no_value_block() {
    let tail = |i: u64| Bytes::from(vec![i as u8; 300 + i as usize % 3000]);
    let records: Vec<Record> = (0..3000)
        .map(|i| {
            let value = Value { head: Bytes::from_static(b"an entry's attributes"), tail: tail(i) };
            (format!("e{i:06}").into_bytes(), i, Kind::Put, value)
        })
        .collect();
    let tail_bytes: usize = records.iter().map(|record| record.3.tail.len()).sum();
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &uncompressed(), &records);
    let table = disk.open_table(1, 0).unwrap();
    let blocks = table.properties().unwrap();
    disk.take_reads();

    let mut iter = table.iter();
    iter.seek_to_first().unwrap();
    for record in &records {
        assert_eq!(iter.head(), record.3.head);
        iter.next().unwrap();
    }
    let reads = disk.take_reads();
    assert_eq!(reads.len() as u64, blocks.data_blocks + blocks.partitions);
    let read_bytes: usize = reads.iter().map(|&(_, len)| len).sum();
    assert!(read_bytes < tail_bytes / 10, "{read_bytes} bytes read, {tail_bytes} of tails");
    // Within a partition the scan goes straight on from block to block.
    let jumps = reads.windows(2).filter(|pair| pair[0].0 + pair[0].1 as u64 != pair[1].0).count() as u64;
    assert!(jumps <= 3 * blocks.partitions, "{jumps} jumps in {} partitions", blocks.partitions);

    iter.seek_to_first().unwrap();
    disk.take_reads();
    assert_eq!(iter.tail().unwrap(), tail(0));
    assert_eq!(disk.take_reads().len(), 1);
}

#[test]
fn an_uncached_pass_reads_each_value_block_once() {
    let tail = |i: u64| Bytes::from(vec![i as u8; 300]);
    let value = |i| Value { head: Bytes::new(), tail: tail(i) };
    let records: Vec<Record> =
        (0..3000).map(|i| (format!("e{i:06}").into_bytes(), i, Kind::Put, value(i))).collect();
    let disk = Arc::new(MemDisk::default());
    let size = disk.build(1, &uncompressed(), &records).size;
    let mut iter = disk.open_table(1, 1 << 20).unwrap().iter_uncached();
    disk.take_reads();
    iter.seek_to_first().unwrap();
    for record in &records {
        assert_eq!(iter.tail().unwrap(), record.3.tail);
        iter.next().unwrap();
    }
    let read: u64 = disk.take_reads().iter().map(|&(_, len)| len as u64).sum();
    assert!(read <= size, "{read} bytes read of a table of {size}");
}

#[test]
fn an_uncached_pass_leaves_the_cache_as_it_is() {
    let disk = Arc::new(MemDisk::default());
    disk.build(1, &uncompressed(), &many()[..2000]);
    let meta = disk.open_table(1, 0).unwrap().properties().unwrap().meta;
    let blocks = Arc::new(BlockCache::new(1 << 20));
    let tables = TableCache::new(disk, Arc::clone(&blocks), 10);
    let mut iter = tables.get(&meta).unwrap().iter_uncached();
    iter.seek_to_first().unwrap();
    let mut n = 0;
    while iter.valid() {
        n += 1;
        iter.next().unwrap();
    }
    assert_eq!((n, blocks.stats().blocks, blocks.stats().misses), (2000, 0, 0));
}

#[test]
fn tables_are_opened_once_and_only_so_many_are_kept() {
    let disk = Arc::new(MemDisk::default());
    let metas: Vec<_> = (1..=20).map(|n| disk.build(n, &uncompressed(), &[put("a", n, "v")])).collect();
    let tables = TableCache::new(Arc::clone(&disk) as _, Arc::new(BlockCache::new(0)), 5);
    let first = tables.get(&metas[0]).unwrap();
    assert!(Arc::ptr_eq(&first, &tables.get(&metas[0]).unwrap()));
    assert_eq!(disk.take_reads().len(), 1);
    for meta in &metas {
        assert_eq!(tables.get(meta).unwrap().number(), meta.number);
        assert!(tables.len() <= 5);
    }
    // One that was pushed out still serves those who hold it.
    assert!(first.seek_key(b"a", MAX_SEQ).unwrap().is_some());
    let last = tables.get(&metas[19]).unwrap();
    tables.evict(20);
    drop(tables);
    assert_eq!(Arc::strong_count(&last), 1);
}

#[test]
fn a_cache_of_no_tables_opens_every_time() {
    let disk = Arc::new(MemDisk::default());
    let meta = disk.build(1, &uncompressed(), &[put("a", 1, "v")]);
    let tables = TableCache::new(disk, Arc::new(BlockCache::new(0)), 0);
    assert!(tables.get(&meta).unwrap().may_contain(b"a").unwrap());
    assert!(tables.is_empty());
}

#[test]
fn file_names_are_parsed_strictly() {
    assert_eq!(file_name(7), "000007.sst");
    for number in [0, 7, 999_999, 1_000_000, u64::MAX] {
        assert_eq!(parse_file_name(&file_name(number)), Some(number));
    }
    for name in ["7.sst", "+00007.sst", "000007.log", "000007", ".sst", "0000007.sst"] {
        assert_eq!(parse_file_name(name), None, "{name}");
    }
}
