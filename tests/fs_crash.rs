//! Power cuts and kills: what is found is the state after one of the operations, none before the last sync,
//! and its records fit together.

mod fs_common;

use fs_common::audit::{audit, tree};
use fs_common::{Fixture, USER, file, number, size};
use lsmfs::disk::sim::{Fault, Op as DiskOp};
use lsmfs::fs::{Ino, ROOT, RenameMode};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Create(usize, u8),
    Mkdir(usize, u8),
    Link((usize, u8), (usize, u8)),
    Unlink(usize, u8),
    Rmdir(usize, u8),
    Rename((usize, u8), (usize, u8)),
    Write(usize, u8, u64, usize),
    Resize(usize, u8, u64),
    Sync,
    Flush,
}

fn ops() -> impl Strategy<Value = Op> {
    let name = || 0..5u8;
    let dir = || 0..8usize;
    prop_oneof![
        4 => (dir(), name()).prop_map(|(dir, name)| Op::Create(dir, name)),
        3 => (dir(), name()).prop_map(|(dir, name)| Op::Mkdir(dir, name)),
        3 => ((dir(), name()), (dir(), name())).prop_map(|(from, to)| Op::Link(from, to)),
        3 => (dir(), name()).prop_map(|(dir, name)| Op::Unlink(dir, name)),
        1 => (dir(), name()).prop_map(|(dir, name)| Op::Rmdir(dir, name)),
        4 => ((dir(), name()), (dir(), name())).prop_map(|(from, to)| Op::Rename(from, to)),
        5 => (dir(), name(), 0..150_000u64, 0..80_000usize)
            .prop_map(|(dir, name, offset, len)| Op::Write(dir, name, offset, len)),
        2 => (dir(), name(), 0..150_000u64).prop_map(|(dir, name, size)| Op::Resize(dir, name, size)),
        1 => Just(Op::Sync),
        1 => Just(Op::Flush),
    ]
}

fn name(n: u8) -> [u8; 1] {
    [b'a' + n]
}

/// Does it if it can be done. `dirs` are the directories made so far, removed ones among them.
fn apply(f: &Fixture, dirs: &mut Vec<Ino>, op: &Op) {
    let fs = &f.fs;
    let dir = |at: usize, dirs: &[Ino]| dirs[at % dirs.len()];
    let find = |at: usize, n: u8, dirs: &[Ino]| fs.lookup(dir(at, dirs), &name(n)).unwrap();
    // Which of them fail is another test's matter.
    let _ = match *op {
        Op::Create(at, n) => fs.create(dir(at, dirs), &name(n), 0o644, USER).map(drop),
        Op::Mkdir(at, n) => fs.mkdir(dir(at, dirs), &name(n), 0o755, USER).map(|made| dirs.push(made.ino)),
        Op::Link(from, to) => match find(from.0, from.1, dirs) {
            Some(attr) => fs.link(attr.ino, dir(to.0, dirs), &name(to.1)).map(drop),
            None => Ok(()),
        },
        Op::Unlink(at, n) => fs.unlink(dir(at, dirs), &name(n)),
        Op::Rmdir(at, n) => fs.rmdir(dir(at, dirs), &name(n)),
        Op::Rename(from, to) => {
            let (from, to) = ((dir(from.0, dirs), name(from.1)), (dir(to.0, dirs), name(to.1)));
            fs.rename(from.0, &from.1, to.0, &to.1, RenameMode::Replace).map(drop)
        }
        Op::Write(at, n, offset, len) => match find(at, n, dirs) {
            Some(attr) => fs.write(attr.ino, offset, &vec![n + 1; len]).map(drop),
            None => Ok(()),
        },
        Op::Resize(at, n, new) => match find(at, n, dirs) {
            Some(attr) => fs.setattr(attr.ino, &size(new), USER).map(drop),
            None => Ok(()),
        },
        Op::Sync => {
            f.sync();
            Ok(())
        }
        Op::Flush => {
            f.store.flush().unwrap();
            Ok(())
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_a_state_of_the_past(ops in prop::collection::vec(ops(), 1..60)) {
        let mut f = Fixture::small_memtables();
        let mut dirs = vec![ROOT];
        let mut states = vec![tree(&f)];
        for op in &ops {
            apply(&f, &mut dirs, op);
            if matches!(op, Op::Sync) {
                states.clear();
            }
            states.push(tree(&f));
        }
        f.cut_power();
        let found = tree(&f);
        prop_assert!(states.contains(&found), "{:?}", found.keys());
        audit(&f);
    }

    #[test]
    fn a_kill_loses_nothing(ops in prop::collection::vec(ops(), 1..60)) {
        let mut f = Fixture::small_memtables();
        let mut dirs = vec![ROOT];
        ops.iter().for_each(|op| apply(&f, &mut dirs, op));
        let before = tree(&f);
        f.kill();
        prop_assert!(tree(&f) == before);
        audit(&f);
    }
}

#[test]
fn a_synced_file_survives_a_power_cut() {
    let mut f = Fixture::new();
    for i in 0..20 {
        file(&f.fs, &format!("f{i}"), &vec![i; 1000 * usize::from(i)]);
        f.sync();
        f.cut_power();
        let read = tree(&f);
        assert_eq!(read[&format!("/f{i}")].2, vec![i; 1000 * usize::from(i)]);
        assert_eq!(read.len(), usize::from(i) + 2);
    }
}

#[test]
fn a_failed_write_changes_nothing() {
    let f = Fixture::new();
    let kept = file(&f.fs, "kept", &[7; 100_000]).ino;
    let before = tree(&f);
    f.sim.fail(Fault::new(DiskOp::Write, libc::ENOSPC).always());
    assert_eq!(number(f.fs.create(ROOT, b"new", 0o644, USER)), libc::ENOSPC);
    assert_eq!(number(f.fs.write(kept, 50_000, &[8; 70_000])), libc::ENOSPC);
    assert_eq!(number(f.fs.rename(ROOT, b"kept", ROOT, b"moved", RenameMode::Replace)), libc::ENOSPC);
    assert_eq!(number(f.fs.unlink(ROOT, b"kept")), libc::ENOSPC);
    assert_eq!(number(f.fs.setattr(kept, &size(5), USER)), libc::ENOSPC);
    assert_eq!(tree(&f), before);
}
