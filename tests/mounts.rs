//! One daemon, many mounts: volumes beside each other, all of them in one, and their ends.

mod common;

use common::{Place, lsmfs, names, run, sh, umount, wait_until};
use lsmfs::fs::mount::table;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store with several mounts; none is left behind.
struct Many {
    place: Place,
    dirs: Vec<PathBuf>,
}

impl Many {
    fn new() -> Many {
        Many { place: Place::new(), dirs: Vec::new() }
    }

    fn try_mount(&mut self, name: &str, options: &[&str]) -> common::Done {
        let (store, dir) = (self.place.store(), self.place.join(name));
        if !self.dirs.contains(&dir) {
            self.dirs.push(dir.clone());
        }
        let options = options.iter().map(OsStr::new);
        lsmfs([OsStr::new("mount")].into_iter().chain(options).chain([store.as_os_str(), dir.as_os_str()]))
    }

    #[track_caller]
    fn mount(&mut self, name: &str, options: &[&str]) -> PathBuf {
        self.try_mount(name, options).ok();
        self.place.join(name)
    }

    fn command(&self, words: &[&str]) -> common::Done {
        let store = self.place.store();
        lsmfs(words.iter().map(|word| if *word == "STORE" { store.as_os_str() } else { OsStr::new(word) }))
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        for dir in &self.dirs {
            while is_mounted(dir) && run(Command::new("umount").arg("-l").arg(dir)).status == 0 {}
        }
    }
}

fn is_mounted(dir: &Path) -> bool {
    table::read().unwrap().iter().any(|entry| entry.mount_point == dir)
}

#[test]
fn volumes_are_mounted_beside_each_other_and_one_daemon_serves_them() {
    let mut many = Many::new();
    let main = many.mount("main", &[]);
    let daemon = many.place.daemon().unwrap();
    many.command(&["volume", "create", "STORE", "work"]).ok();
    let work = many.mount("work", &["--volume", "work", "-o", "noatime"]);
    assert_eq!(many.place.daemon(), Some(daemon));
    fs::write(main.join("a"), "in main").unwrap();
    fs::write(work.join("a"), "in work").unwrap();
    assert_eq!(fs::read(main.join("a")).unwrap(), b"in main");
    // mv copies, as between file systems.
    sh(&work, "mv a ../main/b; cp -a ../main/b c; [ ! -e a ]");
    assert_eq!(names(&main), ["a", "b"]);
    many.command(&["snapshot", "create", "STORE", "main", "s"]).ok();
    let snapshot = many.mount("snapshot", &["-o", "volume=main@s"]);
    assert_eq!(names(&snapshot), ["a", "b"]);
    assert_eq!(fs::write(snapshot.join("x"), "").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    // What is mounted is not taken away; what it is called does not matter.
    many.command(&["volume", "delete", "STORE", "work"]).fails(1, &["mounted on", work.to_str().unwrap()]);
    many.command(&["snapshot", "delete", "STORE", "main", "s"]).fails(1, &["mounted on"]);
    many.command(&["restore", "STORE", "main", "s"]).fails(1, &["mounted on", main.to_str().unwrap()]);
    many.command(&["volume", "rename", "STORE", "work", "play"]).ok();
    assert_eq!(fs::read(work.join("c")).unwrap(), b"in work");
    // Each ends by itself; with the last the store is closed.
    umount(&main).ok();
    assert_eq!(many.place.daemon(), Some(daemon));
    fs::write(work.join("d"), "still there").unwrap();
    many.command(&["restore", "STORE", "main", "s"]).ok();
    umount(&snapshot).ok();
    umount(&work).ok();
    assert_eq!(many.place.daemon(), None);
    assert_eq!(many.command(&["get", "STORE", "--volume", "play", "d"]).ok(), "still there");
    many.command(&["check", "STORE"]).ok();
}

#[test]
fn a_volume_mounted_twice_is_one() {
    let mut many = Many::new();
    let one = many.mount("one", &[]);
    let two = many.mount("two", &["-o", "ro"]);
    let device = |dir: &Path| fs::metadata(dir).unwrap().dev();
    assert_eq!(device(&one), device(&two));
    fs::write(one.join("a"), "x").unwrap();
    assert_eq!(fs::read(two.join("a")).unwrap(), b"x");
    assert_eq!(fs::write(two.join("b"), "").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    let said = umount(&one);
    assert!(said.err.contains("stays mounted"), "{said:?}");
    assert_eq!(fs::read(two.join("a")).unwrap(), b"x");
    // It is found at the place that is left.
    let three = many.mount("three", &[]);
    fs::write(three.join("b"), "y").unwrap();
    assert_eq!(names(&two), ["a", "b"]);
    umount(&two).ok();
    umount(&three).ok();
    assert_eq!(many.place.daemon(), None);
}

/// How often the log was synced.
fn syncs(dir: &Path) -> u64 {
    let stats: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join(".lsmfs/stats.json")).unwrap()).unwrap();
    stats["disk"]["log_syncs"].as_u64().unwrap()
}

