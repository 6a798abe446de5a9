//! A full disk: a clear error, nothing lost, and writing resumes when there is room.

mod common;

use common::{Place, run};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A small file system for the store, gone at the end of the test.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    /// None without the right to mount.
    fn new<'a>(at: &'a Path, size: &str) -> Option<SmallDisk<'a>> {
        fs::create_dir(at).unwrap();
        let done = run(Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size}"))
            .arg("small")
            .arg(at));
        if done.status != 0 {
            eprintln!("mounting a small disk needs root: {}", done.err);
            return None;
        }
        Some(SmallDisk(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.0));
    }
}

/// Contents that do not compress, and differ from file to file.
fn contents(number: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Small files stand in tables: their room comes back by merges, which need room themselves.
#[test]
fn a_disk_full_of_small_files_takes_as_many_again_when_they_are_removed() {
    let place = Place::new();
    let disk = place.join("disk");
    let Some(_disk) = SmallDisk::new(&disk, "32m") else { return };
    fs::create_dir(disk.join("store")).unwrap();
    std::os::unix::fs::symlink(disk.join("store"), place.store()).unwrap();
    place.mount(&[]).ok();

    let small = |number: usize| contents(number as u32, 3500);
    let path = |number: usize| place.dir().join(format!("{number}"));
    let is_full = |error: &io::Error| error.raw_os_error() == Some(libc::ENOSPC);
    let mut count = 0;
    let refused = loop {
        match fs::write(path(count), small(count)) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 10_000, "the disk holds 32 MiB");
    };
    assert!(is_full(&refused), "{refused}");
    assert!(count > 2000, "full after {count} files");
    let sample = |n: usize| assert!(fs::read(path(n)).unwrap() == small(n), "file {n}");
    (0..count).step_by(97).for_each(sample);

    for n in (0..=count).filter(|n| n % 2 == 0) {
        match fs::remove_file(path(n)) {
            Err(error) if n == count && error.kind() == io::ErrorKind::NotFound => (),
            done => done.unwrap_or_else(|e| panic!("remove {n}: {e}")),
        }
    }
    // Room comes back in the background: each refused write asks for it.
    let patience = Instant::now() + Duration::from_secs(120);
    for n in (0..count).step_by(2).take(count * 2 / 5) {
        while let Err(error) = fs::write(path(n), small(n)) {
            assert!(is_full(&error), "{error}");
            assert!(Instant::now() < patience, "no room for file {n} of {count}, half of which were removed");
            std::thread::yield_now();
        }
    }
    (0..count * 4 / 5).step_by(97).for_each(sample);
    place.umount().ok();
    place.lsmfs("check", &[]).ok();
}

#[test]
fn a_full_disk_is_an_error_and_no_loss() {
    let place = Place::new();
    let disk = place.join("disk");
    let Some(_disk) = SmallDisk::new(&disk, "96m") else { return };
    fs::create_dir(disk.join("store")).unwrap();
    std::os::unix::fs::symlink(disk.join("store"), place.store()).unwrap();
    place.mount(&[]).ok();

    let path = |number: u32| place.dir().join(format!("file {number}"));
    let mut written = 0;
    let error = loop {
        match fs::write(path(written), contents(written, 1 << 20)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "the disk holds 96 MiB");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    assert!(written > 5, "full after {written} MiB of 96");
    let all_there = || {
        for number in 0..written {
            assert!(fs::read(path(number)).unwrap() == contents(number, 1 << 20), "file {number}");
        }
    };
    all_there();

    // What failed may be there in part; it and more can be removed.
    match fs::remove_file(path(written)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("remove: {error}"),
        _ => (),
    }
    place.umount().ok();
    place.mount(&[]).ok();
    all_there();
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), written as usize);
    // Before the disk below it goes.
    place.umount().ok();
}

/// A fork that went its own way, another volume, and what a snapshot kept of removed files.
#[test]
fn volumes_and_snapshots_deleted_on_a_full_disk_give_their_room_back() {
    let place = Place::new();
    let disk = place.join("disk");
    let Some(_disk) = SmallDisk::new(&disk, "32m") else { return };
    fs::create_dir(disk.join("store")).unwrap();
    std::os::unix::fs::symlink(disk.join("store"), place.store()).unwrap();
    place.mount(&["--all"]).ok();
    let path = |volume: &str, n: u32| place.dir().join(volume).join(format!("{n}"));
    let is_full = |error: &io::Error| error.raw_os_error() == Some(libc::ENOSPC);
    // Until the disk is full; how many files there are.
    let fill = |volume: &str, first: u32| {
        for n in first.. {
            assert!(n < 10_000, "the disk holds 32 MiB");
            if let Err(error) = fs::write(path(volume, n), contents(n, 100_000)) {
                assert!(is_full(&error), "{error}");
                let _ = fs::remove_file(path(volume, n));
                return n - first;
            }
        }
        unreachable!("numbers do not end");
    };
    let resume = |count: u32, what: &str| {
        let patience = Instant::now() + Duration::from_secs(120);
        for n in 0..count {
            while let Err(error) = fs::write(path("main", n), contents(n, 100_000)) {
                assert!(is_full(&error), "{error}");
                assert!(Instant::now() < patience, "{what}: no room for file {n} of {count}");
                std::thread::yield_now();
            }
        }
        for n in 0..count {
            assert!(fs::read(path("main", n)).unwrap() == contents(n, 100_000), "{what}: file {n}");
            fs::remove_file(path("main", n)).unwrap();
        }
    };

    let store = place.store();
    let lsmfs = |words: &[&str]| {
        common::lsmfs(words.iter().map(|word| match *word {
            "STORE" => store.as_os_str(),
            word => word.as_ref(),
        }))
    };
    lsmfs(&["volume", "create", "STORE", "other"]).ok();
    let count = fill("other", 0);
    assert!(count > 100, "full after {count} files");
    lsmfs(&["volume", "delete", "STORE", "other"]).ok();
    resume(count * 3 / 4, "a volume");

    fs::write(path("main", 0), contents(0, 100_000)).unwrap();
    lsmfs(&["fork", "STORE", "main", "fork"]).ok();
    let count = fill("fork", 1);
    lsmfs(&["volume", "delete", "STORE", "fork"]).ok();
    resume(count * 3 / 4, "a fork");

    let kept = fill("main", 0) / 2;
    (kept..kept * 2 + 1).for_each(|n| _ = fs::remove_file(path("main", n)));
    lsmfs(&["snapshot", "create", "STORE", "main", "kept"]).ok();
    (0..kept).for_each(|n| fs::remove_file(path("main", n)).unwrap());
    let beside = fill("main", 1000);
    assert!(beside > 0);
    lsmfs(&["snapshot", "delete", "STORE", "main", "kept"]).ok();
    resume(kept * 3 / 4, "a snapshot");
    place.umount().ok();
    place.lsmfs("check", &[]).ok();
}
