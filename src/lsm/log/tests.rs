//! The log on a disk that fails.

use super::reader::SegmentReader;
use super::record::SEGMENT_HEADER_LEN;
use super::*;
use crate::disk::sim::{Fault, Op, SimDisk};

const STORE: u64 = 42;

fn record(seq: SeqNo, payload: &[u8]) -> PendingRecord {
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(payload);
    PendingRecord { kind: RecordKind::Batch, bytes, first_seq: seq, last_seq: seq }
}

fn log(disk: &Arc<SimDisk>) -> Log {
    let resume = Resume { next_number: 1, ..Resume::default() };
    let options = Options { log_segment_size: 1 << 20, ..Options::default() };
    Log::new(disk.clone(), STORE, &options, resume, ReadOnly::default())
}

/// The sequence numbers in the first segment.
fn logged(disk: &SimDisk) -> Vec<SeqNo> {
    let bytes = disk.read_file(&file_name(1)).unwrap().into();
    let reader = SegmentReader::new(bytes, framing(STORE), "f", 1, Some(0)).unwrap().unwrap();
    reader.map(|record| record.header.first_seq).collect()
}

#[test]
fn a_group_that_failed_does_not_come_back_in_place_of_a_later_one() {
    for seed in 0..300 {
        let disk = Arc::new(SimDisk::new(seed));
        let log = log(&disk);
        log.append(&mut [record(1, &[0; 1500])]).unwrap();
        log.sync().unwrap();
        disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".log").short());
        log.append(&mut [record(2, &[1; 1500]), record(3, &[2; 1500])]).unwrap_err();
        log.append(&mut [record(4, &[3; 1500])]).unwrap();
        let found = logged(&disk.crash());
        assert!(found == [1] || found == [1, 4], "seed {seed}: {found:?}");
    }
}

#[test]
fn a_group_that_cannot_be_cut_off_again_ends_the_log() {
    for op in [Op::Truncate, Op::Sync] {
        let disk = Arc::new(SimDisk::new(1));
        let log = log(&disk);
        log.append(&mut [record(1, b"a")]).unwrap();
        disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".log"));
        disk.fail(Fault::new(op, libc::EIO).on(".log"));
        assert!(log.append(&mut [record(2, b"b")]).unwrap_err().is_full());
        assert!(matches!(log.append(&mut [record(3, b"c")]), Err(Error::ReadOnly(_))), "{op:?}");
        assert_eq!(log.sync().is_ok(), op == Op::Truncate, "a failed sync is never tried again");
    }
}

#[test]
fn a_witness_tells_damage_of_the_last_synced_record_from_a_torn_one() {
    let synced_after = |log: &Log, disk: &SimDisk| {
        let mut bytes = disk.read_file(&file_name(1)).unwrap();
        bytes[SEGMENT_HEADER_LEN + HEADER_LEN] ^= 1;
        let mut reader = SegmentReader::new(bytes.into(), log.framing, "f", 1, Some(0)).unwrap().unwrap();
        assert!(reader.next().is_none());
        reader.synced_after()
    };
    let disk = Arc::new(SimDisk::new(1));
    let log = log(&disk);
    log.witness().unwrap();
    log.append(&mut [record(1, b"a")]).unwrap();
    log.witness().unwrap();
    assert_eq!(log.segments()[0].len, log.synced() + 81, "what is not synced gets no witness");
    log.sync().unwrap();
    let data_end = log.synced();
    assert_eq!(synced_after(&log, &disk), Some(0), "it says so itself");
    log.witness().unwrap();
    assert_eq!(synced_after(&log, &disk), Some(data_end));
    log.sync().unwrap();
    log.witness().unwrap();
    assert_eq!(log.segments()[0].len, data_end + HEADER_LEN as u64, "one witness is enough");
    log.append(&mut [record(2, b"b")]).unwrap();
    assert_eq!(logged(&disk), [1, 0, 2]);
}

#[test]
fn a_new_segment_has_its_blocks_before_its_records() {
    let disk = Arc::new(SimDisk::new(1));
    let log = log(&disk);
    let file_len = || disk.read_file(&file_name(1)).unwrap().len();
    let mut lens = Vec::new();
    for seq in 1..=100 {
        log.append(&mut [record(seq, &[7; 1000])]).unwrap();
        log.sync().unwrap();
        lens.push(file_len());
    }
    assert!(lens.iter().all(|len| *len == lens[0]), "the file grew: {lens:?}");
    assert_eq!(logged(&disk), (1..=100).collect::<Vec<_>>());
    // Beyond what was prepared it grows once more, and no further than a segment does.
    for seq in 101..=1100 {
        log.append(&mut [record(seq, &[7; 1000])]).unwrap();
        log.sync().unwrap();
    }
    assert!(file_len() < (1 << 20) + 2000);
    let after_crash = disk.crash();
    let (first, second) = (logged(&after_crash), after_crash.read_file(&file_name(2)).unwrap());
    assert!(first.len() > 900 && first.iter().copied().eq(1..=first.len() as u64));
    assert!(!second.is_empty());
}

#[test]
fn a_segment_that_cannot_be_prepared_is_synced_all_the_same() {
    let disk = Arc::new(SimDisk::new(1));
    let log = log(&disk);
    log.append(&mut [record(1, b"a")]).unwrap();
    disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".log").short());
    log.sync().unwrap();
    log.append(&mut [record(2, b"b")]).unwrap();
    log.sync().unwrap();
    assert_eq!(logged(&disk.crash()), [1, 2]);
}
