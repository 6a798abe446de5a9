//! How a mount is served while its disk hangs, panics, or the kernel knows too much. A real mount of a store
//! on a simulated disk. Needs root and `/dev/fuse`; without them it is skipped.

mod fs_common;

use fs_common::Fixture;
use fs_common::gate::{PATIENCE, wait_until};
use fs_common::mounted::Mounted;
use lsmfs::disk::sim::{Fault, Op};
use lsmfs::fs::ROOT;
use lsmfs::fs::fuse::ServeOptions;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn options() -> ServeOptions {
    ServeOptions { threads: 8, timeout: PATIENCE, ..ServeOptions::default() }
}

fn short() -> ServeOptions {
    ServeOptions { timeout: Duration::from_millis(300), ..options() }
}

#[test]
fn the_syncs_of_many_go_to_the_disk_together() {
    let Some(mut m) = Mounted::new(Fixture::new(), &options()) else { return };
    let files: Vec<File> = (0..16).map(|n| File::create(m.path(&n.to_string())).unwrap()).collect();
    let gate = m.hang(Op::Sync);
    let (syncs, counted) = (Arc::new(AtomicUsize::new(0)), gate.clone());
    let count = syncs.clone();
    m.store.sim.before(Op::Sync, move || {
        count.fetch_add(1, SeqCst);
        counted.pass();
    });
    thread::scope(|scope| {
        for (n, mut file) in files.iter().enumerate() {
            io::Write::write_all(&mut file, format!("{n}").as_bytes()).unwrap();
            scope.spawn(move || file.sync_all().unwrap());
        }
        wait_until("all wait for a sync", || m.unanswered() >= 16);
        // More of them than there are threads, and others are served.
        assert_eq!(fs::metadata(m.path("3")).unwrap().len(), 1);
        fs::write(m.path("another"), "x").unwrap();
        gate.set(false);
    });
    let syncs = syncs.load(SeqCst);
    assert!((1..=4).contains(&syncs), "{syncs} syncs for 16 files");
}

#[test]
fn a_sync_for_who_calls_alone_holds_up_nobody_else() {
    let Some(mut m) = Mounted::new(Fixture::new(), &options()) else { return };
    let mut file = File::create(m.path("f")).unwrap();
    let mut write_and_sync = move || {
        io::Write::write_all(&mut file, b"x").unwrap();
        file.sync_all().unwrap();
    };
    // Long enough to be known to be alone.
    (0..500).for_each(|_| write_and_sync());
    let gate = m.hang(Op::Sync);
    thread::scope(|scope| {
        let alone = scope.spawn(write_and_sync);
        wait_until("it waits for its sync", || gate.waiting() > 0);
        for n in 0..10 {
            fs::write(m.path(&format!("other-{n}")), "contents").unwrap();
        }
        assert_eq!(fs::read_dir(m.path("")).unwrap().count(), 11);
        assert!(!alone.is_finished());
        // Others' syncs wait with it, and hold nobody up either.
        scope.spawn(|| File::open(m.path("other-1")).unwrap().sync_all().unwrap());
        assert_eq!(fs::metadata(m.path("f")).unwrap().len(), 501);
        gate.set(false);
    });
}

#[test]
fn two_threads_serve_more_writers_than_there_are_threads() {
    let options = ServeOptions { threads: 2, ..options() };
    let Some(m) = Mounted::new(Fixture::new(), &options) else { return };
    thread::scope(|scope| {
        for n in 0..4 {
            let file = File::create(m.path(&n.to_string())).unwrap();
            scope.spawn(move || (0..20_000).for_each(|at| file.write_all_at(&[n; 100], at).unwrap()));
        }
    });
}

#[test]
fn who_is_held_up_holds_up_nobody_else() {
    let store = Fixture::new();
    store.fs.mkdir(ROOT, b"d", 0o755, fs_common::USER).unwrap();
    for n in 0..100 {
        fs_common::file(&store.fs, &format!("f{n}"), b"contents");
    }
    let Some(mut m) = Mounted::new(store, &options()) else { return };
    let gate = m.hang(Op::Write);
    thread::scope(|scope| {
        for n in 0..6 {
            let path = m.path(&format!("d/{n}"));
            scope.spawn(move || fs::write(path, "x").unwrap());
        }
        wait_until("writers are held up", || gate.waiting() > 0 && m.unanswered() >= 1);
        for n in 0..100 {
            assert_eq!(fs::read(m.path(&format!("f{n}"))).unwrap(), b"contents");
        }
        gate.set(false);
    });
    assert_eq!(fs::read_dir(m.path("d")).unwrap().count(), 6);
}

