//! Power cuts under a real mount: a store on a simulated disk, used with system calls. What is found is the
//! state after one of the calls, none before the last sync. Needs root and `/dev/fuse`; without them it is
//! skipped. `LSMFS_POWER_CUTS` sets the number of cuts.

mod fs_common;

use fs_common::audit::audit;
use fs_common::mounted::Mounted;
use fs_common::{Fixture, stepped};
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::fuse::ServeOptions;
use lsmfs::lsm::Options;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Contents by path.
type Files = BTreeMap<String, Vec<u8>>;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn options() -> Options {
    // The log is synced when somebody asks for it only.
    Options { memtable_size: 32 << 10, ..stepped() }
}

/// A mount, and what it may hold after a power cut: the states since the last sync.
struct World {
    mount: Mounted,
    states: Vec<Files>,
}

impl World {
    fn on(disk: SimDisk) -> Option<World> {
        let mount = Mounted::new(Fixture::on(disk, options()), &ServeOptions::default())?;
        let states = vec![read(mount.root())];
        Some(World { mount, states })
    }

    fn now(&self) -> &Files {
        self.states.last().unwrap()
    }

    /// A system call has changed something.
    fn did(&mut self, change: impl FnOnce(&mut Files)) {
        let mut next = self.now().clone();
        change(&mut next);
        self.states.push(next);
    }

    /// What was done is durable.
    fn synced(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    fn write(&mut self, file: &File, name: &str, at: usize, bytes: &[u8]) {
        // One request each: a page at most.
        for (n, piece) in bytes.chunks(4096).enumerate() {
            let at = at + n * 4096;
            assert_eq!(file.write_at(piece, at as u64).unwrap(), piece.len());
            self.did(|files| {
                let contents = files.get_mut(name).unwrap();
                contents.resize(contents.len().max(at + piece.len()), 0);
                contents[at..at + piece.len()].copy_from_slice(piece);
            });
        }
    }

    fn create(&mut self, name: &str) -> File {
        let path = self.mount.path(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
        self.did(|files| _ = files.insert(name.to_owned(), Vec::new()));
        file
    }

    fn step(&mut self, rng: &mut Rng) {
        let name = format!("file{}", rng.below(6));
        let path = self.mount.path(&name);
        let exists = self.now().contains_key(&name);
        let bytes = vec![rng.below(256) as u8; rng.below(9000) as usize];
        match rng.below(9) {
            // As editors save: a new file, synced, takes the old one's name.
            0 | 1 => {
                let new = self.create("new");
                self.write(&new, "new", 0, &bytes);
                if rng.below(2) == 0 {
                    new.sync_all().unwrap();
                    self.synced();
                }
                fs::rename(self.mount.path("new"), &path).unwrap();
                self.did(|files| {
                    let moved = files.remove("new").unwrap();
                    files.insert(name.clone(), moved);
                });
                if rng.below(2) == 0 {
                    File::open(self.mount.root()).unwrap().sync_all().unwrap();
                    self.synced();
                }
            }
            2 if exists => {
                fs::remove_file(&path).unwrap();
                self.did(|files| _ = files.remove(&name));
            }
            3 if exists => {
                let len = rng.below(12_000);
                OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
                self.did(|files| files.get_mut(&name).unwrap().resize(len as usize, 0));
            }
            4 if exists => {
                // Each write is durable when it is answered.
                let mut file = OpenOptions::new();
                let file = file.write(true).custom_flags(libc::O_SYNC).open(&path).unwrap();
                let at = rng.below(5000) as usize;
                self.write(&file, &name, at, &bytes[..bytes.len().min(4096)]);
                if !bytes.is_empty() {
                    self.synced();
                }
            }
            5 if exists => {
                File::open(&path).unwrap().sync_data().unwrap();
                self.synced();
            }
            6 if exists => {
                let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                let piece = &bytes[..bytes.len().min(100)];
                file.write_all(piece).unwrap();
                self.did(|files| files.get_mut(&name).unwrap().extend_from_slice(piece));
            }
            _ => {
                let file = self.create(&name);
                self.write(&file, &name, 0, &bytes);
            }
        }
        if rng.below(4) == 0 {
            while self.mount.store.store.step().unwrap() {}
        }
    }
}

fn read(root: &Path) -> Files {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_power_cut_under_a_mount_leaves_a_state_of_the_past_and_nothing_synced_is_lost() {
    let cuts = std::env::var("LSMFS_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let seed = std::env::var("LSMFS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut rng = Rng(seed);
    let Some(mut world) = World::on(SimDisk::new(seed)) else { return };
    let mut lost = 0;
    for cut in 0..cuts {
        for _ in 0..rng.below(40) {
            world.step(&mut rng);
        }
        let World { mount, states } = world;
        let disk = mount.cut_power();
        audit(&Fixture::on(disk.crash_keep_all(), options()));
        // The disk is read by another one's copy: this one's outcome must not depend on who looks.
        world = World::on(disk.crash_keep_all()).unwrap();
        let found = world.now();
        let at = states.iter().rposition(|state| state == found);
        let at = at.unwrap_or_else(|| panic!("seed {seed}, cut {cut}: {:?}", found.keys()));
        lost += usize::from(at + 1 < states.len());
    }
    println!("{cuts} power cuts, {lost} of them lost calls that were not synced");
    assert!(lost > 0 || cuts < 10, "what is not synced is lost now and then");
}
