//! Imports and exports of archives: what comes in is what was in them, all of it or nothing, and comes out again.

mod fs_common;

use fs_common::audit::{audit, tree};
use fs_common::{Fixture, USER, contents, file, names};
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::archive::{Member, MemberKind, Reader, Writer, acl_text};
use lsmfs::fs::errno::errno;
use lsmfs::fs::import::{ImportOptions, Imported};
use lsmfs::fs::tree::{Tree, TreePath};
use lsmfs::fs::{Attr, Caller, FileSystem, FsOptions, ROOT, Result, Timestamp, XattrMode, engine_options};
use lsmfs::lsm::{Options, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn member(path: impl AsRef<[u8]>, kind: MemberKind) -> Member {
    Member {
        path: path.as_ref().to_vec(),
        kind,
        mode: 0o640,
        uid: 1234,
        gid: 70_000_000,
        mtime: Timestamp { secs: 1_600_000_000, nanos: 123_456_789 },
        atime: Some(Timestamp { secs: -5, nanos: 5 }),
        xattrs: Vec::new(),
        size: 0,
        extents: None,
    }
}

/// What of a file is not zeros.
type Pieces = Vec<(u64, Vec<u8>)>;

/// An archive that is being made.
struct Archive(Writer<Vec<u8>>);

impl Archive {
    fn new() -> Archive {
        Archive(Writer::new(Vec::new()))
    }

    fn add(&mut self, member: &Member, data: &[u8]) {
        self.0.member(member).unwrap();
        self.0.data(data).unwrap();
    }

    fn file(&mut self, path: impl AsRef<[u8]>, data: &[u8]) {
        self.add(&Member { size: data.len() as u64, ..member(path, MemberKind::File) }, data);
    }

    fn dir(&mut self, path: impl AsRef<[u8]>) {
        self.add(&Member { mode: 0o2750, ..member(path, MemberKind::Directory) }, b"");
    }

    fn kind(&mut self, path: impl AsRef<[u8]>, kind: MemberKind) {
        self.add(&member(path, kind), b"");
    }

    fn end(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// Imports little by little, as it were.
fn import(f: &Fixture, archive: &[u8], at: &str) -> Result<Imported> {
    let options = ImportOptions { memory: 3000, ..ImportOptions::new(USER, true) };
    f.fs.import(archive, &path(at), &options)
}

fn stat(f: &Fixture, at: &str) -> Attr {
    Tree::new(&f.fs).stat(&path(at)).unwrap()
}

fn read(f: &Fixture, at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let read = Tree::new(&f.fs).read(&path(at), |piece| {
        out.extend_from_slice(piece);
        Ok::<(), lsmfs::fs::Error>(())
    });
    read.unwrap();
    out
}

/// Everything that an archive says, by path; what does not depend on who wrote it.
fn listed(archive: &[u8]) -> BTreeMap<Vec<u8>, (Member, Vec<u8>)> {
    let mut reader = Reader::new(archive);
    let mut found = BTreeMap::new();
    while let Some(mut member) = reader.next_member().unwrap() {
        let mut data = vec![0; member.size as usize];
        let copied = reader.contents(|at, bytes| {
            data[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok::<(), lsmfs::fs::archive::ArchiveError>(())
        });
        copied.unwrap();
        member.xattrs.sort();
        // Which pages are zeros the store knows, however the archive holds them.
        member.extents = None;
        found.insert(member.path.clone(), (member, data));
    }
    found
}

fn export(f: &Fixture, at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    f.fs.export(&path(at), &mut out).unwrap();
    out
}

fn rich() -> Vec<u8> {
    let mut archive = Archive::new();
    let acl = acl_text::parse(b"user::rw-,user:7:r--,group::r--,mask::r--,other::---").unwrap();
    let xattrs = vec![
        (b"security.capability".to_vec(), b"\x01\n=\0\xff".to_vec()),
        (b"system.posix_acl_access".to_vec(), acl.clone()),
        (b"user.a=b%".to_vec(), vec![b'\n'; 3000]),
    ];
    archive.add(
        &Member {
            xattrs: vec![(b"user.root".to_vec(), b"r".to_vec())],
            mode: 0o711,
            ..member("./", MemberKind::Directory)
        },
        b"",
    );
    archive.dir("./d/");
    archive.add(
        &Member {
            xattrs: vec![(b"system.posix_acl_default".to_vec(), acl)],
            ..member("./d/e/", MemberKind::Directory)
        },
        b"",
    );
    archive.file("./empty", b"");
    archive.file("./small", b"small\n");
    archive.file("./d/inline", &[3; 4096]);
    archive.file("./d/chunks", &[5; 200_001]);
    archive.file("./d/zeros", &[0; 70_000]);
    let long = [vec![b'x'; 255], vec![b'y'; 255]].join(&b'/');
    archive.dir([b"./", &long[..255], b"/"].concat());
    archive.file([b"./", &long[..]].concat(), b"long");
    archive.file(b"./\xff\n\xfe name", b"not UTF-8");
    archive.add(&Member { size: 9, xattrs, ..member("./attributes", MemberKind::File) }, b"123456789");
    archive.kind("./d/link", MemberKind::Symlink(b"../nowhere/\xff".to_vec()));
    archive.kind("./far", MemberKind::Symlink(vec![b't'; 2000]));
    archive.kind("./fifo", MemberKind::Fifo);
    archive.kind("./char", MemberKind::CharDevice(1, 3));
    archive.kind("./block", MemberKind::BlockDevice(259, 70_000));
    archive.kind("./d/e/hard", MemberKind::HardLink(b"./attributes".to_vec()));
    archive.kind("./hard2", MemberKind::HardLink(b"./d/e/hard".to_vec()));
    archive.kind("./hard3", MemberKind::HardLink(b"./d/chunks".to_vec()));
    let extents = vec![(65_536, 4096), (1 << 30, 1000)];
    let sparse =
        Member { size: (1 << 30) + 50_000, extents: Some(extents), ..member("./sparse", MemberKind::File) };
    archive.add(&sparse, &[9; 5096]);
    archive.end()
}

#[test]
fn what_is_imported_is_exported_again() {
    let archive = rich();
    let mut f = Fixture::small_memtables();
    file(&f.fs, "before", b"was here");
    import(&f, &archive, "into/a/new/one").unwrap();
    audit_all(&f);
    let sparse = stat(&f, "into/a/new/one/sparse");
    assert_eq!((sparse.size, sparse.blocks), ((1 << 30) + 50_000, 16));
    assert_eq!(stat(&f, "into/a/new/one/hard2").nlink, 3);
    let zeros = stat(&f, "into/a/new/one/d/zeros");
    assert_eq!((zeros.size, zeros.blocks), (70_000, 0));
    let check = |f: &Fixture| {
        // The sparse file is a gigabyte of zeros, mostly: without it.
        let out = export(f, "into/a/new/one");
        let small = |archive: &[u8]| {
            let mut found = BTreeMap::new();
            let mut reader = Reader::new(archive);
            while let Some(mut member) = reader.next_member().unwrap() {
                let mut data = Vec::new();
                let copied = reader.contents(|at, bytes| {
                    // What is zeros in a page is as good as a hole.
                    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    if end > 0 {
                        data.push((at, bytes[..end].to_vec()));
                    }
                    Ok::<(), lsmfs::fs::archive::ArchiveError>(())
                });
                copied.unwrap();
                member.xattrs.sort();
                member.extents = None;
                found.insert(member.path.clone(), (member, data));
            }
            found
        };
        let (mut wanted, mut found) = (small(&archive), small(&out));
        // Which of the names is the first is the order's affair; the others are links to it.
        let links = |of: &mut BTreeMap<Vec<u8>, (Member, Pieces)>| {
            for name in ["./attributes", "./d/e/hard", "./hard2", "./hard3", "./d/chunks"] {
                assert!(of.remove(name.as_bytes()).is_some(), "{name}");
            }
        };
        links(&mut wanted);
        links(&mut found);
        for (path, (member, data)) in &wanted {
            let (other, other_data) = &found[path];
            let symlink = matches!(member.kind, MemberKind::Symlink(_));
            let mode = if symlink { 0o777 } else { member.mode };
            assert_eq!(&Member { mode, ..member.clone() }, other);
            assert!(data == other_data, "{}", path.escape_ascii());
        }
        assert_eq!(wanted.len(), found.len());
    };
    check(&f);
    f.reopen();
    check(&f);
    f.store.compact().unwrap();
    check(&f);
    f.kill();
    check(&f);
    // And once more around.
    let again = Fixture::new();
    import(&again, &export(&f, "into/a/new/one"), "into/a/new/one").unwrap();
    check(&again);
    let attributes = stat(&again, "into/a/new/one/attributes");
    assert_eq!((attributes.mode, attributes.nlink), (0o640, 3));
    audit_all(&again);
}

/// As `audit`, which reads all contents: not those of a gigabyte of zeros.
fn audit_all(f: &Fixture) {
    let found = lsmfs::fs::check::check(&f.store.volume("main").unwrap(), &mut || ()).unwrap();
    assert_eq!(found.findings, [], "what the check finds");
    assert_eq!(f.keys(b'b'), [[0; 0]; 0], "imports under way");
    assert_eq!(f.keys(b'o'), [[0; 0]; 0], "orphan records");
}

#[test]
fn an_import_into_a_directory_that_exists_adds_to_it() {
    let mut f = Fixture::new();
    let kept = file(&f.fs, "kept", &[1; 10_000]).ino;
    let dir = f.fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap();
    file(&f.fs, "later", b"x");
    let mut archive = Archive::new();
    archive.file("a", b"a");
    archive.file("sub/b", b"b");
    archive.kind("hard", MemberKind::HardLink(b"a".to_vec()));
    let archive = archive.end();
    import(&f, &archive, "/").unwrap();
    import(&f, &archive, "dir").unwrap();
    assert_eq!(names(&f.fs, ROOT), ["a", "dir", "hard", "kept", "later", "sub"]);
    assert_eq!((stat(&f, "/").nlink, stat(&f, "dir").nlink), (4, 3));
    assert_eq!((read(&f, "dir/sub/b"), read(&f, "hard")), (b"b".to_vec(), b"a".to_vec()));
    // What was imported is as any other file.
    f.fs.write(stat_ino(&f, "dir/a"), 0, &[7; 9000]).unwrap();
    Tree::new(&f.fs).rename(&path("dir/sub"), &path("moved")).unwrap();
    Tree::new(&f.fs).remove(&path("sub"), true).unwrap();
    assert_eq!(read(&f, "dir/hard"), [7; 9000]);
    assert_eq!(contents(&f.fs, kept), [1; 10_000]);
    assert_eq!(f.fs.getattr(dir.ino).unwrap().nlink, 2);
    f.reopen();
    audit(&f);
    // A name that is there: nothing happens.
    let before = tree(&f);
    for at in ["dir", "/"] {
        let refused = import(&f, &archive, at).unwrap_err();
        assert_eq!(errno(&refused), libc::EEXIST, "{refused}");
        assert!(refused.to_string().contains("exists already"), "{refused}");
    }
    assert_eq!(errno(&import(&f, &archive, "kept/x").unwrap_err()), libc::ENOTDIR);
    assert_eq!(tree(&f), before);
    audit_all(&f);
}

fn stat_ino(f: &Fixture, at: &str) -> u64 {
    // Known, to be written to.
    let mut dir = ROOT;
    for name in at.split('/') {
        dir = f.fs.lookup(dir, name.as_bytes()).unwrap().unwrap().ino;
    }
    dir
}

#[test]
fn later_members_replace_earlier_ones() {
    let f = Fixture::new();
    let mut archive = Archive::new();
    archive.file("a", &[1; 100_000]);
    archive.file("a", b"new");
    archive.file("d/x", &[2; 50_000]);
    archive.kind("d/y", MemberKind::HardLink(b"d/x".to_vec()));
    archive.file("d/x", b"second");
    archive.file("d/y", b"third");
    archive.kind("l", MemberKind::Symlink(b"d".to_vec()));
    archive.dir("l");
    archive.file("l/in", b"in a directory, not where the link led");
    archive.dir("d");
    archive.kind("again", MemberKind::HardLink(b"again2".to_vec()).clone());
    let mut ok = Archive::new();
    std::mem::swap(&mut ok, &mut archive);
    let refused = import(&f, &ok.end(), "/").unwrap_err();
    assert!(refused.to_string().contains("again: a hard link to what is not in the archive"), "{refused}");
    assert_eq!(names(&f.fs, ROOT), [""; 0]);
    archive.file("a", &[1; 100_000]);
    archive.file("a", b"new");
    archive.file("d/x", &[2; 50_000]);
    archive.kind("d/y", MemberKind::HardLink(b"d/x".to_vec()));
    archive.kind("d/y", MemberKind::HardLink(b"d/x".to_vec()));
    archive.kind("d/x", MemberKind::HardLink(b"d/x".to_vec()));
    archive.file("d/x", b"second");
    archive.file("d/y", b"third");
    archive.kind("l", MemberKind::Symlink(b"d".to_vec()));
    archive.dir("l");
    archive.file("l/in", b"here");
    archive.dir("d");
    import(&f, &archive.end(), "/").unwrap();
    assert_eq!(
        (read(&f, "a"), read(&f, "d/x"), read(&f, "d/y")),
        (b"new".to_vec(), b"second".to_vec(), b"third".to_vec())
    );
    assert_eq!((read(&f, "l/in"), stat(&f, "d").mode), (b"here".to_vec(), 0o2750));
    assert_eq!(stat(&f, "d/y").nlink, 1);
    audit(&f);
}

#[test]
fn nothing_leads_out_of_the_target() {
    let f = Fixture::new();
    file(&f.fs, "secret", b"mine");
    let before = tree(&f);
    let attempts: [&dyn Fn(&mut Archive); 6] = [
        &|archive| archive.file("../out", b"x"),
        &|archive| archive.file("a/../../out", b"x"),
        &|archive| {
            archive.kind("up", MemberKind::Symlink(b"..".to_vec()));
            archive.file("up/out", b"x");
        },
        &|archive| {
            archive.kind("abs", MemberKind::Symlink(b"/".to_vec()));
            archive.dir("abs/dir");
        },
        &|archive| archive.kind("hard", MemberKind::HardLink(b"../secret".to_vec())),
        &|archive| archive.kind("hard", MemberKind::HardLink(b"secret".to_vec())),
    ];
    for (n, attempt) in attempts.iter().enumerate() {
        let mut archive = Archive::new();
        attempt(&mut archive);
        let refused = import(&f, &archive.end(), "target");
        assert!(refused.is_err(), "attempt {n}");
        assert_eq!(tree(&f), before, "attempt {n}");
    }
    let mut archive = Archive::new();
    archive.file("/etc/passwd", b"harmless");
    import(&f, &archive.end(), "target").unwrap();
    assert_eq!(read(&f, "target/etc/passwd"), b"harmless");
    let mut archive = Archive::new();
    archive.file(".lsmfs/stats", b"x");
    assert_eq!(errno(&import(&f, &archive.end(), "/").unwrap_err()), libc::EPERM);
    audit(&f);
}

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

#[test]
fn many_names_in_a_directory_that_exists_and_many_directories() {
    let f = Fixture::new();
    let mut archive = Archive::new();
    for n in 0..1500 {
        archive.file(format!("file{n}"), &[n as u8 | 1; 4000]);
    }
    for n in 0..300 {
        archive.file(format!("d{}/e{}/f{n}", n % 7, n % 50), b"x");
    }
    import(&f, &archive.end(), "/").unwrap();
    assert_eq!(names(&f.fs, ROOT).len(), 1507);
    assert_eq!(read(&f, "file1499"), [219 | 1; 4000]);
    audit(&f);
}

#[test]
fn an_export_shows_one_moment() {
    let f = Fixture::small_memtables();
    file(&f.fs, "a", &[1; 100_000]);
    let (x, y) = (file(&f.fs, "x", b"0").ino, file(&f.fs, "y", b"0").ino);
    struct Meddler<'a> {
        f: &'a Fixture,
        out: Vec<u8>,
        n: u32,
    }
    impl std::io::Write for Meddler<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.n += 1;
            file(&self.f.fs, &format!("new{}", self.n), &[2; 20_000]);
            self.out.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    f.fs.write(x, 0, b"1").unwrap();
    f.fs.write(y, 0, b"1").unwrap();
    let mut meddler = Meddler { f: &f, out: Vec::new(), n: 0 };
    f.fs.export(&path("/"), &mut meddler).unwrap();
    f.store.compact().unwrap();
    let (out, n) = (meddler.out, meddler.n);
    assert!(n > 0);
    let found = listed(&out);
    assert_eq!(
        found.keys().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
        ["./", "./a", "./x", "./y"]
    );
    assert_eq!((&found[&b"./x"[..]].1[..], &found[&b"./y"[..]].1[..]), (&b"1"[..], &b"1"[..]));
    // Of a snapshot, and of one file.
    let main = f.store.volume("main").unwrap();
    let snapshot = f.store.create_snapshot(&main, "s").unwrap();
    f.fs.unlink(ROOT, b"a").unwrap();
    let old = FileSystem::open_volume(f.store.clone(), snapshot, FsOptions::default()).unwrap();
    let mut out = Vec::new();
    old.export(&path("a"), &mut out).unwrap();
    assert_eq!(listed(&out)[&b"./a"[..]].1, [1; 100_000]);
    f.fs.setxattr(x, b"user.a", b"1", XattrMode::Set, USER).unwrap();
    assert_eq!(listed(&export(&f, "x"))[&b"./x"[..]].0.xattrs, [(b"user.a".to_vec(), b"1".to_vec())]);
}

/// Opens what is on a disk, if it can be opened.
fn open(sim: &Arc<SimDisk>) -> Option<Fixture> {
    let options = Options { background: false, ..engine_options() };
    let store = Arc::new(Store::open(sim.clone(), options.clone()).ok()?);
    let fs_options = FsOptions { owner: Caller::new(0, 0), ..FsOptions::default() };
    let fs = Arc::new(FileSystem::open(store.clone(), "main", fs_options).ok()?);
    Some(Fixture { sim: sim.clone(), store, fs, options })
}

fn small() -> Vec<u8> {
    let mut archive = Archive::new();
    for n in 0..12 {
        archive.file(format!("d{}/f{n}", n % 3), &vec![n as u8 + 1; 9000 * n]);
    }
    archive.file("top", b"small");
    archive.kind("top2", MemberKind::HardLink(b"d1/f4".to_vec()));
    archive.end()
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
        let f = open(&Arc::new(SimDisk::new(seed))).unwrap();
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
            let sim = Arc::new(if keeps { f.sim.crash_keep_all() } else { f.sim.crash() });
            let f = open(&sim).unwrap();
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
fn without_owners_all_belongs_to_the_caller() {
    let f = Fixture::new();
    let mut archive = Archive::new();
    let attribute = |name: &str| (name.as_bytes().to_vec(), b"\x01".to_vec());
    let xattrs = ["security.capability", "trusted.a", "user.a"].map(attribute).to_vec();
    archive.add(&Member { xattrs: xattrs.clone(), ..member("./", MemberKind::Directory) }, b"");
    archive.add(&Member { mode: 0o6755, xattrs, ..member("program", MemberKind::File) }, b"");
    archive.add(&Member { mode: 0o2775, ..member("dir", MemberKind::Directory) }, b"");
    f.fs.import(&archive.end()[..], &path("/"), &ImportOptions::new(USER, false)).unwrap();
    let (program, dir) = (stat(&f, "program"), stat(&f, "dir"));
    for ino in [ROOT, stat_ino(&f, "program")] {
        assert_eq!(f.fs.listxattr(ino).unwrap()[..], b"user.a\0"[..]);
    }
    assert_eq!((program.uid, program.gid, program.mode), (USER.uid, USER.gid, 0o755));
    assert_eq!((dir.uid, dir.mode), (USER.uid, 0o2775));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Random trees come back as they were.
    #[test]
    fn random_trees_come_back(seeds in prop::collection::vec((0..40u8, 0..5u8, 0..30_000usize, any::<u8>()), 1..40)) {
        let mut archive = Archive::new();
        let mut wanted: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (name, depth, len, byte) in seeds {
            // Directories and files have names of their own.
            let mut at: Vec<u8> = b"./".to_vec();
            (0..depth % 4).for_each(|level| at.extend_from_slice(format!("d{}/", (name ^ level) % 4).as_bytes()));
            at.extend_from_slice(format!("f{name}").as_bytes());
            let data = vec![byte; len];
            archive.file(&at, &data);
            wanted.insert(at, data);
        }
        let f = Fixture::new();
        import(&f, &archive.end(), "t").unwrap();
        let found = listed(&export(&f, "t"));
        let found: BTreeMap<Vec<u8>, Vec<u8>> =
            found.into_iter().filter(|(_, (member, _))| member.kind == MemberKind::File).map(|(path, (_, data))| (path, data)).collect();
        prop_assert!(found == wanted);
        audit(&f);
    }

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
