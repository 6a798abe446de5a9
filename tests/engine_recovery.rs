//! Openings of a store that was left in a bad way.

mod engine_common;

use engine_common::{contents, cut_power, files, kill, open, sim, stepped, try_put};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::log::record::{HEADER_LEN, Header, RecordKind, SEGMENT_HEADER_LEN};
use lsmfs::lsm::{Error, Options, Store, log};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_table_that_is_missing_or_cut_is_noticed_at_the_open() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    store.close().unwrap();
    let table = files(&disk, ".sst")[0].clone();
    let whole = disk.read_file(&table).unwrap();
    for found in [None, Some(&whole[1..]), Some(&[&whole[..], b"more"].concat())] {
        match found {
            Some(found) => disk.write_file(&table, found).unwrap(),
            None => disk.delete(&table).unwrap(),
        }
        let refused = Store::open(disk.clone(), stepped()).unwrap_err();
        assert!(matches!(&refused, Error::Corruption { file, .. } if *file == table), "{refused}");
    }
}

#[test]
fn a_manifest_whose_edits_are_missing_is_damaged() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    store.flush().unwrap();
    let disk = kill(&disk);
    drop((store, volume));
    let edits = disk.list().unwrap().into_iter().find(|f| f.name.starts_with("edits-")).unwrap().name;
    disk.delete(&edits).unwrap();
    let refused = Store::open(disk, stepped()).unwrap_err();
    assert!(matches!(&refused, Error::Corruption { file, .. } if *file == edits), "{refused}");
}

/// Another disk with the same files.
fn as_it_is(disk: &SimDisk) -> Arc<SimDisk> {
    let other = sim();
    for file in disk.list().unwrap() {
        other.write_file(&file.name, &disk.read_file(&file.name).unwrap()).unwrap();
    }
    other
}

#[test]
fn what_the_newest_edit_made_obsolete_still_stands() {
    let disk = sim();
    let options = Options { l0_compaction_trigger: 2, ..stepped() };
    let (store, volume) = open(&disk, options.clone());
    let mut written = 0;
    for round in 0..12u8 {
        (0..20u8).for_each(|i| _ = try_put(&volume, &[i, round], &[round; 50]).unwrap());
        written += 20;
        store.flush().unwrap();
        loop {
            // The disk as it is, but for the newest edit: its record is cut off, or damaged.
            for damaged in [false, true] {
                let left = as_it_is(&disk);
                let edits = files(&left, "")
                    .into_iter()
                    .rfind(|name| name.starts_with("edits-"))
                    .expect("a manifest has edits");
                let len = left.read_file(&edits).unwrap().len() as u64;
                match damaged {
                    true => left.flip_bit(&edits, len - 1, 0).unwrap(),
                    false => left.truncate_file(&edits, len - 1).unwrap(),
                }
                let (store, _) = open(&left, options.clone());
                assert_eq!(contents(&store).unwrap().len(), written, "round {round}, {edits}");
            }
            if !store.step().unwrap() {
                break;
            }
        }
    }
    assert!(store.stats().compactions.jobs.runs > 3);
}

#[test]
fn a_power_cut_in_the_recovery_from_a_kill_leaves_a_store_that_opens() {
    for (seed, at) in (0..30).flat_map(|seed| (1..12).map(move |at| (seed, at))) {
        let disk = Arc::new(SimDisk::new(seed));
        let (store, volume) = open(&disk, stepped());
        (0..5u8).for_each(|i| _ = try_put(&volume, &[i], b"v").unwrap());
        let disk = kill(&disk);
        drop((store, volume));
        disk.crash_at_op(at);
        drop(Store::open(disk.clone(), stepped()));
        let opened = Store::open(cut_power(&disk), stepped());
        assert!(opened.is_ok(), "seed {seed}, cut at operation {at}: {opened:?}");
    }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_the_next_open() {
    for seed in 0..30 {
        let disk = Arc::new(SimDisk::new(seed));
        let (store, volume) = open(&disk, stepped());
        try_put(&volume, b"synced", b"v").unwrap();
        store.sync().unwrap();
        (0..5u8).for_each(|i| _ = try_put(&volume, &[i], &[i; 1000]).unwrap());
        disk.fail(Fault::new(Op::Sync, libc::EIO).on(".log"));
        store.sync().unwrap_err();
        let disk = kill(&disk);
        drop((store, volume));
        let (store, volume) = open(&disk, stepped());
        assert_eq!(contents(&store).unwrap().len(), 6);
        try_put(&volume, b"later", b"v").unwrap();
        store.sync().unwrap();
        let disk = cut_power(&disk);
        drop((store, volume));
        let (store, _) = open(&disk, stepped());
        assert_eq!(contents(&store).unwrap().len(), 7, "seed {seed}");
    }
}

#[test]
fn files_that_are_not_the_stores_move_to_lost() {
    let strangers = [
        "7.log",
        "+000001.log",
        "manifest-+1",
        "edits-18446744073709551615",
        "9999999.log",
        "999999.sst",
        "x",
    ];
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    let disk = kill(&disk);
    drop((store, volume));
    strangers.iter().for_each(|name| disk.write_file(name, b"not ours").unwrap());
    disk.write_file("000002.log", &[0; 100]).unwrap();
    disk.write_file("000003.log", b"lsmf").unwrap();
    let (store, _) = open(&disk, stepped());
    assert_eq!(contents(&store).unwrap().len(), 1);
    let lost: Vec<_> = disk.files().into_iter().filter(|f| f.name.starts_with("lost/")).collect();
    assert_eq!(lost.len(), strangers.len(), "{lost:?}");
    assert_eq!(files(&disk, ".log"), ["000001.log"], "what a power cut may leave of a segment is deleted");
}

#[test]
fn a_log_that_ends_before_what_a_flush_made_durable_is_damaged() {
    let disk = sim();
    let options =
        Options { memtable_size: 1000, num_memtable_limit: 1, log_segment_size: 1 << 20, ..stepped() };
    let (store, volume) = open(&disk, options);
    (0..13u8).for_each(|i| _ = try_put(&volume, &[i], &[0; 100]).unwrap());
    // Flushes the first memtable: the log goes on, with records that no table has.
    assert!(store.step().unwrap());
    let disk = kill(&disk);
    drop((store, volume));
    let log = files(&disk, ".log")[0].clone();
    disk.flip_bit(&log, 100, 1).unwrap();
    let refused = Store::open(disk, stepped()).unwrap_err();
    assert!(matches!(&refused, Error::Corruption { file, .. } if *file == log), "{refused}");
}

#[test]
fn bytes_of_a_value_that_look_like_a_record_prove_nothing() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"synced", b"v").unwrap();
    store.sync().unwrap();
    // In the eyes of who writes it: a later record of this segment, written when all this was durable.
    let mut record = vec![0; HEADER_LEN];
    let header = Header { kind: RecordKind::Batch, payload_len: 0, file: 1, first_seq: 9, synced: 1 << 40 };
    header.fill(&log::framing(0), &mut record);
    // Behind the records stand the zeros of blocks that were made ahead.
    let log = disk.read_file("000001.log").unwrap();
    let torn_at = log.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    try_put(&volume, b"torn", b"v").unwrap();
    try_put(&volume, b"evil", &record).unwrap();
    let disk = kill(&disk);
    drop((store, volume));
    disk.flip_bit("000001.log", torn_at + 1, 1).unwrap();
    let (store, _) = open(&disk, stepped());
    assert_eq!(contents(&store).unwrap().len(), 1);
}

