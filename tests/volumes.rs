//! The commands about volumes, and volumes mounted.

mod common;

use common::{Place, lsmfs};
use std::fs;
use std::os::unix::fs::MetadataExt;

impl Place {
    /// `lsmfs COMMAND SUBCOMMAND STORE ARGS`.
    fn on(&self, command: [&str; 2], args: &[&str]) -> common::Done {
        let store = self.store();
        let mut all: Vec<&str> = command.into_iter().filter(|word| !word.is_empty()).collect();
        all.push(store.to_str().unwrap());
        all.extend(args);
        lsmfs(all)
    }
}

#[test]
fn volumes_are_made_listed_renamed_and_deleted() {
    let place = Place::new();
    place.on(["volume", "create"], &["work"]).ok();
    assert_eq!(place.on(["volume", "list"], &[]).ok(), "main\nwork\n");
    place.lsmfs("put", &["--volume", "work", "a", "--value", "in work"]).ok();
    place.lsmfs("get", &["a"]).fails(1, &["a"]);
    assert_eq!(place.lsmfs("get", &["--volume", "work", "a"]).ok(), "in work");
    assert_eq!(place.lsmfs("ls", &["--volume", "work"]).ok(), "a\n");
    assert_eq!(place.lsmfs("scan", &["--volume", "work"]).ok(), "a\tin work\n");
    place.on(["volume", "rename"], &["work", "play"]).ok();
    place.on(["volume", "create"], &["play"]).fails(1, &["play already"]);
    place.on(["volume", "create"], &["a/b"]).fails(1, &["no name for a volume"]);
    assert_eq!(place.on(["volume", "list"], &[]).ok(), "main\nplay\n");
    place.lsmfs("rm", &["--volume", "play", "a"]).ok();
    place.on(["volume", "delete"], &["play"]).ok();
    place.lsmfs("ls", &["--volume", "play"]).fails(1, &["no volume is named play"]);
    assert_eq!(place.on(["volume", "list"], &[]).ok(), "main\n");
}

#[test]
fn forks_snapshots_and_restores() {
    let place = Place::new();
    let put = |volume: &str, value: &str| {
        place.lsmfs("put", &["--volume", volume, "a", "--value", value]).ok();
    };
    let get = |volume: &str| place.lsmfs("get", &["--volume", volume, "a"]).ok();
    put("main", "one");
    place.on(["fork", ""], &["main", "twin"]).ok();
    place.on(["snapshot", "create"], &["main", "monday"]).ok();
    put("main", "two");
    put("twin", "other");
    assert_eq!([get("main"), get("twin"), get("main@monday")], ["two", "other", "one"]);
    place.on(["snapshot", "create"], &["main", "tuesday"]).ok();
    assert_eq!(place.on(["snapshot", "list"], &["main"]).ok(), "monday\ntuesday\n");
    assert_eq!(place.on(["volume", "list"], &[]).ok(), "main\nmain@monday\nmain@tuesday\ntwin\n");
    place.lsmfs("put", &["--volume", "main@monday", "a", "--value", "x"]).fails(1, &["read-only"]);
    place.on(["restore", ""], &["main", "monday"]).ok();
    assert_eq!([get("main"), get("main@tuesday")], ["one", "two"]);
    place.on(["fork", ""], &["main@tuesday", "from-tuesday"]).ok();
    assert_eq!(get("from-tuesday"), "two");
    place.on(["snapshot", "delete"], &["main", "tuesday"]).ok();
    place.lsmfs("get", &["--volume", "main@tuesday", "a"]).fails(1, &["main@tuesday"]);
    place.on(["volume", "delete"], &["main"]).ok();
    assert_eq!([get("twin"), get("from-tuesday")], ["other", "two"]);
}

#[test]
fn a_restore_uses_no_inode_number_twice() {
    let place = Place::new();
    let ino = |name: &str| fs::metadata(place.dir().join(name)).unwrap().ino();
    place.mount(&[]).ok();
    fs::write(place.dir().join("a"), "1").unwrap();
    let first = ino("a");
    place.umount().ok();
    place.on(["snapshot", "create"], &["main", "s"]).ok();
    place.mount(&[]).ok();
    fs::write(place.dir().join("later"), "2").unwrap();
    let later = ino("later");
    place.umount().ok();
    place.on(["restore", ""], &["main", "s"]).ok();
    place.mount(&[]).ok();
    assert!(!place.dir().join("later").exists());
    assert_eq!(ino("a"), first);
    fs::write(place.dir().join("new"), "3").unwrap();
    assert!(ino("new") > later);
    place.umount().ok();
}

#[test]
fn volumes_and_snapshots_are_mounted_by_name() {
    let place = Place::new();
    place.on(["volume", "create"], &["work"]).ok();
    place.mount(&["--volume", "work"]).ok();
    fs::create_dir(place.dir().join("d")).unwrap();
    fs::write(place.dir().join("d/f"), vec![b'x'; 200_000]).unwrap();
    place.umount().ok();
    place.on(["snapshot", "create"], &["work", "s"]).ok();
    place.on(["fork", ""], &["work", "twin"]).ok();
    place.mount(&["-o", "volume=twin"]).ok();
    fs::remove_file(place.dir().join("d/f")).unwrap();
    fs::remove_dir(place.dir().join("d")).unwrap();
    place.umount().ok();
    place.mount(&["--volume", "work@s"]).ok();
    assert_eq!(fs::read(place.dir().join("d/f")).unwrap().len(), 200_000);
    let refused = fs::write(place.dir().join("new"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    place.umount().ok();
    place.mount(&[]).ok();
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0, "main is another volume");
    place.umount().ok();
    place.mount(&["--volume", "none"]).fails(1, &["no volume is named none"]);
}
