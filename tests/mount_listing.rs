//! Listings that the kernel keeps: the next one asks for nothing, and yet shows what is there, whoever changed it;
//! and one that is dropped half-way goes on.

mod common;

use common::{Mount, Place, change_and_list_together, lsmfs, lsmfs_fed, sh, wait_until};
use rustix::fs::{
    Advice, CWD, Mode, OFlags, RawDir, RenameFlags, SeekFrom, fadvise, open, renameat_with, seek,
};
use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The names in a directory; none is listed twice.
fn names(dir: &Path) -> BTreeSet<String> {
    let listed = common::names(dir);
    let names: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(names.len(), listed.len(), "{listed:?}");
    names
}

/// A new directory of so many files.
fn filled(mount: &Mount, files: u32) -> PathBuf {
    let dir = mount.dir().join("d");
    fs::create_dir(&dir).unwrap();
    for i in 0..files {
        fs::write(dir.join(format!("{i:04}")), "").unwrap();
    }
    dir
}

/// Says that all is over, however the test ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// When this returns the kernel has heard all that was to be told: a command waits for it.
fn wait_until_told(mount: &Mount) {
    lsmfs(["put", mount.place.store().to_str().unwrap(), "elsewhere", "--value", "x"]).ok();
}

/// How many scans the engine has done.
fn scans(mount: &Mount) -> u64 {
    let stats = fs::read(mount.dir().join(".lsmfs/stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    stats["reads"]["scans"].as_u64().unwrap()
}

#[test]
fn a_listing_is_kept_until_the_directory_changes() {
    let mount = Mount::new();
    let dir = filled(&mount, 500);
    let mut expected = names(&dir);
    assert_eq!(expected.len(), 500);
    let before = scans(&mount);
    (0..10).for_each(|_| assert_eq!(names(&dir), expected));
    sh(&dir, "find . | wc -l; ls -l; du -a");
    assert_eq!(scans(&mount), before, "nothing was asked for");
    // Whatever changes a name is seen.
    let other = mount.dir().join("other");
    fs::create_dir(&other).unwrap();
    let mut changed = |change: &dyn Fn(), come: &str, go: &str| {
        assert_eq!(names(&dir), expected);
        change();
        expected.remove(go);
        expected.extend((!come.is_empty()).then(|| come.to_string()));
        assert_eq!(names(&dir), expected, "{come} {go}");
    };
    changed(&|| fs::write(dir.join("new"), "").unwrap(), "new", "");
    changed(&|| fs::remove_file(dir.join("new")).unwrap(), "", "new");
    changed(&|| fs::create_dir(dir.join("sub")).unwrap(), "sub", "");
    changed(&|| fs::remove_dir(dir.join("sub")).unwrap(), "", "sub");
    changed(&|| fs::hard_link(dir.join("0000"), dir.join("link")).unwrap(), "link", "");
    changed(&|| std::os::unix::fs::symlink("0000", dir.join("symlink")).unwrap(), "symlink", "");
    changed(&|| fs::rename(dir.join("0001"), dir.join("moved")).unwrap(), "moved", "0001");
    changed(&|| fs::rename(dir.join("0002"), other.join("away")).unwrap(), "", "0002");
    changed(&|| fs::rename(other.join("away"), dir.join("back")).unwrap(), "back", "");
    changed(&|| fs::rename(dir.join("0003"), dir.join("0004")).unwrap(), "", "0003");
}

/// Requests of the kernel about directories, as the log of a talkative daemon has them.
fn asked(place: &Place) -> usize {
    place.daemon_log().lines().filter(|line| line.contains("READDIR") || line.contains("EDIR ")).count()
}

#[test]
fn whoever_lists_what_is_kept_asks_for_nothing() {
    let mount = Mount::with(&["-v"]);
    let place = &mount.place;
    let dir = mount.dir().join("d");
    fs::create_dir_all(dir.join("sub")).unwrap();
    let before = asked(place);
    assert_eq!(names(&dir), BTreeSet::from(["sub".to_string()]));
    let listed = asked(place);
    assert!(listed > before, "the log tells of listings");
    (0..10).for_each(|_| assert_eq!(names(&dir), BTreeSet::from(["sub".to_string()])));
    // Another directory, of which nothing is known.
    names(&dir.join("sub"));
    assert_eq!(asked(place), listed + 2, "a listing and its end");
    assert!(!place.daemon_log().contains("RELEASEDIR"));
}

#[test]
fn a_listing_is_not_kept_where_reading_is_noted() {
    for option in ["relatime", "strictatime"] {
        let mount = Mount::with(&["-o", option]);
        let dir = filled(&mount, 10);
        for _ in 0..3 {
            let before = scans(&mount);
            assert_eq!(names(&dir).len(), 10);
            assert!(scans(&mount) > before, "{option}");
        }
    }
}

#[test]
fn somebody_elses_listing_does_not_disturb() {
    let mount = Mount::new();
    let dir = filled(&mount, 2000);
    let all = names(&dir);
    let mut reading = Reading::open(&dir);
    (0..3).for_each(|_| assert!(reading.read()));
    // What was read last is gone, and the kernel keeps another listing meanwhile.
    fs::remove_file(dir.join(reading.seen.last().unwrap())).unwrap();
    assert_eq!(names(&dir).len(), all.len() - 1);
    reading.read_all(all.len());
    assert!(reading.seen.iter().eq(&all), "each once, in order");
    // Whoever gives each file another name while he reads, and others list, does so once.
    let mut reading = Reading::open(&dir);
    let mut renamed = 0;
    loop {
        let more = reading.read();
        for name in reading.seen.drain(..).filter(|name| !name.ends_with(".done")) {
            fs::rename(dir.join(&name), dir.join(format!("{name}.done"))).unwrap();
            renamed += 1;
        }
        names(&dir);
        if !more {
            break;
        }
    }
    assert_eq!(renamed, all.len() - 1);
}

#[test]
fn a_reader_is_shown_one_moment() {
    let mount = Mount::new();
    let dir = filled(&mount, 2000);
    let mut reading = Reading::open(&dir);
    // The others' names come behind their places, and are not shown.
    let mut renamed = 0;
    while reading.read() {
        for name in &reading.seen[renamed..] {
            fs::rename(dir.join(name), dir.join(format!("{name}.done"))).unwrap();
        }
        renamed = reading.seen.len();
        assert!(renamed <= 2000);
        // Another one begins meanwhile, and gives up.
        std::thread::scope(|scope| _ = scope.spawn(|| Reading::open(&dir).read()).join().unwrap());
    }
    assert_eq!(renamed, 2000);
    assert!(names(&dir).iter().all(|name| name.ends_with(".done")));
}

#[test]
fn who_begins_anew_is_shown_what_was_there_then() {
    let mount = Mount::new();
    let dir = filled(&mount, 2000);
    let mut older = Reading::open(&dir);
    older.read();
    fs::write(dir.join("z-new"), "").unwrap();
    let mut newer = Reading::open(&dir);
    // By turns, as one who has the directory open twice.
    (0..3).for_each(|_| assert!(newer.read() && older.read()));
    newer.read_all(2001);
    assert_eq!((newer.seen.len(), newer.seen.last().map(String::as_str)), (2001, Some("z-new")));
    older.read_all(2001);
    assert!(older.seen.is_sorted() && older.seen.len() >= 2000);
}

#[test]
fn who_reads_a_little_at_a_time_is_shown_each_name_once() {
    let mount = Mount::new();
    let dir = filled(&mount, 3000);
    let mut reading = Reading { room: 300, ..Reading::open(&dir) };
    let before = scans(&mount);
    let mut expected = BTreeSet::new();
    for i in 0.. {
        // So that the kernel asks for what it has had, but not given out.
        if i % 10 == 0 {
            reading.drop_kept();
        }
        let seen = reading.seen.len();
        if !reading.read() {
            break;
        }
        // What was shown last goes, with others before it.
        if i % 3 == 0 {
            let last = &reading.seen[seen..];
            last.iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap());
        }
        expected.extend(reading.seen[seen..].iter().cloned());
    }
    assert!(scans(&mount) > before + 20, "it asked again and again");
    assert_eq!(reading.seen.len(), 3000);
    assert!(reading.seen.is_sorted() && expected.len() == 3000);
}

#[test]
fn a_kept_listing_that_fills_its_pages_is_not_taken_for_the_end() {
    let mount = Mount::new();
    // With `.` and `..` and without one more, these fill a page of 4 KiB: 32 bytes each.
    let dir = filled(&mount, 127);
    names(&dir);
    let mut reading = Reading { room: 1500, ..Reading::open(&dir) };
    assert!(reading.read() && reading.seen.len() > 2);
    fs::remove_file(dir.join("0001")).unwrap();
    assert_eq!(names(&dir).len(), 126);
    wait_until_told(&mount);
    reading.read_all(127);
    assert_eq!(reading.seen.len(), 127, "{:?}", reading.seen.last());
}

#[test]
fn a_place_is_not_taken_for_another_name_s() {
    let mount = Mount::new();
    let dir = filled(&mount, 4000);
    let all = names(&dir);
    let mut cookies = Vec::new();
    let mut room = [MaybeUninit::uninit(); 64 << 10];
    let mut entries = RawDir::new(Reading::open(&dir).dir, &mut room);
    while let Some(entry) = entries.next() {
        let entry = entry.unwrap();
        cookies.push((entry.next_entry_cookie(), entry.file_name().to_str().unwrap().to_string()));
    }
    // Cookies end in a hash of the name, of which there are fewer than would tell all names apart.
    let tag = |cookie: u64| cookie % (1 << 18);
    let twins = (cookies.iter().enumerate()).find_map(|(at, one)| {
        Some((one, cookies[at + 1..].iter().find(|other| tag(other.0) == tag(one.0))?))
    });
    let ((cookie, name), (_, other)) = twins.expect("two of 4000 names have the same hash of 18 bits");
    let first = all.first().unwrap();
    for (number, gone) in [first, other, name].into_iter().enumerate() {
        let mut reading = Reading::open(&dir);
        seek(&reading.dir, SeekFrom::Start(*cookie)).unwrap();
        if fs::remove_file(dir.join(gone)).is_err() {
            assert_eq!(gone, name, "{number}: it may be the first");
        }
        reading.drop_kept();
        reading.read_all(4000);
        let behind = all.iter().filter(|one| *one > name && (*one != other || number == 0));
        assert!(reading.seen.iter().eq(behind), "{number}: {name} {other}");
    }
}

#[test]
fn a_moved_directory_lists_its_new_parent() {
    let mount = Mount::new();
    for name in ["x", "y", "x/s", "y/t"] {
        fs::create_dir(mount.dir().join(name)).unwrap();
    }
    let ino = |path: &str| fs::metadata(mount.dir().join(path)).unwrap().ino();
    let parent_listed = |path: &str| {
        let dir = Reading::open(&mount.dir().join(path)).dir;
        let mut room = [MaybeUninit::uninit(); 4 << 10];
        let mut entries = RawDir::new(&dir, &mut room);
        let mut parent = None;
        // To the end, or it is not kept.
        while let Some(entry) = entries.next() {
            let entry = entry.unwrap();
            if entry.file_name().to_bytes() == b".." {
                parent = Some(entry.ino());
            }
        }
        parent.unwrap()
    };
    assert_eq!((parent_listed("x/s"), parent_listed("y/t")), (ino("x"), ino("y")));
    fs::rename(mount.dir().join("x/s"), mount.dir().join("y/s")).unwrap();
    wait_until("the kernel is told", || parent_listed("y/s") == ino("y"));
    // Two that change places.
    let (one, other) = (mount.dir().join("x"), mount.dir().join("y/t"));
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    wait_until("the kernel is told", || parent_listed("y/t") == ino("y"));
    let root = ino(".");
    wait_until("the kernel is told", || parent_listed("x") == root);
}

#[test]
fn what_commands_change_is_listed_when_they_return() {
    let mount = Mount::new();
    let dir = mount.dir().join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("first"), "").unwrap();
    let store = mount.place.store();
    let store = store.to_str().unwrap();
    let mut expected = BTreeSet::from(["first".to_string()]);
    let ended = AtomicBool::new(false);
    // Others list it all the while: what they were told just before must not stay.
    // This one is never opened again: only what is kept can be wrong.
    let mut kept = Reading::open(&dir);
    let mut listed = || {
        kept.rewind();
        kept.read_all(1000);
        let kept: BTreeSet<String> = kept.seen.iter().cloned().collect();
        assert_eq!(names(&dir), kept);
        kept
    };
    std::thread::scope(|scope| {
        let _ending = Ending(&ended);
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    names(&dir);
                }
            });
        }
        for i in 0..40 {
            let name = format!("{i}");
            lsmfs(["put", store, &format!("d/{name}"), "--value", "x"]).ok();
            expected.insert(name);
            assert_eq!(listed(), expected, "put");
            if i % 3 == 0 {
                lsmfs(["rm", store, &format!("d/{i}")]).ok();
                expected.remove(&format!("{i}"));
                assert_eq!(listed(), expected, "rm");
            }
        }
        let batch = "put d/of-a-batch x\nmv d/first d/last\nmkdir d/sub\n";
        lsmfs_fed(["batch", store], batch.as_bytes()).ok();
        expected.remove("first");
        expected.extend(["of-a-batch", "last", "sub"].map(String::from));
        assert_eq!(listed(), expected, "batch");
        lsmfs(["rm", "-r", store, "d/sub"]).ok();
        expected.remove("sub");
        assert_eq!(listed(), expected, "rm -r");
    });
    let loaded = mount.place.join("loaded");
    fs::create_dir_all(loaded.join("in/it")).unwrap();
    lsmfs(["import", store, loaded.to_str().unwrap(), "--at", "d/imported"]).ok();
    expected.insert("imported".to_string());
    assert_eq!(listed(), expected, "import");
    assert_eq!(names(&dir.join("imported/in")), BTreeSet::from(["it".to_string()]));
}

