//! Files by their paths, against a model: a sorted map.

mod fs_common;

use fs_common::{ACCESS, DEFAULT, Fixture, acl, path};
use lsmfs::fs::tree::{Tree, TreePath};
use lsmfs::fs::{Caller, Cause, Error, FileKind, ROOT, SetAttr, XattrMode};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// An error of a caller's own; the file system is to have none.
#[derive(Debug)]
struct SourceFailed;

impl From<Error> for SourceFailed {
    fn from(error: Error) -> SourceFailed {
        panic!("{error}");
    }
}

/// Writes `value`, in pieces of `size`.
fn put(tree: &Tree<'_>, text: &str, value: &[u8], size: usize) -> Result<(), Error> {
    let mut rest = value;
    tree.write(&path(text), |buffer| {
        let len = rest.len().min(size).min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        Ok::<usize, Error>(len)
    })
}

fn get(tree: &Tree<'_>, text: &str) -> Result<Vec<u8>, Error> {
    let mut value = Vec::new();
    tree.read(&path(text), |piece| {
        value.extend_from_slice(piece);
        Ok::<(), Error>(())
    })?;
    Ok(value)
}

fn scan(tree: &Tree<'_>, from: Option<&TreePath>, to: Option<&TreePath>) -> Vec<(TreePath, Vec<u8>)> {
    let mut found = Vec::new();
    let scanned = tree.scan(from, to, |file| {
        let mut value = Vec::new();
        file.read(|piece| {
            value.extend_from_slice(piece);
            Ok::<(), Error>(())
        })?;
        found.push((file.path.clone(), value));
        Ok::<(), Error>(())
    });
    scanned.unwrap();
    found
}

fn names(tree: &Tree<'_>, text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let listed = tree.list(&path(text), |name, _| {
        names.push(String::from_utf8(name.to_vec()).unwrap());
        Ok::<(), Error>(())
    });
    listed.unwrap();
    names
}

#[test]
fn values_of_every_size_come_back() {
    let fixture = Fixture::small_memtables();
    let tree = Tree::new(&fixture.fs);
    for len in [0, 1, 4096, 4097, 65_536, 300_000, 1_000_001] {
        let value: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
        for size in [1 << 20, 4096, 777] {
            put(&tree, "a/value", &value, size).unwrap();
            assert!(get(&tree, "a/value").unwrap() == value, "{len} bytes in pieces of {size}");
        }
    }
    assert_eq!(names(&tree, "a"), ["value"]);
    assert_eq!(fixture.fs.referenced(), 0);
}

#[test]
fn a_source_that_fails_leaves_the_old_value_and_nothing_else() {
    let fixture = Fixture::new();
    let tree = Tree::new(&fixture.fs);
    put(&tree, "a", b"old", 10).unwrap();
    for target in ["a", "b"] {
        let mut calls = 0;
        let written = tree.write(&path(target), |buffer| {
            calls += 1;
            if calls == 3 { Err(SourceFailed) } else { Ok(buffer.len()) }
        });
        assert!(matches!(written, Err(SourceFailed)));
    }
    assert_eq!(get(&tree, "a").unwrap(), b"old");
    assert_eq!(names(&tree, ""), ["a"]);
    assert_eq!(fixture.fs.referenced(), 0);
}

#[test]
fn a_leftover_of_a_killed_writer_is_in_nobodys_way() {
    let fixture = Fixture::new();
    let tree = Tree::new(&fixture.fs);
    put(&tree, ".lsmfs-put.0", b"leftover", 10).unwrap();
    put(&tree, "a", b"new", 10).unwrap();
    assert_eq!(get(&tree, "a").unwrap(), b"new");
    assert_eq!(get(&tree, ".lsmfs-put.0").unwrap(), b"leftover");
}

#[test]
fn a_new_value_keeps_owner_and_mode() {
    let fixture = Fixture::new();
    let tree = Tree::new(&fixture.fs);
    put(&tree, "a", b"old", 10).unwrap();
    let ino = fixture.fs.lookup(ROOT, b"a").unwrap().unwrap().ino;
    let set = SetAttr { uid: Some(7), gid: Some(8), mode: Some(0o4701), ..SetAttr::default() };
    fixture.fs.setattr(ino, &set, Caller::new(0, 0)).unwrap();
    fixture.fs.forget(ino, 1);
    put(&tree, "a", b"new", 10).unwrap();
    let attr = tree.stat(&path("a")).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode, attr.size), (7, 8, 0o4701, 3));
}

