//! Batches: all of it or nothing, versions, and what others see of it.

mod fs_common;

use fs_common::audit::{audit, tree};
use fs_common::gate::{Gate, PATIENCE, wait_until};
use fs_common::{Fixture, USER, contents, file, names, number, path, read, stepped};
use lsmfs::disk::sim::{Op, SimDisk};
use lsmfs::fs::batch::{BatchError, Expect, MAX_BYTES, Operation};
use lsmfs::fs::errno::errno;
use lsmfs::fs::tree::Tree;
use lsmfs::fs::{FileSystem, FsOptions, ROOT};
use lsmfs::lsm::Options;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

fn put(at: &str, contents: impl Into<Vec<u8>>) -> Operation {
    Operation::Put { path: path(at), contents: contents.into().into() }
}

fn mkdir(at: &str) -> Operation {
    Operation::MakeDir { path: path(at) }
}

fn rm(at: &str, recursive: bool) -> Operation {
    Operation::Remove { path: path(at), recursive }
}

fn mv(from: &str, to: &str) -> Operation {
    Operation::Rename { from: path(from), to: path(to) }
}

fn expect(at: &str, that: Expect) -> Operation {
    Operation::Expect { path: path(at), that }
}

fn version(at: &str) -> Operation {
    Operation::Version { path: path(at) }
}

/// Batches of a user.
trait ApplyAll {
    fn apply_all(&self, operations: &[Operation]) -> Result<Vec<Option<u64>>, BatchError>;
}

impl ApplyAll for FileSystem {
    fn apply_all(&self, operations: &[Operation]) -> Result<Vec<Option<u64>>, BatchError> {
        self.apply(operations, USER)
    }
}

/// So many operations make a batch large: it is run beside others.
const LARGE: usize = 300;

/// These operations, as a small batch and as a large one.
fn small_and_large(operations: &[Operation]) -> [Vec<Operation>; 2] {
    let more = std::iter::repeat_n(version("/"), LARGE);
    [operations.to_vec(), operations.iter().cloned().chain(more).collect()]
}

fn failed(done: Result<Vec<Option<u64>>, BatchError>) -> (Option<usize>, i32) {
    let failed = done.unwrap_err();
    (failed.operation, errno(&failed.error))
}

#[test]
fn operations_see_those_before_them() {
    let mut f = Fixture::new();
    file(&f.fs, "old", b"old");
    let big = vec![7; 200_000];
    f.fs.apply_all(&[
        put("d/e/f", &b"one"[..]),
        expect("d/e/f", Expect::Contents("one".into())),
        put("d/e/f", big.clone()),
        mv("d/e", "d/moved"),
        expect("d/e", Expect::Absent),
        mkdir("d/e"),
        mv("old", "d/e/old"),
        put("gone", &b"x"[..]),
        rm("gone", false),
    ])
    .unwrap();
    let check = |f: &Fixture| {
        assert_eq!(read(f, "d/moved/f"), big);
        assert_eq!((read(f, "d/e/old"), names(&f.fs, ROOT)), (b"old".to_vec(), vec!["d".to_string()]));
        audit(f);
    };
    check(&f);
    f.kill();
    check(&f);
}

#[test]
fn a_batch_that_fails_changes_nothing_and_names_the_operation() {
    let f = Fixture::new();
    file(&f.fs, "a", b"a");
    f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap();
    file(&f.fs, "b", &[1; 100_000]);
    let before = tree(&f);
    let undone = [put("new/x", &b"x"[..]), rm("b", false), mv("a", "d/a")];
    for (last, number) in [
        (rm("missing", false), libc::ENOENT),
        (rm("d", false), libc::EISDIR),
        (mkdir("new/x"), libc::EEXIST),
        (mkdir("d/a/under"), libc::ENOTDIR),
        (mv("d", "d/a/d"), libc::ENOTDIR),
        (mv("d", "d/d"), libc::EINVAL),
        (put(".lsmfs/x", &b""[..]), libc::EPERM),
        (expect("a", Expect::Present), libc::ECANCELED),
        (expect("d/a", Expect::Absent), libc::ECANCELED),
        (expect("d/a", Expect::Contents("b".into())), libc::ECANCELED),
        (expect("d/a", Expect::Contents("".into())), libc::ECANCELED),
        (expect("d/a", Expect::Version(1)), libc::ECANCELED),
    ] {
        let operations = [&undone[..], &[last]].concat();
        assert_eq!(failed(f.fs.apply_all(&operations)), (Some(3), number), "{operations:?}");
        assert_eq!(tree(&f), before);
    }
    audit(&f);
}

