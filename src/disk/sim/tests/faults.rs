//! Operations that fail.

use super::*;
use crate::disk::sim::file::BLOCK_BYTES;

#[test]
fn a_failed_sync_loses_bytes_though_the_next_one_succeeds() {
    let lost = |write_again: bool, rewrite: bool| {
        outcomes(|disk| {
            let log = durable_log(&disk, "log");
            log.write_at(0, &[1; BLOCK_BYTES]).unwrap();
            disk.fail(Fault::new(Op::Sync, libc::EIO));
            assert_eq!(errno(log.sync()), Some(libc::EIO));
            if write_again {
                log.write_at(10, &[1]).unwrap();
            }
            log.write_at(BLOCK_BYTES as u64, &[2; 10]).unwrap();
            log.sync().unwrap();
            let seen = disk.read_file("log").unwrap();
            assert_eq!(seen[..BLOCK_BYTES], [1; BLOCK_BYTES], "readers see it");
            if rewrite {
                disk.rewrite_log("log", &seen).unwrap();
            }
            let found = suite::get(&disk.crash(), "log");
            assert_eq!(found[BLOCK_BYTES..], [2; 10], "what came later is durable");
            found[..BLOCK_BYTES] != [1; BLOCK_BYTES]
        })
    };
    assert_eq!(lost(false, false), BTreeSet::from([false, true]));
    assert_eq!(lost(true, false), BTreeSet::from([false]));
    assert_eq!(lost(false, true), BTreeSet::from([false]));
}

#[test]
fn a_failed_directory_sync_leaves_no_object_behind() {
    let found = outcomes(|disk| {
        disk.fail(Fault::new(Op::SyncDir, libc::EIO));
        let mut writer = disk.create("object").unwrap();
        writer.write(b"contents").unwrap();
        assert_eq!(errno(writer.finish()), Some(libc::EIO));
        assert_eq!(suite::names(&disk), Vec::<String>::new());
        everything(&disk.crash())
    });
    let whole = vec![("object".to_owned(), b"contents".to_vec())];
    assert_eq!(found, BTreeSet::from([vec![], whole]), "a power cut may bring it back");
}

#[test]
fn faults_strike_what_they_are_meant_for() {
    let disk = SimDisk::new(1);
    let (log, other) = (disk.create_log("log").unwrap(), disk.create_log("other").unwrap());
    disk.fail(Fault::new(Op::Write, libc::EIO).on("lo").after(1).times(2));
    let eio = Some(libc::EIO);
    let writes: Vec<_> =
        (0..5).map(|_| (errno(log.write_at(0, b"x")), errno(other.write_at(0, b"x")))).collect();
    assert_eq!(writes, [(None, None), (eio, None), (eio, None), (None, None), (None, None)]);

    disk.fail(Fault::new(Op::Open, libc::EMFILE).always());
    assert_eq!([errno(disk.open("log")), errno(disk.open("other"))], [Some(libc::EMFILE); 2]);
    disk.clear_faults();
    disk.open("log").unwrap();

    disk.fail(Fault::new(Op::Name, libc::EIO));
    let writer = disk.create("object").unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!((error.op, error.name.as_str()), ("finish", "object"));
    assert!(disk.open("object").err().unwrap().is_not_found());
    disk.fail(Fault::new(Op::CreateLog, libc::ENOSPC));
    assert!(disk.create_log("new").err().unwrap().is_full());
    disk.create_log("new").unwrap();
}

#[test]
fn a_short_write_writes_a_part() {
    let found = outcomes(|disk| {
        let log = disk.create_log("log").unwrap();
        disk.fail(Fault::new(Op::Write, libc::EIO).short());
        assert_eq!(errno(log.write_at(0, &[1; 10])), Some(libc::EIO));
        let contents = disk.read_file("log").unwrap();
        assert!(contents.iter().all(|byte| *byte == 1));
        contents.len()
    });
    assert_eq!(found, (0..=10).collect());
    // An object's writer takes none of them.
    let disk = SimDisk::new(2);
    disk.fail(Fault::new(Op::Write, libc::EIO).after(1).short());
    let mut writer = disk.create("object").unwrap();
    writer.write(b"one ").unwrap();
    writer.write(&[0; 100]).unwrap_err();
    writer.write(b"two").unwrap();
    writer.finish().unwrap();
    assert_eq!(suite::get(&disk, "object"), b"one two");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new(1);
    disk.set_capacity(1000);
    let log = disk.create_log("log").unwrap();
    log.write_at(0, &[1; 600]).unwrap();
    assert!(log.write_at(600, &[2; 600]).unwrap_err().is_full());
    assert_eq!(disk.read_file("log").unwrap().len(), 1000);
    assert_eq!(disk.space().unwrap(), Space { total: 1000, available: 0, free: 0 });
    log.write_at(0, &[3; 1000]).unwrap();
    assert!(log.truncate(1001).unwrap_err().is_full());
    log.truncate(500).unwrap();
    assert!(log.write_at(2000, b"x").unwrap_err().is_full());
    assert_eq!(disk.read_file("log").unwrap().len(), 500);

    // What is unfinished or open takes room, too, until it is gone.
    let mut writer = disk.create("object").unwrap();
    writer.write(&[0; 500]).unwrap();
    assert!(writer.write(b"x").unwrap_err().is_full());
    assert_eq!(disk.space().unwrap().available, 0);
    drop(writer);
    assert_eq!(disk.space().unwrap().available, 500);
    disk.delete("log").unwrap();
    assert_eq!(disk.space().unwrap().available, 500);
    drop(log);
    assert_eq!(disk.space().unwrap().available, 1000);

    suite::put(&disk, "object", &[0; 400]);
    let found = disk.crash();
    assert!(found.space().unwrap().total == 1000 && found.space().unwrap().available <= 600);
}

#[test]
fn wild_offsets_are_errors() {
    let disk = SimDisk::new(1);
    let log = disk.create_log("log").unwrap();
    for offset in [u64::MAX, u64::MAX - 1, 1 << 40] {
        assert_eq!(errno(log.write_at(offset, b"xy")), Some(libc::EFBIG));
    }
    assert_eq!(errno(log.truncate(u64::MAX)), Some(libc::EFBIG));
}
