//! The scripts beside the command: the helper for mount(8), and the demonstration.

mod common;

use common::{LSMFS, Place, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-scripts").join(name)
}

fn bench(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name)
}

fn helper(place: &Place, args: &[&str]) -> common::Done {
    let mut command = Command::new(script("mount.fuse.lsmfs"));
    run(command.env("LSMFS", LSMFS).arg(place.store()).arg(place.dir()).args(args))
}

#[test]
fn the_helper_mounts_with_the_options_that_mount_passes() {
    let place = Place::new();
    helper(&place, &["-n", "-o", "rw,noatime,nofail,x-systemd.automount", "-t", "fuse.lsmfs"]).ok();
    assert!(place.is_mounted());
    fs::write(place.dir().join("a"), "one").unwrap();
    place.umount().ok();
    assert_eq!(place.lsmfs("get", &["a"]).ok(), "one");
}

#[test]
fn the_helper_changes_a_mount_to_read_only_and_back() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("remounting needs root");
        return;
    }
    let place = Place::new();
    helper(&place, &["-o", "rw,threads=2"]).ok();
    helper(&place, &["-o", "remount,ro,threads=2,user_id=0"]).ok();
    let refused = fs::write(place.dir().join("a"), "one").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    helper(&place, &["-o", "remount,rw"]).ok();
    fs::write(place.dir().join("a"), "one").unwrap();
}

#[test]
fn a_fake_mount_only_says_what_it_would_do() {
    let place = Place::new();
    let done = helper(&place, &["-fv", "-o", "noatime"]);
    assert_eq!(done.status, 0);
    assert!(done.err.contains(&format!("{LSMFS} mount -o noatime -- ")), "{done:?}");
    assert!(!place.store().exists());
}

#[test]
fn the_helper_passes_errors_on() {
    let place = Place::new();
    assert_eq!(helper(&place, &["-o", "noatme"]).status, 2);
    let mut command = Command::new(script("mount.fuse.lsmfs"));
    assert_eq!(run(command.arg("only-one")).status, 2);
}

#[test]
fn the_demonstration_runs_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(script("demo.sh"));
    let done = run(command.env("LSMFS", LSMFS).env("TMPDIR", scratch.path()).arg("--quick"));
    assert_eq!(done.status, 0, "{done:?}");
    for word in ["memtable", "flush", "level 0", "scan", "remount"] {
        assert!(done.text().contains(word), "no {word:?} in:\n{}", done.text());
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn real_work_passes_its_own_checks_and_leaves_nothing_behind() {
    if !["cargo", "git", "python3"].into_iter().all(common::has) {
        eprintln!("no cargo, git or python3 here: install them to run this test");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(bench("real-work.sh"));
    let done = run(command.env("LSMFS", LSMFS).env("TMPDIR", scratch.path()).arg("--quick"));
    assert_eq!(done.status, 0, "{done:?}");
    assert!(done.text().contains("failed: 0"), "{done:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn the_scripts_are_sound() {
    if !common::has("shellcheck") {
        eprintln!("no shellcheck here: install it to run this test");
        return;
    }
    let scripts = ["mount.fuse.lsmfs", "demo.sh", "test.sh"].map(script);
    let judges = ["lib.sh", "pjdfstest.sh", "fsx.sh"].map(|name| format!("tests/judges/{name}"));
    let mut command = Command::new("shellcheck");
    run(command.arg("-x").args(scripts).arg(bench("real-work.sh")).args(judges).arg(".ci/run")).ok();
}
