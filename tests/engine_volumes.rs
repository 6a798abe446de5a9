//! Volumes: made, forked, renamed, snapshotted, set back and deleted; what they share, and how they keep to one budget.

mod engine_common;

use engine_common::{assert_no_leaks, contents_of, files, kill, sim, stepped, try_put};
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::options::Compression;
use lsmfs::lsm::{Error, Options, Store, Volume};
use std::sync::Arc;

#[track_caller]
fn get(volume: &Volume, key: &[u8]) -> Option<Vec<u8>> {
    volume.get(key).unwrap().map(|value| value.head.to_vec())
}

#[test]
fn a_fork_has_what_was_there_and_goes_its_own_way() {
    // As it is, and as it is found when the process died before and after everything was flushed.
    for (killed, flushed) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = forked();
        let mut store = Store::open(disk.clone(), stepped()).unwrap();
        let check = |store: &Store| {
            let of = |name: &str| {
                let volume = store.volume(name).unwrap();
                let got = [get(&volume, b"a"), get(&volume, b"b")];
                got.map(|value| String::from_utf8(value.unwrap()).unwrap())
            };
            assert_eq!(of("main"), ["main", "2"]);
            assert_eq!(of("fork"), ["1", "fork"]);
            assert_eq!(of("second"), ["1", "fork"]);
        };
        check(&store);
        if flushed {
            store.flush().unwrap();
            check(&store);
        }
        if killed {
            let disk = kill(&disk);
            store = Store::open(disk, stepped()).unwrap();
            check(&store);
        }
    }
}

/// Three volumes, of which only the first write is in a table, as after a kill.
fn forked() -> Arc<SimDisk> {
    let disk = sim();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    try_put(&main, b"a", b"1").unwrap();
    store.flush().unwrap();
    try_put(&main, b"b", b"2").unwrap();
    let fork = store.fork(&main, "fork").unwrap();
    try_put(&main, b"a", b"main").unwrap();
    try_put(&fork, b"b", b"fork").unwrap();
    store.fork(&fork, "second").unwrap();
    kill(&disk)
}

#[test]
fn a_parent_goes_and_its_forks_stay() {
    let disk = forked();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let (main, second) = (store.volume("main").unwrap(), store.volume("second").unwrap());
    store.delete_volume("main").unwrap();
    assert!(matches!(store.volume("main"), Err(Error::NoVolume(_))));
    assert!(matches!(main.get(b"a"), Err(Error::NoVolume(_))));
    assert!(matches!(try_put(&main, b"a", b""), Err(Error::NoVolume(_))));
    assert_eq!(get(&second, b"b").unwrap(), b"fork");
    // The log still has the writes of the one that is gone: the forks need them.
    let disk = kill(&disk);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    assert_eq!(get(&store.volume("second").unwrap(), b"a").unwrap(), b"1");
    store.close().unwrap();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    assert_eq!(store.volumes().unwrap().len(), 2);
    assert_no_leaks(&disk, &store, "reopened");
}

#[test]
fn a_shared_memtable_becomes_one_table_and_a_shared_level_is_compacted_once() {
    let disk = sim();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    (0..100u32).for_each(|i| assert!(try_put(&main, &i.to_be_bytes(), b"value").is_ok()));
    let forks: Vec<_> = (0..20).map(|i| store.fork(&main, &format!("fork{i}")).unwrap()).collect();
    store.flush().unwrap();
    assert_eq!(files(&disk, ".sst").len(), 1);
    store.compact().unwrap();
    let jobs = store.stats().compactions.jobs.total();
    assert!(jobs <= 8, "{jobs} jobs");
    assert_eq!(files(&disk, ".sst").len(), 1);
    forks.iter().for_each(|fork| assert_eq!(contents_of(fork), contents_of(&main)));
    drop(forks);
    for i in 0..20 {
        store.delete_volume(&format!("fork{i}")).unwrap();
    }
    assert_eq!(contents_of(&main).len(), 100);
    store.delete_volume("main").unwrap();
    store.create_volume("main").unwrap();
    store.compact().unwrap();
    assert_eq!(files(&disk, ".sst"), [""; 0], "the space came back");
    assert_eq!(store.volumes().unwrap().len(), 1);
}

