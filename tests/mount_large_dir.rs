//! A directory of many files: a listing through the mount has each of them once, and the daemon's memory stays
//! what it is for few.
//!
//! `LSMFS_DIR_ENTRIES` says how many files (ten million by hand, with `--release`).

mod common;

use common::{Mount, Place};
use lsmfs::disk::real::RealDisk;
use lsmfs::fs::{Caller, FileSystem, FsOptions, ROOT, engine_options};
use lsmfs::lsm::Store;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

/// What the daemon may take beside its caches and memtables: the program, its threads, the inodes that the
/// kernel knows (a million at most, and what listings add meanwhile).
const OVERHEAD: u64 = 200 << 20;

fn entries() -> u32 {
    std::env::var("LSMFS_DIR_ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(30_000)
}

/// The most memory that the daemon has had, in bytes.
fn peak(place: &Place) -> u64 {
    let pid = place.daemon().expect("a daemon has the store open");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Makes the files without a mount, which is faster.
fn fill(place: &Place) {
    let disk = RealDisk::open_or_create(&place.store(), Duration::ZERO).unwrap();
    let store = Arc::new(Store::open(Arc::new(disk), engine_options()).unwrap());
    let files = FileSystem::open(store.clone(), "main", FsOptions::default()).unwrap();
    let caller = Caller::new(0, 0);
    let dir = files.mkdir(ROOT, b"many", 0o755, caller).unwrap().ino;
    for number in 0..entries() {
        // Not in the order of their names.
        let name = format!("{:010}", number.wrapping_mul(2_654_435_761));
        let made = files.create(dir, name.as_bytes(), 0o644, caller).unwrap();
        files.forget(made.ino, 1);
    }
    files.close().unwrap();
    store.close().unwrap();
}

#[test]
fn a_listing_of_many_is_whole_and_its_memory_bounded() {
    let place = Place::new();
    fill(&place);
    let engine = engine_options();
    let bound = engine.cache_size + engine.memtable_budget as u64 + OVERHEAD;
    place.mount(&[]).ok();
    let mount = Mount { place };
    for _ in 0..2 {
        let mut listed: Vec<u64> = Vec::with_capacity(entries() as usize);
        for entry in fs::read_dir(mount.dir().join("many")).unwrap() {
            let name = entry.unwrap().file_name();
            listed.push(std::str::from_utf8(name.as_bytes()).unwrap().parse().unwrap());
        }
        assert_eq!(listed.len(), entries() as usize);
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), entries() as usize, "some were listed twice");
        let peak = peak(&mount.place);
        eprintln!("{} entries listed, the daemon took {} MiB at most", entries(), peak >> 20);
        assert!(peak < bound, "{peak} bytes, of {bound} allowed");
    }
}
