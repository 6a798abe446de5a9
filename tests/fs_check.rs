//! Checking the files of a volume: what is sound passes, what is not is named, and mending leaves nothing.

mod fs_common;

use fs_common::{Fixture, USER, contents, file, size};
use lsmfs::fs::check::{Report, check, mend};
use lsmfs::fs::{FileSystem, FsOptions, ROOT, RenameMode, XattrMode};
use lsmfs::lsm::{Batch, Tally, Volume};
use std::sync::Arc;

/// A tree with everything in it.
fn filled() -> Fixture {
    let f = Fixture::new();
    let dir = f.fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap();
    let sub = f.fs.mkdir(dir.ino, b"sub", 0o755, USER).unwrap();
    file(&f.fs, "small", b"inline");
    let large = file(&f.fs, "large", &vec![7; 200_000]);
    let sparse = file(&f.fs, "sparse", b"x");
    f.fs.write(sparse.ino, 1 << 20, &[1; 5000]).unwrap();
    f.fs.setattr(sparse.ino, &size(3 << 20), USER).unwrap();
    let linked = file(&f.fs, "linked", &vec![9; 70_000]);
    f.fs.link(linked.ino, dir.ino, b"other").unwrap();
    f.fs.symlink(sub.ino, b"symlink", b"../../small", USER).unwrap();
    for ino in [large.ino, linked.ino, dir.ino] {
        f.fs.setxattr(ino, b"user.note", b"value", XattrMode::Set, USER).unwrap();
    }
    f.fs.rename(ROOT, b"large", sub.ino, b"moved", RenameMode::Replace).unwrap();
    f
}

fn volume(f: &Fixture) -> Arc<Volume> {
    f.store.volume("main").unwrap()
}

fn report(f: &Fixture) -> Report {
    check(&volume(f), &mut || ()).unwrap()
}

fn words(report: &Report) -> Vec<String> {
    report.findings.iter().map(|finding| finding.to_string()).collect()
}

fn prefix(first: u8, ino: u64) -> Vec<u8> {
    [&[first], &ino.to_be_bytes()[..]].concat()
}

fn entry(dir: u64, name: &str) -> Vec<u8> {
    [&prefix(b'e', dir), name.as_bytes()].concat()
}

#[test]
fn a_sound_tree_has_no_findings() {
    let f = filled();
    let report = report(&f);
    assert_eq!(words(&report), [""; 0]);
    assert_eq!((report.files, report.directories, report.orphans), (5, 3, 0));
}

#[test]
fn a_file_that_was_open_at_a_kill_is_no_finding() {
    let f = filled();
    let ino = file(&f.fs, "open", &vec![1; 100_000]).ino;
    f.fs.unlink(ROOT, b"open").unwrap();
    let report = report(&f);
    assert_eq!((words(&report).len(), report.orphans), (0, 1));
    f.fs.forget(ino, 1);
}

/// Each record by itself is taken away, and each head by itself is damaged: the check notices (or nothing
/// depends on it), and after the mend the tree is sound and what was not touched reads as before.
#[test]
fn whatever_record_is_lost_is_noticed_and_mended() {
    let keys = {
        let f = filled();
        b"deiopsx".iter().flat_map(|first| f.keys(*first)).collect::<Vec<_>>()
    };
    assert!(keys.len() > 20, "{}", keys.len());
    for key in keys {
        for damaged in [false, true] {
            let f = filled();
            let volume = volume(&f);
            let mut batch = Batch::new();
            match damaged {
                true => batch.put(&key, b"\x07not a record"),
                false => batch.delete(&key),
            }
            volume.write(batch).unwrap();
            let found = words(&report(&f));
            // An inner chunk's head says nothing; its bytes changed, and nobody can know.
            // Nor can they of a file that had no other record.
            let alone = key.ends_with(b"small") || key.ends_with(b"symlink");
            let silent = (alone && !damaged)
                || (key[0] == b'd' || key[0] == b'x' || key.len() > 17 && key[0] == b'i') && damaged;
            let what = format!("{} {damaged}", key.escape_ascii());
            assert!(!found.is_empty() || silent, "{what} is not noticed");
            let mended = mend(&f.store, &volume).unwrap();
            assert_eq!(mended.left, [], "{what}");
            assert_eq!(words(&report(&f)), [""; 0], "{what}");
            // And the file system opens on it, with a tree that can be walked.
            let fs = FileSystem::open(f.store.clone(), "main", FsOptions::default()).unwrap();
            let small = fs.lookup(ROOT, b"small").unwrap();
            if key != entry(ROOT, "small") {
                assert_eq!(contents(&fs, small.unwrap().ino), b"inline", "{what}");
            }
        }
    }
}

