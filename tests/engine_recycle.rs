//! Recycled log segments: what is left of a file's earlier life is never taken for its new contents, and
//! neither failures nor power cuts in the middle of it lose anything.

mod engine_common;

use engine_common::{assert_no_leaks, contents, cut_power, files, kill, open, sim, stepped, try_put};
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::log::record::{HEADER_LEN, Header, RecordKind};
use lsmfs::lsm::{Error, Options, Store, Volume, log, manifest};
use std::sync::Arc;

/// Every record has the same length: what is left of an earlier life begins right behind a new end.
const VALUE_LEN: usize = 100;
/// A record's header, then its batch: volume, count, and one put of a key of two bytes.
const RECORDS_PER_SEGMENT: u64 = 8;

fn options() -> Options {
    Options {
        memtable_size: 500,
        memtable_stall_size: 1 << 20,
        num_memtable_limit: 1,
        log_segment_size: 1000,
        compaction: lsmfs::lsm::options::CompactionMode::None,
        ..stepped()
    }
}

fn put(volume: &Volume, n: u16) -> Result<u64, Error> {
    try_put(volume, &n.to_be_bytes(), &[n as u8; VALUE_LEN])
}

/// Writes, flushing all the while, until a file was reused `times` times; the next number to write.
fn write_until_reused(disk: &SimDisk, store: &Store, volume: &Volume, times: u64) -> u16 {
    for n in 0..1000 {
        if disk.ops().get(Op::Reuse) == times {
            return n;
        }
        put(volume, n).unwrap();
        while store.step().unwrap() {}
    }
    panic!("no segment was recycled");
}

fn assert_holds(store: &Store, count: u16) {
    let found = contents(store).unwrap();
    assert_eq!(found.len(), count as usize);
    for n in 0..count {
        assert_eq!(found[&n.to_be_bytes()[..]], [n as u8; VALUE_LEN], "{n}");
    }
}

#[test]
fn a_bounded_number_of_files_is_recycled_and_none_is_left_at_close() {
    for spare_log_segments in [0, 1, 2] {
        let disk = sim();
        let (store, volume) = open(&disk, Options { spare_log_segments, ..options() });
        for n in 0..500 {
            put(&volume, n).unwrap();
            while store.step().unwrap() {}
            let spare = files(&disk, ".log").len() - store.stats().log_segments.len();
            // One more may be obsolete, and wait for a commit after the one that said so.
            assert!(spare <= spare_log_segments + 3, "{spare} files beside the log's");
        }
        let (created, reused) = (disk.ops().get(Op::CreateLog), disk.ops().get(Op::Reuse));
        if spare_log_segments == 0 {
            assert_eq!(reused, 0);
        } else {
            assert!(reused > 10 * created, "{created} created, {reused} reused");
        }
        store.close().unwrap();
        assert_eq!(files(&disk, ".log"), [""; 0]);
        let (store, _) = open(&disk, options());
        assert_holds(&store, 500);
    }
}

/// A store that was killed so many writes after it had reused a file for the third time: its disk, how much
/// was written, and the number and the length of its last segment.
fn killed(seed: u64, more: u16) -> (Arc<SimDisk>, u16, u64, u64) {
    let disk = Arc::new(SimDisk::new(seed));
    let (store, volume) = open(&disk, options());
    let count = write_until_reused(&disk, &store, &volume, 3);
    (count..count + more).for_each(|n| _ = put(&volume, n).unwrap());
    let last = store.stats().log_segments.pop().unwrap();
    (kill(&disk), count + more, last.number, last.bytes)
}

#[test]
fn records_of_an_earlier_life_end_the_log() {
    let mut followed = 0;
    for more in 0..10 {
        let (disk, count, last, len) = killed(1, more);
        let found = disk.read_file(&log::file_name(last)).unwrap();
        followed += u32::from(found.len() as u64 > len);
        let (store, _) = open(&disk, options());
        assert_holds(&store, count);
        assert_no_leaks(&disk, &store, "after a kill");
    }
    assert!(followed > 5, "too seldom did an old record stand behind the end");
}

#[test]
fn an_old_record_that_would_fit_is_not_taken_whatever_it_says() {
    let (disk, count, last, len) = killed(1, 3);
    let names = files(&disk, "");
    let store = manifest::read(&*disk, &names).unwrap().unwrap().store;
    for (file, taken) in [(last - 1, false), (last - 3, false), (last + 1, false), (last, true)] {
        let disk = Arc::new(disk.crash_keep_all());
        // The next sequence number, and a witness that all of the log is durable.
        let payload =
            [&[0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 100, 0][..], &count.to_be_bytes(), &[count as u8; 100]];
        let mut record = vec![0; HEADER_LEN];
        payload.iter().for_each(|part| record.extend_from_slice(part));
        let payload_len = (record.len() - HEADER_LEN) as u32;
        let first_seq = u64::from(count) + 1;
        let synced = if taken { 0 } else { 1 << 40 };
        let header = Header { kind: RecordKind::Batch, payload_len, file, first_seq, synced };
        header.fill(&log::framing(store), &mut record);
        let name = log::file_name(last);
        let mut bytes = disk.read_file(&name).unwrap();
        let end = (len as usize + record.len()).max(bytes.len());
        bytes.resize(end, 0);
        bytes[len as usize..len as usize + record.len()].copy_from_slice(&record);
        disk.write_file(&name, &bytes).unwrap();
        let (store, _) = open(&disk, options());
        assert_holds(&store, count + u16::from(taken));
    }
}

