//! Volumes: made, forked, renamed, snapshotted, set back and deleted, beside a model; and crashes in the middle.

mod engine_common;

use engine_common::{Rng, assert_no_leaks, crash_seeds, cut_power, files, kill, sim, stepped, try_put};
use lsmfs::disk::sim::{Fault, Op as DiskOp, SimDisk};
use lsmfs::lsm::options::Compression;
use lsmfs::lsm::{Batch, Differences, Error, Options, Quota, Store, Tally, Volume};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a volume or a snapshot holds. The tally counts keys and bytes of values.
#[derive(Debug, Clone, Default, PartialEq)]
struct Held {
    contents: Contents,
    tally: Tally,
    quota: Quota,
}

/// What a volume holds and its snapshots.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    held: Held,
    snapshots: BTreeMap<String, Held>,
}

type Models = BTreeMap<String, Model>;

fn options() -> Options {
    Options {
        memtable_size: 3000,
        memtable_stall_size: 12_000,
        num_memtable_limit: 2,
        log_segment_size: 2000,
        block_size: 300,
        l0_compaction_trigger: 2,
        table_size: 1500,
        level_base_size: 3000,
        blob_min: 100,
        blob_file_size: 4000,
        memtable_budget: 12_000,
        log_limit: 6000,
        background: false,
        ..Options::default()
    }
}

fn contents(volume: &Volume) -> Contents {
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut contents = Contents::new();
    while scan.next().unwrap() {
        contents.insert(scan.key().to_vec(), [scan.head(), &scan.tail().unwrap()].concat());
    }
    contents
}

fn tally_of(contents: &Contents) -> Tally {
    Tally { files: contents.len() as i64, bytes: contents.values().map(|value| value.len() as i64).sum() }
}

fn held(volume: &Volume) -> Held {
    let held = Held { contents: contents(volume), tally: volume.tally().unwrap(), quota: volume.quota() };
    assert_eq!(held.tally, tally_of(&held.contents), "tally of {}", volume.name());
    held
}

/// Everything that a store holds.
fn models(store: &Store) -> Models {
    let model = |volume: &Arc<Volume>| {
        let snapshots = store.snapshots(volume).unwrap();
        let snapshots = snapshots.iter().map(|s| (s.name(), held(s))).collect();
        (volume.name(), Model { held: held(volume), snapshots })
    };
    store.volumes().unwrap().iter().map(model).collect()
}

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
    forks.iter().for_each(|fork| assert_eq!(contents(fork), contents(&main)));
    drop(forks);
    for i in 0..20 {
        store.delete_volume(&format!("fork{i}")).unwrap();
    }
    assert_eq!(contents(&main).len(), 100);
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
    let before = contents(&fork);
    fill(99);
    while store.step().unwrap() {}
    assert_eq!(store.stats().compactions.jobs.total(), 1, "main's own");
    let shape = |name: &str| {
        let stats = store.stats();
        let volume = stats.volumes.iter().find(|v| v.name == name).unwrap();
        volume.levels.iter().map(|level| level.len()).collect::<Vec<_>>()
    };
    assert_eq!(shape("fork")[0], trigger - 1);
    assert_eq!(shape("main")[0], 1, "small tables become one");
    assert_eq!(contents(&fork), before);
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

/// Volumes where each operation of the disk is one to crash at.
const FEW: usize = 8;

/// What a workload did: the state after each step, and the last that was synced.
struct History {
    states: Vec<Models>,
    synced: usize,
}

impl History {
    fn new() -> History {
        History { states: vec![[("main".to_string(), Model::default())].into()], synced: 0 }
    }

    /// A step is about to be taken: it may survive a crash unanswered.
    fn push(&mut self, change: impl FnOnce(&mut Models)) {
        let mut next = self.states.last().unwrap().clone();
        change(&mut next);
        self.states.push(next);
    }
}