#[test]
fn volumes_and_snapshots_are_listed_as_they_are() {
    let mount = Mount::with(&["--all"]);
    let (place, snapshots) = (&mount.place, mount.dir().join("main/.lsmfs/snapshots"));
    let listed = |dir: &Path, expected: &[&str]| {
        // Once more, when it is kept.
        for _ in 0..2 {
            assert_eq!(names(dir), expected.iter().map(|name| name.to_string()).collect());
        }
    };
    listed(&mount.dir(), &["main"]);
    let command = |command: &str, step: &str, args: &[&str]| {
        let store = place.store();
        lsmfs([command, step, store.to_str().unwrap()].iter().chain(args)).ok();
    };
    command("volume", "create", &["b"]);
    listed(&mount.dir(), &["main", "b"]);
    command("volume", "rename", &["b", "c"]);
    listed(&mount.dir(), &["main", "c"]);
    fs::create_dir(mount.dir().join("d")).unwrap();
    listed(&mount.dir(), &["main", "c", "d"]);
    fs::rename(mount.dir().join("d"), mount.dir().join("e")).unwrap();
    listed(&mount.dir(), &["main", "c", "e"]);
    fs::remove_dir(mount.dir().join("e")).unwrap();
    command("volume", "delete", &["c"]);
    listed(&mount.dir(), &["main"]);
    listed(&snapshots, &[]);
    command("snapshot", "create", &["main", "monday"]);
    listed(&snapshots, &["monday"]);
    fs::create_dir(snapshots.join("tuesday")).unwrap();
    listed(&snapshots, &["monday", "tuesday"]);
    command("snapshot", "delete", &["main", "monday"]);
    listed(&snapshots, &["tuesday"]);
    fs::remove_dir(snapshots.join("tuesday")).unwrap();
    listed(&snapshots, &[]);
    // What was made since shows in no listing that was kept before.
    fs::write(mount.dir().join("main/f"), "1").unwrap();
    command("snapshot", "create", &["main", "s"]);
    fs::write(mount.dir().join("main/g"), "2").unwrap();
    listed(&mount.dir().join("main"), &["f", "g"]);
    lsmfs(["restore", place.store().to_str().unwrap(), "main", "s"]).ok();
    listed(&mount.dir().join("main"), &["f"]);
}

