//! A full disk: a clear error, nothing lost, and writing resumes when there is room.

mod common;

use common::{Place, run};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// A small file system for the store, gone at the end of the test.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    /// None without the right to mount.
    fn new(at: &Path) -> Option<SmallDisk<'_>> {
        fs::create_dir(at).unwrap();
        let done = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "small"]).arg(at));
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
fn contents(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..1 << 20).map(|_| next()).collect()
}

#[test]
fn a_full_disk_is_an_error_and_no_loss() {
    let place = Place::new();
    let disk = place.join("disk");
    let Some(_disk) = SmallDisk::new(&disk) else { return };
    fs::create_dir(disk.join("store")).unwrap();
    std::os::unix::fs::symlink(disk.join("store"), place.store()).unwrap();
    place.mount(&[]).ok();

    let path = |number: u32| place.dir().join(format!("file {number}"));
    let mut written = 0;
    let error = loop {
        match fs::write(path(written), contents(written)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "the disk holds 96 MiB");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    assert!(written > 5, "full after {written} MiB of 96");
    let all_there = || {
        for number in 0..written {
            assert!(fs::read(path(number)).unwrap() == contents(number), "file {number}");
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