/// Runs a workload over up to `most` volumes until it ends or the disk crashes.
fn work(
    disk: &Arc<SimDisk>,
    seed: u64,
    steps: usize,
    most: usize,
    history: &mut History,
) -> Result<(), Error> {
    let mut rng = Rng(seed);
    let store = Store::open(disk.clone(), options())?;
    for step in 0..steps {
        let names: Vec<String> = history.states.last().unwrap().keys().cloned().collect();
        let name = names[rng.below(names.len() as u64) as usize].clone();
        let volume = store.volume(&name)?;
        let snapshots: Vec<String> =
            history.states.last().unwrap()[&name].snapshots.keys().cloned().collect();
        let new = format!("v{seed}-{step}");
        match rng.below(30) {
            0 => {
                let now = history.states.len() - 1;
                store.sync()?;
                history.synced = now;
            }
            1 | 2 => while store.step()? {},
            3 => store.flush()?,
            4 if rng.below(3) == 0 => store.compact()?,
            5 => {
                history.push(|m| drop(m.insert(new.clone(), Model::default())));
                store.create_volume(&new)?;
            }
            6..=9 if names.len() < most => {
                history.push(|m| {
                    let held = m[&name].held.clone();
                    m.insert(new.clone(), Model { held, ..Model::default() });
                });
                store.fork(&volume, &new)?;
            }
            10 | 11 if names.len() > 1 => {
                history.push(|m| drop(m.remove(&name)));
                store.delete_volume(&name)?;
            }
            12 => {
                history.push(|m| {
                    let model = m.remove(&name).unwrap();
                    m.insert(new.clone(), model);
                });
                store.rename_volume(&name, &new)?;
            }
            13 | 14 => {
                history.push(|m| {
                    let model = m.get_mut(&name).unwrap();
                    model.snapshots.insert(new.clone(), model.held.clone());
                });
                store.create_snapshot(&volume, &new)?;
            }
            15 if !snapshots.is_empty() => {
                history.push(|m| drop(m.get_mut(&name).unwrap().snapshots.remove(&snapshots[0])));
                store.delete_snapshot(&volume, &snapshots[0])?;
            }
            16 if !snapshots.is_empty() => {
                history.push(|m| {
                    let model = m.get_mut(&name).unwrap();
                    let quota = model.held.quota;
                    model.held = Held { quota, ..model.snapshots[&snapshots[0]].clone() };
                });
                store.restore(&name, &snapshots[0], |_, _| Ok(()))?;
            }
            17 if !snapshots.is_empty() && names.len() < most => {
                history.push(|m| {
                    let held = m[&name].snapshots[&snapshots[0]].clone();
                    m.insert(new.clone(), Model { held, ..Model::default() });
                });
                store.fork(&*store.snapshot(&volume, &snapshots[0])?, &new)?;
            }
            18 => {
                // Never in the way: that is another test's matter.
                let quota =
                    Quota { files: Some(1000 + step as u64), bytes: (step % 2 == 0).then_some(1 << 40) };
                history.push(|m| m.get_mut(&name).unwrap().held.quota = quota);
                store.set_quota(&volume, quota)?;
            }
            _ => {
                let mut batch = Batch::new();
                history.push(|m| {
                    let Held { contents, tally, .. } = &mut m.get_mut(&name).unwrap().held;
                    for _ in 0..=rng.below(3) {
                        let key = format!("key{}", rng.below(20)).into_bytes();
                        match rng.below(8) {
                            0 | 1 => {
                                batch.delete(&key);
                                contents.remove(&key);
                            }
                            2 => {
                                batch.delete_range(b"key1", b"key15");
                                contents.retain(|k, _| k[..] < b"key1"[..] || k[..] >= b"key15"[..]);
                            }
                            3 if !contents.contains_key(&key) => {
                                batch.first_put(&key, b"first", b"");
                                contents.insert(key, b"first".to_vec());
                            }
                            _ => {
                                let value = vec![rng.below(256) as u8; rng.below(300) as usize];
                                match rng.below(2) {
                                    0 => batch.put(&key, &value),
                                    _ => batch.put_split(&key, b"", &value),
                                }
                                contents.insert(key, value);
                            }
                        }
                    }
                    let change = tally_of(contents) - *tally;
                    *tally += change;
                    batch.count(change);
                });
                volume.write(batch)?;
            }
        }
    }
    // A cut may have been in what is tried again later, and told nobody.
    if !disk.is_crashed() {
        assert_eq!(models(&store), *history.states.last().unwrap(), "seed {seed}");
        check_differences(&store, &format!("seed {seed}"));
    }
    store.close()?;
    history.synced = history.states.len() - 1;
    Ok(())
}

