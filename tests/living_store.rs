//! A store that is mounted and changed by commands: the mounts show it at once, whatever the kernel had cached.

mod common;

use common::{Mount, names, sh};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn what_a_command_puts_is_seen_at_once() {
    let mount = Mount::new();
    let (dir, place) = (mount.dir(), &mount.place);
    for round in 0..50 {
        let name = format!("file{round}");
        let file = dir.join(&name);
        // The kernel now knows that it is absent, and the directory's attributes and names.
        assert_eq!(fs::metadata(&file).unwrap_err().kind(), ErrorKind::NotFound);
        let before = (fs::metadata(&dir).unwrap().mtime_nsec(), names(&dir).len());
        place.lsmfs("put", &[&name, "--value", "first"]).ok();
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(names(&dir).len(), before.1 + 1);
        assert_ne!(fs::metadata(&dir).unwrap().mtime_nsec(), before.0);
        // Its pages and its size are cached.
        place.lsmfs("put", &[&name, "--value", "the second"]).ok();
        assert_eq!(fs::read(&file).unwrap(), b"the second");
        assert_eq!(fs::metadata(&file).unwrap().len(), 10);
        place.lsmfs("rm", &[&name]).ok();
        assert_eq!(fs::metadata(&file).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(names(&dir).len(), before.1);
    }
}

#[test]
fn what_is_open_stays_what_it_was() {
    let mount = Mount::new();
    let file = mount.dir().join("a");
    for (old, new) in [("old", "new"), ("longer than a page", "short")] {
        fs::write(&file, old.repeat(3000)).unwrap();
        fs::hard_link(&file, mount.dir().join("other name")).unwrap();
        let open = File::open(&file).unwrap();
        assert_eq!(open.metadata().unwrap().nlink(), 2);
        mount.place.lsmfs("put", &["a", "--value", new]).ok();
        assert_eq!(fs::read(&file).unwrap(), new.as_bytes());
        assert_eq!(open.metadata().unwrap().nlink(), 1);
        fs::remove_file(mount.dir().join("other name")).unwrap();
        let mut read = vec![0; old.len() * 3000];
        open.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, old.repeat(3000).as_bytes());
    }
}

#[test]
fn whole_directories_come_and_go() {
    let mount = Mount::new();
    let dir = mount.dir();
    assert!(!dir.join("d").exists());
    mount.place.lsmfs("put", &["d/e/f", "--value", "x"]).ok();
    assert_eq!(sh(&dir, "find . | sort"), ".\n./d\n./d/e\n./d/e/f\n");
    sh(
        &dir.join("d"),
        "mkdir -p many; cd many; for n in $(seq 300); do echo $n > $n; done; ls -l > /dev/null",
    );
    mount.place.lsmfs("rm", &["-r", "d"]).ok();
    assert!(!dir.join("d").exists());
    assert_eq!(fs::metadata(&dir).unwrap().nlink(), 2);
    fs::create_dir(dir.join("d")).unwrap();
    assert_eq!(names(&dir.join("d")), Vec::<String>::new());
    mount.place.umount().ok();
    mount.place.lsmfs("check", &[]).ok();
}

#[test]
fn a_batch_is_seen_at_once() {
    let mount = Mount::new();
    let dir = mount.dir();
    sh(&dir, "mkdir -p d/sub; echo old > d/a; echo b > d/b; ln d/b linked; ls -lR > /dev/null");
    assert!(!dir.join("d/new").exists() && !dir.join("moved").exists());
    let store = mount.place.store();
    let batch = b"put d/new first\nput d/a second\nmv d/sub moved\nmv d/b d/c\nrm linked\n";
    common::lsmfs_fed(["batch", store.to_str().unwrap()], batch).ok();
    let listed = sh(&dir, "cat d/new d/a; find . | sort; stat -c %h d/c");
    assert_eq!(listed, "firstsecond.\n./d\n./d/a\n./d/c\n./d/new\n./moved\n1\n");
}

#[test]
fn writers_through_the_mount_and_by_command_agree() {
    let mount = Mount::new();
    let dir = mount.dir();
    std::thread::scope(|scope| {
        let (dir, place) = (&dir, &mount.place);
        scope.spawn(move || {
            for round in 0..40 {
                place.lsmfs("put", &["shared", "--value", &format!("{round:0>5000}")]).ok();
            }
        });
        scope.spawn(move || {
            for round in 0..400 {
                let text = fs::read_to_string(dir.join("shared")).unwrap_or_default();
                assert!([0, 5000].contains(&text.len()), "{} bytes", text.len());
                fs::write(dir.join(format!("own{}", round % 7)), "x").unwrap();
                names(dir);
            }
        });
    });
    assert_eq!(fs::read_to_string(dir.join("shared")).unwrap(), format!("{:0>5000}", 39));
    assert_eq!(names(&dir).len(), 8);
}