#[test]
fn what_was_written_is_on_the_disk_when_umount_returns_though_the_store_stays_mounted() {
    let mut many = Many::new();
    let one = many.mount("one", &[]);
    let two = many.mount("two", &[]);
    for round in 0..5 {
        let before = syncs(&one);
        fs::write(two.join("a"), format!("{round}")).unwrap();
        let said = umount(&two);
        assert!(said.status == 0 && said.err.contains("stays mounted"), "{said:?}");
        assert!(syncs(&one) > before, "round {round}");
        many.mount("two", &[]);
    }
    umount(&two).ok();
    umount(&one).ok();
}

#[test]
fn two_unmount_the_last_places_at_once() {
    let mut many = Many::new();
    many.command(&["volume", "create", "STORE", "work"]).ok();
    for round in 0..20 {
        let volume = if round % 2 == 0 { "main" } else { "work" };
        let dirs = [many.mount("one", &[]), many.mount("two", &["--volume", volume])];
        fs::write(dirs[1].join("a"), format!("{round}")).unwrap();
        std::thread::scope(|scope| {
            for dir in &dirs {
                scope.spawn(|| umount(dir).ok());
            }
        });
        assert_eq!(many.place.daemon(), None);
    }
}

#[test]
fn all_volumes_are_directories() {
    let mut many = Many::new();
    many.command(&["put", "STORE", "f", "--value", "in main"]).ok();
    let all = many.mount("all", &["--all"]);
    assert_eq!(names(&all), ["main"]);
    assert_eq!(fs::read(all.join("main/f")).unwrap(), b"in main");
    sh(&all, "mkdir -m 750 work; mkdir work/d; echo x > work/d/f; [ $(stat -c %a work) = 750 ]");
    assert_eq!(many.command(&["volume", "list", "STORE"]).ok(), "main\nwork\n");
    assert_eq!(many.command(&["get", "STORE", "--volume", "work", "d/f"]).ok(), "x\n");
    // Volumes are told apart, and mv between them copies.
    many.command(&["fork", "STORE", "work", "twin"]).ok();
    assert_eq!(names(&all), ["main", "twin", "work"]);
    let ino = |path: &str| fs::metadata(all.join(path)).unwrap().ino();
    assert_ne!(ino("work/d/f"), ino("twin/d/f"));
    assert_eq!(
        fs::rename(all.join("work/d/f"), all.join("twin/g")).unwrap_err().kind(),
        ErrorKind::CrossesDevices
    );
    assert_eq!(
        fs::hard_link(all.join("work/d/f"), all.join("twin/g")).unwrap_err().kind(),
        ErrorKind::CrossesDevices
    );
    sh(
        &all,
        "diff -r work twin; echo y > twin/d/f; ! diff -r work twin; mv work/d/f twin/g; cp -a twin/. work/; cat work/g",
    );
    assert_eq!(names(&all.join("work")), ["d", "g"]);
    // Names are changed at the top, here and by command; what is cached is told.
    sh(&all, "mv twin brother; [ ! -e twin ]; [ -e brother/g ]");
    many.command(&["volume", "rename", "STORE", "brother", "sister"]).ok();
    assert_eq!(names(&all), ["main", "sister", "work"]);
    assert!(!all.join("made").exists());
    many.command(&["volume", "create", "STORE", "made"]).ok();
    fs::write(all.join("made/f"), "").unwrap();
    // Only an empty volume without snapshots is removed.
    let refused = |result: std::io::Result<()>, kind| assert_eq!(result.unwrap_err().kind(), kind);
    refused(fs::remove_dir(all.join("made")), ErrorKind::DirectoryNotEmpty);
    fs::remove_file(all.join("made/f")).unwrap();
    fs::create_dir(all.join("made/.lsmfs/snapshots/s")).unwrap();
    refused(fs::remove_dir(all.join("made")), ErrorKind::DirectoryNotEmpty);
    fs::remove_dir(all.join("made/.lsmfs/snapshots/s")).unwrap();
    fs::remove_dir(all.join("made")).unwrap();
    refused(fs::remove_dir(all.join("none")), ErrorKind::NotFound);
    refused(fs::create_dir(all.join("main")), ErrorKind::AlreadyExists);
    refused(fs::create_dir(all.join("a@b")), ErrorKind::InvalidInput);
    refused(fs::write(all.join("file"), ""), ErrorKind::PermissionDenied);
    sh(&all, "mkdir empty; mv -T sister empty; rm -r empty");
    assert_eq!(names(&all), ["main", "work"]);
    // A volume that is deleted or set back below those who look at it.
    many.command(&["snapshot", "create", "STORE", "work", "s"]).ok();
    sh(&all, "echo later > work/later; cat work/later");
    many.command(&["restore", "STORE", "work", "s"]).ok();
    assert!(!all.join("work/later").exists() && all.join("work/g").exists());
    many.command(&["volume", "delete", "STORE", "work"]).ok();
    assert!(!all.join("work").exists());
    umount(&all).ok();
    assert_eq!(many.place.daemon(), None);
    many.command(&["check", "STORE"]).ok();
}

