//! The engine as a library, on the simulated disk: reads and writes, flushes, reopening, range
//! filtering.

mod engine_common;

use engine_common::disk::OddDisk;
use engine_common::{open, sim, stepped};
use lsmfs::disk::Disk;
use lsmfs::disk::real::RealDisk;
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::table::PrefixRule;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use parking_lot::Mutex;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

fn get(volume: &Volume, key: &str) -> Option<String> {
    let value = volume.get(key.as_bytes()).unwrap()?;
    Some(String::from_utf8([value.head, value.tail].concat()).unwrap())
}

fn keys(volume: &Volume, from: &str, to: &str) -> Vec<String> {
    let mut scan = volume.scan(Bound::Included(from.as_bytes()), Bound::Excluded(to.as_bytes())).unwrap();
    let mut keys = Vec::new();
    while scan.next().unwrap() {
        keys.push(String::from_utf8(scan.key().to_vec()).unwrap());
    }
    keys
}

#[test]
fn what_is_written_is_read_in_memory_and_from_tables() {
    let (store, volume) = open(&sim(), stepped());
    for flushed in [false, true] {
        put(&volume, "a", "1");
        put(&volume, "b", "2");
        put(&volume, "a", "3");
        delete(&volume, "b");
        delete(&volume, "b");
        delete(&volume, "never was");
        put(&volume, "empty", "");
        if flushed {
            store.flush().unwrap();
        }
        assert_eq!(get(&volume, "a").as_deref(), Some("3"));
        assert_eq!(get(&volume, "b"), None);
        assert_eq!(get(&volume, "empty").as_deref(), Some(""));
        assert_eq!(keys(&volume, "", "z"), ["a", "empty"]);
    }
}

#[test]
fn a_closed_store_opens_with_everything_and_an_empty_log() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    (0..500).for_each(|i| put(&volume, &format!("key{i:03}"), &format!("value{i}")));
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(volume.get(b"key001"), Err(Error::Closed)));
    let mut batch = Batch::new();
    batch.put(b"late", b"");
    assert!(matches!(volume.write(batch), Err(Error::Closed)));
    let left: Vec<String> = disk.list().unwrap().into_iter().map(|f| f.name).collect();
    assert!(!left.iter().any(|name| name.ends_with(".log")), "{left:?}");
    let (store, volume) = open(&disk, stepped());
    assert_eq!(keys(&volume, "", "z").len(), 500);
    assert_eq!(get(&volume, "key123").as_deref(), Some("value123"));
    assert!(store.stats().log_segments.is_empty());
}

#[test]
fn a_closed_store_is_free_for_others_whoever_holds_on_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let lock = || RealDisk::open_or_create(dir.path(), Duration::ZERO);
    let store = Store::open(Arc::new(lock().unwrap()), stepped()).unwrap();
    let volume = store.volume("main").unwrap();
    put(&volume, "a", "1");
    let snapshot = volume.snapshot();
    store.close().unwrap();
    let next = Store::open(Arc::new(lock().unwrap()), stepped()).unwrap();
    assert_eq!(get(&next.volume("main").unwrap(), "a").as_deref(), Some("1"));
    assert!(matches!(snapshot.get(b"a"), Err(Error::Closed)));
    let refused = [store.volume("main").map(drop), store.sync(), store.flush(), store.compact()];
    assert!(refused.iter().all(|r| matches!(r, Err(Error::Closed))), "{refused:?}");
    drop((store, volume, snapshot));
    assert!(lock().is_err(), "the next owner has it still");
}

#[test]
fn a_killed_process_loses_nothing() {
    let mut disk = sim();
    for round in 0..5 {
        let (store, volume) = open(&disk, stepped());
        assert_eq!(keys(&volume, "", "z").len(), round * 200);
        (0..200).for_each(|i| put(&volume, &format!("key{round}-{i}"), "value"));
        if round % 2 == 0 {
            store.step().unwrap();
        }
        disk = Arc::new(disk.crash_keep_all());
        drop(store);
    }
}

#[test]
fn a_batch_is_one_step() {
    let (store, volume) = open(&sim(), stepped());
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    batch.put_split(b"b", b"head", &[7; 5000]);
    batch.patch(b"b", 5001, &[(0, b"XY"), (5000, b"Z")]);
    batch.delete(b"a");
    let seq = volume.write(batch).unwrap();
    assert_eq!(volume.visible_seq(), seq);
    for _ in 0..2 {
        assert_eq!(get(&volume, "a"), None);
        assert_eq!(volume.get_head(b"b").unwrap().unwrap(), "head");
        let tail = volume.get(b"b").unwrap().unwrap().tail;
        assert_eq!((&tail[..3], &tail[4999..], tail.len()), (&b"XY\x07"[..], &b"\x07Z"[..], 5001));
        store.flush().unwrap();
    }
    assert_eq!(volume.patch_depth(b"b").unwrap(), 0, "a flush folds patches over their base");
}

