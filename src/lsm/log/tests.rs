//! The log on a disk that fails.

use super::reader::SegmentReader;
use super::*;
use crate::disk::sim::{Fault, Op, SimDisk};

fn record(seq: SeqNo, payload: &[u8]) -> PendingRecord {
    let mut bytes = BytesMut::zeroed(HEADER_LEN);
    bytes.extend_from_slice(payload);
    PendingRecord { bytes, first_seq: seq, last_seq: seq }
}

/// The sequence numbers in the first segment.
fn logged(disk: &SimDisk) -> Vec<SeqNo> {
    let bytes = disk.read_file(&file_name(1)).unwrap().into();
    let reader = SegmentReader::new(bytes, MAGIC, "f", 1, Some(0)).unwrap().unwrap();
    reader.map(|record| record.header.first_seq).collect()
}

#[test]
fn a_group_that_failed_does_not_come_back_in_place_of_a_later_one() {
    for seed in 0..300 {
        let disk = Arc::new(SimDisk::new(seed));
        let log = Log::new(disk.clone(), 1 << 20, vec![], 1, 0, ReadOnly::default());
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
        let log = Log::new(disk.clone(), 1 << 20, vec![], 1, 0, ReadOnly::default());
        log.append(&mut [record(1, b"a")]).unwrap();
        disk.fail(Fault::new(Op::Write, libc::ENOSPC).on(".log"));
        disk.fail(Fault::new(op, libc::EIO).on(".log"));
        assert!(log.append(&mut [record(2, b"b")]).unwrap_err().is_full());
        assert!(matches!(log.append(&mut [record(3, b"c")]), Err(Error::ReadOnly(_))), "{op:?}");
        assert_eq!(log.sync().is_ok(), op == Op::Truncate, "a failed sync is never tried again");
    }
}