/// The kernel was told of the root's attributes before anybody went in.
#[test]
fn what_commands_change_shows_at_the_root_of_a_volume_that_nobody_entered() {
    let mut many = Many::new();
    many.command(&["volume", "create", "STORE", "work"]).ok();
    many.command(&["put", "STORE", "--volume", "work", "old", "--value", "x"]).ok();
    let all = many.mount("all", &["--all"]);
    let shown = || {
        let attr = fs::metadata(all.join("work")).unwrap();
        ((attr.mtime(), attr.mtime_nsec(), attr.ctime(), attr.ctime_nsec()), attr.mode() & 0o7777)
    };
    // Looked up, and listed with the attributes.
    for list in [false, true] {
        if list {
            assert_eq!(names(&all), ["main", "work"]);
        }
        let before = shown();
        many.command(&["put", "STORE", "--volume", "work", "f", "--value", "x"]).ok();
        let after = shown();
        assert!(after.0 != before.0, "{before:?} {after:?}");
        many.command(&["rm", "STORE", "--volume", "work", "f"]).ok();
        assert!(shown().0 != after.0, "{after:?}");
    }
    let tree = many.place.join("tree");
    fs::create_dir(&tree).unwrap();
    sh(&tree, "chmod 700 .; echo x > imported; tar cf ../tree.tar ./");
    let tar = many.place.join("tree.tar");
    many.command(&["import", "STORE", tar.to_str().unwrap(), "--volume", "work"]).ok();
    assert_eq!(shown().1, 0o700);
    // And once somebody is in.
    assert_eq!(names(&all.join("work")), ["imported", "old"]);
    let before = shown();
    many.command(&["put", "STORE", "--volume", "work", "g", "--value", "x"]).ok();
    assert!(shown().0 != before.0);
    assert_eq!(names(&all.join("work")), ["g", "imported", "old"]);
}

