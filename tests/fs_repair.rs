//! Files over which patches lie, after what is under those was lost and the store was repaired: a file is
//! right or an error, and the check finds it. Nothing reads as zeros that was not.

mod fs_common;

use fs_common::{Fixture, USER, file, stepped};
use lsmfs::disk::Disk;
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::check::{check, mend};
use lsmfs::fs::{FileSystem, Ino, ROOT, SetAttr, engine_options};
use lsmfs::lsm::check::{Problem, Watch};
use lsmfs::lsm::repair::repair;
use std::sync::Arc;

struct Silent;

impl Watch for Silent {
    fn problem(&mut self, _: Problem) {}
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 33) as u8 | 1
        })
        .collect()
}

/// Flips a bit of the one file of the disk that holds these bytes.
fn damage(sim: &SimDisk, bytes: &[u8]) {
    let found = sim.list().unwrap().into_iter().find_map(|listed| {
        let at = sim.read_file(&listed.name).unwrap().windows(bytes.len()).position(|w| w == bytes)?;
        Some((listed.name, at as u64))
    });
    let (name, at) = found.expect("the bytes are on the disk");
    sim.flip_bit(&name, at, 1).unwrap();
}

/// Repairs the store; the file that was patched must be found out, and must be gone once the files are mended.
fn is_found_out(sim: SimDisk) {
    let sim = Arc::new(sim);
    let disk: Arc<dyn Disk> = sim.clone();
    repair(&disk, &engine_options(), &mut Silent).unwrap();
    let mut f = Fixture::on(sim.crash_keep_all(), stepped());
    let attr = f.fs.lookup(ROOT, b"file").unwrap().unwrap();
    let read = f.fs.read(attr.ino, 0, 10_000);
    assert!(read.is_err(), "{} bytes were read", read.unwrap().len());
    // The attributes are whole.
    assert!(attr.size >= 3000 && attr.nlink == 1, "{attr:?}");
    let volume = f.store.volume("main").unwrap();
    let found = check(&volume, &mut || ()).unwrap().findings;
    assert!(!found.is_empty());
    // A flush and a compaction leave it as it is, and fail for nobody.
    f.store.flush().unwrap();
    f.store.compact().unwrap();
    f.fs.read(attr.ino, 0, 10_000).unwrap_err();
    let mended = mend(&f.store, &volume).unwrap();
    assert!(mended.left.is_empty(), "{:?}", mended.left);
    f.reopen();
    assert_eq!(f.fs.lookup(ROOT, b"file").unwrap(), None);
}

/// A file of 3000 bytes, in a table.
fn written(f: &Fixture) -> (Ino, Vec<u8>) {
    let contents = noise(3000, 1);
    let ino = file(&f.fs, "file", &contents).ino;
    f.store.flush().unwrap();
    (ino, contents)
}

/// Such a file, changed, and then what is in the table is lost.
fn changed_and_lost(change: impl FnOnce(&FileSystem, Ino)) -> SimDisk {
    let f = Fixture::with(stepped());
    let (ino, contents) = written(&f);
    change(&f.fs, ino);
    f.store.flush().unwrap();
    f.fs.close().unwrap();
    f.store.close().unwrap();
    let sim = f.sim.crash_keep_all();
    damage(&sim, &contents[2000..2100]);
    sim
}

#[test]
fn a_patch_over_lost_contents_is_not_taken_for_the_file() {
    is_found_out(changed_and_lost(|fs, ino| assert_eq!(fs.write(ino, 100, b"patched").unwrap(), 7)));
}

#[test]
fn attributes_over_lost_contents_are_not_taken_for_the_file() {
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    is_found_out(changed_and_lost(|fs, ino| assert_eq!(fs.setattr(ino, &mode, USER).unwrap().mode, 0o600)));
}

#[test]
fn an_append_behind_one_that_was_lost_is_not_taken_for_the_file() {
    let f = Fixture::with(stepped());
    let (ino, _) = written(&f);
    let (lost, kept) = (noise(100, 2), noise(100, 3));
    f.fs.write(ino, 3000, &lost).unwrap();
    f.fs.write(ino, 3100, &kept).unwrap();
    // Records that say that those before were durable: so the damage is no end of the log.
    for dir in [&b"one"[..], b"two"] {
        f.sync();
        f.fs.mkdir(ROOT, dir, 0o755, USER).unwrap();
    }
    f.sync();
    let sim = f.sim.crash_keep_all();
    damage(&sim, &lost);
    is_found_out(sim);
}
