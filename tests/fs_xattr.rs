//! Extended attributes and access control lists, on the library's face.

mod fs_common;

use fs_common::audit::audit;
use fs_common::{ACCESS, DEFAULT, Fixture, USER, acl, file, number, size};
use lsmfs::fs::{Caller, FileSystem, Ino, ROOT, SetAttr, XattrMode};

fn set(fs: &FileSystem, ino: Ino, name: &[u8], value: &[u8]) {
    fs.setxattr(ino, name, value, XattrMode::Set, USER).unwrap();
}

fn get(fs: &FileSystem, ino: Ino, name: &[u8]) -> Option<Vec<u8>> {
    fs.getxattr(ino, name).unwrap().map(|value| value.to_vec())
}

/// rwx for the owner, rw for user 1001, r for the group, masked by `mask`, nothing for others.
fn list(mask: u16) -> Vec<u8> {
    let any = u32::MAX;
    acl(&[(1, 7, any), (2, 6, 1001), (4, 4, any), (0x10, mask, any), (0x20, 0, any)])
}

fn mode(fs: &FileSystem, ino: Ino) -> u32 {
    fs.getattr(ino).unwrap().mode
}

fn chmod(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

#[test]
fn attributes_are_set_listed_removed_and_last() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "f", b"x").ino;
    assert_eq!(f.fs.listxattr(ino).unwrap(), b"");
    assert_eq!(get(&f.fs, ino, b"user.a"), None);
    let big = vec![7; 65536];
    set(&f.fs, ino, b"user.b", &big);
    set(&f.fs, ino, b"user.a", b"");
    set(&f.fs, ino, b"trusted.t", b"1");
    f.reopen();
    f.fs.lookup(ROOT, b"f").unwrap();
    assert_eq!(f.fs.listxattr(ino).unwrap(), b"trusted.t\0user.a\0user.b\0");
    assert_eq!((get(&f.fs, ino, b"user.a"), get(&f.fs, ino, b"user.b")), (Some(vec![]), Some(big)));
    f.fs.removexattr(ino, b"user.b").unwrap();
    assert_eq!(number(f.fs.removexattr(ino, b"user.b")), libc::ENODATA);
    f.fs.removexattr(ino, b"user.a").unwrap();
    f.fs.removexattr(ino, b"trusted.t").unwrap();
    assert_eq!(f.fs.listxattr(ino).unwrap(), b"");
    audit(&f);
}

#[test]
fn attributes_have_modes_and_limits() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", b"").ino;
    let set = |name: &[u8], value: &[u8], mode| f.fs.setxattr(ino, name, value, mode, USER);
    assert_eq!(number(set(b"user.a", b"", XattrMode::Replace)), libc::ENODATA);
    set(b"user.a", b"1", XattrMode::Create).unwrap();
    assert_eq!(number(set(b"user.a", b"2", XattrMode::Create)), libc::EEXIST);
    set(b"user.a", b"3", XattrMode::Replace).unwrap();
    assert_eq!(get(&f.fs, ino, b"user.a"), Some(b"3".to_vec()));
    assert_eq!(number(set(b"user.", b"", XattrMode::Set)), libc::EINVAL);
    assert_eq!(number(set(b"system.other", b"", XattrMode::Set)), libc::EOPNOTSUPP);
    assert_eq!(number(f.fs.getxattr(ino, b"nothing")), libc::EOPNOTSUPP);
    assert_eq!(number(set(b"user.a", &[0; 65537], XattrMode::Set)), libc::E2BIG);
    let long = [&b"user."[..], &[b'x'; 251]].concat();
    assert_eq!(number(set(&long, b"", XattrMode::Set)), libc::ENAMETOOLONG);
    // As many names as fit in a list: each of 255 bytes and a zero, beside `user.a`.
    for i in 0..255 {
        let name = format!("user.{i:0250}");
        set(name.as_bytes(), b"", XattrMode::Set).unwrap();
    }
    assert_eq!(number(set(format!("user.{:0250}", 255).as_bytes(), b"", XattrMode::Set)), libc::ENOSPC);
    assert!(f.fs.listxattr(ino).unwrap().len() <= 65536);
}