/// What is asked of a path that leads through a file is no failure, least of all after the batch was applied.
#[test]
fn versions_are_those_that_are_read_afterwards() {
    let f = Fixture::new();
    file(&f.fs, "a", b"a");
    file(&f.fs, "kept", b"k");
    let asked = ["a", "a/b", "a/b/c", "kept", "d", "d/e/f", "none", "/"];
    let operations = [
        &[put("a", &b"x"[..]), put("d/e/f", vec![1; 100_000]), expect("a/b/c", Expect::Absent)][..],
        &asked.map(version),
        &[put("d/e/g", &b"y"[..])],
    ]
    .concat();
    let versions = f.fs.apply_all(&operations).unwrap();
    let read = asked.map(|at| Tree::new(&f.fs).version(&path(at)).unwrap());
    assert_eq!(versions, read);
    assert_eq!(read.map(|version| version.is_some()), [true, false, false, true, true, true, false, true]);
    let again = asked.map(version);
    assert_eq!(f.fs.apply_all(&again).unwrap(), read);
    audit(&f);
}

#[test]
fn versions_change_with_every_change_and_with_nothing_else() {
    let mut f = Fixture::small_memtables();
    let of = |f: &Fixture, at: &str| Tree::new(&f.fs).version(&path(at)).unwrap();
    assert_eq!(of(&f, "a"), None);
    let ino = file(&f.fs, "a", b"1").ino;
    let mut seen = vec![of(&f, "a").unwrap()];
    let changes: [&dyn Fn(&FileSystem); 5] = [
        &|fs| assert_eq!(fs.write(ino, 0, b"2").unwrap(), 1),
        &|fs| assert_eq!(fs.write(ino, 500_000, b"2").unwrap(), 1),
        &|fs| assert_eq!(fs.setattr(ino, &fs_common::size(9), USER).unwrap().size, 9),
        &|fs| assert_eq!(fs.link(ino, ROOT, b"b").unwrap().nlink, 2),
        &|fs| assert_eq!(fs.write(ino, 70_000, b"2").unwrap(), 1),
    ];
    for change in changes {
        change(&f.fs);
        let new = of(&f, "a").unwrap();
        assert!(new > *seen.last().unwrap());
        seen.push(new);
    }
    let (file_version, root_version) = (of(&f, "a"), of(&f, "/"));
    for n in 0..400 {
        file(&f.fs, &format!("other{n}"), &[1; 500]);
    }
    assert!(of(&f, "/") > root_version);
    f.store.flush().unwrap();
    f.store.compact().unwrap();
    assert_eq!(of(&f, "a"), file_version);
    f.reopen();
    assert_eq!(of(&f, "a"), file_version);
    f.kill();
    assert_eq!(of(&f, "a"), file_version);
}

#[test]
fn compare_and_swap_takes_one_of_many() {
    let f = Fixture::new();
    f.fs.apply_all(&[put("counter", &b"0"[..])]).unwrap();
    let count = |f: &Fixture| -> u32 { String::from_utf8(read(f, "counter")).unwrap().parse().unwrap() };
    std::thread::scope(|scope| {
        for large in [0, 1, 0, 1] {
            let (f, count) = (&f, &count);
            scope.spawn(move || {
                let mut done = 0;
                while done < 25 {
                    let seen = Tree::new(&f.fs).version(&path("counter")).unwrap().unwrap();
                    let next = count(f) + 1;
                    let batches = small_and_large(&[
                        expect("counter", Expect::Version(seen)),
                        put("counter", next.to_string()),
                        version("counter"),
                        version("no such"),
                    ]);
                    let swapped = f.fs.apply_all(&batches[large]);
                    match swapped {
                        Ok(versions) => {
                            assert!(versions[0] > Some(seen) && versions[1].is_none());
                            done += 1;
                        }
                        Err(failed) => assert_eq!(errno(&failed.error), libc::ECANCELED, "{failed}"),
                    }
                }
            });
        }
    });
    assert_eq!(count(&f), 100);
}

