//! Large values in blob files: what is read of them and when, how their room comes back, and what a failing
//! disk or flipped bits do to them.

mod engine_common;

use engine_common::{assert_no_leaks, cut_power, files, kill, open, sim, stepped};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::options::Compression;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::ops::Bound;
use std::sync::Arc;

/// The length of most values.
const LEN: usize = 1000;
const FILE_SIZE: u64 = 20 << 10;

fn options() -> Options {
    let options = Options { blob_min: 100, blob_file_size: FILE_SIZE, ..stepped() };
    Options { compression: Compression::None, spare_log_segments: 0, ..options }
}

fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + seed * 7 + at / 256) as u8).collect()
}

fn key(n: usize) -> Vec<u8> {
    format!("key{n:04}").into_bytes()
}

fn try_put(volume: &Volume, key: &[u8], tail: &[u8]) -> Result<u64, Error> {
    let mut batch = Batch::new();
    batch.put_split(key, b"head", tail);
    volume.write(batch)
}

#[track_caller]
fn put(volume: &Volume, n: usize, seed: usize) {
    try_put(volume, &key(n), &value(seed, LEN)).unwrap();
}

#[track_caller]
fn assert_has(volume: &Volume, n: usize, seed: usize) {
    let found = volume.get(&key(n)).unwrap().expect("the key is there");
    assert_eq!((found.head.as_ref(), found.tail.as_ref()), (&b"head"[..], value(seed, LEN).as_slice()));
}

/// Does all that is due, and gives back what is free then.
fn settle(store: &Store) {
    store.flush().unwrap();
    while store.step().unwrap() {}
    // Each flush gives back what became free before.
    for n in 0..3usize {
        try_put(&store.volume("main").unwrap(), b"settled", &[n as u8]).unwrap();
        store.flush().unwrap();
    }
}

fn blob_bytes(disk: &SimDisk) -> u64 {
    disk.list().unwrap().iter().filter(|f| f.name.ends_with(".blob")).map(|f| f.len).sum()
}

#[test]
fn large_tails_are_written_once_and_small_ones_stay_inline() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    for n in 0..50 {
        put(&volume, n, n);
    }
    try_put(&volume, b"small", &[1; 99]).unwrap();
    settle(&store);
    store.compact().unwrap();
    let stats = store.stats();
    let written = stats.disk.blob_bytes;
    assert!((50_000..52_000).contains(&written), "{written} bytes for 50 kB");
    let others = stats.disk.log_bytes + stats.disk.table_bytes;
    assert!(others < 20_000, "{others} bytes of log and tables beside the blobs");
    assert!(stats.blobs.files.len() > 1, "the files are cut by size");
    (0..50).for_each(|n| assert_has(&volume, n, n));
    assert_eq!(volume.get(b"small").unwrap().unwrap().tail, [1; 99].as_slice());
    assert_no_leaks(&disk, &store, "");
}

#[test]
fn keys_and_heads_are_read_without_a_blob() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..30).for_each(|n| put(&volume, n, n));
    store.flush().unwrap();
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut seen = 0;
    while scan.next().unwrap() {
        assert_eq!(scan.head(), b"head");
        seen += 1;
    }
    assert_eq!(seen, 30);
    assert_eq!(volume.get_head(&key(3)).unwrap().unwrap(), "head");
    assert_eq!(store.stats().disk.blob_reads, 0);
    assert_has(&volume, 3, 3);
    let reads = store.stats().disk.blob_reads;
    assert!(reads > 0);
    assert_has(&volume, 3, 3);
    assert_eq!(store.stats().disk.blob_reads, reads, "it is in the cache");
}

#[test]
fn what_is_read_once_leaves_the_cache_to_others() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..30).for_each(|n| put(&volume, n, n));
    store.flush().unwrap();
    assert_has(&volume, 0, 0);
    let before = store.stats();
    let mut read = vec![0; LEN];
    for n in 0..30 {
        assert_eq!(volume.read_tail_once(&key(n), &mut read).unwrap(), LEN);
        assert_eq!(read, value(n, LEN));
    }
    let after = store.stats();
    let (reads, cached) =
        (after.disk.blob_reads - before.disk.blob_reads, after.cache.bytes - before.cache.bytes);
    assert!((29..=30).contains(&reads), "{reads} reads: one value may be in the cache");
    assert!(cached < 10 * LEN as u64, "{cached} bytes of values and of their table's blocks");
}

