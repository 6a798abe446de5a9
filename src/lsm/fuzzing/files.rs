//! A store that opens with a log or a manifest of any contents.

use super::STORE;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::lsm::check::{Problem, Watch};
use crate::lsm::log::record::{Framing, HEADER_LEN, Header, RecordKind, SegmentHeader};
use crate::lsm::log::{self, framing};
use crate::lsm::manifest::{self, Edit, State};
use crate::lsm::repair::repair;
use crate::lsm::{Batch, Error, Options, Store, varint};
use std::ops::Bound;
use std::sync::Arc;

/// Records that are read of each volume.
const RECORDS_MAX: usize = 1000;

/// The records of a log, to which the target adds their headers, in a store that opens with it: the kind (1)
/// and the payload, behind its length, of each.
pub(super) fn log(mut input: &[u8]) {
    let mut state = State { store: STORE, files: 10, log_start: (1, 0), ..State::default() };
    let main = Edit::Volume { id: 1, name: "main".to_string() };
    let other = Edit::Volume { id: 2, name: "other".to_string() };
    state.apply_all([main, other]).expect("two volumes");
    let disk = Arc::new(SimDisk::new(1));
    manifest::write_new(disk.as_ref(), 1, &state).expect("the disk works");
    let mut file = SegmentHeader { file: 1, base: 0 }.encode(&framing(STORE)).to_vec();
    let mut seq = 1;
    while let Some((&kind, rest)) = input.split_first() {
        input = rest;
        let Some(payload) = varint::take_prefixed(&mut input) else { break };
        // Three in four records say that what is before them was durable.
        let synced = if kind & 0xc0 == 0 { 0 } else { file.len() as u64 };
        let kind = [RecordKind::Batch, RecordKind::Edits, RecordKind::Skip][usize::from(kind) % 3];
        let count = payload.get(4..8).and_then(|n| n.try_into().ok()).map_or(1, u32::from_be_bytes);
        file.extend_from_slice(&record(&framing(STORE), 1, kind, seq, synced, payload));
        seq += if kind == RecordKind::Batch { u64::from(count) } else { 1 };
    }
    disk.write_file(&log::file_name(1), &file).expect("the name is one of a store's");
    open_or_repair(&disk);
}

fn record(
    framing: &Framing,
    file: u64,
    kind: RecordKind,
    first_seq: u64,
    synced: u64,
    payload: &[u8],
) -> Vec<u8> {
    let mut record = vec![0; HEADER_LEN];
    record.extend_from_slice(payload);
    Header { kind, payload_len: payload.len() as u32, file, first_seq, synced }.fill(framing, &mut record);
    record
}

/// A manifest: its snapshot's edits, behind their length, and records of edits, each behind its length. The
/// target adds headers and checksums.
pub(super) fn manifest(mut input: &[u8]) {
    let edits = varint::take_prefixed(&mut input).unwrap_or_default();
    let mut state = State::default();
    let applied = Edit::decode_all(edits).is_some_and(|edits| state.apply_all(edits).is_ok());
    let framing = manifest::edits_framing(&state);
    let mut log = SegmentHeader { file: 1, base: 0 }.encode(&framing).to_vec();
    while let Some(edits) = varint::take_prefixed(&mut input) {
        let synced = log.len() as u64;
        log.extend_from_slice(&record(&framing, 1, RecordKind::Edits, 0, synced, edits));
        if input.is_empty() {
            break;
        }
    }
    let disk = Arc::new(SimDisk::new(1));
    let files =
        [(manifest::snapshot_name(1), manifest::frame_snapshot(edits, 1)), (manifest::edits_name(1), log)];
    for (name, bytes) in &files {
        disk.write_file(name, bytes).expect("the name is one of a store's");
    }
    let names = files.map(|(name, _)| name);
    let read = manifest::read(disk.as_ref(), &names);
    assert!(applied || read.is_err());
    open_or_repair(&disk);
}

/// A store opens, or it is damaged and opens when it is repaired; then it can be read and written.
fn open_or_repair(disk: &Arc<SimDisk>) {
    let shared: Arc<dyn Disk> = disk.clone();
    let store = match Store::open(shared.clone(), options()) {
        Ok(store) => store,
        Err(Error::Corruption { .. }) => {
            repair(&shared, &options(), &mut Ignored).expect("a repair that the disk does not fail");
            Store::open(shared, options()).expect("a repaired store opens")
        }
        Err(error) => panic!("{error}"),
    };
    for volume in store.volumes().expect("it is open") {
        let Ok(mut scan) = volume.scan(Bound::Unbounded, Bound::Unbounded) else { continue };
        for _ in 0..RECORDS_MAX {
            if !scan.next().is_ok_and(|found| found) {
                break;
            }
            let _ = scan.tail();
        }
        if !volume.is_snapshot() {
            let mut batch = Batch::new();
            batch.put(b"key", b"value");
            let written = volume.write(batch);
            assert!(written.is_ok() || matches!(written, Err(Error::Internal(_))), "{written:?}");
        }
    }
}

fn options() -> Options {
    Options {
        memtable_size: 4 << 10,
        memtable_stall_size: 1 << 20,
        cache_size: 16 << 10,
        open_files: 8,
        background: false,
        ..Options::default()
    }
}

struct Ignored;

impl Watch for Ignored {
    fn problem(&mut self, _: Problem) {}
}
