//! Names: making, removing, moving and listing them, on the library's face.

mod fs_common;

use fs_common::{Fixture, USER, contents, file, names, number, size};
use lsmfs::fs::{
    Caller, DirEntry, DirHandle, FileKind, FileSystem, Ino, NAME_MAX, ROOT, RenameMode, SetAttr,
};

fn mkdir(fs: &FileSystem, parent: Ino, name: &str) -> Ino {
    fs.mkdir(parent, name.as_bytes(), 0o755, USER).unwrap().ino
}

fn mv(fs: &FileSystem, from: (Ino, &str), to: (Ino, &str)) -> lsmfs::fs::Result<()> {
    fs.rename(from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), RenameMode::Replace).map(drop)
}

fn nlink(fs: &FileSystem, ino: Ino) -> u32 {
    fs.getattr(ino).unwrap().nlink
}

#[test]
fn names_are_bytes_with_a_limit() {
    let f = Fixture::new();
    let long = [b'x'; NAME_MAX + 1];
    for name in [&b"\xff\xfe"[..], b"a\nb", b"...", &long[..NAME_MAX]] {
        let made = f.fs.create(ROOT, name, 0o644, USER).unwrap();
        assert_eq!(f.fs.lookup(ROOT, name).unwrap(), Some(made));
    }
    assert_eq!(number(f.fs.create(ROOT, &long, 0o644, USER)), libc::ENAMETOOLONG);
    assert_eq!(number(f.fs.lookup(ROOT, &long)), libc::ENAMETOOLONG);
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(number(f.fs.mkdir(ROOT, name, 0o755, USER)), libc::EINVAL);
    }
    assert_eq!(f.fs.lookup(ROOT, b"absent").unwrap(), None);
    assert_eq!(number(f.fs.symlink(ROOT, b"l", &[b'x'; 4096], USER)), libc::ENAMETOOLONG);
    assert_eq!(number(f.fs.symlink(ROOT, b"l", b"", USER)), libc::ENOENT);
}

#[test]
fn a_name_is_taken_once() {
    let f = Fixture::new();
    file(&f.fs, "a", b"");
    assert_eq!(number(f.fs.create(ROOT, b"a", 0o644, USER)), libc::EEXIST);
    assert_eq!(number(f.fs.mkdir(ROOT, b"a", 0o755, USER)), libc::EEXIST);
    assert_eq!(number(f.fs.unlink(ROOT, b"b")), libc::ENOENT);
    let a = f.fs.lookup(ROOT, b"a").unwrap().unwrap().ino;
    assert_eq!(number(f.fs.create(a, b"x", 0o644, USER)), libc::ENOTDIR);
    assert_eq!(number(f.fs.opendir(a)), libc::ENOTDIR);
}

#[test]
fn directories_count_their_subdirectories_and_note_changes() {
    let f = Fixture::new();
    assert_eq!(nlink(&f.fs, ROOT), 2);
    let d = mkdir(&f.fs, ROOT, "d");
    let e = mkdir(&f.fs, d, "e");
    let made = f.fs.getattr(d).unwrap();
    assert_eq!((nlink(&f.fs, ROOT), made.nlink, nlink(&f.fs, e)), (3, 3, 2));
    f.fs.create(d, b"f", 0o644, USER).unwrap();
    let after = f.fs.getattr(d).unwrap();
    assert!(after.mtime >= made.mtime && after.ctime == after.mtime);
    assert_eq!(number(f.fs.rmdir(ROOT, b"d")), libc::ENOTEMPTY);
    assert_eq!(number(f.fs.unlink(ROOT, b"d")), libc::EISDIR);
    assert_eq!(number(f.fs.rmdir(d, b"f")), libc::ENOTDIR);
    f.fs.unlink(d, b"f").unwrap();
    f.fs.rmdir(d, b"e").unwrap();
    assert_eq!((nlink(&f.fs, d), nlink(&f.fs, e)), (2, 0));
    f.fs.rmdir(ROOT, b"d").unwrap();
    assert_eq!(nlink(&f.fs, ROOT), 2);
    assert_eq!(number(f.fs.create(d, b"x", 0o644, USER)), libc::ENOENT);
    assert_eq!(f.keys(b'p'), [[0; 0]; 0]);
}

