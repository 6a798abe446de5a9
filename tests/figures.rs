//! The engine's figures: each moves when, and only when, what it counts happens.

use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::options::CompactionMode;
use lsmfs::lsm::stats::StoreStats;
use lsmfs::lsm::table::PrefixRule;
use lsmfs::lsm::{Batch, Options, Store, Volume};
use serde_json::Value;
use std::ops::Bound;
use std::sync::Arc;

/// No background threads, small everything, no cache: what is counted is exact.
fn stepped() -> Options {
    Options {
        memtable_size: 1 << 20,
        log_segment_size: 1 << 20,
        block_size: 512,
        cache_size: 0,
        background: false,
        ..Options::default()
    }
}

fn open(options: Options) -> (Store, Arc<Volume>) {
    let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
    let volume = store.volume("main").unwrap();
    (store, volume)
}

fn put(volume: &Volume, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(key.as_bytes(), value.as_bytes());
    volume.write(batch).unwrap();
}

fn delete(volume: &Volume, key: &str) {
    let mut batch = Batch::new();
    batch.delete(key.as_bytes());
    volume.write(batch).unwrap();
}

/// The keys `000000`, `000002` … each with a value of 100 bytes, in a table of their own.
fn fill_table(store: &Store, volume: &Volume, count: usize) {
    (0..count).for_each(|i| put(volume, &format!("{:06}", 2 * i), &format!("{i:0100}")));
    store.flush().unwrap();
}

#[test]
fn reads_are_counted_with_what_they_found() {
    let (store, volume) = open(stepped());
    put(&volume, "a", "1");
    put(&volume, "b", "2");
    volume.get(b"a").unwrap();
    volume.get_head(b"b").unwrap();
    volume.get(b"c").unwrap();
    volume.multi_get(&[b"a", b"x"]).unwrap();
    volume.snapshot().get(b"a").unwrap();
    let reads = store.stats().reads;
    assert_eq!((reads.gets, reads.found, reads.tables_searched), (6, 4, 0));
    assert_eq!(store.stats().amplification.read, Some(0.0));
    assert!(store.stats().latency.get.count >= 1, "the first read is timed");

    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    while scan.next().unwrap() {}
    assert_eq!(store.stats().reads.scans, 0, "it is counted when it is over");
    drop(scan);
    let mut back = volume.scan_back(Bound::Unbounded, Bound::Unbounded).unwrap();
    assert!(back.next().unwrap());
    drop(back);
    let after = store.stats().reads;
    assert_eq!((after.scans, after.scanned, after.gets), (2, 3, 6));
}

#[test]
fn writes_are_counted_with_their_bytes() {
    let (store, volume) = open(stepped());
    let before = store.stats();
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    batch.put_split(b"other", b"head", b"tail");
    batch.delete(b"gone");
    batch.patch(b"other", 4, &[(0, b"T")]);
    volume.write(batch).unwrap();
    volume.write(Batch::new()).unwrap();
    let stats = store.stats();
    assert_eq!((stats.writes.batches, stats.writes.records), (1, 4), "an empty batch writes nothing");
    let plain = "keyvalueotherheadtailgoneotherT".len() as u64;
    let patch_header = stats.writes.user_bytes - plain;
    assert!((1..8).contains(&patch_header), "{patch_header}");
    assert!(stats.disk.log_bytes - before.disk.log_bytes > stats.writes.user_bytes);
    assert_eq!(stats.latency.write.count, 1);
    assert!(stats.latency.write.max_ns > 0);

    assert_eq!(stats.disk.log_syncs, 0);
    store.sync().unwrap();
    store.sync().unwrap();
    assert_eq!(store.stats().latency.sync.count, 1, "there was nothing new to sync the second time");
    assert_eq!(store.stats().disk.log_syncs, 1);
}

#[test]
fn flushes_and_compactions_are_counted_with_their_bytes() {
    let (store, volume) = open(Options { compaction: CompactionMode::None, ..stepped() });
    for _ in 0..3 {
        fill_table(&store, &volume, 500);
    }
    let stats = store.stats();
    let tables = &stats.volumes[0].levels[0];
    let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
    assert_eq!((stats.flushes.count, stats.flushes.bytes, tables.len()), (3, bytes, 3));
    assert_eq!((stats.disk.table_bytes, stats.latency.flush.count), (bytes, 3));
    assert!(stats.flushes.total_ns > 0);
    assert_eq!((stats.compactions.jobs.total(), stats.compactions.read_bytes), (0, 0));
    let space = stats.amplification.space.unwrap();
    assert!((2.9..3.1).contains(&space), "three versions of each key: {space}");

    store.compact().unwrap();
    let stats = store.stats();
    let left: u64 = stats.volumes[0].levels.iter().flatten().map(|table| table.bytes).sum();
    let jobs = stats.compactions;
    assert_eq!((jobs.jobs.manual, jobs.jobs.total(), jobs.moves), (1, 1, 0));
    assert_eq!((jobs.read_bytes, jobs.written_bytes), (bytes, left));
    assert_eq!(stats.disk.table_bytes, bytes + left);
    assert_eq!(stats.latency.compaction.count, 1);
    assert_eq!(stats.amplification.space, Some(1.0));
    assert!(stats.volumes[0].compacting.is_empty());
    let written = stats.disk.log_bytes + stats.disk.table_bytes + stats.disk.manifest_bytes;
    assert_eq!(stats.amplification.write, Some(written as f64 / stats.writes.user_bytes as f64));
}