#[test]
fn rsync_takes_no_fork_for_the_same_file() {
    if !common::has("rsync") {
        eprintln!("skipped: no rsync");
        return;
    }
    let mut many = Many::new();
    let all = many.mount("all", &["--all"]);
    sh(&all, "cd main; for n in $(seq 40); do echo $n > $n; done; ln 1 linked; mkdir d; echo deep > d/f");
    many.command(&["fork", "STORE", "main", "twin"]).ok();
    sh(&all, "for n in $(seq 20); do echo other $n > twin/$n; done; ln twin/30 twin/also-linked");
    fs::create_dir(many.place.join("copy")).unwrap();
    sh(&all, "rsync -aH main twin ../copy/; diff -r main ../copy/main; diff -r twin ../copy/twin");
    let copied = sh(&many.place.join("copy"), "stat -c %h main/1 main/linked main/2 twin/30 twin/2");
    assert_eq!(copied, "2\n2\n1\n2\n1\n");
    umount(&all).ok();
}

#[test]
fn a_volume_of_all_is_bound_to_a_place_of_its_own() {
    let mut many = Many::new();
    let all = many.mount("all", &["--all"]);
    fs::create_dir(all.join("work")).unwrap();
    let work = many.mount("work", &["--volume", "work"]);
    fs::write(work.join("a"), "x").unwrap();
    assert_eq!(fs::read(all.join("work/a")).unwrap(), b"x");
    assert_eq!(fs::metadata(&work).unwrap().dev(), fs::metadata(&all).unwrap().dev());
    assert!(umount(&all).err.contains("stays mounted"));
    assert_eq!(names(&work), ["a"]);
    umount(&work).ok();
    // The other way round two superblocks would show one volume.
    many.mount("work", &["--volume", "work"]);
    let refused = many.try_mount("everything", &["--all"]);
    refused.fails(1, &["work is mounted by itself", work.to_str().unwrap()]);
    assert!(!many.place.join("everything").exists(), "a refused mount left its mount point behind");
    many.try_mount("everything", &["--volume", "none"]).fails(1, &["no volume is named none"]);
    many.try_mount("everything", &["-o", "compaction=tiered"]).fails(1, &["compaction=leveled"]);
    umount(&work).ok();
    assert_eq!(many.place.daemon(), None);
}

#[test]
fn what_is_bound_next_is_what_was_asked_for_whatever_was_bound_last() {
    let mut many = Many::new();
    let all = many.mount("all", &["--all"]);
    fs::create_dir_all(all.join("work/main")).unwrap();
    fs::write(all.join("main/a"), "in main").unwrap();
    let work = many.mount("work", &["--volume", "work"]);
    assert_eq!(names(&many.mount("all2", &["--all"])), ["main", "work"]);
    assert_eq!(names(&many.mount("work2", &["--volume", "work"])), ["main"]);
    umount(&many.place.join("all2")).ok();
    assert_eq!(names(&many.mount("main", &[])), ["a"]);
    for dir in ["main", "work2", "all"] {
        umount(&many.place.join(dir)).ok();
    }
    // A volume that is still there can be bound; what is not there can't.
    assert_eq!(names(&many.mount("work2", &["--volume", "work"])), ["main"]);
    umount(&many.place.join("work2")).ok();
    many.try_mount("main", &[]).fails(1, &["only a part", work.to_str().unwrap()]);
    many.try_mount("all2", &["--all"]).fails(1, &["only a part", work.to_str().unwrap()]);
    umount(&work).ok();
    assert_eq!(many.place.daemon(), None);
}

#[test]
fn a_directory_that_is_bound_elsewhere_is_not_taken_for_the_volume() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: needs root to bind a directory");
    }
    let mut many = Many::new();
    let one = many.mount("one", &[]);
    fs::create_dir(one.join("sub")).unwrap();
    let part = many.place.join("part");
    fs::create_dir(&part).unwrap();
    many.dirs.push(part.clone());
    let bind = |onto: &Path| {
        run(Command::new("mount").arg("--bind").arg(one.join("sub")).arg(onto)).ok();
    };
    bind(&part);
    let two = many.mount("two", &[]);
    assert_eq!(names(&two), ["sub"]);
    // Nor is one that hides it.
    bind(&one);
    assert_eq!(names(&one), [""; 0]);
    let three = many.mount("three", &[]);
    assert_eq!(names(&three), ["sub"]);
    for dir in [&three, &one, &one, &two, &part] {
        umount(dir).ok();
    }
    assert_eq!(many.place.daemon(), None);
}