/// A directory that is read piece by piece.
struct Reading {
    dir: OwnedFd,
    /// Bytes that are read at once.
    room: usize,
    seen: Vec<String>,
}

impl Reading {
    fn open(dir: &Path) -> Reading {
        let dir = open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Reading { dir, room: 4 << 10, seen: Vec::new() }
    }

    /// Reads as much as fits in the room; false at the end.
    fn read(&mut self) -> bool {
        let mut room = [MaybeUninit::uninit(); 4 << 10];
        let mut entries = RawDir::new(&self.dir, &mut room[..self.room]);
        let before = self.seen.len();
        while let Some(entry) = entries.next() {
            let name = entry.unwrap().file_name().to_str().unwrap().to_string();
            self.seen.extend((!matches!(&name[..], "." | "..")).then_some(name));
            if entries.is_buffer_empty() {
                return true;
            }
        }
        self.seen.len() > before
    }

    /// Reads to the end.
    fn read_all(&mut self, at_most: usize) {
        while self.read() {
            assert!(self.seen.len() <= at_most, "it starts again and again");
        }
    }

    /// Begins again.
    fn rewind(&mut self) {
        seek(&self.dir, SeekFrom::Start(0)).unwrap();
        self.seen.clear();
    }

    /// Has the kernel drop what it keeps of the directory, as it does when it wants the memory.
    fn drop_kept(&self) {
        fadvise(&self.dir, 0, None, Advice::DontNeed).unwrap();
    }
}

