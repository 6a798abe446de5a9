//! Stores of many volumes.

use super::*;

/// Volumes, forks and snapshots by name, a snapshot's as `VOLUME@SNAPSHOT`, and what is in them.
pub(super) fn all_contents(store: &Store) -> BTreeMap<String, Contents> {
    let of = |volume: &Volume| {
        let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
        let mut contents = Contents::new();
        while scan.next().unwrap() {
            contents.insert(scan.key().to_vec(), [scan.head(), &scan.tail().unwrap()].concat());
        }
        contents
    };
    let mut all = BTreeMap::new();
    for volume in store.volumes().unwrap() {
        for snapshot in store.snapshots(&volume).unwrap() {
            all.insert(format!("{}@{}", volume.name(), snapshot.name()), of(&snapshot));
        }
        all.insert(volume.name(), of(&volume));
    }
    all
}

/// A store with volumes that were forked from one another, of which some went their own ways; and what is in them.
/// Each session but the last is closed, and so is a last one of 3: else it is killed. The higher its number, the more
/// happens in it.
pub(super) fn with_volumes(sessions: &[u8]) -> (Arc<SimDisk>, BTreeMap<String, Contents>) {
    let mut sim = Arc::new(SimDisk::new(1));
    let mut all = BTreeMap::new();
    for (n, &session) in sessions.iter().enumerate() {
        let store = open(&sim);
        let put = |volume: &Volume, round: u8, count: u8| {
            let mut batch = Batch::new();
            for i in 0..count {
                let len = if i % 7 == 0 { 700 } else { 40 };
                batch.put_split(&[b'k', i], &[round], &vec![i ^ round; len]);
            }
            batch.delete(&[b'k', round % 50]);
            batch.delete_range(&[b'k', 50 + round % 5], &[b'k', 53 + round % 5]);
            volume.write(batch).unwrap();
        };
        let round = 10 * n as u8;
        let main = store.volume("main").unwrap();
        put(&main, round, 60);
        store.flush().unwrap();
        let name = |what: &str| format!("{what}{n}");
        let fork = store.fork(&main, &name("fork")).unwrap();
        put(&main, round + 1, 40);
        store.create_snapshot(&main, &name("snap")).unwrap();
        store.fork(&main, &name("gone")).unwrap();
        put(&fork, round + 2, 30);
        store.flush().unwrap();
        store.create_volume(&name("own")).unwrap();
        put(&store.volume(&name("own")).unwrap(), round + 3, 20);
        store.fork(&fork, &name("fork of fork")).unwrap();
        if session > 0 {
            put(&main, round + 4, 55);
            store.compact().unwrap();
            store.delete_volume(&name("gone")).unwrap();
            put(&fork, round + 5, 10);
            store.rename_volume(&name("fork"), &name("renamed")).unwrap();
        }
        if session > 1 {
            store.flush().unwrap();
            put(&main, round + 6, 12);
            store.compact().unwrap();
            store.fork(&main, &name("late")).unwrap();
        }
        store.sync().unwrap();
        all = all_contents(&store);
        drop((main, fork));
        if n + 1 < sessions.len() {
            store.close().unwrap();
        } else if session == 3 {
            store.close().unwrap();
            sim = Arc::new(sim.crash_keep_all());
        } else {
            sim = Arc::new(sim.crash_keep_all());
        }
    }
    (sim, all)
}

fn without_manifest(sim: &SimDisk, copies: bool) -> Arc<SimDisk> {
    let sim = copy(sim);
    delete_manifest(&sim, copies);
    sim
}

#[test]
fn all_volumes_are_rebuilt_without_a_manifest() {
    for sessions in [
        &[0][..],
        &[1],
        &[2],
        &[3],
        &[3, 0],
        &[2, 1],
        &[3, 2],
        &[1, 3],
        &[1, 2, 3],
        &[1, 3, 3],
        &[2, 3, 1, 3],
    ] {
        let (filled, contents) = with_volumes(sessions);
        let sim = without_manifest(&filled, false);
        let (_, _, done) = repaired(&sim);
        assert!(done.rebuilt);
        let found = all_contents(&open(&sim));
        assert_eq!(found.keys().collect::<Vec<_>>(), contents.keys().collect::<Vec<_>>(), "{sessions:?}");
        for (name, contents) in &contents {
            assert!(found[name] == *contents, "{sessions:?}: {name}");
        }
    }
}