#[test]
fn attributes_go_with_their_file() {
    let mut f = Fixture::new();
    let dir = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let (small, large) = (file(&f.fs, "small", b"").ino, file(&f.fs, "large", &[1; 100_000]).ino);
    for ino in [dir, small, large] {
        set(&f.fs, ino, b"user.a", b"1");
    }
    f.fs.rmdir(ROOT, b"d").unwrap();
    f.fs.unlink(ROOT, b"small").unwrap();
    f.fs.unlink(ROOT, b"large").unwrap();
    for ino in [dir, small, large] {
        assert_eq!(get(&f.fs, ino, b"user.a"), Some(b"1".to_vec()));
        set(&f.fs, ino, b"user.b", b"2");
    }
    // Without attributes when it lost its name.
    let bare = file(&f.fs, "bare", b"").ino;
    f.fs.unlink(ROOT, b"bare").unwrap();
    set(&f.fs, bare, b"user.a", b"1");
    assert_eq!((f.keys(b'o').len(), f.keys(b'x').len()), (4, 7));
    f.fs.forget(dir, 1);
    f.fs.forget(small, 1);
    assert_eq!((f.keys(b'o').len(), f.keys(b'x').len()), (2, 3));
    f.reopen();
    audit(&f);
    assert_eq!(f.keys(b'x'), [[0; 0]; 0]);
}

#[test]
fn capabilities_are_dropped_when_contents_or_owner_change() {
    let f = Fixture::new();
    let root = Caller::new(0, 0);
    let ino = file(&f.fs, "f", b"abc").ino;
    let kept_after = |act: &dyn Fn()| {
        set(&f.fs, ino, b"security.capability", b"cap");
        act();
        get(&f.fs, ino, b"security.capability").is_some()
    };
    let owner = SetAttr { uid: Some(0), ..SetAttr::default() };
    assert!(!kept_after(&|| assert_eq!(f.fs.write(ino, 0, b"x").unwrap(), 1)));
    assert!(!kept_after(&|| assert_eq!(f.fs.setattr(ino, &size(1), root).unwrap().size, 1)));
    assert!(!kept_after(&|| assert_eq!(f.fs.setattr(ino, &owner, root).unwrap().uid, 0)));
    assert!(kept_after(&|| assert_eq!(f.fs.setattr(ino, &chmod(0o700), root).unwrap().mode, 0o700)));
}

#[test]
fn an_access_list_and_the_mode_follow_each_other() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", b"").ino;
    set(&f.fs, ino, ACCESS, &list(6));
    assert_eq!((mode(&f.fs, ino), get(&f.fs, ino, ACCESS)), (0o760, Some(list(6))));
    f.fs.setattr(ino, &chmod(0o2740), USER).unwrap();
    assert_eq!((mode(&f.fs, ino), get(&f.fs, ino, ACCESS)), (0o2740, Some(list(4))));
    // Who is not of the file's group does not hand its rights on.
    f.fs.setxattr(ino, ACCESS, &list(5), XattrMode::Set, Caller::new(7, 7)).unwrap();
    assert_eq!(mode(&f.fs, ino), 0o750);
    // A list that says no more than a mode is none.
    let any = u32::MAX;
    set(&f.fs, ino, ACCESS, &acl(&[(1, 6, any), (4, 4, any), (0x20, 4, any)]));
    assert_eq!((mode(&f.fs, ino), get(&f.fs, ino, ACCESS)), (0o644, None));
    f.fs.removexattr(ino, ACCESS).unwrap();
    for nonsense in [&b"x"[..], &acl(&[(1, 6, any)]), &acl(&[(1, 9, any), (4, 4, any), (0x20, 4, any)])] {
        assert_eq!(number(f.fs.setxattr(ino, ACCESS, nonsense, XattrMode::Set, USER)), libc::EINVAL);
    }
}

