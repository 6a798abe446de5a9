//! Volumes beside a model: forks, snapshots, restores, quotas and deletions through restarts and flushes, and a crash at every
//! operation of the disk.

mod engine_common;

use engine_common::cuts::{self, Workload, check, tiny};
use engine_common::{Contents, Rng, assert_no_leaks, contents_of, crash_seeds, files, put_or_patch};
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Batch, Differences, Error, Options, Quota, Store, Tally, Volume};
use std::collections::BTreeMap;
use std::sync::Arc;

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

fn tally_of(contents: &Contents) -> Tally {
    Tally { files: contents.len() as i64, bytes: contents.values().map(|value| value.len() as i64).sum() }
}

fn held(volume: &Volume) -> Held {
    let held = Held { contents: contents_of(volume), tally: volume.tally().unwrap(), quota: volume.quota() };
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

/// Volumes where each operation of the disk is one to crash at.
const FEW: usize = 8;

type History = cuts::History<Models>;

/// Volumes that come and go.
struct Volumes;

impl Workload for Volumes {
    type State = Models;

    fn options() -> Options {
        Options { blob_min: 100, blob_file_size: 4000, memtable_budget: 12_000, log_limit: 6000, ..tiny() }
    }

    fn start() -> Models {
        [("main".to_string(), Model::default())].into()
    }

    fn run(disk: &Arc<SimDisk>, seed: u64, history: &mut History) -> Result<(), Error> {
        work(disk, seed, 90, FEW, history)
    }

    fn state(store: &Store) -> Models {
        models(store)
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
    let store = Store::open(disk.clone(), Volumes::options())?;
    for step in 0..steps {
        let names: Vec<String> = history.last().keys().cloned().collect();
        let name = names[rng.below(names.len() as u64) as usize].clone();
        let volume = store.volume(&name)?;
        let snapshots: Vec<String> = history.last()[&name].snapshots.keys().cloned().collect();
        let new = format!("v{seed}-{step}");
        match rng.below(30) {
            0 => {
                store.sync()?;
                history.note_sync();
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
                                batch.first_put(&key, b"f", b"irst");
                                contents.insert(key, b"first".to_vec());
                            }
                            _ => put_or_patch(&mut rng, &mut batch, key, contents),
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
        assert_eq!(models(&store), *history.last(), "seed {seed}");
        check_differences(&store, &format!("seed {seed}"));
    }
    store.close()?;
    history.note_sync();
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
            let (of_a, of_b) = (contents_of(a), contents_of(b));
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

#[test]
fn volumes_behave_as_their_model_through_restarts() {
    for seed in 0..20 {
        let disk = Arc::new(SimDisk::new(seed));
        let mut history = History::new(Volumes::start());
        for round in 0..3 {
            work(&disk, seed * 10 + round, 150, FEW, &mut history).unwrap();
            let context = format!("seed {seed}, round {round}");
            let (store, _) = check::<Volumes>(&disk, &history, &context);
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
        let mut history = History::new(Volumes::start());
        for round in 0..3 {
            work(&disk, seed * 10 + round, 500, 60, &mut history).unwrap();
            let context = format!("seed {seed}, round {round}");
            packs += files(&disk, ".pack").len();
            let (store, _) = check::<Volumes>(&disk, &history, &context);
            assert_no_leaks(&disk, &store, &context);
        }
    }
    assert!(packs > 0);
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_of_history() {
    cuts::cut_everywhere::<Volumes>(crash_seeds(3));
}

#[test]
fn a_kill_at_any_operation_keeps_what_was_answered() {
    cuts::kill_everywhere::<Volumes>(7..9);
}
