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