#[test]
fn damage_in_a_recycled_segment_that_is_not_the_last_is_noticed() {
    let (disk, _, last, _) = killed(1, 3 * RECORDS_PER_SEGMENT as u16);
    disk.flip_bit(&log::file_name(last - 1), 300, 1).unwrap();
    // Not synced, as far as the log says: it ends there, and the successor is not read.
    let (store, _) = open(&disk, options());
    let found = contents(&store).unwrap();
    assert_holds(&store, found.len() as u16);
    assert_eq!(files(&disk, ".log").last(), Some(&log::file_name(last - 1)));
}

/// What may fail while a file is recycled: the store goes on, or is read-only, and loses nothing.
#[test]
fn a_failure_while_a_file_is_recycled_loses_nothing() {
    let ops =
        [Op::Reuse, Op::Write, Op::Sync, Op::Truncate, Op::SyncDir, Op::Delete, Op::CreateLog, Op::Space];
    for (op, error) in ops.into_iter().flat_map(|op| [(op, libc::EIO), (op, libc::ENOSPC)]) {
        for after in 0..12 {
            let context = format!("{op:?}, {error}, after {after}");
            let disk = sim();
            let (store, volume) = open(&disk, options());
            let mut count = write_until_reused(&disk, &store, &volume, 2);
            disk.fail(Fault::new(op, error).after(after));
            for _ in 0..5 * RECORDS_PER_SEGMENT {
                count += u16::from(put(&volume, count).is_ok());
                let _ = store.sync();
                while store.step().is_ok_and(|worked| worked) {}
            }
            assert_holds(&store, count);
            let disk = kill(&disk);
            drop((store, volume));
            let (store, _) = open(&disk, options());
            let found = contents(&store).unwrap().len() as u16;
            assert!(found == count || found == count + 1, "{context}: {found} of {count}");
            assert_holds(&store, found);
            assert_no_leaks(&disk, &store, &context);
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_while_files_are_recycled_keeps_what_was_synced() {
    let work = |disk: &Arc<SimDisk>| -> (u16, u16) {
        let (mut written, mut synced) = (0, 0);
        let Ok(store) = Store::open(disk.clone(), options()) else { return (0, 0) };
        let volume = store.volume("main").unwrap();
        for n in 0..7 * RECORDS_PER_SEGMENT as u16 {
            if put(&volume, n).is_err() {
                break;
            }
            written = n + 1;
            if n % 5 == 4 && store.sync().is_ok() {
                synced = written;
            }
            while store.step().is_ok_and(|worked| worked) {}
        }
        (written, synced)
    };
    for seed in 0..4 {
        let whole = Arc::new(SimDisk::new(seed));
        work(&whole);
        assert!(whole.ops().get(Op::Reuse) > 2);
        for at in 1..=whole.ops().changes() {
            let disk = Arc::new(SimDisk::new(seed));
            disk.crash_at_op(at);
            let (written, synced) = work(&disk);
            for (found, kept) in [(cut_power(&disk), synced), (kill(&disk), written)] {
                let context = format!("seed {seed}, operation {at}");
                let store =
                    Store::open(found.clone(), options()).unwrap_or_else(|e| panic!("{context}: {e}"));
                let count = contents(&store).unwrap().len() as u16;
                assert!(count >= kept, "{context}: {count}, and {kept} were durable");
                assert_holds(&store, count);
                assert_no_leaks(&found, &store, &context);
            }
        }
    }
}

#[test]
fn a_full_disk_gets_the_spare_files_back() {
    let disk = sim();
    let (store, volume) = open(&disk, Options { memtable_size: 1 << 20, ..options() });
    let beside = || files(&disk, ".log").len() - store.stats().log_segments.len();
    let count = 8 * RECORDS_PER_SEGMENT as u16;
    (0..count).for_each(|n| _ = put(&volume, n).unwrap());
    store.flush().unwrap();
    put(&volume, count).unwrap();
    store.flush().unwrap();
    assert_eq!(beside(), 2);
    disk.set_capacity(disk.files().iter().map(|file| file.len).sum());
    // A segment that begins in a spare file needs no room, unless it gets longer than that.
    let refused = try_put(&volume, b"long", &[0; 10_000]).unwrap_err();
    assert!(refused.is_full(), "{refused}");
    assert_eq!(beside(), 0);
    assert_holds(&store, count + 1);
    put(&volume, count + 1).unwrap();
}

/// Else each failure would cost the disk a segment's room, until the next open.
#[test]
fn a_spare_segment_that_cannot_be_renamed_is_deleted() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    let put = |n| {
        put(&volume, n).unwrap();
        while store.step().unwrap() {}
    };
    (0..100).for_each(put);
    disk.fail(Fault::new(Op::Reuse, libc::EIO).times(20));
    (100..400).for_each(put);
    let beside = files(&disk, ".log").len() - store.stats().log_segments.len();
    // Those that are spare, and those that wait for one more commit.
    assert!(beside <= 2 + 3, "{beside} files beside the log's");
    drop((store, volume));
    let (store, _volume) = open(&disk, options());
    assert_holds(&store, 400);
}
