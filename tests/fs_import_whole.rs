//! All of an import or nothing: whatever the archive holds, wherever it is cut off, whoever writes beside it, and however little
//! the volume may hold.

mod fs_common;

use fs_common::archives::{Archive, audit_all, import, member, rich, small};
use fs_common::audit::{audit, tree};
use fs_common::{Fixture, file, stepped};
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::archive::{Member, MemberKind};
use lsmfs::fs::errno::errno;
use lsmfs::fs::tally::recount;
use lsmfs::fs::tree::{Tree, TreePath};
use lsmfs::fs::{FileSystem, FsOptions, Timestamp};
use lsmfs::lsm::{Quota, Tally};
use proptest::prelude::*;

#[test]
fn archives_that_make_no_sense_change_nothing() {
    let f = Fixture::new();
    let archive = rich();
    for (bad, said) in [
        (&b""[..], "cut short"),
        (&[b'x'; 5000], "no tar archive"),
        (&archive[..archive.len() / 2], "cut short"),
        (&archive[..512 * 7 + 100], "cut short"),
    ] {
        let refused = import(&f, bad, "target").unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        assert_eq!(tree(&f).len(), 1);
    }
    audit_all(&f);
}

/// Numbers and lists that nobody means, in archives that are whole.
#[test]
fn archives_that_go_past_all_bounds_change_nothing() {
    let f = Fixture::new();
    // A member with a pax header of these records.
    let with = |kind: u8, records: &[u8]| {
        let mut archive = Archive::new();
        // Without headers of their own.
        let plain = Member {
            atime: None,
            mtime: Timestamp { secs: 1, nanos: 0 },
            gid: 1,
            ..member("", MemberKind::File)
        };
        let mut add = |path: &str, data: &[u8]| {
            archive.add(&Member { path: path.into(), size: data.len() as u64, ..plain.clone() }, data);
        };
        add("pax", records);
        add("a", b"x");
        let mut bytes = archive.end();
        bytes[156] = kind;
        let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { bytes[at].into() }).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    let record = |text: &str| format!("{} {text}\n", text.len() + 4).into_bytes();
    let many = b"5 a=\n".repeat(600_000);
    for (archive, said) in [
        (with(b'x', &record("size=18446744073709551615")), "length"),
        (with(b'x', &record("size=9223372036854775808")), "length"),
        (with(b'x', &record("size=9223372036854775807")), "too large"),
        (with(b'x', &record("GNU.sparse.size=18446744073709551615")), "sparse"),
        (with(b'x', &many), "too many records"),
        (with(b'g', &many), "too many records"),
        (with(b'x', &record("path=a\0b")), "zero byte"),
    ] {
        let refused = import(&f, &archive, "target").unwrap_err().to_string();
        assert!(refused.contains(said), "{said}: {refused}");
        assert_eq!(tree(&f).len(), 1);
    }
    let mut deep = Archive::new();
    deep.file("d/".repeat(40_000), b"");
    assert_eq!(errno(&import(&f, &deep.end(), "target").unwrap_err()), libc::ENAMETOOLONG);
    let mut link = Archive::new();
    link.kind("link", MemberKind::Symlink([vec![b'a'; 200], b"\0b".to_vec()].concat()));
    assert!(import(&f, &link.end(), "target").unwrap_err().to_string().contains("zero byte"));
    assert_eq!(tree(&f).len(), 1);
    audit_all(&f);
}

/// A power cut at the nth operation of the disk, for every n of an import: all of it is there or nothing, and
/// nothing of it is left.
#[test]
fn a_power_cut_leaves_all_of_an_import_or_nothing() {
    let archive = small();
    let run = |f: &Fixture| -> std::result::Result<(), ()> {
        import(f, &archive, "into").map_err(drop)?;
        f.store.sync().map_err(drop)
    };
    let prepare = |seed| {
        let f = Fixture::on(SimDisk::new(seed), stepped());
        file(&f.fs, "before", &[1; 50_000]);
        f.store.sync().unwrap();
        f
    };
    let (before, after, changes) = {
        let f = prepare(1);
        let (before, start) = (tree(&f), f.sim.ops().changes());
        run(&f).unwrap();
        (before, tree(&f), f.sim.ops().changes() - start)
    };
    let mut seen = [0, 0];
    for at in 1..=changes + 1 {
        for keeps in [false, true] {
            let f = prepare(at);
            f.sim.crash_at_op(f.sim.ops().changes() + at);
            let done = run(&f);
            let sim = if keeps { f.sim.crash_keep_all() } else { f.sim.crash() };
            let f = Fixture::on(sim, stepped());
            let found = tree(&f);
            assert!(found == before || found == after, "operation {at}: {:?}", found.keys());
            assert!(done.is_err() || found == after, "operation {at}: it was synced");
            seen[usize::from(found == after)] += 1;
            audit_all(&f);
            audit(&f);
            // What is left in tables goes with a compaction.
            f.store.compact().unwrap();
            if found == before {
                assert_eq!(f.keys(b'd').len(), 1, "operation {at}");
                import(&f, &archive, "into").unwrap();
                assert_eq!(tree(&f), after);
            }
        }
    }
    assert!(seen[0] > 20 && seen[1] > 0, "{seen:?}");
}

