//! `.lsmfs` in a real mount: the programs that people use on files show the store's figures.

mod common;

use common::{Mount, Place, run, sh};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

fn figures(mount: &Mount) -> Value {
    serde_json::from_slice(&fs::read(mount.dir().join(".lsmfs/stats.json")).unwrap()).unwrap()
}

#[test]
fn programs_read_the_figures() {
    let mount = Mount::new();
    sh(&mount.dir(), "mkdir d; for i in $(seq 20); do echo $i > d/$i; done");
    let text = sh(&mount.dir(), "cat .lsmfs/stats; cat .lsmfs/stats | wc -l; head -c 5 .lsmfs/stats");
    for words in ["volume main", "amplification: write", "latency"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert!(figures(&mount)["writes"]["batches"].as_u64().unwrap() > 40);
    assert_eq!(
        sh(&mount.dir(), "ls .lsmfs; ls -A; find . | sort | head -2"),
        "snapshots\nstats\nstats.json\nd\n.\n./d\n"
    );
    let shown = sh(&mount.dir(), "stat -c '%a %F' .lsmfs .lsmfs/stats; ls -l .lsmfs | wc -l");
    assert_eq!(shown, "500 directory\n400 regular file\n4\n");
    sh(&mount.dir(), "cp .lsmfs/stats.json copy; grep -q open_ns copy; tar -cf t.tar .lsmfs");
    assert_eq!(
        sh(&mount.dir(), "tar -tf t.tar"),
        ".lsmfs/\n.lsmfs/snapshots/\n.lsmfs/stats\n.lsmfs/stats.json\n"
    );
}

#[test]
fn each_look_shows_new_figures_and_an_open_file_keeps_its_own() {
    let mount = Mount::new();
    let path = mount.dir().join(".lsmfs/stats.json");
    let mut open = File::open(&path).unwrap();
    let before = figures(&mount)["writes"]["user_bytes"].as_u64().unwrap();
    fs::write(mount.dir().join("f"), vec![b'x'; 100_000]).unwrap();
    let after = figures(&mount)["writes"]["user_bytes"].as_u64().unwrap();
    assert!(after >= before + 100_000, "{before} {after}");
    let mut old = String::new();
    open.read_to_string(&mut old).unwrap();
    assert_eq!(open.metadata().unwrap().len(), old.len() as u64);
    let old_figures: Value = serde_json::from_str(&old).unwrap();
    assert!(old_figures["writes"]["user_bytes"].as_u64().unwrap() <= before);
    let mut again = vec![0; old.len()];
    open.read_exact_at(&mut again, 0).unwrap();
    assert_eq!(again, old.as_bytes());
    assert_ne!(fs::metadata(&path).unwrap().ino(), open.metadata().unwrap().ino());
}

#[test]
fn what_was_looked_at_is_forgotten() {
    let mount = Mount::new();
    // More than may be known at once.
    sh(
        &mount.dir(),
        "for i in $(seq 45); do head -qc 1 $(printf '.lsmfs/stats %.0s' $(seq 100)) > /dev/null; done",
    );
    assert!(figures(&mount)["open_ns"].as_u64().unwrap() > 0);
}

#[test]
fn nothing_there_can_be_changed() {
    let mount = Mount::new();
    let dir = mount.dir();
    fs::write(dir.join("plain"), "x").unwrap();
    for script in [
        "mkdir .lsmfs/d",
        ": > .lsmfs/new",
        ": > .lsmfs/stats",
        "echo x >> .lsmfs/stats",
        "rm -f .lsmfs/stats",
        "rmdir .lsmfs",
        "rm -rf .lsmfs",
        "mv .lsmfs other",
        "mv plain .lsmfs/",
        "mv -T plain .lsmfs",
        "mv .lsmfs/stats other",
        "ln plain .lsmfs/plain",
        "ln .lsmfs/stats other",
        "ln -s plain .lsmfs/link",
        "chmod 777 .lsmfs",
        "chmod 777 .lsmfs/stats",
        "touch .lsmfs/stats",
        "truncate -s 0 .lsmfs/stats",
        "mkdir .lsmfs",
    ] {
        let done = run(Command::new("bash").args(["-c", script]).current_dir(&dir));
        assert_ne!(done.status, 0, "{script}: {done:?}");
    }
    assert_eq!(fs::create_dir(dir.join(".lsmfs/d")).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(fs::remove_dir(dir.join(".lsmfs")).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(sh(&dir, "ls -A; ls -A .lsmfs; cat plain"), "plain\nsnapshots\nstats\nstats.json\nx");
    mount.remount();
    assert_eq!(sh(&dir, "ls -A"), "plain\n");
}

#[test]
fn a_file_of_that_name_cannot_be_put() {
    let place = Place::new();
    place.lsmfs("put", &["a", "--value", "x"]).ok();
    place.lsmfs("put", &[".lsmfs", "--value", "x"]).fails(1, &[".lsmfs", "is a directory"]);
    place.lsmfs("put", &[".lsmfs/new", "--value", "x"]).fails(1, &["not permitted"]);
    place.lsmfs("put", &["dir/.lsmfs", "--value", "x"]).ok();
    assert_eq!(place.lsmfs("scan", &["--keys"]).ok(), "a\ndir/.lsmfs\n");
    assert!(place.lsmfs("get", &[".lsmfs/stats"]).ok().contains("volume main"));
}

#[test]
fn others_may_not_look() {
    let mount = Mount::new();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat", ".lsmfs/stats"]);
    let done = run(command.current_dir(mount.dir()));
    if !rustix::process::geteuid().is_root() || done.err.contains("setpriv") {
        eprintln!("needs root: {}", done.err);
        return;
    }
    assert_eq!(done.status, 1);
    assert!(done.err.contains("Permission denied"), "{done:?}");
}

#[test]
fn the_way_of_compaction_is_an_option() {
    for options in [&["--compaction", "none"][..], &["-o", "compaction=tiered"], &["--compaction=leveled"]] {
        let place = Place::new();
        place.mount(options).ok();
        fs::write(place.dir().join("f"), "x").unwrap();
        place.umount().ok();
    }
    let place = Place::new();
    place.mount(&["-o", "compaction=best"]).fails(2, &["compaction=best", "leveled"]);
    assert_eq!(place.mount(&["--compaction", "best"]).status, 2);
}