#[test]
fn a_tally_that_is_wrong_is_named_and_set_right() {
    let f = filled();
    let (volume, right) = (volume(&f), volume(&f).tally().unwrap());
    let wrong = Tally { files: right.files + 2, bytes: right.bytes - 1 };
    f.store.correct_tally(&volume, wrong).unwrap();
    let Tally { files, bytes } = right;
    let what = format!(
        "the volume: its tally is {} files and {} bytes and should be {files} files and {bytes} bytes",
        wrong.files, wrong.bytes
    );
    assert_eq!(words(&report(&f)), [what]);
    assert_eq!(mend(&f.store, &volume).unwrap().left, []);
    assert_eq!(volume.tally(), Some(right));
    assert_eq!(words(&report(&f)), [""; 0]);
}

#[test]
fn a_directory_that_lost_its_entry_is_found_where_it_was() {
    let f = filled();
    let volume = volume(&f);
    let mut batch = Batch::new();
    batch.delete(&entry(ROOT, "dir"));
    volume.write(batch).unwrap();
    assert_eq!(mend(&f.store, &volume).unwrap().left, []);
    let fs = FileSystem::open(f.store.clone(), "main", FsOptions::default()).unwrap();
    let dir = fs.lookup(ROOT, b"dir").unwrap().unwrap();
    let sub = fs.lookup(dir.ino, b"sub").unwrap().unwrap();
    let moved = fs.lookup(sub.ino, b"moved").unwrap().unwrap();
    assert_eq!(contents(&fs, moved.ino), vec![7; 200_000]);
    assert_eq!(fs.getxattr(dir.ino, b"user.note").unwrap().unwrap(), &b"value"[..]);
}

#[test]
fn a_file_that_lost_its_entry_is_found_in_the_root() {
    let f = filled();
    let volume = volume(&f);
    let large = {
        let dir = f.fs.lookup(ROOT, b"dir").unwrap().unwrap();
        let sub = f.fs.lookup(dir.ino, b"sub").unwrap().unwrap();
        f.fs.lookup(sub.ino, b"moved").unwrap().map(|moved| (sub.ino, moved.ino)).unwrap()
    };
    let mut batch = Batch::new();
    batch.delete(&entry(large.0, "moved"));
    volume.write(batch).unwrap();
    assert_eq!(mend(&f.store, &volume).unwrap().left, []);
    let fs = FileSystem::open(f.store.clone(), "main", FsOptions::default()).unwrap();
    let name = format!("lost+found.{}", large.1);
    let found = fs.lookup(ROOT, name.as_bytes()).unwrap().unwrap();
    assert_eq!(contents(&fs, found.ino), vec![7; 200_000]);
    assert_eq!(fs.getxattr(found.ino, b"user.note").unwrap().unwrap(), &b"value"[..]);
}

#[test]
fn directories_that_lie_in_each_other_are_taken_apart() {
    let f = filled();
    let volume = volume(&f);
    let dir = f.fs.lookup(ROOT, b"dir").unwrap().unwrap().ino;
    let sub = f.fs.lookup(dir, b"sub").unwrap().unwrap().ino;
    let record = volume.get(&entry(ROOT, "dir")).unwrap().unwrap();
    let mut batch = Batch::new();
    batch.delete(&entry(ROOT, "dir"));
    batch.put(&entry(sub, "loop"), &record.head);
    volume.write(batch).unwrap();
    let found = words(&report(&f));
    assert!(found.iter().any(|finding| finding.contains("lies in itself")), "{found:?}");
    assert_eq!(mend(&f.store, &volume).unwrap().left, []);
    assert_eq!(words(&report(&f)), [""; 0]);
}

#[test]
fn wrong_counts_and_sizes_are_named_with_the_path() {
    let f = filled();
    let volume = volume(&f);
    let dir = f.fs.lookup(ROOT, b"dir").unwrap().unwrap().ino;
    let sub = f.fs.lookup(dir, b"sub").unwrap().unwrap().ino;
    let change = |key: &[u8], at: usize, byte: u8| {
        let old = volume.get(key).unwrap().unwrap();
        let mut head = old.head.to_vec();
        head[at] = byte;
        let mut batch = Batch::new();
        batch.put_split(key, &head, &old.tail);
        volume.write(batch).unwrap();
    };
    // Link count, size, number of chunks: see entry.rs.
    change(&entry(dir, "sub"), 27, 9);
    change(&entry(sub, "moved"), 38, 1);
    change(&entry(ROOT, "sparse"), 47, 9);
    let found = words(&report(&f));
    for place in ["/dir/sub: its link count", "/dir/sub/moved: ", "/sparse: it says"] {
        assert!(found.iter().any(|finding| finding.starts_with(place)), "{place}: {found:?}");
    }
    assert_eq!(mend(&f.store, &volume).unwrap().left, []);
    assert_eq!(words(&report(&f)), [""; 0]);
}
