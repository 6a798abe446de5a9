//! The space that files take: holes, allocation, and copying, on the library's face.

mod fs_common;

use fs_common::audit::audit;
use fs_common::{Fixture, USER, contents, file, number, size};
use lsmfs::fs::entry::{CHUNK_SIZE, INLINE_MAX, MAX_FILE_SIZE, PAGE_SIZE};
use lsmfs::fs::{Allocate, Caller, Ino, ROOT, Seek, SetAttr};

const ROOT_USER: Caller = Caller { uid: 0, gid: 0, umask: 0 };

/// Bytes none of which is zero.
fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8 | 1).collect()
}

fn blocks(f: &Fixture, ino: Ino) -> u64 {
    f.fs.getattr(ino).unwrap().blocks
}

fn punch(f: &Fixture, ino: Ino, offset: u64, len: u64) {
    f.fs.allocate(ino, offset, len, Allocate::PunchHole, true, USER).unwrap();
}

/// The ranges of data, as `lseek` tells them.
fn data(f: &Fixture, ino: Ino) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(start) = f.fs.seek(ino, at, Seek::Data) {
        at = f.fs.seek(ino, start, Seek::Hole).unwrap();
        ranges.push((start, at));
    }
    ranges
}

#[test]
fn zeros_are_not_stored() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "zeros", &vec![0; 1 << 20]).ino;
    assert_eq!((f.fs.getattr(ino).unwrap().size, blocks(&f, ino)), (1 << 20, 0));
    assert_eq!(f.keys(b'd'), [[0; 0]; 0]);
    assert_eq!(data(&f, ino), []);
    let mut mixed = vec![0; 3 * CHUNK_SIZE as usize];
    mixed[PAGE_SIZE as usize * 5] = 1;
    mixed[PAGE_SIZE as usize * 47 + 7] = 1;
    let ino = file(&f.fs, "mixed", &mixed).ino;
    assert_eq!(blocks(&f, ino), 2 * 8);
    assert_eq!(data(&f, ino), [(5 * PAGE_SIZE, 6 * PAGE_SIZE), (47 * PAGE_SIZE, 48 * PAGE_SIZE)]);
    assert!(contents(&f.fs, ino) == mixed);
    // Zeros over what is stored make holes of whole pages.
    f.fs.write(ino, 5 * PAGE_SIZE, &[0; PAGE_SIZE as usize]).unwrap();
    f.fs.write(ino, 47 * PAGE_SIZE, &[0; PAGE_SIZE as usize - 1]).unwrap();
    assert_eq!(data(&f, ino), [(47 * PAGE_SIZE, 48 * PAGE_SIZE)]);
    assert!(contents(&f.fs, ino).iter().all(|byte| *byte == 0));
    for name in ["zeros", "mixed"] {
        f.fs.forget(f.fs.lookup(ROOT, name.as_bytes()).unwrap().unwrap().ino, 2);
    }
    f.reopen();
    audit(&f);
}