#[test]
fn a_listing_that_is_dropped_half_way_goes_on() {
    let mount = Mount::new();
    let dir = filled(&mount, 2000);
    let all = names(&dir);
    let kept = |reading: &mut Reading| {
        // What the kernel keeps is read, up to here.
        let before = scans(&mount);
        (0..3).for_each(|_| assert!(reading.read()));
        assert_eq!(scans(&mount), before);
        assert!(reading.seen.len() < all.len() / 2, "{}", reading.seen.len());
        reading.drop_kept();
    };
    let mut reading = Reading::open(&dir);
    kept(&mut reading);
    let before = scans(&mount);
    reading.read_all(all.len());
    assert!(scans(&mount) > before, "it was dropped");
    assert!(reading.seen.iter().eq(&all), "each once, in order");
    // Who goes on half-way leaves nothing behind that is kept. It starts again when it is rewound, and is kept again.
    wait_until_told(&mount);
    reading.rewind();
    reading.read_all(all.len());
    assert!(reading.seen.iter().eq(&all));
    // Who removes what he reads misses nothing.
    let mut reading = Reading::open(&dir);
    kept(&mut reading);
    let mut removed = 0;
    loop {
        for name in &reading.seen[removed..] {
            fs::remove_file(dir.join(name)).unwrap();
        }
        removed = reading.seen.len();
        assert!(removed <= all.len());
        if !reading.read() {
            break;
        }
    }
    assert!(reading.seen.iter().eq(&all), "each once, in order");
    fs::remove_dir(&dir).unwrap();
}

/// Whoever goes through a directory comes to neighbours, whatever was made elsewhere meanwhile.
#[test]
fn files_of_a_directory_have_neighbouring_numbers_and_none_is_used_in_vain() {
    let mount = Mount::new();
    let used = || -> u64 { sh(&mount.dir(), "df --output=iused . | tail -1").trim().parse().unwrap() };
    let before = used();
    sh(&mount.dir(), "mkdir a b c; for i in $(seq 10 25); do touch a/$i b/$i c/$i; done");
    for dir in ["a", "b", "c"] {
        let shown = sh(&mount.dir(), &format!("ls -i {dir} | awk '{{print $1}}'"));
        let numbers: Vec<u64> = shown.lines().map(|number| number.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(numbers[0]..numbers[0] + 16), "{dir}: {numbers:?}");
    }
    assert_eq!(used() - before, 3 + 3 * 16);
}

/// What the kernel keeps of a listing that somebody began before a change is not shown as what is there after it.
#[test]
fn those_who_change_a_directory_and_list_it_at_once_see_their_own_changes() {
    let mount = Mount::new();
    (0..5).for_each(|round| change_and_list_together(&mount.dir().join(round.to_string())));
}
