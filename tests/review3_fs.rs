//! Suspected defects of the file system, each shown by a test that fails while it stands.

mod fs_common;

use fs_common::{Fixture, USER, file};
use lsmfs::disk::Disk;
use lsmfs::fs::ROOT;

fn noise(len: usize) -> Vec<u8> {
    let mut x = 1u64;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 33) as u8 | 1
        })
        .collect()
}

/// A file with a damaged chunk can be removed, and what it held is given back: now or at the next mount.
#[test]
fn a_file_with_a_damaged_chunk_can_be_removed() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "a", &noise(64 << 10)).ino;
    // A small write: a patch over the chunk in the blob file.
    f.fs.write(ino, 100, b"patched").unwrap();
    f.sync();
    let blob = f.sim.list().unwrap().into_iter().find(|file| file.name.ends_with(".blob")).unwrap().name;
    f.sim.flip_bit(&blob, 30_000, 1).unwrap();
    f.fs.read(ino, 0, 10).unwrap_err();
    f.fs.unlink(ROOT, b"a").unwrap();
    f.fs.forget(ino, 1);
    let now = f.keys(b'o').len();
    f.reopen();
    let later = f.keys(b'o').len();
    assert_eq!((now, later), (0, 0), "orphans, and after another mount");
}

/// And it can be cut to nothing.
#[test]
fn a_file_with_a_damaged_chunk_can_be_truncated() {
    let f = Fixture::new();
    let ino = file(&f.fs, "a", &noise(64 << 10)).ino;
    f.fs.write(ino, 100, b"patched").unwrap();
    f.sync();
    let blob = f.sim.list().unwrap().into_iter().find(|file| file.name.ends_with(".blob")).unwrap().name;
    f.sim.flip_bit(&blob, 30_000, 1).unwrap();
    f.fs.setattr(ino, &fs_common::size(0), USER).unwrap();
}

/// Removing a file reads no byte of its contents.
#[test]
fn removing_a_file_reads_nothing_of_it() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "a", &noise(256 << 10)).ino;
    f.fs.forget(ino, 1);
    f.reopen();
    let blob = f.sim.list().unwrap().into_iter().find(|file| file.name.ends_with(".blob")).unwrap().name;
    let before = f.sim.reads(&blob);
    f.fs.unlink(ROOT, b"a").unwrap();
    assert_eq!(f.sim.reads(&blob) - before, 0);
}

/// A directory that files were moved out of lists as fast as one that they were removed from.
#[test]
fn a_directory_emptied_by_renames_is_swept_too() {
    let passed = |moved: bool| {
        let options = lsmfs::lsm::Options {
            memtable_size: 64 << 10,
            compaction: lsmfs::lsm::options::CompactionMode::None,
            ..lsmfs::fs::engine_options()
        };
        let f = Fixture::with(options);
        let [from, to] =
            ["from", "to"].map(|name| f.fs.mkdir(ROOT, name.as_bytes(), 0o755, USER).unwrap().ino);
        for n in 0..7000 {
            f.fs.create(from, format!("{n:05}").as_bytes(), 0o644, USER).unwrap();
        }
        for n in 0..7000 {
            let name = format!("{n:05}").into_bytes();
            match moved {
                true => f.fs.rename(from, &name, to, &name, lsmfs::fs::RenameMode::Replace).unwrap(),
                false => f.fs.unlink(from, &name).unwrap(),
            }
        }
        let volume = f.store.volume("main").unwrap();
        let prefix = |ino: u64| [&b"e"[..], &ino.to_be_bytes()].concat();
        let (start, end) = (prefix(from), prefix(from + 1));
        let bounds = (std::ops::Bound::Included(&start[..]), std::ops::Bound::Excluded(&end[..]));
        let mut scan = volume.scan(bounds.0, bounds.1).unwrap();
        assert!(!scan.next().unwrap());
        scan.records_passed()
    };
    let (removed, moved) = (passed(false), passed(true));
    assert!(moved < 2 * removed + 1000, "{moved} records are passed after renames, {removed} after removals");
}

/// A sparse file of one page is no terabyte: removing it is no reason to flush a memtable.
#[test]
fn removing_sparse_files_does_not_flush_each_time() {
    let f = Fixture::new();
    for n in 0..100 {
        let attr = f.fs.create(ROOT, format!("{n}").as_bytes(), 0o644, USER).unwrap();
        f.fs.write(attr.ino, 1 << 40, b"x").unwrap();
        f.fs.forget(attr.ino, 1);
    }
    let before = f.store.stats().flushes.count;
    for n in 0..100 {
        f.fs.unlink(ROOT, format!("{n}").as_bytes()).unwrap();
        // As long as programs take between two of them.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let flushes = f.store.stats().flushes.count - before;
    assert!(flushes < 5, "{flushes} flushes for 100 files of 4 KiB");
}
