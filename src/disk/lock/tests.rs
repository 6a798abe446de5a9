//! The lock, within a process (two open files conflict as two processes do) and between processes.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use tempfile::tempdir;

const NO_WAIT: Duration = Duration::ZERO;
/// Longer than any test may take: what waits so long hangs the test.
const FOREVER: Duration = Duration::from_secs(3600);

/// Set for the process that a test starts to hold a lock: the store's directory.
const CHILD_STORE: &str = "LSMFS_TEST_LOCK_CHILD_STORE";

fn in_use(result: std::result::Result<StoreLock, OpenError>) -> Owner {
    match result {
        Err(OpenError::InUse { pid, mount, closing, .. }) => Owner { pid, mount, serving: false, closing },
        other => panic!("expected InUse, not {other:?}"),
    }
}

fn contents(dir: &Path) -> String {
    fs::read_to_string(dir.join(LOCK_FILE)).unwrap()
}

#[test]
fn one_owner_at_a_time() {
    let dir = tempdir().unwrap();
    let us = std::process::id();
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), None);
    let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    assert_eq!(contents(dir.path()), format!("{HEADER}\npid {}\nend\n", us));
    let owner = in_use(StoreLock::acquire(dir.path(), NO_WAIT));
    assert_eq!(owner, Owner { pid: Some(us), mount: None, serving: false, closing: false });
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), Some(owner));
    assert!(!StoreLock::wait_released(dir.path(), NO_WAIT).unwrap());
    drop(lock);
    assert_eq!(contents(dir.path()).as_bytes(), CLOSED);
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), None);
    assert!(StoreLock::wait_released(dir.path(), NO_WAIT).unwrap());
    StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
}

#[test]
fn the_contents_follow_the_owner() {
    let dir = tempdir().unwrap();
    let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    let mount = PathBuf::from(OsString::from_vec(b"/a b\\c\nclosing\xff".to_vec()));
    let mut owner =
        Owner { pid: Some(std::process::id()), mount: Some(mount.clone()), serving: false, closing: false };
    lock.set_mount(Some(&mount)).unwrap();
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), Some(owner.clone()));
    lock.set_closing().unwrap();
    owner.closing = true;
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), Some(owner.clone()));
    lock.set_mount(None).unwrap();
    owner.mount = None;
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), Some(owner));
}

#[test]
fn a_living_mount_is_not_waited_for() {
    let dir = tempdir().unwrap();
    let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    lock.set_mount(Some(Path::new("/mnt/x"))).unwrap();
    let refused = StoreLock::acquire_unless(dir.path(), FOREVER, |path| path == Path::new("/mnt/x"));
    let message = refused.as_ref().unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}: the store is in use by process {}, mounted at /mnt/x",
            dir.path().display(),
            std::process::id()
        )
    );
    assert_eq!(in_use(refused).mount, Some("/mnt/x".into()));
    // A closing one is, and so is one whose mount is gone already.
    lock.set_closing().unwrap();
    let closing = StoreLock::acquire_unless(dir.path(), POLL_INTERVAL, |_| true);
    let message = closing.as_ref().unwrap_err().to_string();
    assert!(message.ends_with(", which is closing it"), "{message}");
    assert!(in_use(closing).closing);
}

#[test]
fn a_closing_owner_is_waited_for() {
    let dir = tempdir().unwrap();
    let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    lock.set_mount(Some(Path::new("/mnt/x"))).unwrap();
    lock.set_closing().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| StoreLock::acquire_unless(dir.path(), FOREVER, |_| true));
        let released = scope.spawn(|| StoreLock::wait_released(dir.path(), FOREVER));
        drop(lock);
        drop(waiting.join().unwrap().unwrap());
        assert!(released.join().unwrap().unwrap());
    });
}

#[test]
fn many_take_turns() {
    let dir = tempdir().unwrap();
    let inside = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let lock = StoreLock::acquire(dir.path(), FOREVER).unwrap();
                    let alone = inside.try_lock();
                    assert!(alone.is_some(), "two hold the lock");
                    drop(alone);
                    drop(lock);
                }
            });
        }
    });
}

