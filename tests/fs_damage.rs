//! Files with a damaged chunk: what is lost is the chunk; and what does not need a chunk does not read it.

mod fs_common;

use fs_common::{Fixture, USER, file};
use lsmfs::disk::Disk;
use lsmfs::fs::{Ino, ROOT};

fn noise(len: usize) -> Vec<u8> {
    let mut x = 1u64;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 33) as u8 | 1
        })
        .collect()
}

/// A file of one damaged chunk, over which lies a patch.
fn damaged(f: &Fixture) -> Ino {
    let ino = file(&f.fs, "a", &noise(64 << 10)).ino;
    f.fs.write(ino, 100, b"patched").unwrap();
    f.sync();
    let blob = blob(f);
    f.sim.flip_bit(&blob, 30_000, 1).unwrap();
    f.fs.read(ino, 0, 10).unwrap_err();
    ino
}

fn blob(f: &Fixture) -> String {
    f.sim.list().unwrap().into_iter().find(|file| file.name.ends_with(".blob")).unwrap().name
}

/// What it held is given back: now, not at the next mount.
#[test]
fn a_file_with_a_damaged_chunk_can_be_removed() {
    let mut f = Fixture::new();
    let ino = damaged(&f);
    f.fs.unlink(ROOT, b"a").unwrap();
    f.fs.forget(ino, 1);
    assert_eq!((f.keys(b'o').len(), f.keys(b'd').len()), (0, 0));
    f.reopen();
    assert_eq!((f.keys(b'o').len(), f.keys(b'd').len()), (0, 0));
}

#[test]
fn a_file_with_a_damaged_chunk_can_be_truncated_and_written_again() {
    let f = Fixture::new();
    let ino = damaged(&f);
    f.fs.setattr(ino, &fs_common::size(0), USER).unwrap();
    f.fs.write(ino, 0, b"again").unwrap();
    assert_eq!(fs_common::contents(&f.fs, ino), b"again");
}

#[test]
fn removing_a_file_reads_nothing_of_it() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "a", &noise(256 << 10)).ino;
    f.fs.forget(ino, 1);
    f.reopen();
    let blob = blob(&f);
    let before = f.sim.reads(&blob);
    f.fs.unlink(ROOT, b"a").unwrap();
    assert_eq!(f.sim.reads(&blob) - before, 0);
}