#[test]
fn a_setgid_directory_hands_down_its_group() {
    let f = Fixture::new();
    let d = f.fs.mkdir(ROOT, b"d", 0o2775, Caller::new(1, 55)).unwrap().ino;
    let sub = f.fs.mkdir(d, b"sub", 0o755, USER).unwrap();
    assert_eq!((sub.uid, sub.gid, sub.mode), (USER.uid, 55, 0o2755));
    let file = f.fs.create(d, b"f", 0o644, USER).unwrap();
    assert_eq!((file.gid, file.mode), (55, 0o644));
}

#[test]
fn an_unlinked_file_lives_until_it_is_forgotten() {
    let mut f = Fixture::new();
    for (name, len) in [("small", 100), ("large", 200_000)] {
        let ino = file(&f.fs, name, &vec![b'x'; len]).ino;
        f.fs.unlink(ROOT, name.as_bytes()).unwrap();
        assert_eq!(f.fs.lookup(ROOT, name.as_bytes()).unwrap(), None);
        let attr = f.fs.getattr(ino).unwrap();
        assert_eq!((attr.nlink, attr.size), (0, len as u64));
        assert_eq!(contents(&f.fs, ino), vec![b'x'; len]);
        f.fs.write(ino, 150_000, b"grown").unwrap();
        assert_eq!(f.fs.read(ino, 150_000, 5).unwrap(), b"grown"[..]);
        let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        assert_eq!(f.fs.setattr(ino, &mode, USER).unwrap().mode, 0o600);
        f.fs.setattr(ino, &size(10), USER).unwrap();
        assert_eq!(contents(&f.fs, ino), [b'x'; 10]);
        f.fs.write(ino, 300_000, b"again").unwrap();
        assert_eq!(f.keys(b'o').len(), 1, "{name}");
        f.fs.forget(ino, 1);
        assert_eq!(number(f.fs.getattr(ino)), libc::ESTALE);
        assert_eq!((f.keys(b'o').len(), f.keys(b'd').len()), (0, 0), "{name}");
    }
    f.reopen();
    assert_eq!(names(&f.fs, ROOT), [""; 0]);
}

#[test]
fn what_was_unlinked_and_open_is_reclaimed_at_the_next_open() {
    let mut f = Fixture::new();
    for i in 0..3000 {
        file(&f.fs, &i.to_string(), &[1; 5000]);
        f.fs.unlink(ROOT, i.to_string().as_bytes()).unwrap();
    }
    let kept = file(&f.fs, "kept", &[2; 5000]).ino;
    assert_eq!(f.keys(b'o').len(), 3000);
    f.reopen();
    assert_eq!((f.keys(b'o').len(), f.keys(b'd').len()), (0, 1));
    assert_eq!(f.fs.lookup(ROOT, b"kept").unwrap().unwrap().ino, kept);
    assert_eq!(contents(&f.fs, kept), [2; 5000]);
}

#[test]
fn a_large_file_is_reclaimed_with_one_record() {
    let f = Fixture::new();
    let ino = f.fs.create(ROOT, b"f", 0o644, USER).unwrap().ino;
    for i in 0..9000 {
        f.fs.write(ino, i << 16, b"x").unwrap();
    }
    f.fs.unlink(ROOT, b"f").unwrap();
    f.fs.forget(ino, 1);
    assert_eq!((f.keys(b'o').len(), f.keys(b'd').len()), (0, 0));
}

