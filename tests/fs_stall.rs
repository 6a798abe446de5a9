//! Changes that wait for room in the engine wait alone: whatever reads goes on beside them, in the same
//! directory and in the same file.

mod fs_common;

use fs_common::gate::{Gate, PATIENCE, wait_until};
use fs_common::{Fixture, USER, file, names, size, stalls_soon};
use lsmfs::disk::sim::Op;
use lsmfs::fs::{Allocate, Attr, FileSystem, Ino, ROOT, RenameMode, Result, XattrMode};
use std::sync::mpsc;
use std::thread;

/// Runs `reads`, which must not wait.
fn at_once(reads: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let reading = thread::spawn(move || {
        reads();
        let _ = done.send(());
    });
    if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("reads wait with a change that waits for room");
    }
    reading.join().unwrap();
}

/// What the changes work on: each a file or directory of its own.
struct Work {
    dir: Ino,
    file: Ino,
}

type Change = fn(&FileSystem, &Work);

/// Every sort of change.
const CHANGES: [(&str, Change); 12] = [
    ("create", |fs, w| {
        _ = fs.create(w.dir, b"new", 0o644, USER).unwrap();
    }),
    ("mkdir", |fs, w| {
        _ = fs.mkdir(w.dir, b"new dir", 0o755, USER).unwrap();
    }),
    ("symlink", |fs, w| {
        _ = fs.symlink(w.dir, b"new link", b"target", USER).unwrap();
    }),
    ("link", |fs, w| {
        _ = fs.link(w.file, w.dir, b"second").unwrap();
    }),
    ("rename", |fs, w| fs.rename(w.dir, b"second", w.dir, b"third", RenameMode::Replace).map(drop).unwrap()),
    ("move", |fs, w| fs.rename(w.dir, b"third", ROOT, b"moved", RenameMode::Replace).map(drop).unwrap()),
    ("unlink", |fs, _| fs.unlink(ROOT, b"moved").unwrap()),
    ("write", |fs, w| assert_eq!(fs.write(w.file, 1, &[8; 9000]).unwrap(), 9000)),
    ("truncate", |fs, w| {
        _ = fs.setattr(w.file, &size(8000), USER).unwrap();
    }),
    ("punch", |fs, w| fs.allocate(w.file, 0, 4096, Allocate::PunchHole, true, USER).unwrap()),
    ("setxattr", |fs, w| fs.setxattr(w.file, b"user.x", b"y", XattrMode::Set, USER).unwrap()),
    ("removexattr", |fs, w| fs.removexattr(w.file, b"user.x").unwrap()),
];

/// Fills the memtables until somebody waits for room.
fn fill(f: &Fixture, filler: &Attr) -> thread::JoinHandle<Result<()>> {
    let (fs, ino) = (f.fs.clone(), filler.ino);
    let filling = thread::spawn(move || (0..40).try_for_each(|_| fs.write(ino, 0, &[1; 4000]).map(drop)));
    wait_until("a writer waits for room", || f.store.stats().stalls.waiting == 1);
    filling
}

#[test]
fn reads_go_on_beside_changes_that_wait_for_room() {
    let f = Fixture::with(stalls_soon());
    let dir = f.fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap().ino;
    let ino = f.fs.create(dir, b"file", 0o644, USER).unwrap().ino;
    f.fs.write(ino, 0, &[7; 9000]).unwrap();
    let filler = file(&f.fs, "filler", b"");
    for (what, change) in CHANGES {
        let gate = Gate::shut_at(&f.sim, Op::Create);
        let filling = fill(&f, &filler);
        let fs = f.fs.clone();
        let changing = thread::spawn(move || change(&fs, &Work { dir, file: ino }));
        wait_until(what, || f.store.stats().stalls.waiting == 2);
        let fs = f.fs.clone();
        at_once(move || {
            assert_eq!(fs.lookup(dir, b"file").unwrap().unwrap().ino, ino);
            assert!(fs.lookup(ROOT, b"nothing").unwrap().is_none());
            assert!(names(&fs, dir).contains(&"file".to_string()), "{what}");
            assert!(names(&fs, ROOT).contains(&"filler".to_string()));
            assert!(fs.getattr(dir).unwrap().nlink >= 2);
            assert!(fs.read(ino, 0, 9000).unwrap().len() >= 8000);
            fs.getxattr(ino, b"user.x").unwrap();
            fs.forget(ino, 1);
        });
        gate.set(false);
        f.sim.clear_hooks();
        changing.join().unwrap();
        filling.join().unwrap().unwrap();
    }
}

#[test]
fn a_change_that_waited_in_vain_says_why() {
    let f = Fixture::with(stalls_soon());
    let filler = file(&f.fs, "filler", b"");
    let gate = Gate::shut_at(&f.sim, Op::Create);
    let filling = fill(&f, &filler);
    let fs = f.fs.clone();
    let creating = thread::spawn(move || fs.create(ROOT, b"new", 0o644, USER).map_err(|e| e.to_string()));
    wait_until("the create waits", || f.store.stats().stalls.waiting == 2);
    let store = f.store.clone();
    let closing = thread::spawn(move || store.close());
    let refused = creating.join().unwrap().unwrap_err();
    assert!(refused.contains("closed"), "{refused}");
    gate.set(false);
    assert!(filling.join().unwrap().is_err(), "the filler was refused as well");
    closing.join().unwrap().unwrap();
}