#[test]
fn the_last_synced_record_gets_a_witness_when_nothing_follows() {
    let disk = sim();
    let options = Options { background: true, sync_interval: Duration::from_millis(1), ..stepped() };
    let (store, volume) = open(&disk, options);
    try_put(&volume, b"a", b"v").unwrap();
    // The segment's header, the record, blocks ahead of the next ones, the witness.
    let writes = || disk.ops_on("000001.log").get(Op::Write);
    while writes() < 4 {
        std::thread::yield_now();
    }
    let disk = kill(&disk);
    drop((store, volume));
    disk.flip_bit("000001.log", (SEGMENT_HEADER_LEN + HEADER_LEN) as u64, 1).unwrap();
    let refused = Store::open(disk, stepped()).unwrap_err();
    assert!(matches!(&refused, Error::Corruption { file, .. } if file == "000001.log"), "{refused}");
}

#[test]
fn directories_that_are_no_store_are_refused_and_left_alone() {
    let disk = sim();
    disk.write_file("holiday.jpg", b"not ours").unwrap();
    let refused = Store::open(disk.clone(), stepped()).unwrap_err();
    assert!(matches!(&refused, Error::NotAStore(why) if why.contains("holiday.jpg")), "{refused}");
    assert_eq!(disk.list().unwrap().len(), 1);

    let disk = sim();
    disk.write_file("000007.sst", b"ours, orphaned").unwrap();
    let refused = Store::open(disk.clone(), stepped()).unwrap_err();
    assert!(matches!(refused, Error::Corruption { .. }), "{refused}");
    assert_eq!(disk.list().unwrap().len(), 1);
}

/// The next segment's header begins where this one ended, not where the damage is: what the records behind
/// the damage prove still counts.
#[test]
fn damage_in_a_segment_is_found_though_the_next_has_no_record() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    let mut key = 0u32;
    while files(&disk, ".log").len() < 2 {
        try_put(&volume, &key.to_be_bytes(), &[7; 500]).unwrap();
        store.sync().unwrap();
        key += 1;
    }
    let disk = kill(&disk);
    drop((store, volume));
    disk.truncate_file("000002.log", SEGMENT_HEADER_LEN as u64).unwrap();
    disk.flip_bit("000001.log", 1000, 3).unwrap();
    let refused = Store::open(disk, stepped()).expect_err("what was durable is lost without a word");
    assert!(matches!(&refused, Error::Corruption { file, .. } if file == "000001.log"), "{refused}");
}

/// What an open has read of the log is firm from then on, its last record too, which no later one proves durable.
#[test]
fn damage_in_what_an_open_has_read_is_no_torn_tail() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    for key in [b"a", b"b", b"c"] {
        try_put(&volume, key, &[7; 300]).unwrap();
    }
    let disk = kill(&disk);
    drop((store, volume));
    let (store, _) = open(&disk, stepped());
    let disk = kill(&disk);
    drop(store);
    let log = files(&disk, ".log")[0].clone();
    let len = disk.read_file(&log).unwrap().len() as u64;
    for damaged in [true, false] {
        let disk = kill(&disk);
        match damaged {
            true => disk.flip_bit(&log, len - 10, 3).unwrap(),
            false => disk.truncate_file(&log, len - 10).unwrap(),
        }
        let refused = Store::open(disk, stepped()).expect_err("a durable record is lost without a word");
        assert!(matches!(&refused, Error::Corruption { file, .. } if *file == log), "{refused}");
    }
}