#[test]
fn what_is_read_once_is_put_where_it_is_wanted() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..3).for_each(|n| put(&volume, n, n));
    let read = |n: usize| {
        let mut out = [0xee; LEN + 5];
        let len = volume.read_tail_once(&key(n), &mut out).unwrap();
        assert!(out[len..].iter().all(|byte| *byte == 0xee), "what lies behind it stays");
        let mut short = [0xee; LEN - 1];
        assert_eq!(volume.read_tail_once(&key(n), &mut short).unwrap(), len);
        assert_eq!(short, [0xee; LEN - 1], "it does not fit, or there is nothing");
        out[..len].to_vec()
    };
    assert_eq!(read(0), value(0, LEN));
    assert_eq!(read(77), b"", "there is no such key");
    for _ in ["in the memtable", "in a table"] {
        let mut batch = Batch::new();
        batch.patch(&key(1), LEN as u32, &[(10, b"patched")]);
        volume.write(batch).unwrap();
        let mut patched = value(1, LEN);
        patched[10..17].copy_from_slice(b"patched");
        assert_eq!(read(1), patched);
        store.flush().unwrap();
    }
    let mut batch = Batch::new();
    batch.delete(&key(2));
    volume.write(batch).unwrap();
    assert_eq!(read(2), b"", "it is deleted");
}

#[test]
fn keys_are_listed_without_a_blob_under_patches_and_backwards() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { cache_size: 0, ..options() });
    (0..30).for_each(|n| put(&volume, n, n));
    // Of most keys the patches are alone in the memtable, of one they lie with their value in a table.
    for n in [3, 4, 5, 6, 7] {
        let mut batch = Batch::new();
        match n {
            6 => batch.put_head(&key(n), b"other"),
            _ => batch.patch(&key(n), LEN as u32, &[(10, b"patched")]),
        }
        if n == 7 {
            batch.patch_split(&key(n), b"other", LEN as u32, LEN as u32, &[(20, b"again")]);
        }
        volume.write(batch).unwrap();
        if n == 3 {
            store.flush().unwrap();
        }
    }
    let reads = store.stats().disk.blob_reads;
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut back = volume.scan_back(Bound::Unbounded, Bound::Unbounded).unwrap();
    for n in 0..30 {
        assert!(scan.next().unwrap() && back.next().unwrap());
        let head = if [6, 7].contains(&n) { &b"other"[..] } else { b"head" };
        assert_eq!((scan.key(), scan.head()), (&key(n)[..], head));
        assert_eq!(volume.get_head(&key(n)).unwrap().unwrap(), head);
        assert_eq!(back.key(), key(29 - n));
    }
    assert!(!scan.next().unwrap() && !back.next().unwrap());
    assert_eq!(store.stats().disk.blob_reads, reads);
    let want = [&value(4, LEN)[..10], b"patched", &value(4, LEN)[17..]].concat();
    let mut scan = volume.scan(Bound::Included(&key(4)), Bound::Unbounded).unwrap();
    let mut back = volume.scan_back(Bound::Unbounded, Bound::Included(&key(4))).unwrap();
    assert!(scan.next().unwrap() && back.next().unwrap());
    assert_eq!(scan.tail().unwrap(), want);
    assert_eq!((back.value().unwrap().head, back.value().unwrap().tail), ("head".into(), want.into()));
    let mut want = value(7, LEN);
    assert!(scan.next().unwrap() && scan.next().unwrap());
    assert_eq!(scan.tail().unwrap(), value(6, LEN));
    assert!(scan.next().unwrap());
    want[10..17].copy_from_slice(b"patched");
    want[20..25].copy_from_slice(b"again");
    assert_eq!((scan.head(), scan.tail().unwrap()), (&b"other"[..], want.clone().into()));
    let (patched, patches) = volume.get_patched(&key(7)).unwrap().unwrap();
    assert_eq!((&patched.head[..], patched.tail, patches), (&b"other"[..], want.into(), 2));
}

#[test]
fn overwriting_again_and_again_takes_bounded_room() {
    for compaction in lsmfs::lsm::options::CompactionMode::NAMES.map(|(_, mode)| mode) {
        if compaction == lsmfs::lsm::options::CompactionMode::None {
            continue;
        }
        let disk = sim();
        let (store, volume) = open(&disk, Options { compaction, ..options() });
        let live = 40 * LEN as u64;
        for round in 0..60 {
            for n in 0..40 {
                put(&volume, n, n + round);
                while store.step().unwrap() {}
            }
            // What memtables and L0 hold, the live bytes, and as much again.
            let most = 2 * live + 10 * FILE_SIZE;
            assert!(blob_bytes(&disk) < most, "{compaction:?}, round {round}: {}", blob_bytes(&disk));
        }
        settle(&store);
        (0..40).for_each(|n| assert_has(&volume, n, n + 59));
    }
}