#[test]
fn only_regular_lock_files_are_taken() {
    let dir = tempdir().unwrap();
    let path = dir.path().join(LOCK_FILE);
    let refused = || {
        let error = StoreLock::acquire(dir.path(), NO_WAIT).unwrap_err().to_string();
        assert_eq!(error, format!("lock {}: not a regular file", path.display()));
        assert!(StoreLock::owner(dir.path()).is_err());
    };
    fs::write(dir.path().join("precious"), "data").unwrap();
    std::os::unix::fs::symlink("precious", &path).unwrap();
    refused();
    assert_eq!(fs::read_to_string(dir.path().join("precious")).unwrap(), "data");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
    fs::remove_dir(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    refused();
}

#[test]
fn damaged_or_stale_contents_name_nobody() {
    let dir = tempdir().unwrap();
    let path = dir.path().join(LOCK_FILE);
    let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    let long = vec![b'x'; 3 * CONTENTS_BYTES_MAX];
    let alive = format!("pid {}\nmount /m\n", std::process::id());
    // Without an end, with the pid of no process, with no pid at all, with anything.
    for damaged in
        ["", &alive, "pid 4194305\nmount /m\nend\n", "pid -1\nend\n", "pid 0\nend\n", "mount /m\nend\n"]
            .map(str::as_bytes)
            .iter()
            .chain(&[&long[..], b"\xff\xfe\n\n\\", b"pid 99999999999\nend\n"])
    {
        fs::write(&path, damaged).unwrap();
        let nobody = Owner::default();
        assert_eq!(StoreLock::owner(dir.path()).unwrap(), Some(nobody.clone()), "{damaged:?}");
    }
    let refused = StoreLock::acquire(dir.path(), NO_WAIT);
    let message = refused.as_ref().unwrap_err().to_string();
    assert!(message.ends_with("the store is in use by another process"), "{message}");
    // A rewrite that has not yet cut the end off.
    fs::write(&path, format!("{alive}end\npid 1\nclosing\nend\n")).unwrap();
    let owner = StoreLock::owner(dir.path()).unwrap().unwrap();
    assert_eq!((owner.mount, owner.closing), (Some("/m".into()), false));
    drop(lock);
}

#[test]
fn a_full_disk_is_an_error_only_where_something_is_said() {
    // Stands for the file system that has no room: writing to it fails with ENOSPC.
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let lock = StoreLock { file: full, path: "LOCK".into(), said: Mutex::new(Some(Owner::default())) };
    assert!(lock.set_closing().unwrap_err().is_full());
    drop(lock);
    let dir = tempdir().unwrap();
    drop(StoreLock::acquire(dir.path(), NO_WAIT).unwrap());
    assert!(fs::metadata(dir.path().join(LOCK_FILE)).unwrap().len() > 0, "the block is kept");
}

#[test]
fn what_a_killed_owner_wrote_does_not_matter() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join(LOCK_FILE), "pid 1\nmount /\nend\nmore\n").unwrap();
    assert_eq!(StoreLock::owner(dir.path()).unwrap(), None);
    let _lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    assert_eq!(contents(dir.path()), format!("{HEADER}\npid {}\nend\n", std::process::id()));
}

#[test]
fn another_process_that_the_contents_name_keeps_the_lock() {
    let dir = tempdir().unwrap();
    let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
    // As after a fork: a second descriptor of the same open file, and the child has said its pid.
    let childs = lock.file.try_clone().unwrap();
    fs::write(dir.path().join(LOCK_FILE), "pid 1\nend\n").unwrap();
    drop(lock);
    assert_eq!(in_use(StoreLock::acquire(dir.path(), NO_WAIT)).pid, Some(1));
    drop(childs);
    StoreLock::acquire(dir.path(), FOREVER).unwrap();
}

/// Not a test of its own: what the process does that [`start_owner`] starts.
#[test]
fn child_process_that_holds_a_lock() {
    let Some(dir) = std::env::var_os(CHILD_STORE) else { return };
    let lock = StoreLock::acquire(Path::new(&dir), NO_WAIT).unwrap();
    lock.set_mount(Some(Path::new("/not mounted"))).unwrap();
    println!("\nlocked");
    // Until the test closes the pipe or kills this process.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Starts a process that holds the store's lock when this returns.
fn start_owner(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "disk::lock::tests::child_process_that_holds_a_lock"])
        .env(CHILD_STORE, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = output.by_ref().lines().map_while(io::Result::ok);
    assert!(lines.any(|line| line == "locked"), "the child did not get the lock");
    // It still has its result to print.
    child.stdout = Some(output.into_inner());
    child
}

#[test]
fn another_process_holds_the_lock_until_it_ends() {
    let dir = tempdir().unwrap();
    for killed in [false, true] {
        let mut child = start_owner(dir.path());
        let owner = in_use(StoreLock::acquire(dir.path(), NO_WAIT));
        let mount = Some("/not mounted".into());
        assert_eq!(owner, Owner { pid: Some(child.id()), mount, serving: false, closing: false });
        assert!(!StoreLock::wait_released(dir.path(), NO_WAIT).unwrap());
        if killed {
            child.kill().unwrap();
        } else {
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
        }
        assert!(StoreLock::wait_released(dir.path(), FOREVER).unwrap());
        let lock = StoreLock::acquire(dir.path(), NO_WAIT).unwrap();
        assert_eq!(StoreLock::owner(dir.path()).unwrap().unwrap().pid, Some(std::process::id()));
        drop(lock);
        child.wait().unwrap();
    }
}

#[test]
fn mountinfo_is_read_as_the_kernel_writes_it() {
    let mountinfo = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
90 22 0:50 / /mnt/a\\040b rw,nosuid shared:7 master:2 - fuse.lsmfs lsmfs rw,user_id=0\n\
91 22 0:51 / /mnt/plain rw - fuse.lsmfs lsmfs rw\n\
92 22 0:52 / /mnt/other rw - fuse.sshfs fuse.lsmfs rw\n\
93 22 0:53 / /mnt/over rw - ext4 /dev/vdb rw\n\
94 22 0:54 / /mnt/over rw shared:9 - fuse.lsmfs lsmfs rw\n\
95 22\n\n";
    let shows = |path: &[u8]| mountinfo_shows(mountinfo, Path::new(&OsString::from_vec(path.to_vec())));
    assert!(shows(b"/mnt/a b") && shows(b"/mnt/plain") && shows(b"/mnt/over"));
    assert!(!shows(b"/") && !shows(b"/mnt/other") && !shows(b"/mnt/a\\040b") && !shows(b"/mnt/plain/x"));
    assert_eq!(decode_octal(b"\\134\\011\\377\\4\\400\\08\\").as_bytes(), b"\\\t\xff\\4\\400\\08\\");
    assert!(!is_mounted(Path::new("/")));
}