#[test]
fn volumes_with_tables_of_their_own_are_rebuilt_from_those_alone() {
    let (filled, contents) = with_volumes(&[3]);
    let sim = without_manifest(&filled, true);
    let (_, _, done) = repaired(&sim);
    assert!(done.rebuilt);
    let found = all_contents(&open(&sim));
    for name in ["main", "own0"] {
        assert!(found[name] == contents[name], "{name}");
    }
    // Which of its origin's tables a fork had, nothing tells; its own writes are there.
    let own = |contents: &Contents| -> Contents {
        contents.iter().filter(|(_, value)| value[0] == 5).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    assert!(!own(&contents["renamed0"]).is_empty());
    assert!(own(&found["renamed0"]) == own(&contents["renamed0"]));
}

#[test]
fn damage_anywhere_in_a_manifest_of_many_volumes_loses_none() {
    let (filled, contents) = with_volumes(&[3, 2]);
    let files: Vec<_> =
        filled.list().unwrap().into_iter().filter(|f| manifest::is_manifest_file(&f.name)).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        for at in (0..file.len).step_by(41) {
            let sim = copy(&filled);
            sim.flip_bit(&file.name, at, (at % 8) as u8).unwrap();
            let disk: Arc<dyn Disk> = sim.clone();
            repair(&disk, &options(), &mut Problems::default()).unwrap();
            let found = all_contents(&open(&sim));
            for (name, contents) in &contents {
                assert!(found.get(name) == Some(contents), "byte {at} of {}: {name}", file.name);
            }
        }
    }
}

#[test]
fn a_damaged_log_brings_forks_back_too() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let main = store.volume("main").unwrap();
    put_each(&main, 20, |i| {
        if i % 5 == 4 {
            store.fork(&main, &format!("fork{i}")).unwrap();
        }
        store.sync().unwrap();
    });
    let mut contents = all_contents(&store);
    // It states that all before it is durable.
    let mut batch = Batch::new();
    batch.put(b"last", b"");
    main.write(batch).unwrap();
    let filled = Arc::new(sim.crash_keep_all());
    drop((store, main));
    // The second record.
    filled.flip_bit("000001.log", 250, 5).unwrap();
    let (_, lost, _) = repaired(&filled);
    assert!(!lost.is_empty());
    contents.values_mut().for_each(|contents| _ = contents.remove(&[b'k', 1][..]));
    assert!(all_contents(&open(&filled)) == contents);
}

#[test]
fn what_a_fork_has_of_a_volume_that_is_gone_is_brought_back() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let main = store.volume("main").unwrap();
    put_each(&main, 20, |_| ());
    store.fork(&main, "fork").unwrap();
    store.delete_volume("main").unwrap();
    store.sync().unwrap();
    let mut contents = all_contents(&store).remove("fork").unwrap();
    let killed = Arc::new(sim.crash_keep_all());
    drop((store, main));
    // An open takes the fork and the deletion into the manifest.
    let store = open(&killed);
    let killed = Arc::new(killed.crash_keep_all());
    drop(store);
    // The second record.
    killed.flip_bit("000001.log", 250, 5).unwrap();
    let disk: Arc<dyn Disk> = killed.clone();
    repair(&disk, &options(), &mut Problems::default()).unwrap();
    contents.remove(&[b'k', 1][..]);
    assert!(all_contents(&open(&killed))["fork"] == contents);
}

#[test]
fn a_volume_whose_making_is_lost_is_found_by_what_was_written_to_it() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let second = store.create_volume("second").unwrap();
    put_each(&second, 20, |_| store.sync().unwrap());
    let contents = all_contents(&store).remove("second").unwrap();
    // It states that all before it is durable.
    let mut batch = Batch::new();
    batch.put(b"last", b"");
    store.volume("main").unwrap().write(batch).unwrap();
    let killed = Arc::new(sim.crash_keep_all());
    drop((store, second));
    let mut bytes = killed.read_file("000001.log").unwrap();
    let at = bytes.windows(6).position(|part| part == b"second").unwrap();
    bytes[at] ^= 1;
    killed.write_file("000001.log", &bytes).unwrap();
    assert!(!repaired(&killed).1.is_empty());
    let found = all_contents(&open(&killed));
    assert_eq!(found.len(), 2, "{:?}", found.keys());
    assert!(found.values().any(|found| *found == contents));
}