/// One value of each file stays: no file dies, they have to be emptied.
#[test]
fn files_of_much_garbage_are_emptied() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..200).for_each(|n| put(&volume, n, n));
    settle(&store);
    let before = blob_bytes(&disk);
    for n in (0..200).filter(|n| n % 10 != 0) {
        let mut batch = Batch::new();
        batch.delete(&key(n));
        volume.write(batch).unwrap();
    }
    store.compact().unwrap();
    settle(&store);
    let stats = store.stats();
    assert!(stats.compactions.jobs.garbage > 0 && stats.blobs.moved > 0);
    assert!(blob_bytes(&disk) < before / 4, "{} of {before} are left", blob_bytes(&disk));
    for n in 0..200 {
        match n % 10 {
            0 => assert_has(&volume, n, n),
            _ => assert_eq!(volume.get(&key(n)).unwrap(), None),
        }
    }
    assert_no_leaks(&disk, &store, "");
    store.close().unwrap();
    let (store, volume) = open(&disk, options());
    (0..200).step_by(10).for_each(|n| assert_has(&volume, n, n));
    assert_no_leaks(&disk, &store, "reopened");
}

#[test]
fn a_range_tombstone_gives_the_room_of_a_large_file_back() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..200).for_each(|n| put(&volume, n, n));
    settle(&store);
    let mut batch = Batch::new();
    batch.delete_range(&key(0), &key(190));
    batch.note_deleted(190 * LEN as u64);
    volume.write(batch).unwrap();
    // The write froze the memtable, its flush is due, and so is the compaction that it leads to.
    while store.step().unwrap() {}
    settle(&store);
    assert!(blob_bytes(&disk) < 2 * FILE_SIZE, "{} bytes are left", blob_bytes(&disk));
    (190..200).for_each(|n| assert_has(&volume, n, n));
}

#[test]
fn snapshots_and_open_scans_keep_what_they_read() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..60).for_each(|n| put(&volume, n, n));
    settle(&store);
    let snapshot = volume.snapshot();
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    assert!(scan.next().unwrap());
    for round in 1..4 {
        (0..60).for_each(|n| put(&volume, n, n + round));
        store.compact().unwrap();
        settle(&store);
    }
    for n in 0..60 {
        let old = snapshot.get(&key(n)).unwrap().unwrap();
        assert_eq!(old.tail, value(n, LEN));
        assert_eq!((scan.key(), scan.tail().unwrap()), (key(n).as_slice(), value(n, LEN).into()));
        scan.next().unwrap();
        assert_has(&volume, n, n + 3);
    }
    drop((scan, snapshot));
    (0..60).for_each(|n| put(&volume, n, n));
    store.compact().unwrap();
    settle(&store);
    assert!(blob_bytes(&disk) < 60 * LEN as u64 * 3 / 2 + FILE_SIZE, "{} bytes", blob_bytes(&disk));
    assert_no_leaks(&disk, &store, "");
}

#[test]
fn patches_lie_over_values_in_blob_files() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    put(&volume, 1, 1);
    let mut want = value(1, LEN);
    let mut patch = |at: usize| {
        let mut batch = Batch::new();
        batch.patch(&key(1), LEN as u32, &[(at as u32, b"patched")]);
        volume.write(batch).unwrap();
        want[at..at + 7].copy_from_slice(b"patched");
        let found = volume.get(&key(1)).unwrap().unwrap();
        assert_eq!((found.head.as_ref(), found.tail.as_ref()), (&b"head"[..], want.as_slice()));
    };
    patch(10);
    store.flush().unwrap();
    patch(500);
    store.flush().unwrap();
    patch(900);
    store.compact().unwrap();
    settle(&store);
    patch(0);
    assert_eq!(store.stats().blobs.files.len(), 1, "the values that were patched are gone");
}

#[test]
fn a_store_written_before_the_option_was_set_moves_its_values() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { blob_min: 0, ..options() });
    (0..30).for_each(|n| put(&volume, n, n));
    store.close().unwrap();
    drop(volume);
    let (store, volume) = open(&disk, options());
    (0..30).for_each(|n| assert_has(&volume, n, n));
    (0..3).for_each(|n| put(&volume, n, n + 1));
    store.compact().unwrap();
    assert!(store.stats().blobs.bytes > 30 * LEN as u64);
    (0..30).for_each(|n| assert_has(&volume, n, if n < 3 { n + 1 } else { n }));
    store.close().unwrap();
    drop(volume);
    // And back: what is apart stays readable.
    let (_store, volume) = open(&disk, Options { blob_min: 0, ..options() });
    (3..30).for_each(|n| assert_has(&volume, n, n));
}