#[test]
fn patches_pile_up_and_fold_across_tables() {
    let (store, volume) = open(&sim(), stepped());
    let mut want = vec![0; 100];
    for i in 0..20u32 {
        let mut batch = Batch::new();
        batch.patch(b"p", 100, &[(i * 5, &[i as u8; 5])]);
        want[i as usize * 5..][..5].fill(i as u8);
        volume.write(batch).unwrap();
        if i % 3 == 0 {
            store.flush().unwrap();
        }
        assert_eq!(volume.patch_depth(b"p").unwrap(), i as usize + 1);
        assert_eq!(volume.get(b"p").unwrap().unwrap().tail, want);
    }
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    assert!(scan.next().unwrap());
    assert_eq!((scan.key(), scan.tail().unwrap().as_ref()), (&b"p"[..], &want[..]));
    assert!(!scan.next().unwrap());
}

#[test]
fn a_patch_that_no_reader_takes_is_refused_by_the_write() {
    let (store, volume) = open(&sim(), stepped());
    put(&volume, "a", "v");
    for (new_len, offset) in [((1 << 30) + 1, 0), (4, 4), (0, 0)] {
        let mut batch = Batch::new();
        batch.put(b"b", b"v");
        batch.patch(b"a", new_len, &[(offset, b"x")]);
        let refused = volume.write(batch).unwrap_err();
        assert!(matches!(refused, Error::TooLarge { .. } | Error::BadPatch { .. }), "{refused}");
    }
    store.flush().unwrap();
    assert_eq!(keys(&volume, "", "z"), ["a"]);
}

#[test]
fn a_compaction_cuts_its_output_behind_the_longest_key_too() {
    let (store, volume) = open(&sim(), Options { table_size: 1, ..stepped() });
    let longest = "a".repeat(64 << 10);
    put(&volume, "b", "old");
    let snapshot = volume.snapshot();
    let mut batch = Batch::new();
    batch.delete_range(b"a", b"c");
    batch.put(longest.as_bytes(), b"v");
    volume.write(batch).unwrap();
    store.compact().unwrap();
    assert_eq!(keys(&volume, "", "z"), [longest]);
    assert!(snapshot.get(b"b").unwrap().is_some());
}

#[test]
fn snapshots_stay_readable_over_overwrites_deletes_and_flushes() {
    let (store, volume) = open(&sim(), stepped());
    put(&volume, "a", "old");
    put(&volume, "b", "old");
    let snapshot = volume.snapshot();
    put(&volume, "a", "new");
    delete(&volume, "b");
    put(&volume, "c", "new");
    for _ in 0..2 {
        assert_eq!(snapshot.get(b"a").unwrap().unwrap().head, "old");
        assert_eq!(snapshot.get(b"b").unwrap().unwrap().head, "old");
        assert_eq!(snapshot.get(b"c").unwrap(), None);
        let mut scan = snapshot.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
        let mut seen = Vec::new();
        while scan.next().unwrap() {
            seen.push((scan.key().to_vec(), scan.head().to_vec()));
        }
        assert_eq!(seen, [(b"a".to_vec(), b"old".to_vec()), (b"b".to_vec(), b"old".to_vec())]);
        store.flush().unwrap();
    }
}

#[test]
fn a_range_tombstone_deletes_what_is_older_wherever_it_is() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { table_size: 2000, cache_size: 0, ..stepped() });
    (0..300).for_each(|i| put(&volume, &format!("a{i:03}"), &"x".repeat(50)));
    store.compact().unwrap();
    put(&volume, "a050", "in L0");
    store.flush().unwrap();
    let snapshot = volume.snapshot();
    let mut batch = Batch::new();
    batch.delete_range(b"a020", b"a280");
    batch.delete_range(b"a5", b"a1");
    volume.write(batch).unwrap();
    put(&volume, "a100", "after");
    let want: Vec<String> = (0..20).chain([100]).chain(280..300).map(|i| format!("a{i:03}")).collect();
    let tables = |disk: &SimDisk| disk.files().iter().map(|f| disk.reads(&f.name)).sum::<u64>();
    for round in ["memtable", "L0", "merged"] {
        assert_eq!(keys(&volume, "", "z"), want, "{round}");
        assert_eq!(keys(&volume, "a040", "a100"), [""; 0], "{round}");
        assert_eq!((get(&volume, "a050"), get(&volume, "a279")), (None, None), "{round}");
        assert_eq!(get(&volume, "a280").map(|v| v.len()), Some(50), "{round}");
        assert_eq!(get(&volume, "a100").as_deref(), Some("after"), "{round}");
        assert_eq!(snapshot.get(b"a050").unwrap().unwrap().head, "in L0", "{round}");
        let before = tables(&disk);
        assert_eq!(get(&volume, "a200"), None);
        assert!(tables(&disk) - before <= 6, "{round}: below a range tombstone nothing is read");
        match round {
            "memtable" => store.flush().unwrap(),
            _ => store.compact().unwrap(),
        }
    }
    drop(snapshot);
    while store.step().unwrap() {}
    store.compact().unwrap();
    let left: u64 = store.stats().volumes[0].levels.iter().flatten().map(|t| t.entries).sum();
    assert_eq!(left, want.len() as u64, "at the bottom the tombstone and what it deleted are gone");
}