/// Between any two volumes and snapshots: what differs is told, each key once and in order.
fn check_differences(store: &Store, context: &str) {
    let mut all = store.volumes().unwrap();
    let snapshots: Vec<_> = all.iter().flat_map(|volume| store.snapshots(volume).unwrap()).collect();
    all.extend(snapshots);
    for a in &all {
        for b in &all {
            let mut differences = Differences::between(&a.snapshot(), &b.snapshot()).unwrap();
            let mut told: Vec<Vec<u8>> = Vec::new();
            while differences.next().unwrap() {
                told.push(differences.key().to_vec());
            }
            assert!(told.is_sorted_by(|a, b| a < b), "{context}: {told:?}");
            let (of_a, of_b) = (contents(a), contents(b));
            let differ = |key: &&Vec<u8>| of_a.get(*key) != of_b.get(*key);
            for key in of_a.keys().chain(of_b.keys()).filter(differ) {
                assert!(told.contains(key), "{context}: {} and {}: {key:?}", a.name(), b.name());
            }
            assert!(
                a.name() != b.name() || a.is_snapshot() != b.is_snapshot() || told.is_empty(),
                "{context}"
            );
        }
    }
}

/// Opens what a crash left and holds it against the history.
fn check(disk: &Arc<SimDisk>, history: &History, context: &str) -> Store {
    let store = Store::open(disk.clone(), options()).unwrap_or_else(|e| panic!("{context}: open: {e}"));
    let found = models(&store);
    let at = history.states.iter().rposition(|state| *state == found);
    let Some(at) = at else { panic!("{context}: not a prefix of the history: {:?}", found.keys()) };
    assert!(at >= history.synced, "{context}: {at} of the history is left, {} was synced", history.synced);
    store
}

#[test]
fn volumes_behave_as_their_model_through_restarts() {
    for seed in 0..20 {
        let disk = Arc::new(SimDisk::new(seed));
        let mut history = History::new();
        for round in 0..3 {
            work(&disk, seed * 10 + round, 150, FEW, &mut history).unwrap();
            let context = format!("seed {seed}, round {round}");
            let store = check(&disk, &history, &context);
            assert_no_leaks(&disk, &store, &context);
        }
    }
}

/// With many volumes the budget and the log's limit flush them, and most flushes and compactions are of packs.
#[test]
fn many_volumes_behave_as_their_model_under_a_tiny_budget() {
    let mut packs = 0;
    for seed in 100..102 {
        let disk = Arc::new(SimDisk::new(seed));
        let mut history = History::new();
        for round in 0..3 {
            work(&disk, seed * 10 + round, 500, 60, &mut history).unwrap();
            let context = format!("seed {seed}, round {round}");
            packs += files(&disk, ".pack").len();
            let store = check(&disk, &history, &context);
            assert_no_leaks(&disk, &store, &context);
        }
    }
    assert!(packs > 0);
}

