//! A disk that volumes, forks and snapshots fill: what is deleted gives its room back, and writing resumes.

mod engine_common;

use engine_common::{Rng, open};
use lsmfs::disk::sim::{Fault, Op, SimDisk};
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

const CAPACITY: u64 = 4 << 20;

/// Small everything, the background work done by hand.
fn options() -> Options {
    Options {
        memtable_size: 64 << 10,
        memtable_stall_size: 192 << 10,
        log_segment_size: 32 << 10,
        spare_log_segments: 1,
        blob_min: 4000,
        blob_file_size: 256 << 10,
        level_base_size: 1 << 20,
        table_size: 256 << 10,
        background: false,
        ..Options::default()
    }
}

/// A store on a small disk, and what its volume `main` holds.
struct Full {
    disk: Arc<SimDisk>,
    store: Store,
    main: Arc<Volume>,
    held: BTreeMap<Vec<u8>, Vec<u8>>,
    rng: Rng,
    /// The length of each value.
    len: usize,
}

impl Full {
    fn new(len: usize) -> Full {
        let disk = Arc::new(SimDisk::new(1));
        disk.set_capacity(CAPACITY);
        let (store, main) = open(&disk, options());
        Full { disk, store, main, held: BTreeMap::new(), rng: Rng(7), len }
    }

    fn step(&self) {
        while matches!(self.store.step(), Ok(true)) {}
    }

    /// Puts one value that does not compress; false if the disk is full.
    fn put(&mut self, volume: &Volume, key: &str) -> bool {
        let value: Vec<u8> = (0..self.len).map(|_| self.rng.below(256) as u8).collect();
        let mut batch = Batch::new();
        batch.put_split(key.as_bytes(), b"", &value);
        match volume.write(batch) {
            Ok(_) => {
                if std::ptr::eq(volume, &*self.main) {
                    self.held.insert(key.as_bytes().to_vec(), value);
                }
                true
            }
            Err(error) => {
                assert!(error.is_full(), "{error}");
                false
            }
        }
    }

    /// Fills the disk; how many values it took.
    fn fill(&mut self, volume: &Volume, prefix: &str) -> usize {
        let mut count = 0;
        while self.put(volume, &format!("{prefix}{count:06}")) {
            count += 1;
            if count % 8 == 0 {
                self.step();
            }
        }
        count
    }

    /// Puts so many values into the first volume, while the engine gives room back.
    fn resume(&mut self, prefix: &str, count: usize) {
        let main = self.main.clone();
        for n in 0..count {
            let taken = (0..20).any(|_| {
                self.step();
                self.put(&main, &format!("{prefix}{n:06}"))
            });
            assert!(taken, "{prefix}: no room for value {n} of {count} of {} bytes", self.len);
        }
    }

    fn empty(&mut self) {
        for key in std::mem::take(&mut self.held).into_keys() {
            let mut batch = Batch::new();
            batch.delete(&key);
            self.main.write(batch).expect("a delete is taken");
        }
        self.step();
    }

    fn assert_all_there(&self) {
        let mut scan = self.main.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
        let mut found = BTreeMap::new();
        while scan.next().unwrap() {
            found.insert(scan.key().to_vec(), scan.tail().unwrap().to_vec());
        }
        assert!(found == self.held, "{} values, and not {}", found.len(), self.held.len());
    }

    /// What is there, here and after an opening.
    fn verify(mut self) {
        self.assert_all_there();
        self.store.close().unwrap();
        drop(self.store);
        let (store, main) = open(&self.disk, options());
        (self.store, self.main) = (store, main);
        self.assert_all_there();
        assert_eq!(self.store.volumes().unwrap().len(), 1);
    }
}

/// Values in tables, and values in blob files.
const LENS: [usize; 2] = [700, 30_000];

#[test]
fn a_volume_that_filled_the_disk_gives_its_room_back() {
    for len in LENS {
        let mut full = Full::new(len);
        for round in 0..3 {
            let other = full.store.create_volume("other").unwrap();
            let count = full.fill(&other, "other");
            assert!((count * len) as u64 > CAPACITY / 4, "round {round}: full after {count}");
            full.store.delete_volume("other").unwrap();
            drop(other);
            full.resume("main", count * 6 / 10);
            full.empty();
        }
        full.verify();
    }
}

#[test]
fn a_fork_that_went_its_own_way_gives_its_room_back() {
    for len in LENS {
        let mut full = Full::new(len);
        let main = full.main.clone();
        (0..CAPACITY as usize / 4 / len).for_each(|n| assert!(full.put(&main, &format!("shared{n:06}"))));
        for round in 0..3 {
            let fork = full.store.fork(&main, "fork").unwrap();
            // Over what it shares, and more.
            let count = full.fill(&fork, "shared");
            assert!((count * len) as u64 > CAPACITY / 5, "round {round}: full after {count}");
            // On a full disk too it can be forked and snapshots be taken, or that is refused: it changes nothing.
            for refused in
                [full.store.fork(&fork, "twin").err(), full.store.create_snapshot(&fork, "s").err()]
            {
                assert!(refused.is_none_or(|error: Error| error.is_full()));
            }
            for name in ["fork", "twin"].into_iter().filter(|name| full.store.volume(name).is_ok()) {
                full.store.delete_volume(name).unwrap();
            }
            drop(fork);
            full.resume("shared", count * 6 / 10);
        }
        drop(main);
        full.verify();
    }
}

#[test]
fn a_snapshot_that_kept_what_was_removed_gives_its_room_back() {
    for len in LENS {
        let mut full = Full::new(len);
        let main = full.main.clone();
        for round in 0..3 {
            let kept = CAPACITY as usize / 2 / len;
            full.resume("kept", kept);
            full.store.create_snapshot(&main, "snapshot").unwrap();
            full.empty();
            let count = full.fill(&main, "new");
            assert!(count > 0, "round {round}");
            full.store.delete_snapshot(&main, "snapshot").unwrap();
            full.resume("more", kept * 6 / 10);
            full.empty();
        }
        drop(main);
        full.verify();
    }
}

#[test]
fn what_takes_volumes_away_may_use_the_room_kept_aside() {
    for of_snapshot in [true, false] {
        let mut full = Full::new(3000);
        let main = full.main.clone();
        full.store.create_snapshot(&main, "snapshot").unwrap();
        full.store.fork(&main, "fork").unwrap();
        full.fill(&main, "k");
        // As if the log's last block had no room for the record.
        full.disk.fail(Fault::new(Op::Write, libc::ENOSPC).on("log"));
        let deleted = match of_snapshot {
            true => full.store.delete_snapshot(&main, "snapshot"),
            false => full.store.delete_volume("fork"),
        };
        deleted.unwrap();
        full.assert_all_there();
    }
}