#[test]
fn a_create_and_delete_between_flushes_leaves_no_table() {
    // All of it in one memtable.
    let (store, volume) = open(&sim(), Options { memtable_size: 64 << 10, ..stepped() });
    for i in 0..100 {
        let mut batch = Batch::new();
        batch.first_put(format!("tmp{i}").as_bytes(), b"head", b"tail");
        volume.write(batch).unwrap();
        delete(&volume, &format!("tmp{i}"));
    }
    store.flush().unwrap();
    assert!(store.stats().volumes[0].levels.iter().all(Vec::is_empty));
    assert!(keys(&volume, "", "z").is_empty());
}

#[test]
fn reads_touch_only_the_tables_whose_range_matters() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { cache_size: 0, ..stepped() });
    for table in 0..10 {
        (0..50).for_each(|i| put(&volume, &format!("{table}-{i:02}"), "value"));
        store.flush().unwrap();
    }
    let count = |from: &str, to: &str| {
        let scan = volume.scan(Bound::Included(from.as_bytes()), Bound::Excluded(to.as_bytes()));
        scan.unwrap().num_active_iterators()
    };
    assert_eq!(count("", "z"), 10);
    assert_eq!(count("3-", "3-99"), 1);
    assert_eq!(count("3-10", "5-20"), 3);
    assert_eq!(count("x", "z"), 0);
    put(&volume, "3-99", "in memory");
    assert_eq!(count("3-", "4-"), 2);

    let tables: Vec<String> = store.stats().volumes[0].levels[0].iter().map(|t| t.file.clone()).collect();
    let reads = || tables.iter().map(|t| disk.reads(t)).collect::<Vec<_>>();
    let before = reads();
    assert_eq!(get(&volume, "x"), None);
    assert_eq!(get(&volume, "5"), None);
    assert_eq!(keys(&volume, "x", "z").len(), 0);
    assert_eq!(reads(), before, "a key outside all ranges reads nothing");
    assert_eq!(get(&volume, "3-07").as_deref(), Some("value"));
    let touched = reads().iter().zip(&before).filter(|(after, before)| after > before).count();
    assert_eq!(touched, 1);

    // Nor is a table opened for it: of a store that was just opened nothing is read.
    store.close().unwrap();
    drop((store, volume));
    let (store, volume) = open(&disk, Options { cache_size: 0, ..stepped() });
    let ops = || tables.iter().map(|t| disk.ops_on(t)).collect::<Vec<_>>();
    let before = ops();
    for key in ["", "2", "3-999", "4-50", "5", "x"] {
        assert_eq!(get(&volume, key), None);
    }
    let scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    assert!(scan.num_active_iterators() >= 10);
    assert_eq!(ops(), before, "a scan that was not begun has opened nothing");
    drop(store);
}

#[test]
fn a_scan_of_an_absent_prefix_reads_no_data_block() {
    fn first_two(key: &[u8]) -> Option<&[u8]> {
        key.get(..2)
    }
    let disk = sim();
    let rule = PrefixRule { id: 7, extract: first_two };
    let options = Options { prefix: Some(rule), cache_size: 0, ..stepped() };
    let (store, volume) = open(&disk, options);
    for table in 0..3 {
        (0..200).step_by(2).for_each(|i| put(&volume, &format!("{i:02x}/{table}"), "value"));
        store.flush().unwrap();
    }
    let reads = || disk.files().iter().map(|f| disk.reads(&f.name)).sum::<u64>();
    // Opens the tables; what a scan without hits reads from here on is their filters.
    assert_eq!(keys(&volume, "02/", "020"), ["02/0", "02/1", "02/2"]);
    let (mut absent, mut looked) = (0, 0);
    for i in (1..200).step_by(2) {
        let before = reads();
        assert_eq!(keys(&volume, &format!("{i:02x}"), &format!("{i:02x}~")), [""; 0]);
        absent += 1;
        looked += usize::from(reads() - before > 3);
    }
    assert!(looked * 10 < absent, "{looked} of {absent} scans read more than three filters");
}

