//! Directories that were just emptied, counted in records and reads, not in time.
//!
//! `LSMFS_EMPTIED` says how many files (a million by hand, with `--release`).

mod fs_common;

use fs_common::{Fixture, USER};
use lsmfs::disk::sim::{Fault, Op};
use lsmfs::fs::{FileSystem, Ino, ROOT, RenameMode};
use lsmfs::lsm::options::CompactionMode;
use lsmfs::lsm::{Options, Store};
use std::ops::Bound;

fn files() -> u64 {
    std::env::var("LSMFS_EMPTIED").ok().and_then(|n| n.parse().ok()).unwrap_or(8_000)
}

fn name(n: u64) -> Vec<u8> {
    format!("f{n:07}").into_bytes()
}

/// The records that a listing of `dir` passes.
fn passed(store: &Store, dir: Ino) -> u64 {
    let volume = store.volume("main").unwrap();
    let key = |dir: Ino| [&b"e"[..], &dir.to_be_bytes()].concat();
    let mut scan = volume.scan(Bound::Included(&key(dir)), Bound::Excluded(&key(dir + 1))).unwrap();
    while scan.next().unwrap() {}
    scan.records_passed()
}

fn listed(fs: &FileSystem, dir: Ino) -> u64 {
    let mut names = 0;
    let handle = fs.opendir(dir).unwrap();
    let mut count = |_: lsmfs::fs::DirEntry<'_>| {
        names += 1;
        false
    };
    fs.readdir(&handle, 0, &mut count).unwrap();
    names
}

fn fill(f: &Fixture, dir: Ino) {
    for n in 0..files() {
        let made = f.fs.create(dir, &name(n), 0o644, USER).unwrap();
        f.fs.forget(made.ino, 1);
    }
}

/// Small memtables, and nothing is compacted: what a listing passes, only the removals have made little.
fn uncompacted() -> Options {
    Options { compaction: CompactionMode::None, memtable_size: 256 << 10, ..lsmfs::fs::engine_options() }
}

#[test]
fn a_directory_just_emptied_in_order_or_in_reverse_lists_in_few_steps() {
    for (in_reverse, in_tables) in [(false, false), (false, true), (true, false), (true, true)] {
        let f = Fixture::with(uncompacted());
        let dir = f.fs.mkdir(ROOT, b"big", 0o755, USER).unwrap().ino;
        fill(&f, dir);
        if in_tables {
            f.store.flush().unwrap();
        }
        for n in 0..files() {
            f.fs.unlink(dir, &name(if in_reverse { files() - 1 - n } else { n })).unwrap();
        }
        assert_eq!(listed(&f.fs, dir), 2, ". and ..");
        let context = format!("in reverse: {in_reverse}, in tables: {in_tables}");
        for flushed in [false, true] {
            // Names that were removed since the last sweep, and what a memtable holds.
            let passed = passed(&f.store, dir);
            assert!(passed < 2 * 2048 + 4000, "{context}, flushed: {flushed}: {passed} records");
            f.store.flush().unwrap();
        }
    }
}

#[test]
fn names_that_stay_are_not_swept_away() {
    let f = Fixture::with(uncompacted());
    let dir = f.fs.mkdir(ROOT, b"big", 0o755, USER).unwrap().ino;
    fill(&f, dir);
    let kept = |n: &u64| n % 5000 == 77;
    for n in (0..files()).filter(|n| !kept(n)) {
        f.fs.unlink(dir, &name(n)).unwrap();
        if n % 4999 == 0 {
            f.fs.create(dir, &[b"g", &name(n)[..]].concat(), 0o644, USER).unwrap();
        }
    }
    let stay = (0..files()).filter(kept).count() + (0..files()).filter(|n| !kept(n) && n % 4999 == 0).count();
    assert_eq!(listed(&f.fs, dir), 2 + stay as u64);
    for n in (0..files()).filter(kept) {
        f.fs.lookup(dir, &name(n)).unwrap().unwrap();
    }
}

#[test]
fn files_that_come_and_go_between_two_flushes_never_reach_the_disk() {
    let large = Options { memtable_size: 1 << 30, memtable_stall_size: 2 << 30, ..uncompacted() };
    let f = Fixture::with(large);
    let dir = f.fs.mkdir(ROOT, b"big", 0o755, USER).unwrap().ino;
    f.store.flush().unwrap();
    let records = || -> u64 { f.store.stats().volumes[0].levels.iter().flatten().map(|t| t.entries).sum() };
    let before = records();
    fill(&f, dir);
    (0..files()).for_each(|n| f.fs.unlink(dir, &name(n)).unwrap());
    f.store.flush().unwrap();
    // The directory's own entry, counters, a range tombstone each sweep.
    assert!(records() - before <= 10 + files() / 1000, "{} records more", records() - before);
}

#[test]
fn a_directory_emptied_by_renames_lists_in_few_steps_and_loses_no_name() {
    for within in [false, true] {
        let f = Fixture::with(uncompacted());
        let [from, to] =
            ["from", "to"].map(|name| f.fs.mkdir(ROOT, name.as_bytes(), 0o755, USER).unwrap().ino);
        fill(&f, from);
        for n in 0..files() {
            // Within one directory the new names come among the old ones that are gone, too.
            let (dir, new) = if within { (from, [&b"f"[..], &name(n)].concat()) } else { (to, name(n)) };
            f.fs.rename(from, &name(n), dir, &new, RenameMode::Replace).unwrap();
        }
        let there = if within { from } else { to };
        assert_eq!(listed(&f.fs, there), files() + 2);
        let others = if within { files() } else { 0 };
        let passed = passed(&f.store, from) - others;
        assert!(passed < 2 * 2048 + 4000, "within one directory: {within}: {passed} records");
    }
}

/// Sweeping is for speed: what it cannot read keeps no name from being removed.
#[test]
fn a_sweep_that_fails_keeps_nobody_from_removing() {
    let mut f = Fixture::with(uncompacted());
    let first = f.fs.mkdir(ROOT, b"first", 0o755, USER).unwrap().ino;
    fill(&f, first);
    let dir = f.fs.mkdir(ROOT, b"second", 0o755, USER).unwrap().ino;
    fill(&f, dir);
    f.reopen();
    let dir = f.fs.lookup(ROOT, b"second").unwrap().unwrap().ino;
    let removals = 2048;
    let at = files() / 2;
    for n in at..at + removals - 1 {
        f.fs.unlink(dir, &name(n)).unwrap();
    }
    let last = name(at + removals - 1);
    let found = f.fs.lookup(dir, &last).unwrap().unwrap();
    f.fs.forget(found.ino, 1);
    f.sim.fail(Fault::new(Op::Read, libc::EIO).on(".sst").always());
    f.fs.unlink(dir, &last).unwrap();
    f.sim.clear_faults();
    assert_eq!(listed(&f.fs, dir), files() - removals + 2);
}
