//! A disk that fails under a running store: nothing is lost, nothing piles up, nobody waits for ever.

mod engine_common;

use engine_common::disk::OddDisk;
use engine_common::{contents, cut_power, files, kill, open, sim, stepped, try_put};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::{Error, Options, Store};
use parking_lot::Mutex;
use std::sync::{Arc, mpsc};
use std::time::Duration;

#[test]
fn a_manifest_that_cannot_be_rewritten_loses_no_table() {
    let disk = sim();
    let (store, volume) =
        open(&disk, Options { memtable_size: 1 << 20, memtable_stall_size: 1 << 24, ..stepped() });
    // Large keys fill the log of edits until it is rewritten; then the old one cannot be deleted.
    disk.fail(Fault::new(Op::Delete, libc::EIO).on("manifest-"));
    for i in 0..40u32 {
        let key = [&[b'k'; 60_000][..], &i.to_be_bytes()].concat();
        try_put(&volume, &key, b"v").unwrap();
        store.flush().unwrap();
    }
    assert!(disk.ops().get(Op::Delete) > 0, "the manifest was never rewritten");
    let disk = kill(&disk);
    drop((store, volume));
    let (store, _) = open(&disk, stepped());
    assert_eq!(contents(&store).unwrap().len(), 40);
    assert_eq!(files(&disk, "").iter().filter(|name| name.starts_with("manifest-")).count(), 1);
}

#[test]
fn a_poisoned_log_piles_up_no_tables() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    disk.fail(Fault::new(Op::Sync, libc::EIO).on(".log"));
    for _ in 0..5 {
        store.flush().unwrap_err();
    }
    assert_eq!(files(&disk, ".sst"), [""; 0]);
}

#[test]
fn a_failed_manifest_piles_up_no_tables() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    // The first sync reserves file numbers.
    disk.fail(Fault::new(Op::Sync, libc::EIO).on("edits-").after(1));
    for _ in 0..5 {
        store.flush().unwrap_err();
    }
    assert_eq!(files(&disk, ".sst").len(), 1, "the one whose edit may yet be found");
    let disk = cut_power(&disk);
    drop((store, volume));
    let (store, _) = open(&disk, stepped());
    assert_eq!(contents(&store).unwrap().len(), 1);
}

#[test]
fn a_failed_manifest_makes_the_store_read_only_but_what_was_written_can_be_synced() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    disk.fail(Fault::new(Op::Sync, libc::EIO).on("edits-"));
    store.flush().unwrap_err();
    assert!(matches!(try_put(&volume, b"b", b"v"), Err(Error::ReadOnly(_))));
    store.sync().unwrap();
    assert_eq!(contents(&store).unwrap().len(), 1);
    store.close().unwrap_err();
    let disk = cut_power(&disk);
    drop((store, volume));
    let (store, _) = open(&disk, stepped());
    assert_eq!(contents(&store).unwrap().len(), 1);
}

#[test]
fn writers_wait_for_no_compaction_that_is_not_due() {
    let limits = Options { l0_slowdown: 1, l0_stop: 2, l0_compaction_trigger: 5, ..stepped() };
    let (store, volume) = open(&sim(), Options { background: true, ..limits });
    for i in 0..12u32 {
        try_put(&volume, &i.to_be_bytes(), b"v").unwrap();
        store.flush().unwrap();
    }
    assert_eq!(contents(&store).unwrap().len(), 12);
}

#[test]
fn a_flush_that_failed_once_refuses_no_later_write() {
    let disk = sim();
    let options = Options {
        memtable_size: 4 << 10,
        memtable_stall_size: 8 << 10,
        num_memtable_limit: 99,
        background: true,
        ..stepped()
    };
    let (_store, volume) = open(&disk, options);
    disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".sst"));
    let failed = (0..500u32).filter(|i| try_put(&volume, &i.to_be_bytes(), &[0; 100]).is_err()).count();
    assert!(failed <= 1, "{failed} writes failed after one failed flush");
}

