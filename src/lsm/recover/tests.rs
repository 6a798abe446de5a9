//! What no log may say.

use super::*;
use crate::disk::sim::SimDisk;
use crate::lsm::Store;
use crate::lsm::log::record::{HEADER_LEN, Header, SegmentHeader};

/// Opens a store whose log is one record of two writes, the first with this sequence number.
fn open_with_record(first_seq: SeqNo) -> Result<Store> {
    let disk = Arc::new(SimDisk::new(1));
    let options = Options { background: false, ..Options::default() };
    drop(Store::open(disk.clone(), options.clone())?);
    let names: Vec<String> = disk.list()?.into_iter().map(|listed| listed.name).collect();
    let store = manifest::read(&*disk, &names)?.map_or(0, |state| state.store);
    let framing = log::framing(store);
    let mut record = vec![0; HEADER_LEN];
    record.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b']);
    let payload_len = (record.len() - HEADER_LEN) as u32;
    let header = Header { kind: RecordKind::Batch, payload_len, file: 1, first_seq, synced: 0 };
    header.fill(&framing, &mut record);
    let header = SegmentHeader { file: 1, base: 0 }.encode(&framing);
    disk.write_file(&log::file_name(1), &[&header[..], &record].concat())?;
    Store::open(disk, options)
}

#[test]
fn sequence_numbers_that_cannot_be_are_damage() {
    for first_seq in [0, MAX_SEQ, MAX_SEQ + 1, u64::MAX] {
        let refused = open_with_record(first_seq).unwrap_err();
        assert!(matches!(refused, Error::Corruption { .. }), "{first_seq}: {refused}");
    }
    let store = open_with_record(MAX_SEQ - 1).unwrap();
    let mut batch = crate::lsm::Batch::new();
    batch.put(b"c", b"");
    let refused = store.volume("main").unwrap().write(batch).unwrap_err();
    assert!(matches!(refused, Error::NoSequenceNumbers), "{refused}");
}