#[test]
fn a_killed_daemon_leaves_dead_mounts_and_each_is_cleared() {
    let mut many = Many::new();
    let main = many.mount("main", &[]);
    many.command(&["volume", "create", "STORE", "work"]).ok();
    let work = many.mount("work", &["--volume", "work"]);
    let bound = many.mount("bound", &["--volume", "work"]);
    fs::write(main.join("a"), "1").unwrap();
    fs::write(work.join("b"), "2").unwrap();
    many.place.signal("KILL");
    many.place.wait_closed();
    for dir in [&main, &work, &bound] {
        assert_eq!(fs::read_dir(dir).unwrap_err().raw_os_error(), Some(107), "{}", dir.display());
    }
    // Commands do not need the mounts.
    assert_eq!(many.command(&["get", "STORE", "a"]).ok(), "1");
    many.mount("work", &["--volume", "work"]);
    assert_eq!(fs::read(work.join("b")).unwrap(), b"2");
    many.mount("main", &[]);
    assert_eq!(fs::read(main.join("a")).unwrap(), b"1");
    umount(&bound).ok();
    umount(&main).ok();
    umount(&work).ok();
    assert_eq!(many.place.daemon(), None);
}

#[test]
fn a_signal_ends_all_mounts() {
    let mut many = Many::new();
    let main = many.mount("main", &[]);
    many.command(&["fork", "STORE", "main", "twin"]).ok();
    let twin = many.mount("twin", &["--volume", "twin"]);
    let bound = many.mount("bound", &["--volume", "twin"]);
    fs::write(twin.join("a"), "x").unwrap();
    many.place.signal("TERM");
    many.place.wait_closed();
    for dir in [&main, &twin, &bound] {
        assert!(!is_mounted(dir), "{}", dir.display());
    }
    assert_eq!(many.command(&["get", "STORE", "--volume", "twin", "a"]).ok(), "x");
}

#[test]
fn mounts_come_and_go_while_others_do() {
    let mut many = Many::new();
    many.mount("keep", &[]);
    for name in ["a", "b", "c"] {
        many.command(&["volume", "create", "STORE", name]).ok();
    }
    let store = many.place.store();
    let places: Vec<(&str, PathBuf)> = ["a", "b", "c"].map(|name| (name, many.place.join(name))).to_vec();
    many.dirs.extend(places.iter().map(|(_, dir)| dir.clone()));
    std::thread::scope(|scope| {
        for (name, dir) in &places {
            let store = &store;
            scope.spawn(move || {
                for round in 0..5 {
                    let words = [OsStr::new("mount"), OsStr::new("--volume"), OsStr::new(name)];
                    lsmfs(words.into_iter().chain([store.as_os_str(), dir.as_os_str()])).ok();
                    fs::write(dir.join(format!("{round}")), *name).unwrap();
                    assert_eq!(fs::read_dir(dir).unwrap().count(), round + 1);
                    umount(dir).ok();
                }
            });
        }
    });
    umount(&many.place.join("keep")).ok();
    assert_eq!(many.place.daemon(), None);
}

#[test]
fn the_last_umount_and_the_next_mount_miss_each_other_never() {
    let mut many = Many::new();
    for round in 0..12 {
        let dir = many.mount("dir", &[]);
        fs::write(dir.join("a"), format!("{round}")).unwrap();
        // Plain umount: the daemon is ending when the next mount asks.
        run(Command::new("umount").arg(&dir)).ok();
        let other = many.mount("other", &[]);
        assert_eq!(fs::read_to_string(other.join("a")).unwrap(), format!("{round}"));
        umount(&other).ok();
    }
}