#[test]
fn a_panic_in_a_flush_leaves_nobody_waiting() {
    let before_create = |name: &str| assert!(!name.ends_with(".sst"), "on purpose");
    let disk = OddDisk { before_create, ..OddDisk::new() };
    let options = Options { memtable_size: 1000, memtable_stall_size: 4000, background: true, ..stepped() };
    let store = Store::open(Arc::new(disk), options).unwrap();
    let volume = store.volume("main").unwrap();
    let refused = (0..100u32).find_map(|i| try_put(&volume, &i.to_be_bytes(), &[0; 200]).err());
    let refused = refused.unwrap().to_string();
    assert!(refused.contains("on purpose"), "{refused}");
    store.sync().unwrap();
    store.close().unwrap_err();
}

#[test]
fn what_is_called_after_a_sync_may_panic_and_may_drop_the_store() {
    let (store, volume) = open(&sim(), Options { background: true, ..stepped() });
    try_put(&volume, b"a", b"v").unwrap();
    store.sync_then(Box::new(|_| panic!("on purpose")));
    let (called, calls) = mpsc::channel();
    let last = Arc::new(Mutex::new(Some(store)));
    let guard = last.lock();
    let same = last.clone();
    guard.as_ref().unwrap().sync_then(Box::new(move |result| {
        drop(same.lock().take());
        called.send(result).unwrap();
    }));
    drop(guard);
    calls.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert!(matches!(volume.get(b"a"), Err(Error::Closed)));
}

#[test]
fn an_obsolete_file_that_is_gone_already_is_fine() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    (0..100u32).for_each(|i| _ = try_put(&volume, &i.to_be_bytes(), &[0; 200]).unwrap());
    store.flush().unwrap();
    // It is deleted after one more commit.
    let obsolete = files(&disk, ".log")[0].clone();
    disk.delete(&obsolete).unwrap();
    store.compact().unwrap();
    assert!(!files(&disk, ".log").contains(&obsolete));
    store.close().unwrap();
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    disk.set_capacity(60 << 10);
    let mut written = 0;
    let error = loop {
        match try_put(&volume, format!("{written:05}").as_bytes(), &[b'x'; 200]) {
            Ok(_) => written += 1,
            Err(e) => break e,
        }
        let _ = store.step();
        assert!(written < 10_000, "the disk never filled");
    };
    assert!(error.is_full(), "{error}");
    assert_eq!(contents(&store).unwrap().len(), written);
    disk.set_capacity(u64::MAX);
    try_put(&volume, b"again", b"there is room").unwrap();
    store.close().unwrap();
    let (store, _) = open(&disk, stepped());
    assert_eq!(contents(&store).unwrap().len(), written + 1);
}

#[test]
fn a_failed_sync_makes_the_store_read_only_for_good() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"before", b"1").unwrap();
    disk.fail(Fault::new(Op::Sync, libc::EIO).on(".log"));
    assert!(store.sync().is_err());
    assert!(matches!(store.sync(), Err(Error::ReadOnly(_))), "it never retries and reports success");
    assert!(matches!(try_put(&volume, b"after", b"2"), Err(Error::ReadOnly(_))));
    assert_eq!(contents(&store).unwrap().into_keys().collect::<Vec<_>>(), [b"before"]);
}

#[test]
fn a_failed_log_write_is_never_visible() {
    for (error, want) in [(libc::EIO, &["before"][..]), (libc::ENOSPC, &["after", "before"])] {
        let disk = sim();
        let (store, volume) = open(&disk, stepped());
        try_put(&volume, b"before", b"1").unwrap();
        disk.fail(Fault::new(Op::Write, error).on(".log"));
        try_put(&volume, b"failed", b"2").unwrap_err();
        assert_eq!(contents(&store).unwrap().len(), 1);
        assert_eq!(try_put(&volume, b"after", b"3").is_ok(), error == libc::ENOSPC);
        let disk = kill(&disk);
        drop((store, volume));
        let (store, _) = open(&disk, stepped());
        let found: Vec<_> = contents(&store).unwrap().into_keys().collect();
        assert_eq!(found, want.iter().map(|key| key.as_bytes()).collect::<Vec<_>>());
    }
}

#[test]
fn a_failed_flush_leaves_everything_and_is_tried_again() {
    for name in [".sst", "edits-"] {
        let disk = sim();
        let (store, volume) = open(&disk, stepped());
        try_put(&volume, b"a", b"1").unwrap();
        disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(name));
        assert!(store.flush().is_err(), "{name}");
        assert_eq!(contents(&store).unwrap().len(), 1);
        store.flush().unwrap();
        assert_eq!(store.stats().volumes[0].levels[0].len(), 1);
        store.close().unwrap();
        assert_eq!(files(&disk, ".sst").len(), 1, "the failed flush left a table");
    }
}

