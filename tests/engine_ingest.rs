//! Ingestion: what it installs, where, and that it is all or nothing.

mod engine_common;

use engine_common::{Rng, assert_no_leaks, contents, cut_power, files, kill, open, sim, stepped, try_put};
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::ingest::Ingested;
use lsmfs::lsm::{Error, Options, Store, Volume};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    Options { table_size: 2000, blob_min: 1000, ..stepped() }
}

fn key(first: u8, n: u64) -> Vec<u8> {
    [&[first], &n.to_be_bytes()[..]].concat()
}

/// Ingests some records under `s…` in a random order, and under `a…` in theirs.
fn ingest(volume: &Volume, seed: u64, memory: usize) -> Result<(Ingested, Contents), Error> {
    let mut rng = Rng(seed);
    let mut wanted = Contents::new();
    let mut ingest = volume.ingest(memory, volume.visible_seq())?;
    for fence in [b"a", b"b", b"s", b"t"] {
        ingest.fence(fence);
    }
    for n in 0..200 {
        let sorted = key(b's', rng.below(100));
        if rng.below(6) == 0 {
            ingest.delete(&sorted)?;
            wanted.remove(&sorted);
        } else {
            let head = vec![n as u8; rng.below(100) as usize];
            ingest.put(&sorted, &head, b"")?;
            wanted.insert(sorted.clone(), head);
        }
        assert_eq!(ingest.get(&sorted)?.map(|value| value.head.to_vec()), wanted.get(&sorted).cloned());
        let (appended, head) = (key(b'a', n), vec![n as u8; 20]);
        ingest.append(&appended, &head, &vec![7; (rng.below(2) * 3000) as usize])?;
        wanted.insert(appended, head);
    }
    let mut diverted = Contents::new();
    let ingested = ingest.finish(&mut |key, head, _| {
        let taken = key == [&b"s"[..], &7u64.to_be_bytes()].concat();
        if taken {
            diverted.insert(key.to_vec(), head.to_vec());
        }
        Ok(taken)
    })?;
    for (key, head) in diverted {
        assert_eq!(wanted.remove(&key), Some(head));
    }
    Ok((ingested, wanted))
}

/// A store with other keys in the memtable, in L0 and below.
fn prepare(disk: &Arc<SimDisk>) -> (Store, Arc<Volume>) {
    let (store, volume) = open(disk, options());
    for n in 0..20u8 {
        try_put(&volume, &[b'A', n], &[n; 300]).unwrap();
        try_put(&volume, &[b'z', n], &[n; 300]).unwrap();
    }
    store.compact().unwrap();
    try_put(&volume, b"B", b"in L0").unwrap();
    try_put(&volume, b"y", b"in L0").unwrap();
    store.flush().unwrap();
    try_put(&volume, b"C", b"in memory").unwrap();
    try_put(&volume, b"x", b"in memory").unwrap();
    (store, volume)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_ingested_is_there_whatever_the_memory(seed: u64, memory in prop_oneof![Just(1usize), 500..20_000usize]) {
        let disk = sim();
        let (store, volume) = prepare(&disk);
        let mut wanted = contents(&store).unwrap();
        let before = volume.snapshot();
        let fork = store.fork(&volume, "fork").unwrap();
        let (ingested, added) = ingest(&volume, seed, memory).unwrap();
        prop_assert_eq!(ingested.records, added.len() as u64);
        wanted.extend(added);
        prop_assert_eq!(&contents(&store).unwrap(), &wanted);
        for key in wanted.keys().filter(|key| matches!(key[0], b'a' | b's')) {
            prop_assert!(fork.get(key).unwrap().is_none(), "a fork made before does not have it");
        }
        drop((before, fork));
        // Compactions and later writes take it as any other data.
        let mut batch = lsmfs::lsm::Batch::new();
        batch.delete_range(b"s", b"t");
        batch.put(&key(b'a', 3), b"new");
        volume.write(batch).unwrap();
        wanted.retain(|key, _| key[0] != b's');
        wanted.insert(key(b'a', 3), b"new".to_vec());
        for _ in 0..2 {
            prop_assert_eq!(&contents(&store).unwrap(), &wanted);
            store.compact().unwrap();
        }
        store.delete_volume("fork").unwrap();
        store.compact().unwrap();
        drop((volume, store));
        let disk = kill(&disk);
        let (store, _) = open(&disk, options());
        assert_no_leaks(&disk, &store, "after all");
        prop_assert_eq!(&contents(&store).unwrap(), &wanted);
    }
}

