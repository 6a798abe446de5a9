//! What no log may say.

use super::*;
use crate::disk::sim::SimDisk;
use crate::lsm::Store;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::log::record::{HEADER_LEN, Header, RecordKind, SegmentHeader};

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

/// Makes a manifest's snapshot one of an earlier version.
fn set_version(disk: &SimDisk, version: u8) -> Result<()> {
    let listed = disk.list()?;
    let name = listed.iter().map(|file| &file.name).find(|name| name.starts_with("manifest-")).unwrap();
    let mut bytes = disk.read_file(name)?;
    bytes[11] = version;
    let sum = xxhash_rust::xxh3::xxh3_64(&[&bytes[..32], &bytes[40..]].concat());
    bytes[32..40].copy_from_slice(&sum.to_be_bytes());
    Ok(disk.write_file(name, &bytes)?)
}

#[test]
fn what_an_earlier_version_wrote_is_not_counted_until_somebody_counts() -> Result<()> {
    let options = || Options { background: false, ..Options::default() };
    let disk = Arc::new(SimDisk::new(1));
    let store = Store::open(disk.clone(), options())?;
    let main = store.volume("main")?;
    let put = |volume: &crate::lsm::Volume, bytes| {
        let mut batch = crate::lsm::Batch::new();
        batch.put(b"key", b"value");
        batch.count(crate::lsm::Tally { files: 0, bytes });
        volume.write(batch).map(drop)
    };
    put(&main, 0)?;
    // Of this one the log tells, and not yet the manifest.
    store.fork(&main, "fork")?;
    let disk = Arc::new(disk.crash_keep_all());
    set_version(&disk, 3)?;
    let store = Store::open(disk.clone(), options())?;
    assert_eq!(store.volume("fork")?.tally(), None);
    let main = store.volume("main")?;
    put(&main, 5)?;
    assert_eq!(main.tally(), None);
    // Nor is there a quota as long as nobody knows.
    store.set_quota(&main, crate::lsm::Quota { files: Some(0), bytes: Some(0) })?;
    put(&main, 5)?;
    let held = crate::lsm::Tally { files: 1, bytes: 5 };
    store.correct_tally(&main, held)?;
    assert!(matches!(put(&main, 5), Err(Error::OverQuota { .. })));
    store.fork(&main, "counted")?;
    let check = |store: &Store| -> Result<()> {
        let tally = |name| store.volume(name).map(|volume| volume.tally());
        assert_eq!((tally("main")?, tally("fork")?, tally("counted")?), (Some(held), None, Some(held)));
        Ok(())
    };
    check(&store)?;
    let disk = Arc::new(disk.crash_keep_all());
    let store = Store::open(disk.clone(), options())?;
    check(&store)?;
    store.close()?;
    check(&Store::open(disk, options())?)
}