#[test]
fn a_move_is_a_job_that_reads_nothing() {
    let (store, volume) = open(Options { l0_compaction_trigger: 1, ..stepped() });
    fill_table(&store, &volume, 500);
    while store.step().unwrap() {}
    let stats = store.stats();
    assert_eq!((stats.compactions.jobs.runs, stats.compactions.moves), (1, 1));
    assert_eq!((stats.compactions.read_bytes, stats.latency.compaction.count), (0, 0));
    assert!(stats.volumes[0].levels[0].is_empty());
}

#[test]
fn filters_are_counted_by_their_answers() {
    let (store, volume) = open(stepped());
    fill_table(&store, &volume, 1000);
    (0..1000).for_each(|i| assert!(volume.get(format!("{:06}", 2 * i).as_bytes()).unwrap().is_some()));
    let stats = store.stats();
    assert_eq!((stats.filters.asked, stats.filters.excluded, stats.filters.false_positives), (1000, 0, 0));
    assert_eq!(stats.amplification.read, Some(1.0));

    (0..999).for_each(|i| assert!(volume.get(format!("{:06}", 2 * i + 1).as_bytes()).unwrap().is_none()));
    let filters = store.stats().filters;
    assert_eq!(filters.asked, 1999);
    assert_eq!(filters.excluded + filters.false_positives, 999);
    assert!(filters.false_positives < 40, "about 1 % was wanted: {filters:?}");

    volume.get(b"outside the table's range").unwrap();
    assert_eq!(store.stats().filters.asked, 1999, "the range alone excluded it");
}

#[test]
fn prefix_filters_are_counted() {
    fn first_two(key: &[u8]) -> Option<&[u8]> {
        key.get(..2)
    }
    let (store, volume) =
        open(Options { prefix: Some(PrefixRule { id: 7, extract: first_two }), ..stepped() });
    (0..200).step_by(2).for_each(|i| put(&volume, &format!("{i:02x}/key"), "value"));
    store.flush().unwrap();
    for i in 0..100 {
        let (from, to) = (format!("{i:02x}"), format!("{i:02x}~"));
        let bounds = (Bound::Included(from.as_bytes()), Bound::Excluded(to.as_bytes()));
        let mut scan = volume.scan(bounds.0, bounds.1).unwrap();
        assert_eq!(scan.next().unwrap(), i % 2 == 0);
    }
    let filters = store.stats().filters;
    assert_eq!(filters.prefix_asked, 100);
    assert!((40..=50).contains(&filters.prefix_excluded), "{filters:?}");
    assert_eq!(filters.asked, 0, "no single key was asked for");
}

#[test]
fn the_cache_and_the_tables_behind_it_are_counted() {
    let (store, volume) = open(Options { cache_size: 1 << 20, ..stepped() });
    fill_table(&store, &volume, 1000);
    assert_eq!((store.stats().open_tables, store.stats().disk.table_reads), (0, 0));
    volume.get(b"000100").unwrap();
    let cold = store.stats();
    assert_eq!((cold.open_tables, cold.cache.hits), (1, 0));
    // What opens a table, then a filter, an index and a data block.
    assert_eq!((cold.disk.table_reads, cold.cache.misses), (4, 3));
    assert!(cold.cache.bytes > 0 && cold.cache.capacity == 1 << 20);
    volume.get(b"000100").unwrap();
    let warm = store.stats();
    assert_eq!((warm.cache.hits, warm.cache.misses, warm.disk.table_reads), (3, 3, 4));
    assert!(warm.disk.table_read_bytes > 0);
}

#[test]
fn stalls_are_counted_by_their_cause() {
    let options =
        Options { memtable_size: 4 << 10, memtable_stall_size: 8 << 10, num_memtable_limit: 99, ..stepped() };
    let (store, volume) = open(options);
    (0..500).for_each(|i| put(&volume, &format!("{i:05}"), &"x".repeat(100)));
    let stalls = store.stats().stalls;
    assert!(stalls.memtables.count > 0 && stalls.memtables.total_ns > 0, "{stalls:?}");
    assert_eq!(stalls.l0.count, 0);
    assert_eq!(store.stats().volumes[0].stalls, stalls);
}