#[test]
fn snapshots_are_taken_read_and_dropped_through_the_mount() {
    let mount = Mount::new();
    let dir = mount.dir();
    let snapshots = dir.join(".lsmfs/snapshots");
    sh(&dir, "mkdir d; echo one > d/a; echo two > b; ln b c; head -c 100000 /dev/zero > big");
    assert_eq!(names(&snapshots), Vec::<String>::new());
    fs::create_dir(snapshots.join("monday")).unwrap();
    sh(&dir, "echo changed > d/a; rm b; echo more >> big; echo new > new");
    let monday = snapshots.join("monday");
    assert_eq!(names(&monday), ["b", "big", "c", "d"]);
    assert_eq!(fs::read(monday.join("d/a")).unwrap(), b"one\n");
    assert_eq!(fs::metadata(monday.join("b")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(monday.join("big")).unwrap().len(), 100_000);
    // A file and its older self are two files, to whoever compares numbers.
    let ino = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_ne!(ino(&dir.join("d/a")), ino(&monday.join("d/a")));
    assert_eq!(ino(&monday.join("b")), ino(&monday.join("c")));
    let changed = sh(&dir, "diff -rq .lsmfs/snapshots/monday . || true");
    assert!(changed.contains("d/a differ") && changed.contains("Only in .: new"), "{changed}");
    sh(&dir, "mkdir ../copy; cp -a .lsmfs/snapshots/monday ../copy/; grep -q one ../copy/monday/d/a");
    // Nothing in it can be changed.
    for denied in ["echo x > d/a", "rm b", "mkdir e", "mv b x", "chmod 600 b"] {
        let script = format!("cd .lsmfs/snapshots/monday; if {denied}; then exit 7; fi 2> ../../../../said");
        sh(&dir, &format!("({script})"));
        assert!(fs::read_to_string(mount.place.join("said")).unwrap().contains("Read-only"), "{denied}");
    }
    // By command, and at once to be seen.
    assert!(!snapshots.join("tuesday").exists());
    let store = mount.place.store();
    let store = store.to_str().unwrap();
    common::lsmfs(["snapshot", "create", store, "main", "tuesday"]).ok();
    assert_eq!(names(&snapshots), ["monday", "tuesday"]);
    assert_eq!(fs::read(snapshots.join("tuesday/d/a")).unwrap(), b"changed\n");
    assert_eq!(fs::create_dir(&monday).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut open = File::open(monday.join("d/a")).unwrap();
    fs::remove_dir(&monday).unwrap();
    assert!(!monday.exists());
    // What is in no cache is gone.
    let _ = open.read(&mut [0; 10]);
    drop(open);
    common::lsmfs(["snapshot", "delete", store, "main", "tuesday"]).ok();
    assert!(!snapshots.join("tuesday").exists());
    assert_eq!(names(&snapshots), Vec::<String>::new());
    // Nothing else is made there.
    for denied in [fs::write(snapshots.join("f"), "x"), fs::rename(dir.join("new"), snapshots.join("n"))] {
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    mount.place.umount().ok();
    mount.place.lsmfs("check", &[]).ok();
}

#[test]
fn a_batch_whose_operations_come_slowly_keeps_nobody_waiting() {
    let mount = Mount::new();
    let mut batch = Command::new(env!("CARGO_BIN_EXE_lsmfs"));
    batch.arg("batch").arg(mount.place.store()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut batch = batch.spawn().unwrap();
    let mut input = batch.stdin.take().unwrap();
    // More than pipes and sockets hold: the daemon has taken some of it.
    let lines: String = (0..20_000).map(|n| format!("put d/f{} {}\n", n % 500, "x".repeat(100))).collect();
    input.write_all(lines.as_bytes()).unwrap();
    let dir = mount.dir();
    let (done, wait) = mpsc::channel();
    let writing = thread::spawn(move || {
        fs::create_dir(dir.join("e")).unwrap();
        fs::write(dir.join("e/f"), b"beside").unwrap();
        done.send(fs::read(dir.join("e/f")).unwrap()).unwrap();
    });
    assert_eq!(wait.recv_timeout(Duration::from_secs(60)), Ok(b"beside".to_vec()));
    writing.join().unwrap();
    input.write_all(b"expect e/f value beside\nversion d/f0\n").unwrap();
    drop(input);
    let done = batch.wait_with_output().unwrap();
    assert!(done.status.success() && done.stdout.starts_with(b"d/f0\t"), "{done:?}");
    assert_eq!(names(&mount.dir().join("d")).len(), 500);
}