#[test]
fn a_directory_that_much_was_removed_from_leaves_one_range_tombstone() {
    let f = Fixture::new();
    let dir = f.fs.mkdir(ROOT, b"spool", 0o755, USER).unwrap().ino;
    for i in 0..1500 {
        file(&f.fs, "moving", b"");
        f.fs.rename(ROOT, b"moving", dir, i.to_string().as_bytes(), RenameMode::Replace).unwrap();
    }
    for i in 0..1500 {
        f.fs.unlink(dir, i.to_string().as_bytes()).unwrap();
    }
    f.fs.rmdir(ROOT, b"spool").unwrap();
    f.store.flush().unwrap();
    let tables: u64 = f.store.stats().volumes[0].levels.iter().flatten().map(|t| t.entries).sum();
    assert!(tables < 1000, "{tables} records are left of 1500 entries that came and went");
}

#[test]
fn inode_numbers_are_never_used_again() {
    let mut f = Fixture::new();
    let mut last = 0;
    for round in 0..3 {
        let name = format!("f{round}");
        let ino = file(&f.fs, &name, b"").ino;
        assert!(ino > last);
        last = ino;
        f.fs.unlink(ROOT, name.as_bytes()).unwrap();
        f.fs.forget(ino, 1);
        f.reopen();
    }
    assert_eq!(last, 4, "a clean close gives back what was reserved");
    let used = f.fs.statfs().unwrap().files_free;
    f.reopen();
    assert_eq!(f.fs.statfs().unwrap().files_free, used);
}

#[test]
fn rename_moves_and_replaces() {
    let mut f = Fixture::new();
    let (d, e) = (mkdir(&f.fs, ROOT, "d"), mkdir(&f.fs, ROOT, "e"));
    let a = file(&f.fs, "a", b"a").ino;
    let b = file(&f.fs, "b", &[b'b'; 100_000]).ino;
    mv(&f.fs, (ROOT, "a"), (d, "b")).unwrap();
    assert_eq!(contents(&f.fs, a), b"a");
    mv(&f.fs, (ROOT, "b"), (d, "b")).unwrap();
    assert_eq!((nlink(&f.fs, a), nlink(&f.fs, b)), (0, 1));
    assert_eq!(contents(&f.fs, a), b"a");
    f.fs.write(b, 0, b"B").unwrap();
    assert_eq!(names(&f.fs, d), ["b"]);
    mv(&f.fs, (ROOT, "d"), (e, "d")).unwrap();
    assert_eq!((nlink(&f.fs, ROOT), nlink(&f.fs, e)), (3, 3));
    mv(&f.fs, (e, "d"), (e, "dd")).unwrap();
    f.fs.create(d, b"new", 0o644, USER).unwrap();
    f.reopen();
    let e = f.fs.lookup(ROOT, b"e").unwrap().unwrap().ino;
    let dd = f.fs.lookup(e, b"dd").unwrap().unwrap().ino;
    assert_eq!((dd, names(&f.fs, dd)), (d, vec!["b".to_string(), "new".to_string()]));
    let b = f.fs.lookup(dd, b"b").unwrap().unwrap().ino;
    assert_eq!(f.fs.read(b, 0, 2).unwrap(), b"Bb"[..]);
}

#[test]
fn rename_refuses_what_makes_no_sense() {
    let f = Fixture::new();
    let d = mkdir(&f.fs, ROOT, "d");
    let e = mkdir(&f.fs, d, "e");
    let full = mkdir(&f.fs, ROOT, "full");
    mkdir(&f.fs, full, "x");
    file(&f.fs, "f", b"");
    assert_eq!(number(mv(&f.fs, (ROOT, "d"), (d, "d"))), libc::EINVAL);
    assert_eq!(number(mv(&f.fs, (ROOT, "d"), (e, "d"))), libc::EINVAL);
    assert_eq!(number(mv(&f.fs, (d, "e"), (ROOT, "d"))), libc::ENOTEMPTY);
    assert_eq!(number(mv(&f.fs, (ROOT, "d"), (ROOT, "full"))), libc::ENOTEMPTY);
    assert_eq!(number(mv(&f.fs, (ROOT, "f"), (ROOT, "d"))), libc::EISDIR);
    assert_eq!(number(mv(&f.fs, (ROOT, "d"), (ROOT, "f"))), libc::ENOTDIR);
    assert_eq!(number(mv(&f.fs, (ROOT, "absent"), (ROOT, "f"))), libc::ENOENT);
    mv(&f.fs, (ROOT, "f"), (ROOT, "f")).unwrap();
    mv(&f.fs, (ROOT, "d"), (ROOT, "d")).unwrap();
    f.fs.rmdir(full, b"x").unwrap();
    mv(&f.fs, (ROOT, "d"), (ROOT, "full")).unwrap();
    assert_eq!((nlink(&f.fs, full), nlink(&f.fs, ROOT)), (0, 3));
    assert_eq!(number(f.fs.create(full, b"x", 0o644, USER)), libc::ENOENT);
    assert_eq!(names(&f.fs, ROOT), ["f", "full"]);
}