/// A power cut at the nth operation of the disk, for every n of the workload, and again while the
/// store recovers from the first.
#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_of_history() {
    let (seeds, mut points) = (crash_seeds(3), 0);
    for seed in seeds.clone() {
        let disk = Arc::new(SimDisk::new(seed));
        work(&disk, seed, 90, FEW, &mut History::new()).unwrap();
        for at in 1..=disk.ops().changes() {
            let context = format!("seed {seed}, operation {at}");
            let disk = Arc::new(SimDisk::new(seed));
            disk.crash_at_op(at);
            let mut history = History::new();
            let _ = work(&disk, seed, 90, FEW, &mut history);
            let disk = cut_power(&disk);
            disk.crash_at_op(1 + at % 11);
            drop(Store::open(disk.clone(), options()));
            let disk = cut_power(&disk);
            let store = check(&disk, &history, &context);
            assert_no_leaks(&disk, &store, &context);
            drop(store);
            drop(check(&disk, &history, &format!("{context}, reopened")));
            points += 2;
        }
    }
    println!("{points} power cuts, half of them in recoveries; seeds {seeds:?}");
}

/// A process that dies (and a system that lives) keeps everything that was answered.
#[test]
fn a_kill_at_any_operation_keeps_what_was_answered() {
    for seed in [7, 8] {
        let disk = Arc::new(SimDisk::new(seed));
        work(&disk, seed, 90, FEW, &mut History::new()).unwrap();
        for at in 1..=disk.ops().changes() {
            let context = format!("seed {seed}, operation {at}");
            let disk = Arc::new(SimDisk::new(seed));
            disk.crash_at_op(at);
            let mut history = History::new();
            let died = work(&disk, seed, 90, FEW, &mut history).is_err();
            // The step that was under way may be there or not; all before it must be.
            history.synced = history.states.len() - 1 - usize::from(died && history.states.len() > 1);
            drop(check(&kill(&disk), &history, &context));
        }
    }
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
        assert_eq!(contents(&store.volume(&format!("v{i}")).unwrap()).len(), 20);
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
    let of = |name: &str| stats.volumes.iter().find(|v| v.name == name).unwrap();
    let shared = of("main").bytes;
    assert!(shared > 0);
    assert_eq!((of("main").own_bytes, of("s").own_bytes, of("s").bytes), (0, 0, shared));
    assert_eq!(of("s").snapshot_of.as_deref(), Some("main"));
    assert!(of("fork").own_bytes > 0);
    assert_eq!(of("fork").bytes, shared + of("fork").own_bytes);
    store.delete_volume("main").unwrap();
    let stats = store.stats();
    assert_eq!(stats.volumes.len(), 1, "its snapshot went with it");
    assert_eq!(stats.volumes[0].own_bytes, stats.volumes[0].bytes);
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

/// A batch that counts.
fn counted(key: u32, change: Tally) -> Batch {
    let mut batch = Batch::new();
    batch.put(&key.to_be_bytes(), b"value");
    batch.count(change);
    batch
}

#[test]
fn a_batch_that_would_pass_the_quota_is_refused_whole() {
    let disk = sim();
    let store = Store::open(disk.clone(), Options { blob_min: 100, ..stepped() }).unwrap();
    let main = store.volume("main").unwrap();
    let quota = Quota { files: Some(3), bytes: Some(1000) };
    store.set_quota(&main, quota).unwrap();
    let write = |volume: &Volume, key, files, bytes| volume.write(counted(key, Tally { files, bytes }));
    write(&main, 1, 1, 600).unwrap();
    let refused = write(&main, 2, 1, 401).unwrap_err();
    assert_eq!(refused.to_string(), "the volume main is at its quota of 1000 bytes");
    assert_eq!(main.get(&2u32.to_be_bytes()).unwrap(), None);
    assert_eq!(main.tally(), Some(Tally { files: 1, bytes: 600 }));
    // Nor are its large values.
    let mut large = counted(2, Tally { files: 0, bytes: 5000 });
    large.put_split(b"large", b"", &[7; 5000]);
    assert!(matches!(main.write(large), Err(Error::OverQuota { what: "bytes", .. })));
    assert_eq!(store.stats().disk.blob_bytes, 0);
    write(&main, 2, 2, 400).unwrap();
    assert!(matches!(write(&main, 3, 1, 0), Err(Error::OverQuota { what: "files", limit: 3, .. })));
    write(&main, 2, 0, 0).unwrap();
    // A fork has the quota, which is its own from then on.
    let fork = store.fork(&main, "fork").unwrap();
    assert_eq!(fork.quota(), quota);
    store.set_quota(&fork, Quota::default()).unwrap();
    write(&fork, 3, 5, 5000).unwrap();
    // A quota that is lowered: what is there stays, and may shrink.
    store.create_snapshot(&main, "s").unwrap();
    store.set_quota(&main, Quota { files: Some(1), bytes: None }).unwrap();
    assert!(write(&main, 3, 1, -5).is_err());
    write(&main, 1, -1, 7000).unwrap();
    // A restore sets back what is held, not how much that may be.
    let snapshot = store.snapshot(&main, "s").unwrap();
    assert!(matches!(store.set_quota(&snapshot, quota), Err(Error::IsSnapshot(_))));
    let main = store.restore("main", "s", |_, _| Ok(())).unwrap();
    let check = |store: &Store, main: &Volume| {
        assert_eq!(main.quota(), Quota { files: Some(1), bytes: None });
        assert_eq!(main.tally(), Some(Tally { files: 3, bytes: 1000 }));
        let fork = store.volume("fork").unwrap();
        assert_eq!((fork.quota(), fork.tally()), (Quota::default(), Some(Tally { files: 8, bytes: 6000 })));
    };
    check(&store, &main);
    let disk = kill(&disk);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    check(&store, &store.volume("main").unwrap());
    store.close().unwrap();
    let store = Store::open(disk, stepped()).unwrap();
    check(&store, &store.volume("main").unwrap());
}

#[test]
fn a_write_that_fails_counts_nothing() {
    let disk = sim();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    store.set_quota(&main, Quota { files: Some(2), bytes: None }).unwrap();
    main.write(counted(1, Tally { files: 1, bytes: 1 })).unwrap();
    disk.fail(Fault::new(DiskOp::Write, libc::ENOSPC).times(3));
    for _ in 0..3 {
        assert!(main.write(counted(2, Tally { files: 1, bytes: 1 })).unwrap_err().is_full());
    }
    assert_eq!(main.tally(), Some(Tally { files: 1, bytes: 1 }));
    main.write(counted(2, Tally { files: 1, bytes: 1 })).unwrap();
    store.flush().unwrap();
    assert_eq!(main.tally(), Some(Tally { files: 2, bytes: 2 }));
    let store = Store::open(kill(&disk), stepped()).unwrap();
    assert_eq!(store.volume("main").unwrap().tally(), Some(Tally { files: 2, bytes: 2 }));
}

#[test]
fn writers_at_once_never_pass_the_quota() {
    let options = Options { memtable_size: 4 << 10, background: true, ..stepped() };
    let store = Store::open(sim(), options).unwrap();
    let main = store.volume("main").unwrap();
    store.set_quota(&main, Quota { files: Some(500), bytes: Some(10_000) }).unwrap();
    let written = std::thread::scope(|scope| {
        let writer = |at: u32| {
            let (main, count) = (&main, move |n| at * 1000 + n);
            move || {
                (0..400)
                    .filter(|n| main.write(counted(count(*n), Tally { files: 1, bytes: 7 })).is_ok())
                    .count()
            }
        };
        let writers: Vec<_> = (0..4).map(|at| scope.spawn(writer(at))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
    });
    assert_eq!(written, 500);
    assert_eq!(contents(&main).len(), 500);
    assert_eq!(main.tally(), Some(Tally { files: 500, bytes: 3500 }));
}
