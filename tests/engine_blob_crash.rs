//! Large values in blob files on the simulated disk: crashes, failing operations and damage.

mod engine_common;

use engine_common::cuts::{self, History, Workload, tiny};
use engine_common::{Contents, Rng, crash_seeds};
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::{Batch, Error, Options, Store};
use std::ops::Bound;
use std::sync::Arc;

/// A value that compresses by half, more or less.
fn value(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|at| if at % 2 == 0 { rng.below(256) as u8 } else { 7 }).collect()
}

/// Adds a random write to a batch, and to what it makes of the contents.
fn change(rng: &mut Rng, batch: &mut Batch, next: &mut Contents) {
    let key = format!("key{:02}", rng.below(20)).into_bytes();
    match rng.below(10) {
        0 => {
            batch.delete(&key);
            next.remove(&key);
        }
        1 => {
            let end = format!("key{:02}", rng.below(20)).into_bytes();
            batch.delete_range(&key, &end);
            next.retain(|k, _| !(key <= *k && *k < end));
        }
        2 if rng.below(2) == 0 && next.contains_key(&key) => batch.put_head(&key, b"other"),
        2 => {
            let part = value(rng, 30);
            let old_len = next.get(&key).map_or(0, Vec::len);
            let len = old_len.max(50);
            match rng.below(2) {
                0 => batch.patch(&key, len as u32, &[(20, &part)]),
                _ => batch.patch_split(&key, b"patched", old_len as u32, len as u32, &[(20, &part)]),
            }
            let tail = next.entry(key).or_default();
            tail.resize(len, 0);
            tail[20..50].copy_from_slice(&part);
        }
        _ => {
            let len = rng.one_of(&[10, 150, 700, 3000, 9000]);
            let tail = value(rng, len);
            batch.put_split(&key, b"head", &tail);
            next.insert(key, tail);
        }
    }
}

/// Large values and the collection of their garbage. Each batch also writes a counter.
struct LargeValues;

impl Workload for LargeValues {
    /// The keys and the tails of their values.
    type State = Contents;

    fn options() -> Options {
        Options { blob_min: 100, blob_file_size: 6000, ..tiny() }
    }

    fn start() -> Contents {
        Contents::new()
    }

    fn run(disk: &Arc<SimDisk>, seed: u64, history: &mut History<Contents>) -> Result<(), Error> {
        let mut rng = Rng(seed);
        let store = Store::open(disk.clone(), Self::options())?;
        let volume = store.volume("main")?;
        for _ in 0..60 {
            match rng.below(12) {
                0 => {
                    store.sync()?;
                    history.note_sync();
                }
                1 => while store.step()? {},
                2 if rng.below(3) == 0 => store.flush()?,
                3 if rng.below(4) == 0 => store.compact()?,
                _ => {
                    let mut batch = Batch::new();
                    let count = (history.states.len() as u64).to_be_bytes();
                    history.push(|next| {
                        (0..=rng.below(3)).for_each(|_| change(&mut rng, &mut batch, next));
                        batch.put_split(b"count", b"", &count);
                        next.insert(b"count".to_vec(), count.to_vec());
                    });
                    volume.write(batch)?;
                }
            }
        }
        store.close()?;
        history.note_sync();
        Ok(())
    }

    fn state(store: &Store) -> Contents {
        let mut scan = store.volume("main").unwrap().scan(Bound::Unbounded, Bound::Unbounded).unwrap();
        let mut contents = Contents::new();
        while scan.next().unwrap() {
            contents.insert(scan.key().to_vec(), scan.tail().unwrap().to_vec());
        }
        contents
    }

    fn go_on(store: &Store) {
        while store.step().unwrap() {}
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_of_history() {
    cuts::cut_everywhere::<LargeValues>(crash_seeds(2));
}

#[test]
fn a_kill_at_any_operation_keeps_what_was_answered() {
    cuts::kill_everywhere::<LargeValues>(5..6);
}