#[test]
fn imports_and_writers_do_not_disturb_each_other() {
    let f = Fixture::small_memtables();
    let archive = small();
    std::thread::scope(|scope| {
        for n in 0..3 {
            let (f, archive) = (&f, &archive);
            scope.spawn(move || {
                for round in 0..5 {
                    import(f, archive, &format!("import{n}/{round}")).unwrap();
                }
            });
            scope.spawn(move || {
                for round in 0..60 {
                    let ino = file(&f.fs, &format!("beside{n}-{round}"), &[round; 30_000]).ino;
                    f.fs.forget(ino, 1);
                    if round % 20 == 0 {
                        let main = f.store.volume("main").unwrap();
                        let fork = f.store.fork(&main, &format!("fork{n}-{round}")).unwrap();
                        drop(FileSystem::open_volume(f.store.clone(), fork, FsOptions::default()).unwrap());
                    }
                }
            });
        }
    });
    audit(&f);
    assert_eq!(tree(&f).len(), 1 + 3 * 60 + 3 * (1 + 5 * 18));
    for volume in f.store.volumes().unwrap() {
        let found = lsmfs::fs::check::check(&volume, &mut || ()).unwrap();
        assert_eq!(found.findings, [], "{}", volume.name());
    }
}

#[test]
fn an_import_is_counted_and_one_that_passes_the_quota_leaves_nothing() {
    let mut f = Fixture::new();
    let before = file(&f.fs, "before", &[1; 5000]);
    let volume = f.store.volume("main").unwrap();
    let of_before = volume.tally().unwrap();
    let mut archive = Archive::new();
    // What later members replace does not count in the end.
    archive.file("d1/f1", &[7; 20_000]);
    archive.dir("again");
    archive.small();
    let archive = archive.end();
    import(&f, &archive, "into").unwrap();
    let tally = volume.tally().unwrap();
    assert_eq!(tally, recount(&volume).unwrap());
    let imported = tally - of_before;
    // into, again, d0, d1, d2, 12 files, top.
    assert_eq!(imported.files, 18);
    Tree::new(&f.fs).remove(&TreePath::parse(b"into").unwrap(), true).unwrap();
    assert_eq!(volume.tally().unwrap(), of_before);
    let (found, state) =
        (tree(&f), |f: &Fixture| (f.keys(b'd').len(), f.keys(b'b').len(), f.keys(b'x').len()));
    f.store.compact().unwrap();
    let kept = state(&f);
    let limit = |change: Tally| Quota {
        files: Some((tally.files + change.files) as u64),
        bytes: Some((tally.bytes + change.bytes) as u64),
    };
    for short in [Tally { files: -1, bytes: 0 }, Tally { files: 0, bytes: -1 }] {
        f.store.set_quota(&f.store.volume("main").unwrap(), limit(short)).unwrap();
        let refused = import(&f, &archive, "into").unwrap_err();
        assert_eq!(errno(&refused), libc::EDQUOT, "{refused}");
        assert_eq!((tree(&f), volume_tally(&f)), (found.clone(), of_before));
        f.store.compact().unwrap();
        assert_eq!(state(&f), kept);
        audit_all(&f);
    }
    f.store.set_quota(&f.store.volume("main").unwrap(), limit(Tally::default())).unwrap();
    import(&f, &archive, "into").unwrap();
    assert_eq!(volume_tally(&f), tally);
    // What statfs says is full, and a byte more is refused.
    let space = f.fs.statfs().unwrap();
    assert_eq!((space.free, space.files_free), (0, 0));
    f.fs.forget(before.ino, 1);
    f.reopen();
    assert_eq!(volume_tally(&f), tally);
    audit(&f);
}

fn volume_tally(f: &Fixture) -> Tally {
    f.store.volume("main").unwrap().tally().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No bytes are a panic, and none leave anything.
    #[test]
    fn damaged_archives_are_no_panic(at in 0..20_000usize, byte: u8, cut in 0..30_000usize) {
        let mut archive = small();
        let (len, cut) = (archive.len(), cut.max(512));
        archive[at % len] = byte;
        archive.truncate(len - cut % len / 8);
        let f = Fixture::new();
        let done = import(&f, &archive, "t");
        audit_all(&f);
        prop_assert!(done.is_ok() || tree(&f).len() == 1);
    }
}