#[test]
fn nobody_sees_a_part_of_a_batch_and_open_files_live_on() {
    let f = Fixture::new();
    f.fs.apply_all(&[put("a/x", &b"0"[..]), put("b/x", &b"0"[..])]).unwrap();
    let open = f.fs.lookup(ROOT, b"a").unwrap().unwrap();
    let held = f.fs.lookup(open.ino, b"x").unwrap().unwrap().ino;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..200u32 {
                let text = n.to_string().into_bytes();
                let batches = small_and_large(&[put("a/x", text.clone()), rm("b", true), put("b/x", text)]);
                f.fs.apply_all(&batches[(n % 2) as usize]).unwrap();
                file(&f.fs, "beside", b"written by the mount");
                f.fs.unlink(ROOT, b"beside").unwrap();
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                // One moment, as a batch sees it.
                let b = f.fs.apply_all(&small_and_large(&[version("a/x"), version("b/x")])[1]).unwrap();
                assert!(b[1] > b[0], "{b:?}: b was written after a, in the same batch");
            }
        });
    });
    assert_eq!(contents(&f.fs, held), b"0", "the file that was replaced is still open");
    f.fs.forget(held, 1);
    f.fs.forget(open.ino, 1);
    assert_eq!(number(f.fs.getattr(held)), libc::ESTALE);
    audit(&f);
}

#[test]
fn others_write_while_a_large_batch_is_run_and_it_is_run_anew_if_that_concerns_it() {
    // What is written after the reopening stays in memory, where no gate is.
    let mut f = Fixture::with(forgetful());
    let cold = vec![0xA5; 200_000];
    f.fs.apply_all(&[put("cold", cold.clone())]).unwrap();
    f.reopen();
    let (seen, beside) = (file(&f.fs, "seen", b"0").ino, file(&f.fs, "beside", b"0").ino);
    let is = |value: &[u8]| Expect::Contents(value.to_vec().into());
    let batch =
        small_and_large(&[expect("seen", is(b"0")), expect("cold", is(&cold)), put("new", &b"1"[..])]);
    for concerned in [false, true] {
        let gate = Gate::shut_at(&f.sim, Op::Read);
        let (fs, large) = (f.fs.clone(), batch[1].clone());
        let applying = thread::spawn(move || fs.apply_all(&large));
        wait_until("the batch reads the cold file", || gate.waiting() > 0);
        let fs = f.fs.clone();
        let (wrote, written) = mpsc::channel();
        let ino = if concerned { seen } else { beside };
        let writing = thread::spawn(move || wrote.send(fs.write(ino, 0, b"2").unwrap()));
        assert_eq!(written.recv_timeout(PATIENCE), Ok(1), "a write waits for the batch");
        gate.set(false);
        f.sim.clear_hooks();
        writing.join().unwrap().unwrap();
        let applied = applying.join().unwrap();
        match concerned {
            false => _ = applied.unwrap(),
            true => assert_eq!(failed(applied), (Some(0), libc::ECANCELED)),
        }
    }
    [seen, beside].iter().for_each(|ino| f.fs.forget(*ino, 1));
    audit(&f);
}

/// Nothing that is read is kept in memory.
fn forgetful() -> Options {
    Options { cache_size: 0, ..stepped() }
}

fn reads(f: &Fixture) -> u64 {
    f.sim.ops().get(Op::Read)
}

/// Holds a batch up at one of its reads, of whose number `at` is told, and has somebody write to another file then.
fn others_write_at_read(before: &[Operation], batch: &[Operation], at: impl Fn(u64) -> u64) {
    let prepare = || {
        let mut f = Fixture::with(forgetful());
        f.fs.apply_all(before).unwrap();
        f.reopen();
        let beside = file(&f.fs, "beside", b"0").ino;
        (f, beside)
    };
    let in_all = {
        let (f, _) = prepare();
        let start = reads(&f);
        f.fs.apply_all(batch).unwrap();
        reads(&f) - start
    };
    let (f, beside) = prepare();
    let (gate, done, at) = (Arc::new(Gate::default()), AtomicU64::new(0), at(in_all));
    gate.set(true);
    let shut = gate.clone();
    f.sim.before(Op::Read, move || {
        if done.fetch_add(1, Ordering::Relaxed) + 1 == at {
            shut.pass();
        }
    });
    let (fs, batch) = (f.fs.clone(), batch.to_vec());
    let applying = thread::spawn(move || fs.apply_all(&batch).unwrap());
    wait_until("the batch is held up", || gate.waiting() > 0);
    let (fs, (wrote, written)) = (f.fs.clone(), mpsc::channel());
    let writing = thread::spawn(move || wrote.send(fs.write(beside, 0, b"1").unwrap()));
    assert_eq!(written.recv_timeout(PATIENCE), Ok(1), "a write waits at read {at} of {in_all}");
    gate.set(false);
    writing.join().unwrap().unwrap();
    applying.join().unwrap();
    f.fs.forget(beside, 1);
    audit(&f);
}

