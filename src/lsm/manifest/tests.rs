use super::*;
use crate::disk::sim::SimDisk;
use crate::lsm::lineage::{Lineage, own_after};

/// Writes a state as a generation of a version.
fn write(disk: &SimDisk, state: &State, version: u32) {
    let mut bytes = encode_snapshot(state, 1);
    bytes[8..12].copy_from_slice(&version.to_be_bytes());
    let sum = snapshot_checksum(&bytes[..32], &bytes[SNAPSHOT_HEADER_LEN..]);
    bytes[32..40].copy_from_slice(&sum);
    disk.write_file(&snapshot_name(1), &bytes).unwrap();
    let header = SegmentHeader { file: 1, base: 0 }.encode(&edits_framing(state));
    disk.write_file(&edits_name(1), &header).unwrap();
}

#[test]
fn of_volumes_that_an_earlier_version_forked_nothing_older_is_anybodys_own() {
    let volume = |name: &str, forked| {
        let lineage = Lineage { forked, ..Lineage::default() };
        Arc::new(VolumeState { name: name.into(), lineage, ..VolumeState::default() })
    };
    let volumes = [(1, volume("main", 0)), (2, volume("fork", 50))].into_iter().collect();
    let state = State { store: 7, absorbed: 60, volumes, ..State::default() };
    let own_after = |version| {
        let disk = SimDisk::new(1);
        write(&disk, &state, version);
        let state = read(&disk, &[snapshot_name(1), edits_name(1)]).unwrap().unwrap();
        own_after(&state.volumes.iter().map(|(id, volume)| (*id, volume.lineage)).collect::<Vec<_>>())
    };
    assert_eq!(own_after(LINEAGES - 1), [60, 60]);
    assert_eq!(own_after(LINEAGES), [0, 0], "as if neither knew of the other");
}

#[test]
fn of_a_store_of_a_later_version_nothing_is_made_up_from_what_is_readable() {
    let state = State { store: 7, ..State::default() };
    let disk = SimDisk::new(1);
    write(&disk, &state, VERSION + 1);
    disk.write_file(&copy::name(1), &disk.read_file(&snapshot_name(1)).unwrap()).unwrap();
    disk.flip_bit(&snapshot_name(1), SNAPSHOT_HEADER_LEN as u64, 1).unwrap();
    let known = copy::last_known(&disk, &[snapshot_name(1), edits_name(1), copy::name(1)]);
    assert!(matches!(known, Err(Error::NewerFormat { .. })), "{known:?}");
}