#[test]
fn a_failed_write_of_a_blob_is_an_error_and_the_next_one_works() {
    for error in [libc::ENOSPC, libc::EIO] {
        for short in [false, true] {
            let disk = sim();
            let (store, volume) = open(&disk, options());
            put(&volume, 1, 1);
            let fault = Fault::new(Op::Write, error).on(".blob");
            disk.fail(if short { fault.short() } else { fault });
            assert!(matches!(try_put(&volume, &key(2), &value(2, LEN)), Err(Error::Disk(_))));
            assert_eq!(volume.get(&key(2)).unwrap(), None);
            assert_eq!(blob_bytes(&disk), store.stats().blobs.bytes, "what is left of it was cut off");
            put(&volume, 3, 3);
            store.sync().unwrap();
            let disk = cut_power(&disk);
            drop((store, volume));
            let (store, volume) = open(&disk, options());
            assert_has(&volume, 1, 1);
            assert_has(&volume, 3, 3);
            assert_eq!(volume.get(&key(2)).unwrap(), None);
            assert_no_leaks(&disk, &store, "");
        }
    }
}

#[test]
fn a_new_blob_file_that_cannot_be_made_is_an_error_and_the_next_one_works() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    disk.fail(Fault::new(Op::CreateLog, libc::ENOSPC).on(".blob"));
    let refused = try_put(&volume, &key(1), &value(1, LEN)).unwrap_err();
    assert!(refused.is_full());
    disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".blob"));
    let refused = try_put(&volume, &key(1), &value(1, LEN)).unwrap_err();
    assert!(refused.is_full());
    put(&volume, 1, 1);
    assert_has(&volume, 1, 1);
    assert_no_leaks(&disk, &store, "");
}

#[test]
fn a_failed_sync_of_a_blob_makes_the_store_read_only() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    put(&volume, 1, 1);
    store.sync().unwrap();
    put(&volume, 2, 2);
    disk.fail(Fault::new(Op::Sync, libc::EIO).on(".blob"));
    store.sync().unwrap_err();
    assert!(store.sync().is_err(), "it is not tried again");
    assert!(matches!(try_put(&volume, &key(3), &value(3, LEN)), Err(Error::ReadOnly(_))));
    assert_has(&volume, 2, 2);
    // The next open shows what the system shows, and makes it durable.
    let disk = kill(&disk);
    drop((store, volume));
    let (store, volume) = open(&disk, options());
    assert_has(&volume, 2, 2);
    let disk = cut_power(&disk);
    drop((store, volume));
    let (_store, volume) = open(&disk, options());
    assert_has(&volume, 1, 1);
    assert_has(&volume, 2, 2);
}

#[test]
fn a_compaction_that_cannot_write_its_blobs_loses_nothing() {
    for op in [Op::Write, Op::Sync, Op::Name] {
        let disk = sim();
        let (store, volume) = open(&disk, options());
        (0..100).for_each(|n| put(&volume, n, n));
        settle(&store);
        for n in (0..100).filter(|n| n % 3 != 0) {
            put(&volume, n, n + 1);
        }
        store.flush().unwrap();
        disk.fail(Fault::new(op, libc::ENOSPC).on(".blob"));
        let mut failed = store.compact().is_err();
        for _ in 0..50 {
            failed |= store.step().is_err();
        }
        assert!(failed, "{op:?}: nothing wrote blobs");
        store.compact().unwrap();
        settle(&store);
        (0..100).for_each(|n| assert_has(&volume, n, if n % 3 == 0 { n } else { n + 1 }));
        assert_no_leaks(&disk, &store, "");
    }
}

/// A store of one blob file that a table points to, synced and closed.
fn closed() -> Arc<SimDisk> {
    let disk = sim();
    let (store, volume) = open(&disk, Options { compression: Compression::Lz4, ..options() });
    try_put(&volume, &key(0), &value(0, 300)).unwrap();
    try_put(&volume, &key(1), &[5; 300]).unwrap();
    store.close().unwrap();
    drop(volume);
    disk
}

#[test]
fn no_flipped_bit_of_a_blob_file_goes_unnoticed() {
    let good = closed();
    let [file] = files(&good, ".blob").try_into().unwrap();
    let len = good.list().unwrap().iter().find(|f| f.name == file).unwrap().len;
    for offset in 0..len {
        let disk = kill(&good);
        disk.flip_bit(&file, offset, (offset % 8) as u8).unwrap();
        let (_store, volume) = open(&disk, options());
        let mut noticed = false;
        for (n, want) in [value(0, 300), vec![5; 300]].into_iter().enumerate() {
            match volume.get(&key(n)) {
                Ok(found) => assert_eq!(found.unwrap().tail, want, "{offset}"),
                Err(Error::Corruption { file: named, .. }) => {
                    assert_eq!(named, file);
                    noticed = true;
                }
                Err(Error::NewerFormat { .. }) => panic!("{offset}: the checksum comes first"),
                Err(e) => panic!("{offset}: {e}"),
            }
            assert_eq!(volume.get_head(&key(n)).unwrap().unwrap(), "head");
        }
        assert!(noticed, "{offset} of {len}");
    }
}

