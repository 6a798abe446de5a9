//! Seeds from a real store.

use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::lsm::key::{KeyRef, Kind};
use crate::lsm::log::record::{HEADER_LEN, Header, RecordKind, SEGMENT_HEADER_LEN};
use crate::lsm::options::Compression;
use crate::lsm::table::fuzzing::{NUMBER, take_apart};
use crate::lsm::table::{TableBuilder, TableOptions, file_name};
use crate::lsm::{Batch, Options, Store, varint};
use std::sync::Arc;

type Seed = (&'static str, &'static str, Vec<u8>);

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = of_tables();
    seeds.extend(of_a_store());
    let mut patch = Vec::new();
    [&b"0123456789"[..], &[12, 2, 0, 2, 9, 3], b"ab.c."]
        .iter()
        .for_each(|p| varint::put_prefixed(&mut patch, p));
    seeds.push(("patch", "two-parts", patch));
    seeds
}

fn build(options: &TableOptions) -> Vec<u8> {
    let disk = SimDisk::new(1);
    let object = disk.create(&file_name(NUMBER)).unwrap();
    let mut builder = TableBuilder::new(object, NUMBER, options).unwrap();
    for i in 0..40u64 {
        let user = format!("key{:02}", i / 2);
        let (kind, head, tail) = match i % 8 {
            0 => (Kind::Put, &b"head"[..], vec![i as u8; 70]),
            2 => (Kind::Tombstone, &b""[..], Vec::new()),
            4 => (Kind::RangeTombstone, &b"key22"[..], Vec::new()),
            6 => (Kind::Patch, &[9, 1, 0, 2][..], b"ab".to_vec()),
            7 => (Kind::HeadPatch, &b"hd"[..], vec![0, 9, 2, 2, b'a', b'b']),
            _ => (Kind::FirstPut, &b"h"[..], vec![7; 10]),
        };
        builder.add(KeyRef::new(user.as_bytes(), 100 - i, kind), head, &tail).unwrap();
    }
    builder.finish().unwrap();
    disk.read_file(&file_name(NUMBER)).unwrap()
}

/// Tables taken apart, and each of their blocks.
fn of_tables() -> Vec<Seed> {
    let plain = TableOptions {
        block_size: 200,
        compression: Compression::None,
        value_threshold: 50,
        prefix: None,
        filter_bits_per_key: 10,
        store: super::STORE,
        homes: Vec::new(),
        replaces: Vec::new(),
        split: 0,
    };
    let table = take_apart(&build(&plain).into());
    let lz4 = TableOptions { compression: Compression::Lz4, block_size: 4000, ..plain.clone() };
    let zstd = TableOptions { compression: Compression::Zstd, block_size: 4000, ..plain };
    let mut seeds = vec![
        ("table", "plain", table.clone()),
        ("table", "lz4", take_apart(&build(&lz4).into())),
        ("table", "zstd", take_apart(&build(&zstd).into())),
    ];
    let (list, mut contents) = table[1..].split_at(4 * usize::from(table[0]));
    for entry in list.chunks_exact(4) {
        let len = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
        let block = contents.split_off(..len).unwrap().to_vec();
        let (target, name) = match entry[2] {
            1 => ("block", "data"),
            2 => ("index", "partition"),
            3 => ("index", "top"),
            4 => ("filter", "keys"),
            6 => ("meta", "properties"),
            7 => ("meta", "ranges"),
            _ => continue,
        };
        seeds.push((target, name, block));
    }
    for (name, compression) in [("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        let mut compressor = crate::lsm::table::compress::Compressor::new(compression);
        let contents = b"some contents that repeat, some contents that repeat".repeat(4);
        let (codec, stored) = compressor.compress(&contents);
        seeds.push(("compressed", name, [&[codec as u8], stored].concat()));
        seeds.push(("blob", name, [&[codec as u8], stored].concat()));
    }
    seeds
}

/// The log, its records, and the manifest of a store with forks, snapshots and blob files.
fn of_a_store() -> Vec<Seed> {
    let disk = Arc::new(SimDisk::new(1));
    let options = Options { background: false, blob_min: 200, memtable_size: 2000, ..Options::default() };
    let store = Store::open(disk.clone(), options).unwrap();
    let volume = store.volume("main").unwrap();
    for round in 0..6u8 {
        let mut batch = Batch::new();
        batch.put(&[b'a', round], b"value");
        batch.put_split(&[b'b', round], b"head", &vec![round; 60 * usize::from(round)]);
        batch.patch(b"c", 9, &[(2, b"patch")]);
        batch.delete(b"a\x01");
        batch.delete_range(b"b\x02", b"b\x03");
        volume.write(batch).unwrap();
        match round {
            1 => drop(store.fork(&volume, "fork").unwrap()),
            2 => store.flush().unwrap(),
            3 => drop(store.create_snapshot(&volume, "then").unwrap()),
            4 => store.delete_volume("fork").unwrap(),
            _ => store.sync().unwrap(),
        }
    }
    let of_kind = |suffix: &str| {
        let name = disk.list().unwrap().into_iter().map(|f| f.name).find(|n| n.contains(suffix)).unwrap();
        disk.read_file(&name).unwrap()
    };
    let segment = of_kind(".log");
    let (mut log, mut payloads) = (Vec::new(), Vec::new());
    for (kind, payload) in records(&segment) {
        log.push(match kind {
            RecordKind::Batch => 0x40 + 2,
            RecordKind::Edits => 0x40,
            RecordKind::Skip => 0x40 + 1,
        });
        varint::put_prefixed(&mut log, &payload);
        payloads.push((kind, payload));
    }
    let snapshot = of_kind("manifest-")[40..].to_vec();
    let mut manifest = Vec::new();
    varint::put_prefixed(&mut manifest, &snapshot);
    let mut seeds =
        vec![("segment", "session", segment), ("log", "session", log), ("edits", "snapshot", snapshot)];
    for (_, edits) in records(&of_kind("edits-")) {
        varint::put_prefixed(&mut manifest, &edits);
        seeds.push(("edits", "record", edits));
    }
    seeds.push(("manifest", "session", manifest));
    let batch = payloads.iter().rfind(|(kind, _)| *kind == RecordKind::Batch).unwrap().1.clone();
    let pointers = crate::lsm::blob::found::pointers_in(&batch).unwrap();
    let mut pointer = Vec::new();
    pointers[0].encode(&mut pointer);
    seeds.extend([("batch", "all-kinds", batch), ("pointer", "one", pointer)]);
    let edits = payloads.iter().find(|(kind, _)| *kind == RecordKind::Edits).unwrap().1.clone();
    seeds.push(("edits", "volumes", edits));
    seeds
}

fn records(segment: &[u8]) -> Vec<(RecordKind, Vec<u8>)> {
    let (mut at, mut records) = (SEGMENT_HEADER_LEN, Vec::new());
    while let Some((header, _)) = segment.get(at..).and_then(Header::decode_unsigned) {
        let end = at + HEADER_LEN + header.payload_len as usize;
        records.push((header.kind, segment[at + HEADER_LEN..end].to_vec()));
        at = end;
    }
    records
}
