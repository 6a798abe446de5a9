//! What fuzzing puts into blob files and pointers to them (see [`crate::fuzzing`]).

use super::format::seal;
use super::{BlobReader, BlobUse, Pointer, VALUE_HEADER_LEN, check_file_header, file_header, file_name};
use crate::disk::sim::SimDisk;
use crate::fuzzing::Target;
use crate::lsm::cache::BlockCache;
use crate::lsm::fuzzing::{Memory, STORE};
use crate::lsm::table::compress::Codec;
use bytes::Bytes;
use std::sync::Arc;

pub(crate) const TARGETS: &[(&str, Target)] = &[("pointer", pointer), ("blob", blob)];

const NUMBER: u64 = 1;

/// A blob file's only value: its compression, then its stored bytes.
fn blob(input: &[u8]) {
    let Some((&codec, stored)) = input.split_first() else { return };
    let stated = stored.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    let Some(codec) = Codec::from_u8(codec).filter(|codec| *codec == Codec::Raw || stated <= 1 << 20) else {
        return;
    };
    let mut file = file_header(NUMBER, STORE).to_vec();
    let len = stored.len() as u32;
    let mut pointer = Pointer { file: NUMBER, offset: file.len() as u64, len, checksum: 0 };
    let mut value = vec![0; VALUE_HEADER_LEN];
    value.extend_from_slice(stored);
    seal(&mut pointer, codec, &mut value);
    file.extend_from_slice(&value);
    let disk = SimDisk::new(1);
    disk.write_file(&file_name(NUMBER), &file).expect("the name is one of a store's");
    let reader = BlobReader::new(Arc::new(disk), Arc::new(BlockCache::new(0)), STORE, 1);
    let mut tail = Vec::new();
    pointer.encode(&mut tail);
    let loaded = reader.load_uncached(&tail);
    assert!(loaded.is_ok() || codec != Codec::Raw);
    // As it stands, without checksums that are right.
    let object = Memory(Bytes::copy_from_slice(input));
    let _ = check_file_header(&object, NUMBER, STORE);
}

/// Blob pointers, and what tables say of them.
fn pointer(input: &[u8]) {
    if let Some(pointer) = Pointer::decode(input) {
        let mut encoded = Vec::new();
        pointer.encode(&mut encoded);
        assert_eq!(Pointer::decode(&encoded), Some(pointer));
        assert!(pointer.end() > pointer.offset);
    }
    if let Some(used) = BlobUse::decode(&mut &input[..]) {
        let mut encoded = Vec::new();
        used.encode(&mut encoded);
        assert_eq!(BlobUse::decode(&mut &encoded[..]), Some(used));
    }
}
