//! The daemon killed (`kill -9`) while programs work in the mount: what was answered is there afterwards.
//!
//! The oracle is this process, which is no part of the daemon: it keeps what each operation should have left,
//! and which one had no answer when the daemon died. That one may have happened, or not, or (a file that is
//! made and then written) in part. `LSMFS_KILLS` sets the number of kills.

mod common;

use common::Place;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const WRITERS: u64 = 3;
const NAMES: u64 = 12;

/// A small generator of numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let byte = self.below(256) as u8;
        (0..len).map(|i| byte.wrapping_add(i as u8)).collect()
    }
}

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone)]
enum Op {
    Put(String, Vec<u8>),
    Append(String, Vec<u8>),
    Remove(String),
    Rename(String, String),
    Truncate(String, u64),
}

/// One program's directory: what should be in it, and what may be.
struct Writer {
    dir: PathBuf,
    rng: Rng,
    files: Files,
    in_doubt: Option<Op>,
}

impl Writer {
    fn next_op(&mut self) -> Op {
        let name = format!("file{}", self.rng.below(NAMES));
        let exists = self.files.contains_key(&name);
        // Inline, in chunks, and in blob files.
        let len = match self.rng.below(8) {
            0 => 60_000 + self.rng.below(80_000),
            1 => 5000 + self.rng.below(5000),
            _ => self.rng.below(300),
        };
        match self.rng.below(6) {
            0 if exists => Op::Remove(name),
            1 if exists => Op::Rename(name, format!("file{}", self.rng.below(NAMES))),
            2 if exists => Op::Append(name, self.rng.bytes(len)),
            3 if exists => Op::Truncate(name, self.rng.below(70_000)),
            _ => Op::Put(name, self.rng.bytes(len)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn run(&self, op: &Op) -> io::Result<()> {
        match op {
            Op::Put(name, bytes) => File::create(self.path(name))?.write_all(bytes),
            Op::Append(name, bytes) => {
                OpenOptions::new().append(true).open(self.path(name))?.write_all(bytes)
            }
            Op::Remove(name) => fs::remove_file(self.path(name)),
            Op::Rename(from, to) => fs::rename(self.path(from), self.path(to)),
            Op::Truncate(name, len) => OpenOptions::new().write(true).open(self.path(name))?.set_len(*len),
        }
    }

    /// Works until the daemon dies.
    fn work(&mut self, answered: &AtomicU64) {
        loop {
            let op = self.next_op();
            self.in_doubt = Some(op.clone());
            if let Err(error) = self.run(&op) {
                // The last one over io_uring.
                let died = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO, libc::ECANCELED];
                assert!(error.raw_os_error().is_some_and(|n| died.contains(&n)), "{op:?}: {error}");
                return;
            }
            apply(&mut self.files, &op);
            self.in_doubt = None;
            answered.fetch_add(1, Ordering::Release);
        }
    }

    /// Compares what is there to what was answered, and goes on from what is there.
    fn verify(&mut self, what: &str) {
        let found = read(&self.dir);
        let possible = match self.in_doubt.take() {
            None => vec![self.files.clone()],
            Some(op) => outcomes(&self.files, &op),
        };
        assert!(possible.contains(&found), "{what}: {}", difference(&found, &possible[0]));
        self.files = found;
    }
}

fn apply(files: &mut Files, op: &Op) {
    match op {
        Op::Put(name, bytes) => _ = files.insert(name.clone(), bytes.clone()),
        Op::Append(name, bytes) => files.get_mut(name).unwrap().extend(bytes),
        Op::Remove(name) => _ = files.remove(name),
        Op::Rename(from, to) => {
            let moved = files.remove(from).unwrap();
            files.insert(to.clone(), moved);
        }
        Op::Truncate(name, len) => files.get_mut(name).unwrap().resize(*len as usize, 0),
    }
}

/// What an operation without an answer may have left.
fn outcomes(files: &Files, op: &Op) -> Vec<Files> {
    let mut all = vec![files.clone()];
    let mut one = |op: &Op| {
        let mut next = files.clone();
        apply(&mut next, op);
        all.push(next);
    };
    one(op);
    // The kernel cuts a long write into requests, at pages.
    match op {
        Op::Put(name, bytes) => {
            (0..=bytes.len()).step_by(4096).for_each(|n| one(&Op::Put(name.clone(), bytes[..n].to_vec())));
        }
        Op::Append(name, bytes) => {
            let len = files[name].len();
            let cuts = (1..=bytes.len()).filter(|n| (len + n).is_multiple_of(4096));
            cuts.for_each(|n| one(&Op::Append(name.clone(), bytes[..n].to_vec())));
        }
        _ => {}
    }
    all
}

fn read(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let file =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    entries.map(file).collect()
}

fn difference(found: &Files, wanted: &Files) -> String {
    let names: std::collections::BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let differ = names.into_iter().filter(|name| found.get(*name) != wanted.get(*name));
    let lens = differ.map(|name| {
        let len = |files: &Files| files.get(name).map(|bytes| bytes.len());
        format!("{name}: found {:?}, wanted {:?}", len(found), len(wanted))
    });
    lens.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_was_answered_survives_the_daemons_death() {
    let kills: u64 = std::env::var("LSMFS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let seed = std::env::var("LSMFS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let place = Place::new();
    place.mount(&[]).ok();
    let mut rng = Rng(seed);
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|n| {
            let dir = place.dir().join(format!("writer{n}"));
            fs::create_dir(&dir).unwrap();
            Writer { dir, rng: Rng(seed * 1000 + n), files: Files::new(), in_doubt: None }
        })
        .collect();
    let answered = AtomicU64::new(0);
    for kill in 0..kills {
        let enough = answered.load(Ordering::Acquire) + rng.below(400);
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                writers.iter_mut().map(|writer| scope.spawn(|| writer.work(&answered))).collect();
            while answered.load(Ordering::Acquire) < enough && workers.iter().all(|w| !w.is_finished()) {
                std::thread::yield_now();
            }
            place.signal("KILL");
        });
        let what = format!("seed {seed}, kill {kill}");
        // The mount that died hides nothing from the check: it works on the store.
        place.wait_closed();
        if kill % 4 == 0 {
            let checked = place.lsmfs("check", &[]);
            assert_eq!(checked.status, 0, "{what}: {}", checked.text());
        }
        place.mount(&[]).ok();
        writers.iter_mut().for_each(|writer| writer.verify(&what));
    }
    println!("{kills} kills, {} operations answered", answered.load(Ordering::Acquire));
    place.umount().ok();
    place.lsmfs("check", &[]).ok();
}