#[test]
fn others_write_while_one_operation_removes_much() {
    let many: Vec<_> = (0..4000).map(|n| put(&format!("dir/{n}"), &b"x"[..])).collect();
    others_write_at_read(&many, &[rm("dir", true)], |in_all| in_all * 3 / 4);
}

#[test]
fn others_write_while_what_a_batch_removed_is_given_back() {
    others_write_at_read(&[put("large", vec![1; 200_000])], &[rm("large", false)], |in_all| in_all);
}

#[test]
fn an_expectation_reads_no_more_than_it_takes_to_tell() {
    let mut f = Fixture::with(forgetful());
    let cold = vec![0xA5; 16 << 20];
    f.fs.apply_all(&[put("cold", cold.clone())]).unwrap();
    f.reopen();
    let expected = |contents: &[u8]| {
        let start = reads(&f);
        let done = f.fs.apply_all(&[expect("cold", Expect::Contents(contents.to_vec().into()))]);
        (done.is_ok(), reads(&f) - start)
    };
    let (holds, all) = expected(&cold);
    assert!(holds);
    let (mut other, shorter, longer) = (cold.clone(), &cold[1..], [&cold[..], b"x"].concat());
    other[0] = 0;
    for wrong in [&other[..], shorter, &longer, b""] {
        let (holds, read) = expected(wrong);
        assert!(!holds && read < all / 4, "{read} reads of {all}");
    }
}

#[test]
fn a_small_batch_of_overwrites_is_run_once_whatever_their_length() {
    let f = Fixture::with(stepped());
    for (count, len) in [(256, 0), (256, 200), (256, 300), (256, 1024), (64, 3500), (250, 4096), (16, 65_536)]
    {
        let puts = |byte| -> Vec<Operation> {
            (0..count).map(|i| put(&format!("{len}/{i}-{}", "n".repeat(200)), vec![byte; len])).collect()
        };
        for byte in [1, 2] {
            f.fs.apply_all(&puts(byte)).unwrap();
            // One that is run apart has what is in memory frozen.
            let stats = f.store.stats().volumes.remove(0);
            assert!(stats.immutable_bytes.is_empty(), "{count} of {len} bytes");
        }
    }
}

#[test]
fn a_batch_has_bounds_and_a_snapshot_takes_none() {
    let f = Fixture::new();
    let large = vec![0xA5; MAX_BYTES / 2];
    let error = f.fs.apply_all(&[put("a", large.clone()), put("b", large)]).unwrap_err();
    assert!(error.to_string().contains(&MAX_BYTES.to_string()), "{error}");
    assert_eq!(names(&f.fs, ROOT), [""; 0]);
    let main = f.store.volume("main").unwrap();
    let snapshot = f.store.create_snapshot(&main, "s").unwrap();
    let old = FileSystem::open_volume(f.store.clone(), snapshot, FsOptions::default()).unwrap();
    assert_eq!(failed(old.apply_all(&[mkdir("a")])), (None, libc::EROFS));
}

/// A power cut at the nth operation of the disk, for every n of a batch: all of it is there or nothing.
#[test]
fn a_power_cut_leaves_all_of_a_batch_or_nothing() {
    let apply = |f: &Fixture| -> Result<(), ()> {
        let operations = [
            mv("dir", "renamed"),
            put("renamed/large", vec![3; 150_000]),
            put("new/file", vec![4; 90_000]),
            rm("doomed", true),
        ];
        f.fs.apply_all(&operations).map_err(drop)?;
        f.store.sync().map_err(drop)
    };
    let prepare = |seed| {
        let f = Fixture::on(SimDisk::new(seed), stepped());
        f.fs.apply_all(&[put("dir/large", vec![1; 150_000]), put("doomed/x", vec![2; 150_000])]).unwrap();
        f.store.sync().unwrap();
        f
    };
    let (before, after, changes) = {
        let f = prepare(1);
        let (before, start) = (tree(&f), f.sim.ops().changes());
        apply(&f).unwrap();
        (before, tree(&f), f.sim.ops().changes() - start)
    };
    assert!(changes >= 3, "{changes}");
    let mut seen = [0, 0];
    for at in 1..=changes + 1 {
        for seed in 0..4 {
            let f = prepare(seed);
            f.sim.crash_at_op(f.sim.ops().changes() + at);
            let done = apply(&f);
            let f = Fixture::on(f.sim.crash(), stepped());
            let found = tree(&f);
            assert!(found == before || found == after, "operation {at}: {:?}", found.keys());
            assert!(done.is_err() || found == after, "operation {at}: it was synced");
            seen[usize::from(found == after)] += 1;
            audit(&f);
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}
