//! Blob files on a disk that fails: what cannot be read keeps nothing else from its work, and what was refused
//! leaves nothing behind.

mod engine_common;

use engine_common::{open, sim, stepped};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::{Fault, Op};
use lsmfs::lsm::{Batch, Error, Options, Volume};
use std::ops::Bound;

fn options() -> Options {
    Options {
        blob_min: 100,
        blob_file_size: 1 << 20,
        memtable_size: 1 << 20,
        memtable_stall_size: 4 << 20,
        ..stepped()
    }
}

fn try_put(volume: &Volume, key: &[u8], tail: &[u8]) -> Result<u64, Error> {
    let mut batch = Batch::new();
    batch.put_split(key, b"", tail);
    volume.write(batch)
}

fn noise(len: usize) -> Vec<u8> {
    let mut rng = engine_common::Rng(7);
    (0..len).map(|_| rng.below(256) as u8).collect()
}

/// An unreadable sector (EIO, not a flipped bit) in a blob file that has garbage: compactions leave the value
/// where it is, as they do with a damaged one; else L0 fills, and no write is taken ever again.
#[test]
fn an_unreadable_blob_keeps_no_compaction_from_its_work() {
    let disk = sim();
    let limits = Options {
        l0_compaction_trigger: 2,
        l0_slowdown: 3,
        l0_stop: 4,
        cache_size: 0,
        blob_file_size: 20_000,
        ..options()
    };
    let (store, volume) = open(&disk, limits);
    for n in 0..8u8 {
        try_put(&volume, &[n], &noise(5000)).unwrap();
    }
    store.flush().unwrap();
    let blob = engine_common::files(&disk, ".blob").remove(0);
    // Of the first file one value stays: it is to be emptied.
    for n in 1..4u8 {
        try_put(&volume, &[n], b"small").unwrap();
    }
    store.flush().unwrap();
    disk.fail(Fault::new(Op::Read, libc::EIO).on(&blob).always());
    let mut refused = None;
    for round in 0..40u8 {
        for n in 1..8u8 {
            if let Err(e) = try_put(&volume, &[n], &[round; 50]) {
                refused = Some(e);
            }
        }
        let _ = volume.write({
            let mut batch = Batch::new();
            batch.put_split(&[100 + round], b"", &noise(200));
            batch
        });
        let _ = store.flush();
        while store.step().is_ok_and(|worked| worked) {}
    }
    let l0 = store.stats().volumes[0].levels[0].len();
    assert!(refused.is_none(), "a write is refused with {l0} tables in L0: {refused:?}");
    assert!(l0 < 4, "{l0} tables in L0");
}

/// The same for a flush: a patch and the value that it lies over are in one memtable.
#[test]
fn an_unreadable_blob_keeps_no_flush_from_its_work() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { cache_size: 0, ..options() });
    try_put(&volume, b"a", &noise(5000)).unwrap();
    let mut batch = Batch::new();
    batch.patch(b"a", 5000, &[(10, b"patched")]);
    volume.write(batch).unwrap();
    try_put(&volume, b"b", &noise(10)).unwrap();
    disk.fail(Fault::new(Op::Read, libc::EIO).on(".blob").always());
    for _ in 0..3 {
        let _ = store.flush();
    }
    assert_eq!(store.stats().volumes[0].levels[0].len(), 1, "nothing is ever flushed: {:?}", store.flush());
    volume.get(b"a").unwrap_err();
    disk.clear_faults();
    let want = [&noise(10)[..], b"patched", &noise(5000)[17..]].concat();
    assert_eq!(volume.get(b"a").unwrap().unwrap().tail, want, "when the disk gives it again");
}

/// One damaged value under a patch must not hide the keys behind it from who asks for keys only.
#[test]
fn a_damaged_value_under_a_patch_does_not_end_a_scan_of_keys() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    for key in [b"a", b"b", b"c"] {
        try_put(&volume, key, &noise(5000)).unwrap();
    }
    let mut batch = Batch::new();
    batch.patch(b"b", 5000, &[(10, b"patched")]);
    volume.write(batch).unwrap();
    store.sync().unwrap();
    let blob = engine_common::files(&disk, ".blob").remove(0);
    // In the second value.
    disk.flip_bit(&blob, 40 + 16 + 5000 + 16 + 2500, 1).unwrap();
    assert!(volume.get(b"b").is_err());
    assert!(volume.get(b"c").unwrap().is_some());
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut keys = Vec::new();
    loop {
        match scan.next() {
            Ok(true) => keys.push(scan.key().to_vec()),
            Ok(false) => break,
            Err(e) => panic!("a scan of keys ends after {} of 3: {e}", keys.len()),
        }
    }
    assert_eq!(keys.len(), 3);
}