#[test]
fn a_failed_compaction_is_tried_again_though_nothing_changed() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { l0_compaction_trigger: 2, ..stepped() });
    for value in [b"1", b"2"] {
        try_put(&volume, b"a", value).unwrap();
        store.flush().unwrap();
    }
    for error in [libc::EIO, libc::ENOSPC] {
        disk.fail(Fault::new(Op::Write, error).on(".sst"));
        store.step().unwrap_err();
    }
    assert_eq!(files(&disk, ".sst").len(), 2);
    assert!(store.step().unwrap(), "the compaction was forgotten");
    assert_eq!(contents(&store).unwrap()[b"a".as_slice()], b"2");
}

/// In memory as little as on the disk: else the next snapshot of the manifest names a table that is not there.
#[test]
fn a_change_whose_manifest_record_failed_did_not_happen() {
    for (after, short) in (0..4).flat_map(|after| [(after, false), (after, true)]) {
        let disk = sim();
        let (store, volume) = open(&disk, stepped());
        let fault = Fault::new(Op::Write, libc::ENOSPC).on("edits-").after(after);
        disk.fail(if short { fault.short() } else { fault });
        let mut failed = 0;
        for round in 0..3u8 {
            try_put(&volume, &[round], &[round; 100]).unwrap();
            failed += usize::from(store.flush().is_err());
            failed += usize::from(store.compact().is_err());
        }
        assert_eq!(failed, 1, "write {after}");
        store.flush().unwrap();
        store.close().unwrap();
        drop((store, volume));
        let (store, _) = open(&disk, stepped());
        assert_eq!(contents(&store).unwrap().len(), 3, "write {after}");
        let tables: usize = store.stats().volumes[0].levels.iter().map(Vec::len).sum();
        assert_eq!(files(&disk, ".sst").len(), tables, "write {after}");
    }
}

/// Nor is it found after a kill or a power cut, though all of the record may have been written.
#[test]
fn a_manifest_record_that_failed_is_cut_off_durably() {
    for seed in 0..2000 {
        let disk = Arc::new(SimDisk::new(seed));
        let (store, volume) = open(&disk, stepped());
        try_put(&volume, b"a", &[1; 100]).unwrap();
        // The first write reserves file numbers.
        disk.fail(Fault::new(Op::Write, libc::EIO).on("edits-").after(1).short());
        store.flush().unwrap_err();
        assert_eq!(files(&disk, ".sst"), [""; 0], "seed {seed}: the table is not needed");
        let left = if seed % 2 == 0 { kill(&disk) } else { cut_power(&disk) };
        drop((store, volume));
        let (store, _) = open(&left, stepped());
        assert_eq!(contents(&store).unwrap().len(), 1, "seed {seed}");
    }
}

/// The manifest hears of volumes from the log; as long as it does not know, the log is what tells of them.
#[test]
fn volumes_outlive_a_manifest_that_could_not_be_told_of_them() {
    for (after, error) in (0..4).flat_map(|after| [(after, libc::ENOSPC), (after, libc::EIO)]) {
        let disk = sim();
        let (store, main) = open(&disk, stepped());
        try_put(&main, b"a", b"1").unwrap();
        let fork = store.fork(&main, "fork").unwrap();
        try_put(&fork, b"b", b"2").unwrap();
        store.create_volume("gone").unwrap();
        store.delete_volume("gone").unwrap();
        disk.fail(Fault::new(Op::Write, error).on("edits-").after(after));
        for round in 0..4u8 {
            let _ = (try_put(&main, &[round], b"3"), store.flush(), store.step());
        }
        store.flush().unwrap();
        store.close().unwrap();
        drop((store, main, fork));
        let (store, _) = open(&disk, stepped());
        let names: Vec<String> = store.volumes().unwrap().iter().map(|volume| volume.name()).collect();
        assert_eq!(names, ["main", "fork"], "write {after}");
        let fork = store.volume("fork").unwrap();
        assert!(fork.get(b"a").unwrap().is_some() && fork.get(b"b").unwrap().is_some(), "write {after}");
    }
}