#[test]
fn a_new_value_keeps_attributes_and_nobody_reads_it_before_it_is_whole() {
    let (fixture, root) = (Fixture::new(), Caller::new(0, 0));
    let (fs, tree) = (&fixture.fs, Tree::new(&fixture.fs));
    // User 1001 may write; the group may not even read, which the mode does not show.
    let list = acl(&[(1, 6, ANY), (2, 6, 1001), (4, 0, ANY), (0x10, 6, ANY), (0x20, 0, ANY)]);
    let wide = acl(&[(1, 7, ANY), (2, 7, 1002), (4, 7, ANY), (0x10, 7, ANY), (0x20, 7, ANY)]);
    for with_list in [true, false] {
        put(&tree, "a", b"old", 10).unwrap();
        let old = fs.lookup(ROOT, b"a").unwrap().unwrap().ino;
        let set = |ino, name, value: &[u8]| fs.setxattr(ino, name, value, XattrMode::Set, root).unwrap();
        set(old, b"user.colour", b"green");
        set(
            old,
            b"security.capability",
            b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        );
        match with_list {
            true => set(old, ACCESS, &list),
            false => _ = fs.setattr(old, &SetAttr { mode: Some(0o600), ..SetAttr::default() }, root).unwrap(),
        }
        let mode = fs.getattr(old).unwrap().mode;
        set(ROOT, DEFAULT, &wide);
        let mut pieces = [vec![1; 10_000], Vec::new()].into_iter();
        tree.write(&path("a"), |buffer| {
            let piece = pieces.next().unwrap_or_default();
            if piece.is_empty() {
                let unfinished = tree.stat(&path(".lsmfs-put.0")).unwrap();
                assert_eq!(unfinished.mode, 0o600);
            }
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok::<usize, Error>(piece.len())
        })
        .unwrap();
        let new = fs.lookup(ROOT, b"a").unwrap().unwrap();
        assert_eq!((new.mode, new.size), (mode, 10_000));
        let get = |name| fs.getxattr(new.ino, name).unwrap();
        assert_eq!(get(ACCESS).as_deref(), with_list.then_some(&list[..]));
        assert_eq!(
            (get(b"user.colour").as_deref(), get(b"security.capability")),
            (Some(&b"green"[..]), None)
        );
        fs.removexattr(ROOT, DEFAULT).unwrap();
        fs.unlink(ROOT, b"a").unwrap();
        [old, new.ino].into_iter().for_each(|ino| fs.forget(ino, 1));
    }
}

#[test]
fn what_replaces_a_file_lets_nobody_read_more_than_that_does() {
    let (fixture, root) = (Fixture::new(), Caller::new(0, 0));
    let (fs, tree) = (&fixture.fs, Tree::new(&fixture.fs));
    put(&tree, "a", b"old", 10).unwrap();
    let old = fs.lookup(ROOT, b"a").unwrap().unwrap().ino;
    // The mode shows the mask where the group's own rights stand without a list.
    let list = acl(&[(1, 6, ANY), (2, 6, 1001), (4, 0, ANY), (0x10, 6, ANY), (0x20, 0, ANY)]);
    fs.setxattr(old, ACCESS, &list, XattrMode::Set, root).unwrap();
    fs.forget(old, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let Some(unfinished) = fs.lookup(ROOT, b".lsmfs-put.0").unwrap() else { continue };
                let mode = fs.getattr(unfinished.ino).map_or(0, |attr| attr.mode);
                let list = fs.getxattr(unfinished.ino, ACCESS).ok().flatten();
                fs.forget(unfinished.ino, 1);
                assert!(mode & 0o077 == 0 || list.is_some(), "{mode:o}");
            }
        });
        (0..300).for_each(|_| put(&tree, "a", &[1; 5000], 5000).unwrap());
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tree.stat(&path("a")).unwrap().mode, 0o660);
}

const ANY: u32 = u32::MAX;

#[test]
fn several_who_store_values_in_new_directories_all_do() {
    let fixture = Fixture::new();
    for round in 0..200 {
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (fs, start) = (&fixture.fs, &start);
                scope.spawn(move || {
                    let tree = Tree::new(fs);
                    start.wait();
                    put(&tree, &format!("{round}/new/dir/{n}"), b"own", 10).unwrap();
                    put(&tree, &format!("{round}/new/same"), b"same", 10).unwrap();
                });
            }
        });
        let tree = Tree::new(&fixture.fs);
        assert_eq!(names(&tree, &format!("{round}/new/dir")), ["0", "1", "2", "3"]);
        assert_eq!(get(&tree, &format!("{round}/new/same")).unwrap(), b"same");
    }
}