#[test]
fn rename_can_refuse_to_replace_and_can_exchange() {
    let mut f = Fixture::new();
    let d = mkdir(&f.fs, ROOT, "d");
    let sub = mkdir(&f.fs, d, "sub");
    let a = file(&f.fs, "a", b"a").ino;
    let rename = |from: (Ino, &str), to: (Ino, &str), mode| {
        f.fs.rename(from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), mode)
    };
    assert_eq!(number(rename((ROOT, "a"), (ROOT, "d"), RenameMode::NoReplace)), libc::EEXIST);
    assert_eq!(number(rename((ROOT, "a"), (ROOT, "b"), RenameMode::Exchange)), libc::ENOENT);
    assert_eq!(number(rename((ROOT, "d"), (d, "sub"), RenameMode::Exchange)), libc::EINVAL);
    assert_eq!(number(rename((d, "sub"), (ROOT, "d"), RenameMode::Exchange)), libc::EINVAL);
    rename((ROOT, "a"), (d, "sub"), RenameMode::Exchange).unwrap();
    rename((ROOT, "d"), (ROOT, "dir"), RenameMode::NoReplace).unwrap();
    assert_eq!((nlink(&f.fs, ROOT), nlink(&f.fs, d)), (4, 2));
    assert_eq!(f.fs.getattr(a).unwrap().kind, FileKind::File);
    f.fs.create(sub, b"x", 0o644, USER).unwrap();
    f.reopen();
    assert_eq!(f.fs.lookup(ROOT, b"a").unwrap().unwrap().ino, sub);
    assert_eq!(f.fs.lookup(ROOT, b"dir").unwrap().unwrap().ino, d);
    assert_eq!(f.fs.lookup(d, b"sub").unwrap().unwrap().ino, a);
}

#[test]
fn a_moved_directory_knows_its_parent() {
    let f = Fixture::new();
    let (d, e) = (mkdir(&f.fs, ROOT, "d"), mkdir(&f.fs, ROOT, "e"));
    mv(&f.fs, (ROOT, "e"), (d, "e")).unwrap();
    let mut dots = Vec::new();
    f.fs.readdir(&f.fs.opendir(e).unwrap(), 0, &mut |entry| {
        dots.push((entry.name.to_vec(), entry.ino));
        false
    })
    .unwrap();
    assert_eq!(dots, [(b".".to_vec(), e), (b"..".to_vec(), d)]);
    // The check against cycles sees the new place, of deeper directories too.
    let g = mkdir(&f.fs, e, "g");
    assert_eq!(number(mv(&f.fs, (ROOT, "d"), (g, "d"))), libc::EINVAL);
    mv(&f.fs, (d, "e"), (ROOT, "e")).unwrap();
    mv(&f.fs, (ROOT, "d"), (g, "d")).unwrap();
}