#[test]
fn a_truncated_or_missing_blob_file_is_refused_at_open() {
    let good = closed();
    let [file] = files(&good, ".blob").try_into().unwrap();
    let len = good.list().unwrap().iter().find(|f| f.name == file).unwrap().len;
    for left in 0..len {
        let disk = kill(&good);
        disk.truncate_file(&file, left).unwrap();
        match Store::open(disk, options()) {
            Err(Error::Corruption { file: named, offset, .. }) => assert_eq!((&named, offset), (&file, left)),
            other => panic!("{left} bytes: {other:?}"),
        }
    }
    let disk = kill(&good);
    disk.delete(&file).unwrap();
    match Store::open(disk, options()) {
        Err(Error::Corruption { file: named, .. }) => assert_eq!(named, file),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_in_a_durable_blob_is_no_torn_tail() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    put(&volume, 1, 1);
    store.sync().unwrap();
    put(&volume, 2, 2);
    let [file] = files(&disk, ".blob").try_into().unwrap();
    let disk = kill(&disk);
    drop((store, volume));
    disk.flip_bit(&file, 500, 1).unwrap();
    let (_store, volume) = open(&disk, options());
    assert!(matches!(volume.get(&key(1)), Err(Error::Corruption { .. })));
    assert_has(&volume, 2, 2);
}

/// One value of each file stays, and one of those is damaged.
#[test]
fn a_damaged_value_keeps_no_compaction_from_its_work() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    (0..200).for_each(|n| put(&volume, n, n));
    settle(&store);
    store.close().unwrap();
    drop(volume);
    let first = files(&disk, ".blob").into_iter().min().unwrap();
    disk.flip_bit(&first, 100, 0).unwrap();
    let (store, volume) = open(&disk, options());
    let mut patch = Batch::new();
    patch.patch(&key(0), LEN as u32, &[(5, b"patched")]);
    patch.patch(&key(10), LEN as u32, &[(0, &value(10, 7))]);
    volume.write(patch).unwrap();
    for n in (0..200).filter(|n| n % 10 != 0) {
        let mut batch = Batch::new();
        batch.delete(&key(n));
        volume.write(batch).unwrap();
    }
    store.compact().unwrap();
    settle(&store);
    assert!(store.stats().blobs.moved > 0);
    (10..200).step_by(10).for_each(|n| assert_has(&volume, n, n));
    match volume.get(&key(0)) {
        Err(Error::Corruption { file, .. }) => assert_eq!(file, first),
        other => panic!("{other:?}"),
    }
    // Whoever writes it anew is rid of it; the next open tries again to empty the file.
    put(&volume, 0, 0);
    store.close().unwrap();
    drop(volume);
    let (store, volume) = open(&disk, options());
    store.compact().unwrap();
    settle(&store);
    (0..200).step_by(10).for_each(|n| assert_has(&volume, n, n));
    assert!(!files(&disk, ".blob").contains(&first));
    assert_no_leaks(&disk, &store, "");
}

#[test]
fn strangers_named_like_blob_files_are_kept() {
    let disk = closed();
    disk.write_file("900000.blob", b"somebody's").unwrap();
    let (store, volume) = open(&disk, options());
    assert_eq!(disk.read_file("lost/900000.blob").unwrap(), b"somebody's");
    assert_eq!(volume.get(&key(1)).unwrap().unwrap().tail, [5; 300].as_slice());
    assert_eq!(store.stats().blobs.files.len(), 1);
}

#[test]
fn writers_share_a_file_and_none_waits_for_another() {
    let disk = sim();
    let store = Store::open(disk.clone(), Options { background: true, ..options() }).unwrap();
    let volume = store.volume("main").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let volume = &volume;
            scope.spawn(move || (0..100).for_each(|n| put(volume, thread * 100 + n, n)));
        }
    });
    (0..400).for_each(|n| assert_has(&volume, n, n % 100));
    store.close().unwrap();
    drop((store, volume));
    let (_store, volume) = open(&disk, options());
    (0..400).for_each(|n| assert_has(&volume, n, n % 100));
}