#[test]
fn the_flush_keeps_the_limit_of_memtables_and_takes_the_earliest() {
    let (store, volume) = open(&sim(), Options { num_memtable_limit: 3, ..stepped() });
    let mut i = 0;
    while store.stats().volumes[0].immutable_bytes.len() < 2 {
        put(&volume, &format!("{i:05}"), &"x".repeat(100));
        i += 1;
    }
    assert!(!store.step().unwrap(), "two frozen and one mutable are three");
    while store.stats().volumes[0].immutable_bytes.len() < 3 {
        put(&volume, &format!("{i:05}"), &"x".repeat(100));
        i += 1;
    }
    assert!(store.step().unwrap());
    let stats = store.stats();
    assert_eq!(stats.volumes[0].immutable_bytes.len(), 2);
    assert_eq!(stats.volumes[0].levels[0].len(), 1);
    assert_eq!(stats.volumes[0].levels[0][0].smallest, "00000", "the earliest went first");
}

#[test]
fn writers_that_outrun_the_flush_make_it_run() {
    let options =
        Options { memtable_size: 4 << 10, memtable_stall_size: 8 << 10, num_memtable_limit: 99, ..stepped() };
    let (store, volume) = open(&sim(), options);
    (0..1000).for_each(|i| put(&volume, &format!("{i:05}"), &"x".repeat(100)));
    let stats = &store.stats().volumes[0];
    let in_memory = stats.memtable_bytes + stats.immutable_bytes.iter().sum::<usize>();
    assert!(in_memory < 13 << 10, "{in_memory}");
    assert_eq!(keys(&volume, "", "z").len(), 1000);
}

#[test]
fn the_background_threads_flush_and_sync() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { background: true, ..stepped() });
    std::thread::scope(|scope| {
        for t in 0..4 {
            let volume = &volume;
            scope.spawn(move || (0..1000).for_each(|i| put(volume, &format!("{t}-{i:04}"), "value")));
        }
    });
    let (sent, received) = std::sync::mpsc::channel();
    for _ in 0..10 {
        let sent = sent.clone();
        store.sync_then(Box::new(move |result| sent.send(result).unwrap()));
    }
    assert!(received.iter().take(10).all(|r| r.is_ok()));
    assert_eq!(keys(&volume, "", "z").len(), 4000);
    let disk = Arc::new(disk.crash());
    drop(store);
    let (_store, volume) = open(&disk, stepped());
    assert_eq!(keys(&volume, "", "z").len(), 4000);
}

#[test]
fn a_flush_ends_though_writers_go_on() {
    static VOLUME: Mutex<Option<Arc<Volume>>> = Mutex::new(None);
    static TABLES: AtomicU64 = AtomicU64::new(0);
    // A writer that fills a memtable while another one is flushed, time and again.
    let before_create = |_: &str| {
        let volume = VOLUME.lock().clone().filter(|_| TABLES.fetch_add(1, Ordering::Relaxed) < 20);
        volume.iter().for_each(|volume| put(volume, "key", &"x".repeat(4000)));
    };
    let disk = Arc::new(OddDisk { before_create, ..OddDisk::new() });
    let store = Store::open(disk, Options { memtable_size: 4000, ..stepped() }).unwrap();
    let volume = store.volume("main").unwrap();
    put(&volume, "key", "old");
    *VOLUME.lock() = Some(volume.clone());
    store.flush().unwrap();
    *VOLUME.lock() = None;
    assert_eq!(TABLES.load(Ordering::Relaxed), 1);
}

#[test]
fn a_scan_shows_nothing_outside_its_bounds() {
    let (store, volume) = open(&sim(), stepped());
    put(&volume, "b", "1");
    put(&volume, "m", "2");
    store.flush().unwrap();
    put(&volume, "n", "3");
    let shown =
        |scan: &lsmfs::lsm::Scan| [scan.key().to_vec(), scan.head().to_vec(), scan.tail().unwrap().to_vec()];
    let nothing: [Vec<u8>; 3] = [const { Vec::new() }; 3];
    let mut scan = volume.scan(Bound::Unbounded, Bound::Excluded(b"m")).unwrap();
    assert_eq!(shown(&scan), nothing, "before the first");
    while scan.next().unwrap() {}
    assert!(!scan.next().unwrap());
    assert_eq!(shown(&scan), nothing, "at the end");
    let z = Bound::Included(&b"z"[..]);
    for to in [Bound::Included(&b"a"[..]), Bound::Excluded(b"n"), Bound::Excluded(b"z")] {
        let mut scan = volume.scan(z, to).unwrap();
        assert_eq!(scan.num_active_iterators(), 0);
        assert!(!scan.next().unwrap());
    }
}

#[test]
fn everything_can_be_printed() {
    let (store, volume) = open(&sim(), stepped());
    put(&volume, "a", "1");
    let printed = format!("{store:?} {volume:?} {:?}", volume.snapshot());
    assert!(printed.contains("main"), "{printed}");
}