#[test]
fn a_default_list_is_handed_down() {
    let f = Fixture::new();
    let dir = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let maker = Caller { umask: 0o077, ..USER };
    let before = f.fs.create(dir, b"before", 0o666, maker).unwrap();
    assert_eq!(before.mode, 0o600);
    assert_eq!(number(f.fs.setxattr(before.ino, DEFAULT, &list(7), XattrMode::Set, USER)), libc::EACCES);
    set(&f.fs, dir, DEFAULT, &list(7));
    let made = f.fs.create(dir, b"f", 0o666, maker).unwrap();
    let any = u32::MAX;
    let inherited = acl(&[(1, 6, any), (2, 6, 1001), (4, 4, any), (0x10, 6, any), (0x20, 0, any)]);
    assert_eq!((made.mode, get(&f.fs, made.ino, ACCESS)), (0o660, Some(inherited)));
    let sub = f.fs.mkdir(dir, b"sub", 0o777, maker).unwrap();
    assert_eq!((sub.mode, get(&f.fs, sub.ino, ACCESS)), (0o770, Some(list(7))));
    assert_eq!(get(&f.fs, sub.ino, DEFAULT), Some(list(7)));
    let link = f.fs.symlink(dir, b"link", b"x", maker).unwrap();
    assert_eq!((link.mode, f.fs.listxattr(link.ino).unwrap().len()), (0o777, 0));
    // Without entries it is taken away.
    set(&f.fs, dir, DEFAULT, &acl(&[]));
    assert_eq!(f.fs.create(dir, b"after", 0o666, maker).unwrap().mode, 0o600);
    audit(&f);
}

#[test]
fn that_a_file_has_none_is_known_without_a_read() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "f", b"x").ino;
    let shared = file(&f.fs, "a", b"x").ino;
    f.fs.link(shared, ROOT, b"b").unwrap();
    let reads = |f: &Fixture, ino: Ino| {
        let before = f.store.stats().reads.gets;
        assert_eq!(get(&f.fs, ino, b"security.selinux"), None);
        assert_eq!(get(&f.fs, ino, ACCESS), None);
        f.fs.listxattr(ino).unwrap();
        f.store.stats().reads.gets - before
    };
    assert_eq!((reads(&f, ino), reads(&f, shared)), (0, 0), "made");
    f.reopen();
    f.fs.lookup(ROOT, b"f").unwrap();
    f.fs.lookup(ROOT, b"b").unwrap();
    assert_eq!((reads(&f, ino), reads(&f, shared)), (0, 0), "looked up");
    f.reopen();
    let dir = f.fs.opendir(ROOT).unwrap();
    f.fs.readdir_plus(&dir, 0, &mut |_| false).unwrap();
    assert_eq!((reads(&f, ino), reads(&f, shared)), (0, 0), "listed");
    for ino in [ino, shared] {
        set(&f.fs, ino, b"user.a", b"1");
        assert_eq!(get(&f.fs, ino, b"user.a").unwrap(), b"1");
        assert_eq!(f.fs.listxattr(ino).unwrap(), b"user.a\0");
    }
}

#[test]
fn an_attribute_set_while_a_listing_is_under_way_is_seen() {
    let mut f = Fixture::new();
    let (ino, shared) = (file(&f.fs, "f", b"x").ino, file(&f.fs, "g", b"x").ino);
    f.fs.link(shared, ROOT, b"h").unwrap();
    f.reopen();
    let dir = f.fs.opendir(ROOT).unwrap();
    // The listing's moment.
    f.fs.readdir_plus(&dir, 0, &mut |entry| entry.cookie > 2).unwrap();
    for (name, ino) in [(&b"f"[..], ino), (b"g", shared)] {
        f.fs.lookup(ROOT, name).unwrap();
        set(&f.fs, ino, b"user.a", b"1");
        f.fs.forget(ino, 1);
    }
    f.fs.readdir_plus(&dir, 2, &mut |_| false).unwrap();
    for ino in [ino, shared] {
        assert_eq!(get(&f.fs, ino, b"user.a").unwrap(), b"1");
    }
}