/// The blob's bytes fit on the disk, the log record that points to them does not: the write is refused, and
/// what it took must be given back, as it is when the blob's own write fails.
#[test]
fn a_write_whose_log_record_finds_no_room_gives_its_blob_bytes_back() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    try_put(&volume, b"first", &noise(1000)).unwrap();
    let used: u64 = disk.files().iter().map(|file| file.len).sum();
    // Room for one large value and its header, and a few bytes.
    disk.set_capacity(used + 60_000 + 30);
    for _ in 0..3 {
        let refused = try_put(&volume, b"large", &noise(60_000)).unwrap_err();
        assert!(refused.is_full(), "{refused}");
    }
    let used_now: u64 = disk.files().iter().map(|file| file.len).sum();
    let mut batch = Batch::new();
    batch.delete(b"first");
    let deleted = volume.write(batch);
    drop(store);
    assert!(
        deleted.is_ok(),
        "a delete is refused: {deleted:?}; {} bytes were kept by writes that failed",
        used_now - used
    );
}

/// The same with a log that fails for once: each refused write costs its bytes, until compaction finds a reason.
#[test]
fn refused_writes_do_not_pile_up_in_blob_files() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    try_put(&volume, b"first", &noise(1000)).unwrap();
    let used: u64 = disk.files().iter().map(|file| file.len).sum();
    disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".log").always());
    for _ in 0..20 {
        try_put(&volume, b"large", &noise(60_000)).unwrap_err();
    }
    let used_now: u64 = disk.files().iter().map(|file| file.len).sum();
    assert!(used_now < used + 60_000, "{} bytes were kept by writes that failed", used_now - used);
    disk.clear_faults();
    try_put(&volume, b"large", &noise(60_000)).unwrap();
    assert_eq!(volume.get(b"large").unwrap().unwrap().tail, noise(60_000));
    assert_eq!(volume.get(b"first").unwrap().unwrap().tail, noise(1000));
    // Nor does the memtable count them: with a blob file's bytes it would be full.
    assert!(!store.step().unwrap());
}

/// A log that fails for good may hold the record all the same: what it points to stays.
#[test]
fn a_write_whose_log_record_may_be_there_keeps_its_blob_bytes() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    try_put(&volume, b"first", &noise(1000)).unwrap();
    let used: u64 = disk.files().iter().map(|file| file.len).sum();
    disk.fail(Fault::new(Op::Write, libc::EIO).on(".log").always());
    try_put(&volume, b"large", &noise(60_000)).unwrap_err();
    assert!(matches!(try_put(&volume, b"small", b"x"), Err(Error::ReadOnly(_))));
    let used_now: u64 = disk.files().iter().map(|file| file.len).sum();
    assert!(used_now >= used + 60_000);
    drop(store);
}

/// A blob file that recovery looked into and then deleted must not keep its room.
#[test]
fn a_blob_file_that_recovery_deleted_gives_its_room_back() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    try_put(&volume, b"a", &noise(100_000)).unwrap();
    let blob = engine_common::files(&disk, ".blob").remove(0);
    // As after a power cut: the record is there, the bytes are not.
    let disk = engine_common::kill(&disk);
    drop((store, volume));
    disk.flip_bit(&blob, 5000, 1).unwrap();
    let (_store, volume) = open(&disk, options());
    assert!(volume.get(b"a").unwrap().is_none());
    assert!(engine_common::files(&disk, ".blob").is_empty());
    let named: u64 = disk.files().iter().map(|file| file.len).sum();
    let space = disk.space().unwrap();
    let used = space.total - space.free;
    assert!(used <= named, "{} bytes are used by files without a name", used - named);
}

/// A value that the log points to, of which an open has said that it is durable: a bit that flips in it costs that value
/// and not the store.
#[test]
fn a_damaged_blob_that_only_the_log_points_to_is_one_value_lost() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    for key in [b"a", b"b"] {
        try_put(&volume, key, &noise(5000)).unwrap();
    }
    let disk = engine_common::kill(&disk);
    drop((store, volume));
    let (store, volume) = open(&disk, options());
    let disk = engine_common::kill(&disk);
    drop((store, volume));
    let blob = engine_common::files(&disk, ".blob").remove(0);
    // In the second value, of which no later record says that it is durable.
    disk.flip_bit(&blob, 40 + 16 + 5000 + 16 + 2500, 1).unwrap();
    let (_store, volume) = open(&disk, options());
    assert_eq!(volume.get(b"a").unwrap().unwrap().tail, noise(5000));
    assert!(matches!(volume.get(b"b"), Err(Error::Corruption { file, .. }) if file == blob));
}