#[test]
fn a_punched_hole_gives_its_pages_back() {
    let f = Fixture::new();
    let all = pattern(4 * CHUNK_SIZE);
    let cases =
        [(0, 4096), (1, 4096), (4095, 4098), (60_000, 80_000), (65_536, 131_072), (1, 262_143), (0, 1 << 40)];
    for (offset, len) in cases {
        let ino = file(&f.fs, &format!("{offset}-{len}"), &all).ino;
        punch(&f, ino, offset, len);
        let end = (offset + len).min(all.len() as u64);
        let mut want = all.clone();
        want[offset as usize..end as usize].fill(0);
        assert!(contents(&f.fs, ino) == want, "{offset} {len}");
        let (first, last) = (offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
        let holes = last.saturating_sub(first);
        assert_eq!(blocks(&f, ino), (all.len() as u64 / PAGE_SIZE - holes) * 8, "{offset} {len}");
        if holes > 0 {
            assert_eq!(f.fs.seek(ino, 0, Seek::Hole).unwrap(), first * PAGE_SIZE);
        }
        // Written again, it is whole again: no page map is left.
        f.fs.write(ino, offset, &all[offset as usize..end as usize]).unwrap();
        assert!(contents(&f.fs, ino) == all, "{offset} {len}");
        assert_eq!(blocks(&f, ino), 4 * CHUNK_SIZE / 512);
    }
    assert!(f.keys(b'd').iter().all(|key| key.len() == 13));
}

#[test]
fn holes_are_cut_and_grown_over() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", &pattern(CHUNK_SIZE + 5000)).ino;
    punch(&f, ino, PAGE_SIZE, PAGE_SIZE);
    // The chunk that the file ended in has holes when the file grows.
    f.fs.setattr(ino, &size(3 * CHUNK_SIZE), USER).unwrap();
    let second = CHUNK_SIZE + 2 * PAGE_SIZE;
    assert_eq!(data(&f, ino), [(0, PAGE_SIZE), (2 * PAGE_SIZE, second)]);
    assert_eq!(blocks(&f, ino), (15 + 2) * 8);
    // Cut to within it, the chunk is whole again; cut before the hole, so is the file.
    f.fs.setattr(ino, &size(CHUNK_SIZE + 100), USER).unwrap();
    assert_eq!(blocks(&f, ino), (15 + 1) * 8);
    f.fs.setattr(ino, &size(PAGE_SIZE + 10), USER).unwrap();
    assert_eq!((blocks(&f, ino), data(&f, ino)), (8, vec![(0, PAGE_SIZE)]));
    f.fs.setattr(ino, &size(10), USER).unwrap();
    assert_eq!(f.keys(b'd').len(), 1);
    // Nothing of what was cut comes back, nor does a gap before a write.
    f.fs.write(ino, 2 * PAGE_SIZE + 1, b"x").unwrap();
    assert_eq!(data(&f, ino), [(0, PAGE_SIZE), (2 * PAGE_SIZE, 2 * PAGE_SIZE + 2)]);
    f.fs.forget(ino, 1);
    audit(&f);
}

#[test]
fn zeroing_may_extend_and_allocating_reserves_no_bytes() {
    let f = Fixture::new();
    for len in [100, INLINE_MAX as u64, 100_000] {
        let ino = file(&f.fs, &len.to_string(), &pattern(len)).ino;
        let before = blocks(&f, ino);
        let allocate = |what, keep| f.fs.allocate(ino, 50, 2 * len, what, keep, USER).unwrap();
        allocate(Allocate::Reserve, true);
        assert_eq!((f.fs.getattr(ino).unwrap().size, blocks(&f, ino)), (len, before));
        allocate(Allocate::Reserve, false);
        assert_eq!((f.fs.getattr(ino).unwrap().size, blocks(&f, ino)), (50 + 2 * len, before));
        let mut want = pattern(len);
        want.resize(50 + 2 * len as usize, 0);
        assert!(contents(&f.fs, ino) == want);
        f.fs.allocate(ino, 60, 3 * len, Allocate::Zero, false, USER).unwrap();
        want[60..].fill(0);
        want.resize(60 + 3 * len as usize, 0);
        assert!(contents(&f.fs, ino) == want);
    }
}

#[test]
fn allocation_has_its_errors() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", b"x").ino;
    let dir = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let try_it = |ino, offset, len, what, keep| number(f.fs.allocate(ino, offset, len, what, keep, USER));
    assert_eq!(try_it(ino, 0, 0, Allocate::Reserve, false), libc::EINVAL);
    assert_eq!(try_it(ino, MAX_FILE_SIZE, 1, Allocate::Reserve, false), libc::EFBIG);
    assert_eq!(try_it(ino, u64::MAX, 1, Allocate::Zero, false), libc::EFBIG);
    assert_eq!(try_it(ino, 0, MAX_FILE_SIZE, Allocate::Reserve, false), libc::ENOSPC);
    assert_eq!(try_it(ino, 0, 1, Allocate::PunchHole, false), libc::EOPNOTSUPP);
    assert_eq!(try_it(dir, 0, 1, Allocate::Reserve, false), libc::EISDIR);
    assert_eq!(number(f.fs.seek(ino, 1, Seek::Hole)), libc::ENXIO);
    assert_eq!(number(f.fs.seek(dir, 0, Seek::Data)), libc::EISDIR);
    assert_eq!((f.fs.seek(ino, 0, Seek::Data).unwrap(), f.fs.seek(ino, 0, Seek::Hole).unwrap()), (0, 1));
}