#[test]
fn an_idle_fork_starts_no_compaction() {
    let disk = sim();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    let fill = |round: u8| {
        (0..50u32).for_each(|i| assert!(try_put(&main, &i.to_be_bytes(), &[round; 20]).is_ok()));
        store.flush().unwrap();
    };
    // One table short of a compaction.
    let trigger = stepped().l0_compaction_trigger;
    (1..trigger).for_each(|round| fill(round as u8));
    let fork = store.fork(&main, "fork").unwrap();
    let before = contents_of(&fork);
    fill(99);
    while store.step().unwrap() {}
    assert_eq!(store.stats().compactions.jobs.total(), 1, "main's own");
    let shape = |name: &str| {
        let stats = store.stats();
        let volume = stats.volumes.iter().find(|v| v.usage.name == name).unwrap();
        volume.levels.iter().map(|level| level.len()).collect::<Vec<_>>()
    };
    assert_eq!(shape("fork")[0], trigger - 1);
    assert_eq!(shape("main")[0], 1, "small tables become one");
    assert_eq!(contents_of(&fork), before);
}

#[test]
fn names_are_checked_and_used_once() {
    let store = Store::open(sim(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    store.create_volume("a").unwrap();
    for bad in ["", ".", ".a", "a/b", "a@b", "a\nb", &"x".repeat(256)] {
        assert!(matches!(store.create_volume(bad), Err(Error::BadVolumeName(_))), "{bad:?}");
        assert!(matches!(store.create_snapshot(&main, bad), Err(Error::BadVolumeName(_))), "{bad:?}");
    }
    assert!(matches!(store.create_volume("a"), Err(Error::VolumeExists(_))));
    assert!(matches!(store.fork(&main, "a"), Err(Error::VolumeExists(_))));
    assert!(matches!(store.rename_volume("main", "a"), Err(Error::VolumeExists(_))));
    assert!(matches!(store.rename_volume("none", "b"), Err(Error::NoVolume(_))));
    assert!(matches!(store.delete_volume("none"), Err(Error::NoVolume(_))));
    store.rename_volume("a", "b").unwrap();
    store.create_volume("a").unwrap();
    let names: Vec<String> = store.volumes().unwrap().iter().map(|v| v.name()).collect();
    assert_eq!(names, ["main", "b", "a"]);
}

#[test]
fn a_snapshot_stays_as_it_is_and_a_restore_sets_back_to_it() {
    let disk = sim();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    try_put(&main, b"a", b"1").unwrap();
    let snapshot = store.create_snapshot(&main, "s").unwrap();
    try_put(&main, b"a", b"2").unwrap();
    try_put(&main, b"count", b"7").unwrap();
    assert!(matches!(try_put(&snapshot, b"a", b"3"), Err(Error::IsSnapshot(_))));
    assert_eq!(get(&snapshot, b"a").unwrap(), b"1");
    assert!(matches!(store.volume("s"), Err(Error::NoVolume(_))), "it is no volume");
    let restored = store
        .restore("main", "s", |fresh, old| try_put(fresh, b"count", &get(old, b"count").unwrap()).map(drop));
    let restored = restored.unwrap();
    let check = |main: &Volume| {
        assert_eq!(get(main, b"a").unwrap(), b"1");
        assert_eq!(get(main, b"count").unwrap(), b"7");
    };
    check(&restored);
    assert!(matches!(main.get(b"a"), Err(Error::NoVolume(_))));
    let store = Store::open(kill(&disk), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    check(&main);
    assert_eq!(store.volumes().unwrap().len(), 1);
    assert_eq!(store.snapshots(&main).unwrap().len(), 1);
    assert_eq!(get(&store.snapshot(&main, "s").unwrap(), b"a").unwrap(), b"1");
    store.delete_snapshot(&main, "s").unwrap();
    assert!(store.snapshots(&main).unwrap().is_empty());
}

#[test]
fn an_idle_volume_keeps_no_more_of_the_log_than_its_limit() {
    let disk = sim();
    let options = Options { log_limit: 40 << 10, ..stepped() };
    let store = Store::open(disk.clone(), options).unwrap();
    let (main, idle) = (store.volume("main").unwrap(), store.create_volume("idle").unwrap());
    try_put(&idle, b"once", b"1").unwrap();
    for i in 0..1000u32 {
        try_put(&main, &i.to_be_bytes(), &[0; 300]).unwrap();
        while store.step().unwrap() {}
        let log: u64 = store.stats().log_segments.iter().map(|segment| segment.bytes).sum();
        assert!(log <= 64 << 10, "{log}");
    }
    assert_eq!(get(&idle, b"once").unwrap(), b"1");
}

#[test]
fn many_volumes_keep_to_one_budget() {
    let disk = sim();
    let budget = 256 << 10;
    let options = Options { memtable_budget: budget, ..stepped() };
    let store = Store::open(disk.clone(), options.clone()).unwrap();
    let volumes: Vec<_> = (0..200).map(|i| store.create_volume(&format!("v{i}")).unwrap()).collect();
    for round in 0..20u32 {
        for volume in &volumes {
            try_put(volume, &round.to_be_bytes(), &[7; 400]).unwrap();
            while store.step().unwrap() {}
        }
        let held: usize = store.stats().volumes.iter().map(|v| v.memtable_bytes).sum();
        assert!(held <= budget, "{held}");
    }
    drop(store);
    let store = Store::open(disk, options).unwrap();
    for i in 0..200 {
        assert_eq!(contents_of(&store.volume(&format!("v{i}")).unwrap()).len(), 20);
    }
}

#[test]
fn the_figures_tell_what_is_shared() {
    let store = Store::open(sim(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    (0..100u32).for_each(|i| assert!(try_put(&main, &i.to_be_bytes(), b"value").is_ok()));
    let fork = store.fork(&main, "fork").unwrap();
    store.create_snapshot(&main, "s").unwrap();
    store.flush().unwrap();
    try_put(&fork, b"own", &[1; 100]).unwrap();
    store.flush().unwrap();
    let stats = store.stats();
    let of = |name: &str| &stats.volumes.iter().find(|v| v.usage.name == name).unwrap().usage;
    let shared = of("main").bytes;
    assert!(shared > 0);
    assert_eq!((of("main").own_bytes, of("s").own_bytes, of("s").bytes), (0, 0, shared));
    assert_eq!(of("s").snapshot_of.as_deref(), Some("main"));
    assert!(of("fork").own_bytes > 0);
    assert_eq!(of("fork").bytes, shared + of("fork").own_bytes);
    store.delete_volume("main").unwrap();
    let stats = store.stats();
    assert_eq!(stats.volumes.len(), 1, "its snapshot went with it");
    let usage = &stats.volumes[0].usage;
    assert_eq!(usage.own_bytes, usage.bytes);
}

#[test]
fn forks_while_it_is_written_do_not_drag_a_large_volume_through_compactions() {
    let options = Options { memtable_size: 64 << 10, compression: Compression::None, ..stepped() };
    let store = Store::open(sim(), options).unwrap();
    let main = store.volume("main").unwrap();
    (0..2000u32).for_each(|i| assert!(try_put(&main, &i.to_be_bytes(), &[1; 300]).is_ok()));
    store.compact().unwrap();
    let before = store.stats().compactions.written_bytes;
    for i in 0..100u32 {
        try_put(&main, &(i * 20).to_be_bytes(), &i.to_be_bytes()).unwrap();
        store.fork(&main, &format!("f{i}")).unwrap();
        while store.step().unwrap() {}
    }
    let written = store.stats().compactions.written_bytes - before;
    assert!(written < 300_000, "{written} bytes for 100 small writes");
    let l0 = store.stats().volumes[0].levels[0].len();
    assert!(l0 <= 4, "{l0}");
    for i in 0..100u32 {
        let fork = store.volume(&format!("f{i}")).unwrap();
        assert_eq!(get(&fork, &(i * 20).to_be_bytes()).unwrap(), i.to_be_bytes());
        if i < 99 {
            assert_eq!(get(&fork, &((i + 1) * 20).to_be_bytes()).unwrap(), [1; 300]);
        }
    }
}