#[test]
fn a_disk_that_hangs_outlasts_no_request() {
    let Some(mut m) = Mounted::new(Fixture::new(), &short()) else { return };
    let file = File::create(m.path("f")).unwrap();
    let gate = m.hang(Op::Sync);
    assert_eq!(errno(file.sync_all()), libc::EIO);
    gate.set(false);
    file.sync_all().unwrap();

    let gate = m.hang(Op::Write);
    assert_eq!(errno(fs::write(m.path("late"), "x")), libc::EIO);
    gate.set(false);
    // It was made after all, and the kernel hears of it.
    wait_until("the name is there", || fs::metadata(m.path("late")).is_ok());
    fs::write(m.path("late"), "xyz").unwrap();
    assert_eq!(fs::read(m.path("late")).unwrap(), b"xyz");
}

#[test]
fn more_hung_requests_than_threads_leave_the_mount_alive() {
    let Some(mut m) = Mounted::new(Fixture::new(), &short()) else { return };
    let files: Vec<File> = (0..40).map(|n| File::create(m.path(&n.to_string())).unwrap()).collect();
    let gate = m.hang(Op::Write);
    thread::scope(|scope| {
        for mut file in &files {
            scope.spawn(move || assert_eq!(errno(io::Write::write_all(&mut file, b"x")), libc::EIO));
        }
    });
    assert_eq!(errno(fs::metadata(m.path("unheard of"))), libc::EIO);
    gate.set(false);
    wait_until("the mount answers", || {
        fs::metadata(m.path("unheard of")).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    });
    fs::write(m.path("7"), "new").unwrap();
    assert_eq!(fs::read(m.path("7")).unwrap(), b"new");
    assert!(m.store.fs.referenced() <= 41, "{}", m.store.fs.referenced());
}

#[test]
fn a_panic_ends_one_request() {
    let mut store = Fixture::new();
    fs_common::file(&store.fs, "f", &[7; 100_000]);
    store.reopen();
    let Some(m) = Mounted::new(store, &options()) else { return };
    m.store.sim.before(Op::Read, || panic!("as the test wants"));
    for _ in 0..20 {
        assert_eq!(errno(fs::read(m.path("f"))), libc::EIO);
    }
    m.store.sim.clear_hooks();
    assert_eq!(fs::read(m.path("f")).unwrap(), [7; 100_000]);
}

#[test]
fn the_kernel_forgets_what_it_does_not_use() {
    for prune in [true, false] {
        forgets_what_it_does_not_use(&ServeOptions { inodes: 500, prune, ..options() });
    }
}

fn forgets_what_it_does_not_use(few: &ServeOptions) {
    let Some(m) = Mounted::new(Fixture::new(), few) else { return };
    let kept = File::create(m.path("kept")).unwrap();
    fs::create_dir(m.path("dir")).unwrap();
    let dir_ino = fs::metadata(m.path("dir")).unwrap().ino();
    for n in 0..4000 {
        fs::write(m.path(&format!("f{n}")), n.to_string()).unwrap();
    }
    wait_until("most are forgotten", || m.store.fs.referenced() <= 600);
    for n in (0..4000).step_by(37) {
        assert_eq!(fs::read_to_string(m.path(&format!("f{n}"))).unwrap(), n.to_string());
    }
    assert_eq!(kept.metadata().unwrap().ino(), fs::metadata(m.path("kept")).unwrap().ino());
    assert_eq!(fs::metadata(m.path("dir")).unwrap().ino(), dir_ino);
    assert_eq!(fs::read_dir(m.root()).unwrap().count(), 4002);
}

/// A store with files in one directory, and their inode numbers.
fn many(files: u32) -> (Fixture, BTreeMap<String, u64>) {
    let store = Fixture::new();
    let dir = store.fs.mkdir(ROOT, b"many", 0o755, fs_common::USER).unwrap().ino;
    let make = |n| {
        let name = format!("file{n:06}");
        let made = store.fs.create(dir, name.as_bytes(), 0o644, fs_common::USER).unwrap();
        store.fs.forget(made.ino, 1);
        (name, made.ino)
    };
    let made = (0..files).map(make).collect();
    (store, made)
}

/// Whichever way the kernel is asked to forget, and however slowly it does: who lists a directory holds its lock.
#[test]
fn a_listing_makes_no_more_known_than_there_is_room_for() {
    const ROOM: usize = 4096;
    for prune in [true, false] {
        let (store, made) = many(20_000);
        let Some(m) = Mounted::new(store, &ServeOptions { inodes: ROOM, prune, ..options() }) else { return };
        for _ in 0..3 {
            let mut listed = BTreeMap::new();
            for entry in fs::read_dir(m.path("many")).unwrap() {
                let entry = entry.unwrap();
                // A sixteenth past the mark, and one more answer.
                let known = m.store.fs.referenced();
                assert!(known <= ROOM + ROOM / 8, "{known} are known after {} names", listed.len());
                assert!(entry.file_type().unwrap().is_file());
                listed.insert(entry.file_name().into_string().unwrap(), entry.ino());
            }
            assert_eq!(listed, made);
        }
        wait_until("as many are known as may be", || m.store.fs.referenced() <= ROOM);
        for (name, ino) in made.iter().step_by(997) {
            let found = fs::metadata(m.path("many").join(name)).unwrap();
            assert_eq!((found.ino(), found.len(), found.is_file()), (*ino, 0, true));
        }
    }
}