#[test]
fn allocation_and_copies_clear_setuid_but_for_root() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", &pattern(10_000)).ino;
    let mode = |mode| SetAttr { mode: Some(mode), ..SetAttr::default() };
    for (caller, left) in [(ROOT_USER, 0o6755), (USER, 0o755)] {
        f.fs.setattr(ino, &mode(0o6755), ROOT_USER).unwrap();
        f.fs.allocate(ino, 0, 10, Allocate::Zero, true, caller).unwrap();
        assert_eq!(f.fs.getattr(ino).unwrap().mode, left);
        f.fs.setattr(ino, &mode(0o6755), ROOT_USER).unwrap();
        f.fs.copy_range((ino, 0), (ino, 5000), 10, caller).unwrap();
        assert_eq!(f.fs.getattr(ino).unwrap().mode, left);
    }
}

#[test]
fn copies_end_at_the_end_keep_holes_and_do_not_overlap() {
    let f = Fixture::new();
    let from = file(&f.fs, "from", &pattern(10_000)).ino;
    f.fs.setattr(from, &size(1 << 20), USER).unwrap();
    f.fs.write(from, (1 << 20) - 1, b"x").unwrap();
    let to = file(&f.fs, "to", b"").ino;
    assert_eq!(f.fs.copy_range((from, 0), (to, 0), u64::MAX, USER).unwrap(), 1 << 20);
    assert!(contents(&f.fs, to) == contents(&f.fs, from));
    assert_eq!(blocks(&f, to), blocks(&f, from));
    assert_eq!(f.fs.copy_range((from, 1 << 20), (to, 0), 10, USER).unwrap(), 0);
    assert_eq!(number(f.fs.copy_range((to, 0), (to, 99), 100, USER)), libc::EINVAL);
    assert_eq!(f.fs.copy_range((to, 0), (to, 100), 100, USER).unwrap(), 100);
    assert_eq!(number(f.fs.copy_range((from, 0), (to, MAX_FILE_SIZE), 1, USER)), libc::EFBIG);
}

#[test]
fn an_unlinked_file_that_is_punched_empty_leaves_nothing() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", &pattern(100_000)).ino;
    f.fs.unlink(ROOT, b"f").unwrap();
    punch(&f, ino, 0, 100_000);
    assert_eq!((blocks(&f, ino), f.keys(b'o').len()), (0, 0));
    f.fs.write(ino, 80_000, b"x").unwrap();
    assert_eq!(f.keys(b'o').len(), 1);
    f.fs.forget(ino, 1);
    audit(&f);
}

/// A sparse file of one page is no terabyte: removing it is no reason to flush a memtable.
#[test]
fn removing_sparse_files_does_not_flush() {
    let f = Fixture::with(lsmfs::lsm::Options { background: false, ..lsmfs::fs::engine_options() });
    for n in 0..10 {
        let attr = f.fs.create(ROOT, format!("{n}").as_bytes(), 0o644, USER).unwrap();
        f.fs.write(attr.ino, 1 << 40, b"x").unwrap();
        f.fs.forget(attr.ino, 1);
    }
    while f.store.step().unwrap() {}
    for n in 0..10 {
        f.fs.unlink(ROOT, format!("{n}").as_bytes()).unwrap();
        assert!(!f.store.step().unwrap(), "a flush is due after a file of 4 KiB");
    }
}
