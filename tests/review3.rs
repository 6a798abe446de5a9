//! Suspected defects, each shown by a test that fails while it stands.

mod engine_common;

use engine_common::{kill, open, sim, stepped};
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
    let (_store, volume) = open(&disk, options());
    try_put(&volume, b"first", &noise(1000)).unwrap();
    let used: u64 = disk.files().iter().map(|file| file.len).sum();
    disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".log").always());
    for _ in 0..10 {
        try_put(&volume, b"large", &noise(60_000)).unwrap_err();
    }
    let used_now: u64 = disk.files().iter().map(|file| file.len).sum();
    assert!(used_now < used + 60_000, "{} bytes were kept by writes that failed", used_now - used);
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

/// Keys and heads never cost a blob's bytes, says the header of blob/mod.rs.
#[test]
fn keys_are_listed_without_a_blob_even_under_patches_and_backwards() {
    for (patched, back) in [(true, false), (false, true)] {
        let disk = sim();
        let (store, volume) = open(&disk, Options { cache_size: 0, ..options() });
        for key in [b"a", b"b", b"c"] {
            try_put(&volume, key, &noise(5000)).unwrap();
            if patched {
                let mut batch = Batch::new();
                batch.patch(key, 5000, &[(10, b"patched")]);
                volume.write(batch).unwrap();
            }
        }
        let blob = engine_common::files(&disk, ".blob").remove(0);
        let before = disk.reads(&blob);
        if back {
            let mut scan = volume.scan_back(Bound::Unbounded, Bound::Unbounded).unwrap();
            while scan.next().unwrap() {}
        } else {
            let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
            while scan.next().unwrap() {}
        }
        assert_eq!(disk.reads(&blob) - before, 0, "patched {patched}, back {back}");
        drop(store);
    }
}

/// A blob file that recovery looked into and then deleted must not keep its room.
#[test]
fn a_blob_file_that_recovery_deleted_gives_its_room_back() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    try_put(&volume, b"a", &noise(100_000)).unwrap();
    let blob = engine_common::files(&disk, ".blob").remove(0);
    // As after a power cut: the record is there, the bytes are not.
    let disk = kill(&disk);
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

/// A spare file that cannot be renamed is room that the disk does not get back.
#[test]
fn a_spare_segment_that_cannot_be_renamed_is_deleted() {
    let disk = sim();
    let small = Options {
        memtable_size: 500,
        num_memtable_limit: 1,
        log_segment_size: 1000,
        memtable_stall_size: 1 << 20,
        ..stepped()
    };
    let (store, volume) = open(&disk, small);
    let put = |n: u16| {
        engine_common::try_put(&volume, &n.to_be_bytes(), &[1; 100]).unwrap();
        while store.step().unwrap() {}
    };
    (0..100).for_each(put);
    disk.fail(Fault::new(Op::Reuse, libc::EIO).times(20));
    (100..400).for_each(put);
    let beside = engine_common::files(&disk, ".log").len() - store.stats().log_segments.len();
    assert!(beside <= 2 + 3, "{beside} files beside the log's");
}

/// Range tombstones one in another: each takes what all before it take, and the memtable counts a fixed sum.
#[test]
fn nested_range_tombstones_take_what_the_memtable_says() {
    let disk = sim();
    let (store, volume) =
        open(&disk, Options { memtable_size: 32 << 20, memtable_stall_size: 128 << 20, ..stepped() });
    let before = resident();
    const COUNT: u32 = 8000;
    for n in 0..COUNT {
        let mut batch = Batch::new();
        batch.delete_range(&n.to_be_bytes(), &[0xff; 4]);
        volume.write(batch).unwrap();
    }
    let taken = resident().saturating_sub(before);
    let said = store.stats().volumes[0].memtable_bytes as u64;
    assert!(taken < 10 * said.max(1 << 20), "{taken} bytes taken, {said} accounted for");
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// With the defaults, all open files together stay below what a process may have open by default (1024).
#[test]
fn open_files_stay_below_the_default_limit() {
    let dir = std::env::temp_dir().join(format!("review3-{}", std::process::id()));
    let disk = lsmfs::disk::real::RealDisk::open_or_create(&dir, std::time::Duration::from_secs(5)).unwrap();
    let store = lsmfs::lsm::Store::open(
        std::sync::Arc::new(disk),
        Options {
            compaction: lsmfs::lsm::options::CompactionMode::None,
            blob_min: 100,
            blob_file_size: 1,
            num_memtable_limit: 10_000,
            background: false,
            ..Options::default()
        },
    )
    .unwrap();
    let volume = store.volume("main").unwrap();
    for n in 0..600u32 {
        try_put(&volume, &n.to_be_bytes(), &noise(150)).unwrap();
        store.flush().unwrap();
    }
    for n in 0..600u32 {
        volume.get(&n.to_be_bytes()).unwrap().unwrap();
    }
    let open_files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    drop(volume);
    store.close().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(open_files < 1000, "{open_files} files are open");
}

/// Who overwrites large values faster than their garbage is collected is held back some time, as with small ones.
#[test]
fn garbage_in_blob_files_holds_writers_back() {
    for blob_min in [0, 100] {
        let disk = sim();
        let limits = Options {
            blob_min,
            blob_file_size: 64 << 10,
            memtable_size: 64 << 10,
            memtable_stall_size: 256 << 10,
            level_base_size: 256 << 10,
            table_size: 64 << 10,
            log_segment_size: 64 << 10,
            ..stepped()
        };
        let (_store, volume) = open(&disk, limits);
        for n in 0..4000u32 {
            try_put(&volume, &[(n % 10) as u8], &noise(10_000)).unwrap();
        }
        let used: u64 = disk.files().iter().map(|file| file.len).sum();
        assert!(used < 8 << 20, "blob_min {blob_min}: {used} bytes on the disk for 100 KB of values");
    }
}

/// As above with the background threads: what a writer at full speed leaves behind.
#[test]
#[ignore = "prints figures"]
fn garbage_with_background_threads() {
    let disk = sim();
    let limits = Options {
        blob_min: 100,
        blob_file_size: 4 << 20,
        memtable_size: 256 << 10,
        memtable_stall_size: 1 << 20,
        background: true,
        log_segment_size: 1 << 20,
        ..stepped()
    };
    let (store, volume) = open(&disk, limits);
    let value = noise(20_000);
    let mut rng = engine_common::Rng(3);
    let mut most = 0;
    for n in 0..60_000u32 {
        try_put(&volume, &(rng.below(3000) as u32).to_be_bytes(), &value).unwrap();
        if n % 500 == 0 {
            let blobs: u64 = disk.files().iter().filter(|f| f.name.ends_with(".blob")).map(|f| f.len).sum();
            most = most.max(blobs);
            if n % 5000 == 0 {
                println!("{n}: {} MB of blobs, {} MB live", blobs >> 20, (3000u64 * 20_000) >> 20);
            }
        }
    }
    println!("most {} MB", most >> 20);
    drop(store);
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
}
