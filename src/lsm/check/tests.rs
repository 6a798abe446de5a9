use super::*;
use crate::disk::sim::SimDisk;
use crate::lsm::Batch;
use crate::lsm::manifest::VolumeState;

#[derive(Default)]
struct Problems(Vec<String>);

impl Watch for Problems {
    fn problem(&mut self, problem: Problem) {
        self.0.push(problem.error.to_string());
    }
}

fn options() -> Options {
    Options { block_size: 200, blob_min: 500, background: false, ..Options::default() }
}

/// A store with two levels of tables, blob files, range tombstones, patches and something in its log.
fn filled() -> Arc<SimDisk> {
    let sim = Arc::new(SimDisk::new(1));
    let disk: Arc<dyn Disk> = sim.clone();
    let store = Store::open(disk, options()).unwrap();
    let volume = store.volume("main").unwrap();
    for round in 0..4u8 {
        let mut batch = Batch::new();
        for i in 0..40u8 {
            let len = if i % 5 == 0 { 700 } else { 40 };
            batch.put_split(format!("key{i:02}").as_bytes(), b"head", &vec![i ^ round; len]);
        }
        batch.delete_range(b"key07", b"key09");
        batch.patch(b"key11", 50, &[(3, b"patched")]);
        batch.delete(b"key20");
        volume.write(batch).unwrap();
        match round {
            1 => store.compact().unwrap(),
            3 => store.sync().unwrap(),
            _ => store.flush().unwrap(),
        }
    }
    let killed = Arc::new(sim.crash_keep_all());
    drop((store, volume));
    killed
}

fn problems(sim: &Arc<SimDisk>) -> Vec<String> {
    let disk: Arc<dyn Disk> = sim.clone();
    let mut watch = Problems::default();
    let checked = check(&disk, &mut watch).unwrap();
    assert_eq!(checked.problems, watch.0.len() as u64);
    watch.0
}

#[test]
fn a_sound_store_has_no_problems_and_is_not_changed() {
    let sim = filled();
    let before = sim.files();
    assert_eq!(problems(&sim), [""; 0]);
    assert_eq!((sim.ops().changes(), sim.files()), (0, before));
    let disk: Arc<dyn Disk> = sim.clone();
    let checked = check(&disk, &mut Problems::default()).unwrap();
    assert!(checked.tables >= 2 && checked.records > 70 && checked.blob_values >= 20, "{checked:?}");
}

#[test]
fn each_damaged_file_is_named() {
    let sim = filled();
    for file in sim.list().unwrap() {
        let sound = sim.read_file(&file.name).unwrap();
        for at in [0, file.len / 3, file.len * 2 / 3, file.len - 1] {
            sim.flip_bit(&file.name, at, 3).unwrap();
            let found = problems(&sim);
            // Past the synced position of a log, or in a value of a blob that nothing points to, damage is
            // no loss; the manifest's last edit is one that may be torn.
            let spared = [".log", ".blob"].iter().any(|end| file.name.ends_with(end))
                || (file.name.starts_with("edits-") && at > file.len / 2);
            let unnoticed = found.is_empty() && spared;
            let named = found.iter().any(|problem| problem.contains(&file.name));
            assert!(named || unnoticed, "byte {at} of {}: {found:?}", file.name);
            sim.write_file(&file.name, &sound).unwrap();
        }
        // A copy is not needed.
        if ![".log", ".blob"].iter().any(|end| file.name.ends_with(end)) && !file.name.starts_with("copy-") {
            sim.delete(&file.name).unwrap();
            assert!(!problems(&sim).is_empty(), "{} is missing", file.name);
            sim.write_file(&file.name, &sound).unwrap();
        }
    }
    assert_eq!(problems(&sim), [""; 0]);
}

#[test]
fn a_manifest_that_says_otherwise_than_its_tables_is_wrong() {
    let sim = filled();
    let disk: Arc<dyn Disk> = sim.clone();
    let names: Vec<String> = disk.list().unwrap().into_iter().map(|file| file.name).collect();
    let state = manifest::read(disk.as_ref(), &names).unwrap().unwrap();
    let changed = |change: &dyn Fn(&mut TableMeta)| {
        let mut state = state.clone();
        let volume = state.volumes.get_mut(&1).unwrap();
        let level = Arc::make_mut(volume).levels.iter_mut().find(|level| !level.is_empty()).unwrap();
        change(Arc::make_mut(&mut Arc::make_mut(level)[0]));
        let mut watch = Problems::default();
        let listed = disk.list().unwrap();
        check_state(&disk, &listed, &state, &mut Checked::default(), &mut watch).unwrap();
        watch.0
    };
    assert_eq!(changed(&|_| ()), [""; 0]);
    type Change<'a> = (&'static str, &'a dyn Fn(&mut TableMeta));
    let changes: [Change<'_>; 7] = [
        ("records", &|meta| meta.entries += 1),
        ("range tombstones", &|meta| meta.range_tombstones += 1),
        ("largest sequence number", &|meta| meta.largest_seq += 1),
        ("smallest sequence number", &|meta| meta.smallest_seq -= 1),
        ("last key", &|meta| meta.largest = "z".into()),
        ("first key", &|meta| meta.smallest = "a".into()),
        ("points to", &|meta| meta.blobs.clear()),
    ];
    for (what, change) in changes {
        let found = changed(change);
        assert!(found.iter().any(|problem| problem.contains(what)), "{what}: {found:?}");
    }
}

#[test]
fn levels_that_overlap_are_a_problem() {
    let meta = |number, smallest: &'static str, largest: &'static str| TableMeta {
        smallest: smallest.into(),
        largest: largest.into(),
        ..TableMeta::empty(number)
    };
    let level = |tables: Vec<TableMeta>| {
        let tables = tables.into_iter().map(Arc::new).collect();
        let levels = vec![Arc::default(), Arc::new(tables)];
        Arc::new(VolumeState { levels, ..VolumeState::default() })
    };
    let mut state = State::default();
    state.volumes.insert(1, level(vec![meta(1, "a", "c"), meta(2, "d", "f")]));
    let mut watch = Problems::default();
    check_levels(&state, &mut watch);
    assert_eq!(watch.0, [""; 0]);
    state.volumes.insert(1, level(vec![meta(1, "a", "d"), meta(2, "d", "f")]));
    check_levels(&state, &mut watch);
    assert_eq!(watch.0.len(), 1, "{:?}", watch.0);
}