#[test]
fn tables_go_to_the_deepest_level_and_stop_at_fences() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    ingest(&volume, 1, 5000).unwrap();
    let stats = store.stats();
    let levels = &stats.volumes[0].levels;
    assert!(levels[..levels.len() - 1].iter().all(|level| level.is_empty()), "{levels:?}");
    let deepest = levels.last().unwrap();
    assert!(deepest.len() > 3);
    assert!(deepest.iter().all(|table| table.smallest[..1] == table.largest[..1]), "{deepest:?}");
    assert!(!stats.blobs.files.is_empty(), "large tails stand apart");
    assert_no_leaks(&disk, &store, "runs are deleted");
}

#[test]
fn keys_that_are_not_fresh_are_refused() {
    let disk = sim();
    let (store, volume) = open(&disk, options());
    try_put(&volume, &key(b's', 50), b"old").unwrap();
    let before = contents(&store).unwrap();
    for flushed in [false, true] {
        let refused = ingest(&volume, 1, 5000);
        assert!(matches!(refused, Err(Error::Internal(_))), "{refused:?}");
        assert_eq!(contents(&store).unwrap(), before);
        if !flushed {
            store.flush().unwrap();
        }
    }
    store.compact().unwrap();
    assert!(files(&disk, ".blob").is_empty() && files(&disk, ".sst").len() == 1, "refused, and cleaned up");
    let snapshot = store.create_snapshot(&volume, "s").unwrap();
    assert!(matches!(snapshot.ingest(1, 1), Err(Error::IsSnapshot(_))));
}

#[test]
fn an_ingestion_that_fails_leaves_nothing() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Name, Op::SyncDir] {
        for after in 0..60 {
            let disk = sim();
            let (store, volume) = prepare(&disk);
            let before = contents(&store).unwrap();
            disk.fail(Fault::new(op, libc::EIO).after(after));
            let done = ingest(&volume, 5, 3000);
            disk.clear_faults();
            if done.is_ok() {
                break;
            }
            assert_eq!(contents(&store).unwrap(), before, "{op:?} {after}");
            drop((volume, store));
            let disk = kill(&disk);
            let (store, volume) = open(&disk, options());
            let found = contents(&store).unwrap();
            // A failure in the last step may leave open whether the edit is there.
            assert!(found == before || found.len() > before.len() + 200, "{op:?} {after}");
            let _ = ingest(&volume, 5, 3000);
            drop((volume, store));
            let (store, _) = open(&disk, options());
            assert_no_leaks(&disk, &store, &format!("{op:?} {after}"));
        }
    }
}

/// A power cut at the nth operation of the disk, for every n: all of it is there or nothing.
#[test]
fn a_power_cut_leaves_all_or_nothing() {
    let (before, after, changes) = {
        let disk = sim();
        let (store, volume) = prepare(&disk);
        store.sync().unwrap();
        let (before, start) = (contents(&store).unwrap(), disk.ops().changes());
        ingest(&volume, 5, 3000).unwrap();
        (before, contents(&store).unwrap(), disk.ops().changes() - start)
    };
    let mut seen = [0, 0];
    for at in 1..=changes + 1 {
        let disk = sim();
        let (store, volume) = prepare(&disk);
        store.sync().unwrap();
        disk.crash_at_op(disk.ops().changes() + at);
        let done = ingest(&volume, 5, 3000).is_ok();
        drop((volume, store));
        let disk = cut_power(&disk);
        let (store, _) = open(&disk, options());
        let found = contents(&store).unwrap();
        assert!(found == before || found == after, "operation {at}");
        assert!(!done || found == after, "operation {at}: it was answered");
        seen[usize::from(found == after)] += 1;
        assert_no_leaks(&disk, &store, &format!("operation {at}"));
    }
    assert!(seen[0] > 20 && seen[1] > 0, "{seen:?}");
}