/// A file opened past the kernel's cache: each read is a request.
fn uncached(path: &Path) -> File {
    rustix::fs::open(path, OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).unwrap().into()
}

#[test]
fn cold_reads_that_wait_hold_up_nobody_else() {
    let mut store = Fixture::new();
    for n in 0..7 {
        fs_common::file(&store.fs, &format!("cold{n}"), &[n + 1; 60_000]);
    }
    store.reopen();
    let Some(mut m) = Mounted::new(store, &options()) else { return };
    let cold: Vec<File> = (0..6).map(|n| File::open(m.path(&format!("cold{n}"))).unwrap()).collect();
    fs::create_dir(m.path("hot")).unwrap();
    fs::write(m.path("hot/file"), [7; 4096]).unwrap();
    let hot = uncached(&m.path("hot/file"));
    // Who opens a table or a blob file opens it for all: this one is for itself.
    assert_eq!(fs::read(m.path("cold6")).unwrap(), [7; 60_000]);
    let gate = m.hang(Op::Read);
    thread::scope(|scope| {
        for (n, mut file) in cold.iter().enumerate() {
            scope.spawn(move || {
                let mut read = Vec::new();
                io::Read::read_to_end(&mut file, &mut read).unwrap();
                assert_eq!(read, vec![n as u8 + 1; 60_000]);
            });
        }
        wait_until("all cold reads wait", || gate.waiting() >= 6);
        for n in 0..50 {
            let mut page = vec![0; 4096];
            assert_eq!(hot.read_at(&mut page, 0).unwrap(), 4096);
            assert_eq!(page, [7; 4096]);
            let new = File::create_new(m.path(&format!("hot/{n}"))).unwrap();
            new.write_all_at(b"new", 0).unwrap();
            new.sync_all().unwrap();
        }
        assert_eq!(fs::read_dir(m.path("hot")).unwrap().count(), 51);
        gate.set(false);
    });
}

#[test]
fn writers_that_wait_for_room_hold_up_nobody_else() {
    let store = Fixture::with(fs_common::stalls_soon());
    for name in ["a", "b"] {
        fs_common::file(&store.fs, name, &[7; 4096]);
    }
    let Some(mut m) = Mounted::new(store, &options()) else { return };
    let (a, b) = (uncached(&m.path("a")), uncached(&m.path("b")));
    let gate = m.hang(Op::Create);
    thread::scope(|scope| {
        for n in 0..4 {
            // Through two files, so that nobody waits in the kernel for who waits for room.
            let (file, name) = (if n % 2 == 0 { &a } else { &b }, format!("new{n}"));
            let path = m.path(&name);
            scope.spawn(move || {
                (0..100).for_each(|_| file.set_modified(std::time::SystemTime::now()).unwrap());
                fs::write(path, b"x").unwrap();
            });
        }
        let store = m.store.store.clone();
        wait_until("writers wait for room", || store.stats().stalls.waiting > 0);
        for file in [&a, &b] {
            let mut page = vec![0; 4096];
            assert_eq!(file.read_at(&mut page, 0).unwrap(), 4096);
            assert_eq!(page, [7; 4096]);
        }
        gate.set(false);
    });
    assert_eq!(fs::read_dir(m.root()).unwrap().count(), 6);
}

/// The disk forgot something: nothing is promised any more, and everybody is told.
#[test]
fn a_failed_sync_makes_the_mount_read_only() {
    let mut store = Fixture::new();
    fs_common::file(&store.fs, "old", &[7; 100_000]);
    store.reopen();
    let Some(m) = Mounted::new(store, &options()) else { return };
    let file = File::create(m.path("f")).unwrap();
    file.write_all_at(b"contents", 0).unwrap();
    m.store.sim.fail(Fault::new(Op::Sync, libc::EIO).on(".log").times(1));
    assert_eq!(errno(file.sync_all()), libc::EIO);
    // The disk works again, and yet: what it lost it does not say.
    assert_eq!(errno(file.sync_all()), libc::EROFS);
    assert_eq!(errno(file.write_at(b"more", 0)), libc::EROFS);
    assert_eq!(errno(File::create(m.path("new"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(m.path("old"))), libc::EROFS);
    assert_eq!(fs::read(m.path("f")).unwrap(), b"contents");
    assert_eq!(fs::read(m.path("old")).unwrap(), [7; 100_000]);
    drop(file);
    drop(m.cut_power());
}