#[test]
fn snapshots_are_counted_while_they_live() {
    let (store, volume) = open(stepped());
    let snapshots = [volume.snapshot(), volume.snapshot()];
    assert_eq!(store.stats().snapshots, 2);
    drop(snapshots);
    assert_eq!(store.stats().snapshots, 0);
}

#[test]
fn tombstones_lower_the_estimate_of_what_lives() {
    let (store, volume) = open(Options { compaction: CompactionMode::None, ..stepped() });
    fill_table(&store, &volume, 1000);
    let before = store.stats().amplification.space.unwrap();
    (0..500).for_each(|i| delete(&volume, &format!("{:06}", 2 * i)));
    store.flush().unwrap();
    let after = store.stats().amplification.space.unwrap();
    assert!(before == 1.0 && after > 2.0 && after < 2.5, "{before} {after}");
}

/// The names of all members, nested ones after their parents' and a dot.
fn members(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                members(value, &format!("{name}.{field}"), found);
            }
        }
        Value::Array(items) => items.iter().take(1).for_each(|item| members(item, name, found)),
        _ => found.push(name.trim_start_matches('.').to_string()),
    }
}

/// What a store with a table, a frozen memtable and a log gives.
fn sample() -> StoreStats {
    let (store, volume) = open(Options { num_memtable_limit: 99, memtable_size: 4 << 10, ..stepped() });
    fill_table(&store, &volume, 100);
    (0..100).for_each(|i| put(&volume, &format!("\n{i}"), &"x".repeat(100)));
    volume.get(b"000002").unwrap();
    store.stats()
}

#[test]
fn the_json_has_the_fields_that_others_rely_on() {
    let json = serde_json::to_value(sample()).unwrap();
    let mut found = Vec::new();
    members(&json, "", &mut found);
    for field in &found {
        assert!(README.contains(field.rsplit('.').next().unwrap()), "{field} is not in the README");
    }
    let wanted = [
        "open_ns",
        "last_seq",
        "snapshots",
        "open_tables",
        "reads.gets",
        "reads.found",
        "reads.tables_searched",
        "reads.scans",
        "reads.scanned",
        "writes.batches",
        "writes.records",
        "writes.user_bytes",
        "disk.log_bytes",
        "disk.log_writes",
        "disk.log_syncs",
        "disk.table_bytes",
        "disk.manifest_bytes",
        "disk.table_reads",
        "disk.table_read_bytes",
        "stalls.memtables.count",
        "stalls.memtables.max_ns",
        "stalls.memtables.total_ns",
        "stalls.l0.count",
        "stalls.waiting",
        "stalls.l0.total_ns",
        "flushes.count",
        "flushes.bytes",
        "flushes.total_ns",
        "compactions.jobs.runs",
        "compactions.jobs.size",
        "compactions.jobs.tombstones",
        "compactions.jobs.manual",
        "compactions.moves",
        "compactions.read_bytes",
        "compactions.written_bytes",
        "compactions.total_ns",
        "cache.hits",
        "cache.misses",
        "cache.blocks",
        "cache.bytes",
        "cache.capacity",
        "filters.asked",
        "filters.excluded",
        "filters.false_positives",
        "filters.prefix_asked",
        "filters.prefix_excluded",
        "amplification.write",
        "amplification.read",
        "amplification.space",
        "log_segments.number",
        "log_segments.bytes",
        "volumes.name",
        "volumes.snapshot_of",
        "volumes.files",
        "volumes.logical_bytes",
        "volumes.quota_files",
        "volumes.quota_bytes",
        "volumes.bytes",
        "volumes.own_bytes",
        "volumes.shared_bytes",
        "volumes.memtable_bytes",
        "volumes.immutable_bytes",
        "volumes.levels.file",
        "volumes.levels.bytes",
        "volumes.levels.entries",
        "volumes.levels.tombstones",
        "volumes.levels.smallest",
        "volumes.levels.largest",
        "volumes.stalls.memtables.count",
        "volumes.stalls.l0.total_ns",
    ];
    for field in wanted {
        assert!(found.iter().any(|name| name == field), "no {field} in {found:#?}");
    }
    for kind in ["get", "write", "sync", "flush", "compaction"] {
        for field in ["count", "mean_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"] {
            let name = format!("latency.{kind}.{field}");
            assert!(found.contains(&name), "no {name}");
        }
    }
}

/// Where the fields are documented.
const README: &str = include_str!("../README.md");

#[test]
fn keys_in_the_json_are_ascii() {
    let (store, volume) = open(stepped());
    put(&volume, "\u{0}\n\"ö", "value");
    store.flush().unwrap();
    let json = serde_json::to_value(store.stats()).unwrap();
    let table = &json["volumes"][0]["levels"][0][0];
    assert_eq!(table["smallest"], r#"\x00\n\"\xc3\xb6"#);
    assert_eq!(json["compactions"]["jobs"]["manual"], 0);
}