#[test]
fn a_tree_is_removed_though_others_remove_in_it() {
    let fixture = Fixture::new();
    let tree = Tree::new(&fixture.fs);
    for round in 0..20 {
        (0..300).for_each(|n| put(&tree, &format!("top/{}/{n}", n % 3), b"x", 10).unwrap());
        let start = Barrier::new(2);
        let remove = || {
            start.wait();
            Tree::new(&fixture.fs).remove(&path("top"), true)
        };
        let removed = std::thread::scope(|scope| {
            let other = scope.spawn(remove);
            [remove(), other.join().unwrap()]
        });
        assert_eq!(names(&tree, ""), [""; 0], "round {round}");
        // One of them may find that all of it is gone, but not fail in the middle.
        for error in removed.into_iter().filter_map(Result::err) {
            assert!(matches!(error.cause, Cause::NotFound) && !error.to_string().contains("top/"), "{error}");
        }
    }
}

#[test]
fn only_regular_files_have_values() {
    let fixture = Fixture::new();
    let (tree, user) = (Tree::new(&fixture.fs), Caller::new(0, 0));
    put(&tree, "dir/file", b"x", 10).unwrap();
    fixture.fs.symlink(ROOT, b"link", b"dir/file", user).unwrap();
    fixture.fs.mknod(ROOT, b"fifo", FileKind::Fifo, 0o644, 0, user).unwrap();
    assert_eq!(tree.readlink(&path("link")).unwrap(), "dir/file");
    for (text, words) in [
        ("dir", "is a directory"),
        ("", "is a directory"),
        ("link", "is a symbolic link"),
        ("fifo", "not a regular file"),
        ("dir/file/x", "not a directory"),
    ] {
        let error = put(&tree, text, b"y", 10).unwrap_err().to_string();
        assert!(error.starts_with("write ") && error.ends_with(words), "{error}");
        let error = get(&tree, text).unwrap_err().to_string();
        assert!(error.starts_with("read ") && error.ends_with(words), "{error}");
    }
    assert_eq!(scan(&tree, None, None), [(path("dir/file"), b"x".to_vec())]);
    assert_eq!(tree.count().unwrap(), (1, 1, 2));
}

#[test]
fn trees_are_removed_whole_however_wide_and_deep() {
    let fixture = Fixture::small_memtables();
    let tree = Tree::new(&fixture.fs);
    for number in 0..600 {
        put(&tree, &format!("top/wide/{number}"), b"x", 10).unwrap();
    }
    let deep = format!("top/{}", "d/".repeat(300));
    put(&tree, &format!("{deep}file"), b"x", 10).unwrap();
    put(&tree, "top2", b"x", 10).unwrap();
    let refused = tree.remove(&path("top"), false).unwrap_err();
    assert!(matches!(refused.cause, Cause::IsDirectory));
    tree.remove(&path("top"), true).unwrap();
    assert_eq!(names(&tree, ""), ["top2"]);
    assert!(matches!(tree.remove(&path("top"), true).unwrap_err().cause, Cause::NotFound));
    assert!(matches!(tree.remove(&path("/"), true).unwrap_err().cause, Cause::Invalid(_)));
    tree.remove(&path("top2"), true).unwrap();
    assert_eq!(tree.count().unwrap(), (0, 0, 0));
    assert_eq!(fixture.fs.referenced(), 0);
    assert_eq!(fixture.keys(b'd'), Vec::<Vec<u8>>::new());
}

/// Few names, so that paths share directories and bounds hit them; `.` sorts before `/`.
fn any_path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "b.x", "ab", "\u{e4}", "~"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scans_agree_with_a_sorted_map(
        puts in prop::collection::vec((any_path(), prop::collection::vec(any::<u8>(), 0..20)), 0..30),
        from in prop::option::of(any_path()),
        to in prop::option::of(any_path()),
    ) {
        let fixture = Fixture::small_memtables();
        let tree = Tree::new(&fixture.fs);
        let mut model = BTreeMap::new();
        for (text, value) in puts {
            // A name is a file or a directory, whichever came first.
            if put(&tree, &text, &value, 7).is_ok() {
                model.insert(path(&text), value);
            }
        }
        let (from, to) = (from.map(|text| path(&text)), to.map(|text| path(&text)));
        let wanted: Vec<_> = model
            .into_iter()
            .filter(|(at, _)| from.as_ref().is_none_or(|from| at >= from))
            .filter(|(at, _)| to.as_ref().is_none_or(|to| at <= to || at.is_within(to)))
            .collect();
        prop_assert_eq!(scan(&tree, from.as_ref(), to.as_ref()), wanted);
        prop_assert_eq!(fixture.fs.referenced(), 0);
    }
}
