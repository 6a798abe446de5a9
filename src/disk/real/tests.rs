//! The real disk on a real directory.

use super::*;
use crate::disk::suite;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::{TempDir, tempdir};

const NO_WAIT: Duration = Duration::ZERO;

fn new_disk() -> (TempDir, RealDisk) {
    let dir = tempdir().unwrap();
    let disk = RealDisk::open_or_create(dir.path(), NO_WAIT).unwrap();
    (dir, disk)
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn does_what_every_disk_must_do() {
    let (dir, disk) = new_disk();
    suite::run(&disk);
    assert_eq!(entries(dir.path()), ["LOCK", "lost"]);
    let long = "n".repeat(200);
    assert_eq!(entries(&dir.path().join("lost")), [&long, "stray", "stray.1"]);
    assert_eq!(fs::read(dir.path().join("lost/stray.1")).unwrap(), b"two");
}

#[test]
fn makes_private_directories_and_files() {
    let dir = tempdir().unwrap();
    let (parent, store) = (dir.path().join("a"), dir.path().join("a/b/store"));
    let disk = RealDisk::open_or_create(&store, NO_WAIT).unwrap();
    assert_eq!((mode(&parent), mode(&store), mode(&store.join("LOCK"))), (0o700, 0o700, 0o600));
    suite::put(&disk, "object", b"");
    disk.create_log("log").unwrap();
    assert_eq!((mode(&store.join("object")), mode(&store.join("log"))), (0o600, 0o600));
    assert_eq!(disk.path(), store.canonicalize().unwrap());
}

#[test]
fn opening_fails_with_a_clear_error() {
    let dir = tempdir().unwrap();
    let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
    fs::write(&file, "").unwrap();
    let open = |path: &Path| RealDisk::open(path, NO_WAIT).unwrap_err();
    let create = |path: &Path| RealDisk::open_or_create(path, NO_WAIT).unwrap_err();
    assert!(matches!(open(&missing), OpenError::Missing { dir } if dir == missing));
    assert!(matches!(open(&file), OpenError::NotADirectory { dir } if dir == file));
    assert!(matches!(create(&file), OpenError::NotADirectory { .. }));
    assert!(matches!(create(&file.join("store")), OpenError::NotADirectory { .. }));
    assert!(matches!(create(Path::new("")), OpenError::Missing { .. }));
    assert_eq!(open(&missing).to_string(), format!("{}: no such directory", missing.display()));

    // What is no store is left as it is.
    assert!(matches!(open(dir.path()), OpenError::NotAStore { .. }));
    assert_eq!(entries(dir.path()), ["file"]);

    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    assert!(matches!(create(&dir.path().join("dangling")), OpenError::Disk(_)));
    let in_use =
        OpenError::InUse { dir: "/s".into(), pid: Some(7), mount: Some("/m".into()), closing: false };
    assert_eq!(in_use.to_string(), "/s: the store is in use by process 7, mounted at /m");
}

#[test]
fn no_permission_is_a_clear_error() {
    let dir = tempdir().unwrap();
    let store = dir.path().join("store");
    drop(RealDisk::open_or_create(&store, NO_WAIT).unwrap());
    fs::set_permissions(&store, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may open it all the same.
    if fs::read_dir(&store).is_err() {
        assert!(matches!(RealDisk::open(&store, NO_WAIT), Err(OpenError::Denied { .. })));
        assert!(matches!(RealDisk::open_or_create(&store, NO_WAIT), Err(OpenError::Denied { .. })));
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    let denied = io::Error::from_raw_os_error(libc::EACCES);
    let error = OpenError::new(&store, "open", &store, denied);
    assert_eq!(error.to_string(), format!("{}: permission denied", store.display()));
}

#[test]
fn an_open_store_is_locked_until_its_last_writer_is_gone() {
    let (dir, disk) = new_disk();
    let again = |wait| RealDisk::open(dir.path(), wait);
    let us = std::process::id();
    assert!(matches!(again(NO_WAIT), Err(OpenError::InUse { pid: Some(pid), .. }) if pid == us));
    let (log, writer) = (disk.create_log("log").unwrap(), disk.create("object").unwrap());
    suite::put(&disk, "read", b"");
    let reader = disk.open("read").unwrap();
    drop(disk);
    assert!(matches!(again(NO_WAIT), Err(OpenError::InUse { .. })));
    drop(log);
    assert!(matches!(again(NO_WAIT), Err(OpenError::InUse { .. })));
    drop(writer);
    again(NO_WAIT).unwrap();
    assert!(reader.is_empty().unwrap());
}

#[test]
fn leftovers_of_unfinished_objects_are_removed_and_nothing_else() {
    let (dir, disk) = new_disk();
    let mut writer = disk.create("object").unwrap();
    writer.write(&vec![1; 3 << 20]).unwrap();
    assert_eq!(entries(dir.path()), ["LOCK", "object.0.lsmfs.tmp"]);
    // A process that is killed drops nothing.
    std::mem::forget(writer);
    for name in ["other.tmp", "daemon.log", "file"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::create_dir(dir.path().join("folder.lsmfs.tmp")).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    assert_eq!(suite::names(&disk), ["file", "other.tmp"]);

    let copy = tempdir().unwrap();
    for name in ["LOCK", "object.0.lsmfs.tmp", "other.tmp"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let reopened = RealDisk::open(copy.path(), NO_WAIT).unwrap();
    assert_eq!(entries(copy.path()), ["LOCK", "other.tmp"]);
    assert_eq!(suite::names(&reopened), ["other.tmp"]);
}

#[test]
fn only_regular_files_are_opened() {
    let (dir, disk) = new_disk();
    suite::put(&disk, "file", b"contents");
    fs::create_dir(dir.path().join("folder")).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    rustix::fs::mknodat(&disk.store.dir, "fifo", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(suite::names(&disk), ["file"]);
    for name in ["folder", "link", "fifo"] {
        assert!(disk.open(name).is_err(), "{name}");
        assert!(disk.create_log(name).is_err(), "{name}");
        let mut writer = disk.create(name).unwrap();
        writer.write(b"").unwrap();
        assert_eq!(writer.finish().unwrap_err().source.kind(), io::ErrorKind::AlreadyExists, "{name}");
    }
    assert_eq!(suite::get(&disk, "file"), b"contents");
}

#[test]
fn the_store_is_found_through_the_open_directory() {
    let dir = tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let disk = RealDisk::open_or_create(&before, NO_WAIT).unwrap();
    fs::rename(&before, &after).unwrap();
    fs::create_dir(&before).unwrap();
    suite::put(&disk, "object", b"contents");
    assert_eq!(suite::get(&disk, "object"), b"contents");
    assert_eq!(entries(&after), ["LOCK", "object"]);
}

#[test]
fn a_file_system_without_noreplace_is_served_in_two_steps() {
    let (dir, disk) = new_disk();
    suite::put(&disk, "old", b"old");
    suite::put(&disk, "new", b"new");
    let Directory { dir: file, .. } = &*disk.store;
    let refused = disk.store.look_and_rename("new", file, "old").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((suite::get(&disk, "old"), suite::get(&disk, "new")), (b"old".to_vec(), b"new".to_vec()));
    disk.store.look_and_rename("new", file, "newer").unwrap();
    assert_eq!(entries(dir.path()), ["LOCK", "newer", "old"]);
    let missing = disk.store.look_and_rename("new", file, "newest").unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_directory_that_cannot_take_an_object_is_an_error_and_no_leftover() {
    let (dir, disk) = new_disk();
    let mut writer = disk.create("object").unwrap();
    writer.write(b"contents").unwrap();
    fs::remove_file(dir.path().join("object.0.lsmfs.tmp")).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(error.is_not_found() && error.op == "finish" && error.name == "object", "{error}");
    assert_eq!(entries(dir.path()), ["LOCK"]);
}

#[test]
fn a_released_disk_lets_others_in_and_changes_nothing_more() {
    let (dir, disk) = new_disk();
    let log = disk.create_log("log").unwrap();
    suite::put(&disk, "object", b"contents");
    let mut unfinished = disk.create("unfinished").unwrap();
    unfinished.write(b"half").unwrap();
    disk.release();
    let next = RealDisk::open(dir.path(), NO_WAIT).unwrap();
    let refused = [
        log.write_at(0, b"late"),
        log.truncate(0),
        unfinished.finish(),
        disk.create("other").map(drop),
        disk.create_log("other").map(drop),
        disk.rewrite_log("log", b"late"),
        disk.delete("object"),
        disk.move_to_lost("object"),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    disk.lock().set_closing().unwrap();
    assert_eq!(suite::get(&disk, "object"), b"contents");
    drop((log, disk));
    assert!(matches!(RealDisk::open(dir.path(), NO_WAIT), Err(OpenError::InUse { closing: false, .. })));
    assert_eq!(suite::names(&next), ["log", "object"]);
}
