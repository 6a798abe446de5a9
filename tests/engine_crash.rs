//! Power cuts on the simulated disk: after each, the store opens, what was synced is there, and what is
//! there is a prefix of history.

mod engine_common;

use engine_common::cuts::{self, History, Workload, tiny};
use engine_common::{Contents, Rng, contents, crash_seeds};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::{Op, SimDisk};
use lsmfs::lsm::{Batch, Error, Options, Store};
use std::sync::Arc;

/// Small values. Each batch also writes a counter.
struct Values;

impl Workload for Values {
    type State = Contents;

    fn options() -> Options {
        tiny()
    }

    fn start() -> Contents {
        Contents::new()
    }

    fn run(disk: &Arc<SimDisk>, seed: u64, history: &mut History<Contents>) -> Result<(), Error> {
        let mut rng = Rng(seed);
        let store = Store::open(disk.clone(), tiny())?;
        let volume = store.volume("main")?;
        for _ in 0..60 {
            match rng.below(12) {
                0 => {
                    store.sync()?;
                    history.note_sync();
                }
                1 => while store.step()? {},
                2 if rng.below(4) == 0 => store.flush()?,
                _ => {
                    let mut batch = Batch::new();
                    let count = (history.states.len() as u64).to_be_bytes();
                    history.push(|next| {
                        for _ in 0..=rng.below(3) {
                            let key = format!("key{}", rng.below(20)).into_bytes();
                            if rng.below(4) == 0 {
                                batch.delete(&key);
                                next.remove(&key);
                            } else {
                                let value = vec![rng.below(256) as u8; rng.below(400) as usize];
                                batch.put(&key, &value);
                                next.insert(key, value);
                            }
                        }
                        batch.put(b"count", &count);
                        next.insert(b"count".to_vec(), count.to_vec());
                    });
                    volume.write(batch)?;
                }
            }
        }
        store.close()?;
        history.note_sync();
        assert!(disk.ops().get(Op::Reuse) > 0, "log segments are recycled");
        Ok(())
    }

    fn state(store: &Store) -> Contents {
        contents(store).unwrap()
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_of_history() {
    cuts::cut_everywhere::<Values>(crash_seeds(2));
}

#[test]
fn a_kill_at_any_operation_keeps_what_was_answered() {
    cuts::kill_everywhere::<Values>(5..6);
}

/// A log of 40 records; the store is then found as after a kill.
fn logged(sync_at: Option<usize>) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new(9));
    let store =
        Store::open(disk.clone(), Options { memtable_size: 1 << 20, memtable_stall_size: 1 << 24, ..tiny() })
            .unwrap();
    let volume = store.volume("main").unwrap();
    for i in 0..40 {
        let mut batch = Batch::new();
        batch.put(format!("{i:02}").as_bytes(), &[i as u8; 100]);
        volume.write(batch).unwrap();
        if sync_at == Some(i) {
            store.sync().unwrap();
        }
    }
    let after = Arc::new(disk.crash_keep_all());
    drop(store);
    after
}

#[test]
fn damage_below_a_synced_position_is_an_error_and_a_torn_tail_is_not() {
    let names = |disk: &SimDisk| -> Vec<String> {
        disk.list().unwrap().into_iter().map(|f| f.name).filter(|n| n.ends_with(".log")).collect()
    };
    for (synced, refused) in [(None, false), (Some(20), true)] {
        let disk = logged(synced);
        let first = names(&disk)[0].clone();
        disk.flip_bit(&first, 300, 3).unwrap();
        match Store::open(disk.clone(), tiny()) {
            Err(Error::Corruption { file, .. }) if refused => assert_eq!(file, first),
            Ok(store) if !refused => assert!(contents(&store).unwrap().len() < 5),
            other => panic!("synced {synced:?}: {other:?}"),
        }
    }
    // What a torn tail hid stays hidden, though its bytes are whole.
    let disk = logged(None);
    disk.flip_bit(&names(&disk)[1], 300, 3).unwrap();
    let store = Store::open(disk.clone(), tiny()).unwrap();
    let found = contents(&store).unwrap();
    let mut batch = Batch::new();
    batch.put(b"new", b"1");
    store.volume("main").unwrap().write(batch).unwrap();
    let again = Arc::new(disk.crash_keep_all());
    drop(store);
    let mut want = found;
    want.insert(b"new".to_vec(), b"1".to_vec());
    assert_eq!(contents(&Store::open(again, tiny()).unwrap()).unwrap(), want);
}

/// Every bit of the manifest and of a durable log: the answer is right, or an error that names the file.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let build = || {
        let disk = Arc::new(SimDisk::new(3));
        let store = Store::open(disk.clone(), tiny()).unwrap();
        let volume = store.volume("main").unwrap();
        for i in 0..30 {
            let mut batch = Batch::new();
            batch.put(format!("{i:02}").as_bytes(), &[i as u8; 150]);
            volume.write(batch).unwrap();
            store.step().unwrap();
        }
        store.sync().unwrap();
        let want = contents(&store).unwrap();
        (Arc::new(disk.crash_keep_all()), want)
    };
    let (disk, want) = build();
    let files: Vec<_> = disk.list().unwrap();
    for file in files {
        for offset in (0..file.len).step_by(3) {
            let (disk, _) = build();
            disk.flip_bit(&file.name, offset, (offset % 8) as u8).unwrap();
            let context = format!("{} at {offset}", file.name);
            let store = match Store::open(disk, tiny()) {
                Ok(store) => store,
                Err(e) => {
                    assert!(
                        e.to_string().contains(&file.name) || file.name.ends_with(".log"),
                        "{context}: {e}"
                    );
                    continue;
                }
            };
            let volume = store.volume("main").unwrap();
            let mut first_gone = None;
            // In the order in which they were written.
            for (key, value) in &want {
                match volume.get(key) {
                    Ok(Some(found)) => {
                        assert_eq!(found.head, value, "{context}");
                        assert_eq!(first_gone, None, "{context}: gone, though {key:?} is there");
                    }
                    Ok(None) => first_gone = first_gone.or(Some(key)),
                    Err(e) => assert!(e.to_string().contains(&file.name), "{context}: {e}"),
                }
            }
            // The last log records may have been a torn tail, as far as anyone can tell.
            assert!(first_gone.is_none() || file.name.ends_with(".log"), "{context}: {first_gone:?} is gone");
        }
    }
}
