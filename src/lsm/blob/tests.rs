//! The format: what stands in a file, byte by byte, and that nothing else passes for it.

use super::format::{check_file_header, file_header, read_stored};
use super::stored::Framed;
use super::{BlobUse, HEADER_LEN, Pointer, VALUE_HEADER_LEN, file_name, parse_file_name};
use crate::disk::sim::SimDisk;
use crate::disk::{Disk, Object};
use crate::lsm::Error;
use crate::lsm::options::Compression;
use proptest::prelude::*;
use std::sync::Arc;

const STORE: u64 = 0x0123_4567_89ab_cdef;
const FILE: u64 = 9;

/// A file with a value that stays as it is, and one that lz4 shrinks.
fn build() -> (Vec<u8>, Vec<Pointer>) {
    let mut framed = Framed::default();
    framed.add(b"a value", Compression::Lz4);
    framed.add(&[b'z'; 100], Compression::Lz4);
    let mut file = file_header(FILE, STORE).to_vec();
    let (bytes, pointers) = framed.place(FILE, HEADER_LEN as u64);
    file.extend_from_slice(bytes);
    (file, pointers)
}

/// The same file as the first version wrote it.
const GOLDEN: &str = "6c736d6673626c620000000100000000000000000000000900000000000000009cc42a32bf98599b132e62333a351b880000000700000000612076616c75651ccb61520d05a9260000000f01000000640000001f7a01004b507a7a7a7a7a";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn object(bytes: &[u8]) -> Arc<dyn Object> {
    let disk = SimDisk::new(1);
    disk.write_file("f", bytes).unwrap();
    disk.open("f").unwrap()
}

#[test]
fn a_file_is_as_the_first_version_wrote_it_and_reads_back() {
    let (file, pointers) = build();
    assert_eq!(hex(&file), GOLDEN);
    let object = object(&file);
    check_file_header(&*object, FILE, STORE).unwrap();
    let values: Vec<_> =
        pointers.iter().map(|p| read_stored(&*object, p).unwrap().contents().unwrap()).collect();
    assert_eq!(values, [b"a value".as_slice(), &[b'z'; 100]]);
    assert_eq!(pointers[1].end(), file.len() as u64);
    assert!(pointers[1].framed_len() < VALUE_HEADER_LEN + 50, "it was compressed");
}

#[test]
fn a_header_of_another_file_store_or_version_is_refused() {
    let header = file_header(FILE, STORE);
    for (file, store) in [(FILE + 1, STORE), (FILE, STORE + 1)] {
        let refused = check_file_header(&*object(&header), file, store).unwrap_err();
        assert!(matches!(refused, Error::Corruption { .. }), "{refused}");
    }
    let mut newer = header;
    newer[11] = 2;
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&newer[..32], STORE).to_be_bytes();
    newer[32..].copy_from_slice(&sum);
    let refused = check_file_header(&*object(&newer), FILE, STORE).unwrap_err();
    assert!(matches!(refused, Error::NewerFormat { found: 2, .. }), "{refused}");
}

#[test]
fn a_value_at_another_place_is_not_the_one_pointed_to() {
    let (file, pointers) = build();
    let moved = object(&[&file[..], &file[HEADER_LEN..]].concat());
    let shift = (file.len() - HEADER_LEN) as u64;
    for pointer in pointers {
        let there = Pointer { offset: pointer.offset + shift, ..pointer };
        assert!(matches!(read_stored(&*moved, &there), Err(Error::Corruption { .. })));
        let elsewhere = Pointer { file: FILE + 1, ..pointer };
        assert!(matches!(read_stored(&*moved, &elsewhere), Err(Error::Corruption { .. })));
        let other = Pointer { checksum: pointer.checksum ^ 1, ..pointer };
        assert!(matches!(read_stored(&*moved, &other), Err(Error::Corruption { .. })));
    }
}

#[test]
fn names_have_numbers() {
    assert_eq!(parse_file_name(&file_name(7)), Some(7));
    assert_eq!(["7.blob", "000007.sst", "000007.blob.x"].map(parse_file_name), [None; 3]);
}

#[test]
fn uses_add_up_by_file() {
    let mut uses = Vec::new();
    for (file, offset) in [(3, 100), (1, 40), (3, 60)] {
        BlobUse::add(&mut uses, &Pointer { file, offset, len: 4, checksum: 0 }, file == 3);
    }
    assert_eq!(
        uses,
        [
            BlobUse { file: 1, bytes: 20, end: 60, newer: 0 },
            BlobUse { file: 3, bytes: 40, end: 120, newer: 40 }
        ]
    );
    let mut encoded = Vec::new();
    uses[1].encode(&mut encoded);
    assert_eq!(BlobUse::decode(&mut encoded.as_slice()), Some(BlobUse { newer: 0, ..uses[1] }));
}

proptest! {
    #[test]
    fn pointers_read_back_and_cut_ones_do_not(
        file in 0u64..1 << 50, offset in 40u64..1 << 50, len: u32, checksum: u64, more: u8,
    ) {
        let pointer = Pointer { file, offset, len, checksum };
        let mut encoded = Vec::new();
        pointer.encode(&mut encoded);
        for cut in 0..encoded.len() {
            prop_assert_eq!(Pointer::decode(&encoded[..cut]), None);
        }
        prop_assert_eq!(Pointer::decode(&encoded), Some(pointer));
        encoded.push(more);
        prop_assert_eq!(Pointer::decode(&encoded), None);
    }

    #[test]
    fn garbage_is_no_pointer_and_does_not_panic(bytes: Vec<u8>) {
        if let Some(pointer) = Pointer::decode(&bytes) {
            pointer.end();
            pointer.framed_len();
        }
    }

    #[test]
    fn values_of_all_sizes_read_back(
        lens in proptest::collection::vec(0usize..20_000, 1..5), squeezes: bool,
    ) {
        let value = |len: usize| -> Vec<u8> {
            let noise = |at: usize| xxhash_rust::xxh3::xxh3_64(&at.to_le_bytes()) as u8;
            (0..len).map(|at| if squeezes { at as u8 / 16 } else { noise(at) }).collect()
        };
        let mut framed = Framed::default();
        lens.iter().for_each(|len| framed.add(&value(*len), Compression::Zstd));
        let mut file = file_header(FILE, STORE).to_vec();
        let (bytes, pointers) = framed.place(FILE, HEADER_LEN as u64);
        file.extend_from_slice(bytes);
        let object = object(&file);
        for (pointer, len) in pointers.iter().zip(&lens) {
            prop_assert_eq!(read_stored(&*object, pointer).unwrap().contents().unwrap(), value(*len));
        }
    }
}