#[test]
fn a_read_only_file_system_changes_nothing() {
    use lsmfs::fs::FsOptions;
    let f = Fixture::new();
    let ino = file(&f.fs, "f", b"x").ino;
    let options = FsOptions { read_only: true, ..FsOptions::default() };
    let fs = FileSystem::open(f.store.clone(), "main", options).unwrap();
    assert_eq!(fs.lookup(ROOT, b"f").unwrap().unwrap().ino, ino);
    assert_eq!(contents(&fs, ino), b"x");
    assert_eq!(number(fs.write(ino, 0, b"y")), libc::EROFS);
    assert_eq!(number(fs.setattr(ino, &size(0), USER)), libc::EROFS);
    assert_eq!(number(fs.create(ROOT, b"g", 0o644, USER)), libc::EROFS);
    assert_eq!(number(fs.unlink(ROOT, b"f")), libc::EROFS);
    assert_eq!(number(mv(&fs, (ROOT, "f"), (ROOT, "g"))), libc::EROFS);
}

#[test]
fn a_file_may_have_several_names() {
    let mut f = Fixture::new();
    let d = mkdir(&f.fs, ROOT, "d");
    let ino = file(&f.fs, "a", b"contents").ino;
    let linked = f.fs.link(ino, d, b"b").unwrap();
    assert_eq!((linked.ino, linked.nlink), (ino, 2));
    assert_eq!(number(f.fs.link(ino, d, b"b")), libc::EEXIST);
    assert_eq!(number(f.fs.link(d, ROOT, b"e")), libc::EPERM);
    f.fs.write(ino, 8, b" grow").unwrap();
    assert_eq!(f.fs.lookup(d, b"b").unwrap().unwrap().size, 13);
    // Two names of one file: nothing happens.
    mv(&f.fs, (ROOT, "a"), (d, "b")).unwrap();
    assert_eq!((names(&f.fs, ROOT), names(&f.fs, d)), (vec!["a".to_string(), "d".into()], vec!["b".into()]));
    mv(&f.fs, (ROOT, "a"), (d, "c")).unwrap();
    f.reopen();
    let d = f.fs.lookup(ROOT, b"d").unwrap().unwrap().ino;
    let (b, c) = (f.fs.lookup(d, b"b").unwrap().unwrap(), f.fs.lookup(d, b"c").unwrap().unwrap());
    assert_eq!((b.ino, b.nlink, b), (ino, 2, c));
    f.fs.unlink(d, b"b").unwrap();
    assert_eq!(nlink(&f.fs, ino), 1);
    f.fs.setattr(ino, &size(8), USER).unwrap();
    assert_eq!(contents(&f.fs, ino), b"contents");
    fs_common::audit::audit(&f);
    f.fs.unlink(d, b"c").unwrap();
    assert_eq!((nlink(&f.fs, ino), contents(&f.fs, ino)), (0, b"contents".to_vec()));
    assert_eq!(number(f.fs.link(ino, ROOT, b"again")), libc::ENOENT);
    assert_eq!(f.keys(b'i'), [[0; 0]; 0]);
}

#[test]
fn a_listing_follows_names_to_their_file() {
    let f = Fixture::new();
    let d = mkdir(&f.fs, ROOT, "d");
    let ino = file(&f.fs, "a", b"x").ino;
    f.fs.link(ino, d, b"b").unwrap();
    let (old, new) = (f.fs.opendir(d).unwrap(), f.fs.opendir(d).unwrap());
    f.fs.readdir(&old, 0, &mut |_| true).unwrap();
    f.fs.readdir(&old, 2, &mut |_| true).unwrap();
    f.fs.write(ino, 0, b"longer").unwrap();
    let sizes = |dir: &DirHandle, present: bool| {
        let mut sizes = Vec::new();
        let mut add = |entry: DirEntry<'_>| {
            sizes.push(entry.attr.unwrap().size);
            false
        };
        match present {
            true => f.fs.readdir_plus(dir, 2, &mut add).unwrap(),
            false => f.fs.readdir(dir, 2, &mut add).unwrap(),
        }
        sizes
    };
    assert_eq!(sizes(&new, true), [6]);
    f.fs.unlink(ROOT, b"a").unwrap();
    f.fs.unlink(d, b"b").unwrap();
    // The old listing still shows its moment; with present attributes there is nothing to show.
    assert_eq!(sizes(&old, false), [1]);
    assert_eq!(sizes(&old, true), [0; 0]);
}
