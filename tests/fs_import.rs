//! Imports and exports of archives: what comes in is what was in them, and comes out again.

mod fs_common;

use fs_common::archives::{Archive, audit_all, export, import, listed, member, rich, stat, stat_ino};
use fs_common::audit::{audit, tree};
use fs_common::{ACCESS, Fixture, USER, acl, contents, file, names, names_by, path, read};
use lsmfs::fs::archive::{Member, MemberKind, Reader};
use lsmfs::fs::errno::errno;
use lsmfs::fs::import::ImportOptions;
use lsmfs::fs::tree::Tree;
use lsmfs::fs::{FileSystem, FsOptions, ROOT, XattrMode};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What of a file is not zeros.
type Pieces = Vec<(u64, Vec<u8>)>;

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

#[test]
fn a_listing_from_before_an_import_is_known_to_be_older() {
    let f = Fixture::new();
    let target = f.fs.mkdir(ROOT, b"target", 0o755, USER).unwrap().ino;
    for (at, dir) in [("/", ROOT), ("target", target)] {
        let listed = || {
            let handle = f.fs.opendir(dir).unwrap();
            names_by(&f.fs, &handle, 0, 7);
            handle
        };
        let before = listed();
        assert!(!f.fs.has_changed(&before));
        let mut archive = Archive::new();
        archive.file("new", b"x");
        import(&f, &archive.end(), at).unwrap();
        assert!(f.fs.has_changed(&before), "{at}");
        assert!(!f.fs.has_changed(&listed()), "{at}");
    }
    f.fs.forget(target, 1);
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
}

#[test]
fn the_mode_of_a_directory_that_is_there_goes_for_its_access_list_too() {
    let any = u32::MAX;
    let list = |mask| acl(&[(1, 7, any), (2, 7, 1001), (4, 5, any), (0x10, mask, any), (0x20, 0, any)]);
    let f = Fixture::new();
    let dir = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    f.fs.setxattr(dir, ACCESS, &list(7), XattrMode::Set, USER).unwrap();
    let mut archive = Archive::new();
    archive.add(&Member { mode: 0o750, ..member("./", MemberKind::Directory) }, b"");
    archive.file("./f", b"x");
    import(&f, &archive.end(), "d").unwrap();
    assert_eq!(f.fs.getattr(dir).unwrap().mode, 0o750);
    assert_eq!(f.fs.getxattr(dir, ACCESS).unwrap().unwrap(), list(5));
    f.fs.forget(dir, 1);
    audit(&f);
}