/// Mounts what looks like another store on `dir`, many times over, and unmounts all, again and again: while there are more
/// and more, the number of a device that becomes free is taken at once. For root.
fn take_numbers(dir: &Path, enough: &AtomicBool) {
    while !enough.load(Ordering::Relaxed) {
        let devices = [(); 100].map(|()| {
            let device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
            let options =
                format!("fd={},rootmode=40000,user_id=0,group_id=0,subtype=lsmfs", device.as_raw_fd());
            let options = CString::new(options).unwrap();
            mount("/another/store", dir, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
            device
        });
        devices.iter().for_each(|_| unmount(dir, UnmountFlags::DETACH).unwrap());
    }
}

#[test]
fn umount_waits_for_its_own_mount_whoever_has_its_number_then() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: needs root to mount what nobody serves");
    }
    let mut many = Many::new();
    let (other, enough) = (many.place.join("other"), AtomicBool::new(false));
    fs::create_dir(&other).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| take_numbers(&other, &enough));
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..60 {
                let dir = many.mount("dir", &[]);
                let said = umount(&dir);
                assert_eq!((said.status, &*said.err), (0, ""));
                assert_eq!(many.place.daemon(), None);
            }
        }));
        enough.store(true, Ordering::Relaxed);
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_mount_in_the_foreground_stays_until_its_own_end() {
    let mut many = Many::new();
    let main = many.mount("main", &[]);
    many.command(&["volume", "create", "STORE", "work"]).ok();
    let work = many.place.join("work");
    many.dirs.push(work.clone());
    let foreground = |dir: &Path| {
        let mut command = Command::new(common::LSMFS);
        command.args(["mount", "-f", "--volume", "work"]).arg(many.place.store()).arg(dir).spawn().unwrap()
    };
    let mut process = foreground(&work);
    wait_until("it is mounted", || is_mounted(&work));
    fs::write(work.join("a"), "x").unwrap();
    umount(&work).ok();
    assert!(process.wait().unwrap().success());
    let mut process = foreground(&work);
    wait_until("it is mounted", || is_mounted(&work));
    fs::metadata(work.join("a")).unwrap();
    run(Command::new("kill").arg(process.id().to_string())).ok();
    assert!(process.wait().unwrap().success());
    assert!(!is_mounted(&work) && is_mounted(&main));
    umount(&main).ok();
}

#[test]
fn a_fork_under_a_writing_load_is_one_moment() {
    let mut many = Many::new();
    let main = many.mount("main", &[]);
    let all_written = std::sync::atomic::AtomicBool::new(false);
    let forks = 12;
    std::thread::scope(|scope| {
        let done = &all_written;
        let writer = {
            let dir = main.clone();
            scope.spawn(move || {
                // One history: file after file, and one that is open throughout and grows with each.
                let open = fs::File::create(dir.join("log")).unwrap();
                let mut written = 0u64;
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    fs::write(dir.join(format!("f{written:06}")), written.to_string()).unwrap();
                    std::io::Write::write_all(&mut &open, format!("{written:06}\n").as_bytes()).unwrap();
                    written += 1;
                }
                written
            })
        };
        for n in 0..forks {
            many.command(&["fork", "STORE", "main", &format!("fork{n}")]).ok();
        }
        all_written.store(true, std::sync::atomic::Ordering::Release);
        assert!(writer.join().unwrap() > 0);
    });
    let mut before = 0;
    for n in 0..forks {
        let volume = format!("fork{n}");
        let scanned = many.command(&["scan", "STORE", "--volume", &volume]).ok();
        let files = scanned.lines().filter(|line| line.starts_with('f')).collect::<Vec<_>>();
        let log = many.command(&["get", "STORE", "--volume", &volume, "log"]);
        let logged = if log.status == 0 { log.text().lines().count() } else { 0 };
        // Each file is made, then written, then logged.
        for (at, line) in files.iter().enumerate() {
            let last = at + 1 == files.len();
            let whole = format!("f{at:06}\t{at}");
            assert!(*line == whole || (last && *line == format!("f{at:06}\t")), "{volume}: {line}");
        }
        assert!(files.len() == logged || files.len() == logged + 1, "{volume}: {} and {logged}", files.len());
        assert!(files.len() >= before, "{volume}");
        before = files.len();
    }
    umount(&main).ok();
    many.command(&["check", "STORE"]).ok();
}
