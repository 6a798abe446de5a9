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
fn a_snapshot_of_a_volume_that_nobody_has_opened_can_be_used() {
    let place = Place::new();
    place.on(["volume", "create"], &["work"]).ok();
    for (volume, snapshot) in [("main", "main@empty"), ("work", "work@empty")] {
        place.on(["snapshot", "create"], &[volume, "empty"]).ok();
        assert_eq!(place.lsmfs("ls", &["--volume", snapshot]).ok(), "");
        assert_eq!(place.lsmfs("scan", &["--volume", snapshot]).ok(), "");
        assert!(place.on(["export", ""], &["--volume", snapshot]).status == 0);
        place.mount(&["--volume", snapshot]).ok();
        assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0);
        place.umount().ok();
    }
    place.on(["restore", ""], &["main", "empty"]).ok();
    place.on(["snapshot", "create"], &["main", "again"]).ok();
    place.mount(&["--all"]).ok();
    for path in ["main/.lsmfs/snapshots/empty", "main/.lsmfs/snapshots/again", "work/.lsmfs/snapshots/empty"]
    {
        assert_eq!(fs::read_dir(place.dir().join(path)).unwrap().count(), 0, "{path}");
    }
    place.umount().ok();
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

#[test]
fn a_quota_is_kept_and_shown_by_a_mount() {
    let place = Place::new();
    place.on(["volume", "create"], &["work"]).ok();
    assert_eq!(place.on(["quota", "set"], &["work"]).status, 2);
    let refused = place.on(["quota", "set"], &["work", "--bytes", "much"]);
    assert!(refused.status == 2 && refused.err.contains("not a size"), "{}", refused.err);
    place.on(["quota", "set"], &["none", "--bytes", "1M"]).fails(1, &["no volume is named none"]);
    place.on(["quota", "set"], &["work", "--bytes", "1M", "--files", "10"]).ok();
    place.mount(&["--volume", "work"]).ok();
    let (dir, room) = (place.dir(), rustix::fs::statvfs(place.dir()).unwrap());
    assert_eq!((room.f_blocks * room.f_frsize, room.f_files, room.f_ffree), (1 << 20, 10, 9));
    fs::write(dir.join("a"), vec![1; 900_000]).unwrap();
    let is_over =
        |done: std::io::Result<()>| assert_eq!(done.unwrap_err().raw_os_error(), Some(libc::EDQUOT));
    is_over(fs::write(dir.join("b"), vec![1; 200_000]));
    fs::remove_file(dir.join("b")).unwrap();
    fs::write(dir.join("a"), vec![2; 1_000_000]).unwrap();
    (0..8).for_each(|n| fs::write(dir.join(format!("{n}")), "").unwrap());
    is_over(fs::create_dir(dir.join("one-more")));
    is_over(fs::write(dir.join("one-more"), ""));
    fs::rename(dir.join("1"), dir.join("one-more")).unwrap();
    let room = rustix::fs::statvfs(&dir).unwrap();
    assert_eq!((room.f_bavail * room.f_frsize, room.f_ffree), ((1 << 20) - 245 * 4096, 0));
    let figures: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.join(".lsmfs/stats.json")).unwrap()).unwrap();
    let work = figures["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "work").unwrap();
    let held =
        ["files", "logical_bytes", "quota_files", "quota_bytes"].map(|name| work[name].as_u64().unwrap());
    assert_eq!(held, [10, 245 * 4096, 10, 1 << 20]);
    place.umount().ok();
    place.on(["fork", ""], &["work", "twin"]).ok();
    place.on(["snapshot", "create"], &["work", "s"]).ok();
    place.on(["quota", "set"], &["twin", "--files", "none"]).ok();
    let shown = place.on(["quota", "show"], &[]).ok();
    let words: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["main", "0", "none", "0", "B", "none"]);
    assert_eq!(words[2], ["work", "10", "10", "980.0", "KiB", "1.0", "MiB"]);
    assert_eq!(words[3], ["twin", "10", "none", "980.0", "KiB", "1.0", "MiB"]);
    let listed = place.on(["volume", "list"], &["-l"]).ok();
    let names: Vec<&str> = listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["NAME", "main", "work", "work@s", "twin"]);
    let listed: serde_json::Value =
        serde_json::from_str(&place.on(["volume", "list"], &["--json"]).ok()).unwrap();
    assert_eq!((&listed[2]["snapshot_of"], &listed[2]["own_bytes"]), (&"work".into(), &0.into()));
    assert!(listed[1]["shared_bytes"].as_u64().unwrap() > 0);
    let checked = place.lsmfs("check", &[]).ok();
    assert!(checked.contains("work@s: 9 files, 1 directories") && checked.ends_with("sound\n"), "{checked}");
}

#[test]
fn a_difference_is_listed_by_path() {
    let place = Place::new();
    place.lsmfs("put", &["d/kept", "--value", "1"]).ok();
    place.lsmfs("put", &["d/changed", "--value", "1"]).ok();
    place.on(["snapshot", "create"], &["main", "s"]).ok();
    assert_eq!(place.on(["diff", ""], &["main@s", "main"]).ok(), "");
    place.lsmfs("put", &["d/changed", "--value", "2"]).ok();
    place.lsmfs("put", &["new\n/file", "--value", "1"]).ok();
    place.lsmfs("rm", &["d/kept"]).ok();
    let listed = "M d/changed\nD d/kept\nA new\\n\nA new\\n/file\n";
    assert_eq!(place.on(["diff", ""], &["main@s", "main"]).ok(), listed);
    place.on(["diff", ""], &["main", "none"]).fails(1, &["no volume is named none"]);
}
