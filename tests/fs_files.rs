//! Contents and attributes of files, on the library's face.

mod fs_common;

use fs_common::{Fixture, USER, contents, file, number, size};
use lsmfs::fs::entry::{CHUNK_SIZE, INLINE_MAX, MAX_FILE_SIZE};
use lsmfs::fs::{Caller, FileKind, ROOT, SetAttr, SetTime, Timestamp};

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8 | 1).collect()
}

#[test]
fn contents_read_back_at_every_size() {
    let mut f = Fixture::new();
    let chunk = CHUNK_SIZE as usize;
    let sizes =
        [0, 1, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, chunk - 1, chunk, chunk + 1, 3 * chunk + 5];
    for len in sizes {
        file(&f.fs, &len.to_string(), &pattern(len));
    }
    for again in [false, true] {
        if again {
            f.reopen();
        }
        for len in sizes {
            let attr = f.fs.lookup(ROOT, len.to_string().as_bytes()).unwrap().unwrap();
            assert_eq!(attr.size, len as u64);
            assert_eq!(contents(&f.fs, attr.ino), pattern(len), "{len}");
        }
    }
}

#[test]
fn small_writes_add_up() {
    let f = Fixture::small_memtables();
    let ino = f.fs.create(ROOT, b"log", 0o644, USER).unwrap().ino;
    let whole = pattern(3 * CHUNK_SIZE as usize);
    for (i, part) in whole.chunks(1000).enumerate() {
        assert_eq!(f.fs.write(ino, i as u64 * 1000, part).unwrap(), part.len());
    }
    assert_eq!(contents(&f.fs, ino), whole);
    assert_eq!(f.fs.getattr(ino).unwrap().blocks, 3 * CHUNK_SIZE / 512);
}

#[test]
fn a_small_change_of_a_small_file_writes_little() {
    let mut f = Fixture::new();
    let (mut want, rounds) = (pattern(3000), 20);
    let ino = file(&f.fs, "file", &want).ino;
    let entry = f.keys(b'e').pop().unwrap();
    let before = f.store.stats().writes.user_bytes;
    let mut gets = 0;
    for round in 0..rounds {
        let mode = Some(0o600 + u32::from(round));
        gets -= f.store.stats().reads.gets as i64;
        f.fs.write(ino, 3000 + u64::from(round) * 4, &[round; 4]).unwrap();
        f.fs.write(ino, 100, &[round; 10]).unwrap();
        f.fs.setattr(ino, &SetAttr { mode, ..SetAttr::default() }, USER).unwrap();
        gets += f.store.stats().reads.gets as i64;
        want.extend([round; 4]);
        want[100..110].fill(round);
        let attr = f.fs.getattr(ino).unwrap();
        assert_eq!((Some(attr.mode), attr.size), (mode, want.len() as u64));
        assert_eq!(contents(&f.fs, ino), want);
        let patches = f.store.volume("main").unwrap().patch_depth(&entry).unwrap();
        assert!(patches <= 16, "{patches} patches make reading dear");
        if round % 7 == 6 {
            f.store.flush().unwrap();
        }
    }
    let each = (f.store.stats().writes.user_bytes - before) / (3 * u64::from(rounds));
    assert!(each < 400, "{each} bytes a change");
    assert!(gets < i64::from(rounds), "{gets} looks at what is stored");
    f.kill();
    let attr = f.fs.lookup(ROOT, b"file").unwrap().unwrap();
    assert_eq!((attr.mode, attr.size), (0o600 + u32::from(rounds) - 1, want.len() as u64));
    assert_eq!(contents(&f.fs, attr.ino), want);
}

#[test]
fn reads_stop_at_the_end() {
    let f = Fixture::new();
    for len in [10, 10_000, 100_000] {
        let ino = file(&f.fs, &len.to_string(), &pattern(len)).ino;
        assert_eq!(f.fs.read(ino, len as u64 - 3, 100).unwrap(), pattern(len)[len - 3..]);
        assert_eq!(f.fs.read(ino, len as u64, 100).unwrap().len(), 0);
        assert_eq!(f.fs.read(ino, u64::MAX, usize::MAX).unwrap().len(), 0);
        assert_eq!(f.fs.read(ino, 0, 0).unwrap().len(), 0);
    }
}

#[test]
fn a_sparse_file_costs_what_exists() {
    let mut f = Fixture::new();
    let ino = f.fs.create(ROOT, b"sparse", 0o644, USER).unwrap().ino;
    let far = 300 << 30;
    f.fs.write(ino, far, b"end").unwrap();
    f.fs.write(ino, 5 << 30, b"middle").unwrap();
    let attr = f.fs.getattr(ino).unwrap();
    assert_eq!((attr.size, attr.blocks), (far + 3, 2 * 8));
    assert_eq!(f.fs.read(ino, far - 2, 10).unwrap(), b"\0\0end"[..]);
    assert_eq!(f.fs.read(ino, (5 << 30) - 1, 8).unwrap(), b"\0middle\0"[..]);
    assert_eq!(f.fs.read(ino, 1 << 30, 9).unwrap(), [0; 9][..]);
    // Two chunks, one of them with a page map.
    assert_eq!(f.keys(b'd').len(), 3);
    f.reopen();
    let ino = f.fs.lookup(ROOT, b"sparse").unwrap().unwrap().ino;
    let cut = f.fs.setattr(ino, &size(6 << 30), USER).unwrap();
    assert_eq!((cut.size, cut.blocks), (6 << 30, 8));
    f.fs.unlink(ROOT, b"sparse").unwrap();
    f.fs.forget(ino, 1);
    assert_eq!(f.keys(b'd'), [[0; 0]; 0]);
    assert_eq!(f.keys(b'o'), [[0; 0]; 0]);
}

#[test]
fn large_reads_show_nothing_of_those_before() {
    let f = Fixture::new();
    let chunk = CHUNK_SIZE as usize;
    let full = file(&f.fs, "full", &pattern(4 * chunk)).ino;
    let sparse = f.fs.create(ROOT, b"sparse", 0o644, USER).unwrap().ino;
    let mut expected = vec![0; 4 * chunk];
    // Chunks of which all, some and none is stored.
    for (at, len) in [(10, 5), (chunk + 100, chunk / 2), (3 * chunk, chunk)] {
        f.fs.write(sparse, at as u64, &pattern(len)).unwrap();
        expected[at..at + len].copy_from_slice(&pattern(len));
    }
    for (at, len) in [(0, 4 * chunk), (7, 2 * chunk), (chunk - 3, 6), (2 * chunk - 3, chunk + 1)] {
        assert_eq!(f.fs.read(full, at as u64, len).unwrap(), pattern(4 * chunk)[at..at + len]);
        let read = f.fs.read(sparse, at as u64, len).unwrap();
        assert_eq!(read, expected[at..at + len], "{len} at {at}");
    }
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let f = Fixture::new();
    let chunk = CHUNK_SIZE;
    for (len, cut) in [(100, 50), (4096, 1), (70_000, 65_536), (200_000, 65_537), (200_000, 10), (200_000, 0)]
    {
        let ino = file(&f.fs, &format!("{len}-{cut}"), &pattern(len)).ino;
        assert_eq!(f.fs.setattr(ino, &size(cut), USER).unwrap().size, cut);
        f.fs.setattr(ino, &size(5 * chunk), USER).unwrap();
        let mut want = pattern(len)[..cut as usize].to_vec();
        want.resize(5 * chunk as usize, 0);
        assert!(contents(&f.fs, ino) == want, "{len} {cut}");
        // A write behind a gap must not show them either.
        f.fs.setattr(ino, &size(cut), USER).unwrap();
        f.fs.write(ino, 4 * chunk, b"x").unwrap();
        want.truncate(4 * chunk as usize);
        want.push(b'x');
        assert!(contents(&f.fs, ino) == want, "{len} {cut} gap");
    }
}

#[test]
fn cutting_many_chunks_takes_several_steps() {
    let f = Fixture::new();
    let ino = f.fs.create(ROOT, b"f", 0o644, USER).unwrap().ino;
    let many = 9000u64;
    for i in 0..many {
        f.fs.write(ino, i * CHUNK_SIZE, b"x").unwrap();
    }
    let attr = f.fs.setattr(ino, &size(CHUNK_SIZE + 1), USER).unwrap();
    assert_eq!((attr.size, attr.blocks), (CHUNK_SIZE + 1, 2 * 8));
    assert_eq!(f.keys(b'd').len(), 3);
    assert_eq!(f.fs.read(ino, CHUNK_SIZE, 2).unwrap(), b"x"[..]);
}

#[test]
fn a_file_is_as_large_as_its_chunks_can_be_counted() {
    let f = Fixture::new();
    let ino = f.fs.create(ROOT, b"f", 0o644, USER).unwrap().ino;
    assert_eq!(f.fs.write(ino, MAX_FILE_SIZE - 2, b"abc").unwrap(), 2);
    assert_eq!(f.fs.getattr(ino).unwrap().size, MAX_FILE_SIZE);
    assert_eq!(f.fs.read(ino, MAX_FILE_SIZE - 3, 10).unwrap(), b"\0ab"[..]);
    assert_eq!(number(f.fs.write(ino, MAX_FILE_SIZE, b"c")), libc::EFBIG);
    assert_eq!(number(f.fs.write(ino, u64::MAX, b"c")), libc::EFBIG);
    assert_eq!(number(f.fs.setattr(ino, &size(MAX_FILE_SIZE + 1), USER)), libc::EFBIG);
    assert_eq!(f.fs.setattr(ino, &size(0), USER).unwrap().blocks, 0);
    assert_eq!(f.keys(b'd'), [[0; 0]; 0]);
}

#[test]
fn only_regular_files_have_contents() {
    let f = Fixture::new();
    let dir = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let fifo = f.fs.mknod(ROOT, b"p", FileKind::Fifo, 0o600, 9, USER).unwrap();
    let link = f.fs.symlink(ROOT, b"l", b"target", USER).unwrap();
    assert_eq!(number(f.fs.write(dir, 0, b"x")), libc::EISDIR);
    assert_eq!(number(f.fs.read(dir, 0, 1)), libc::EISDIR);
    assert_eq!(number(f.fs.setattr(dir, &size(0), USER)), libc::EISDIR);
    assert_eq!(number(f.fs.setattr(fifo.ino, &size(0), USER)), libc::EINVAL);
    assert_eq!(number(f.fs.read(link.ino, 0, 1)), libc::EINVAL);
    assert_eq!(f.fs.readlink(link.ino).unwrap(), b"target"[..]);
    assert_eq!((link.size, link.mode), (6, 0o777));
    assert_eq!(number(f.fs.readlink(fifo.ino)), libc::EINVAL);
    let device = f.fs.mknod(ROOT, b"c", FileKind::CharDevice, 0o600, 0x103, USER).unwrap();
    assert_eq!((device.kind, device.rdev, fifo.rdev), (FileKind::CharDevice, 0x103, 0));
}

#[test]
fn attributes_change_and_last() {
    let mut f = Fixture::new();
    let ino = file(&f.fs, "f", b"x").ino;
    let (old, new) = (Timestamp { secs: -86_400, nanos: 5 }, Timestamp { secs: 1 << 40, nanos: 999_999_999 });
    let set = SetAttr {
        mode: Some(0o107_654),
        uid: Some(7),
        gid: Some(8),
        atime: Some(SetTime::At(old)),
        mtime: Some(SetTime::At(new)),
        ..SetAttr::default()
    };
    let before = Timestamp::now();
    let attr = f.fs.setattr(ino, &set, USER).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o7654, 7, 8));
    assert_eq!((attr.atime, attr.mtime), (old, new));
    assert!(attr.ctime >= before);
    f.reopen();
    assert_eq!(f.fs.lookup(ROOT, b"f").unwrap(), Some(attr));
    let now = SetAttr { atime: Some(SetTime::Now), ..SetAttr::default() };
    let touched = f.fs.setattr(ino, &now, USER).unwrap();
    assert!(touched.atime >= before && touched.mtime == new);
}

#[test]
fn writes_and_cuts_move_the_times_but_not_the_access() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", b"abc").ino;
    let old = Timestamp { secs: 1, nanos: 0 };
    let back = SetAttr {
        atime: Some(SetTime::At(old)),
        mtime: Some(SetTime::At(old)),
        ctime: Some(old),
        ..SetAttr::default()
    };
    let change = |what: &str, act: &dyn Fn()| {
        f.fs.setattr(ino, &back, USER).unwrap();
        act();
        let attr = f.fs.getattr(ino).unwrap();
        assert!(attr.mtime > old && attr.ctime == attr.mtime && attr.atime == old, "{what}");
    };
    change("write", &|| assert_eq!(f.fs.write(ino, 1, b"x").unwrap(), 1));
    change("cut", &|| assert_eq!(f.fs.setattr(ino, &size(1), USER).unwrap().size, 1));
    change("same size", &|| assert_eq!(f.fs.setattr(ino, &size(1), USER).unwrap().size, 1));
    f.fs.setattr(ino, &back, USER).unwrap();
    f.fs.read(ino, 0, 10).unwrap();
    f.fs.write(ino, 0, b"").unwrap();
    let attr = f.fs.getattr(ino).unwrap();
    assert_eq!((attr.atime, attr.mtime, attr.ctime), (old, old, old));
    // A change of owner to the same one.
    let attr = f.fs.setattr(ino, &SetAttr::default(), USER).unwrap();
    assert!((attr.atime, attr.mtime) == (old, old) && attr.ctime > old);
}

#[test]
fn setuid_and_setgid_are_cleared() {
    let f = Fixture::new();
    let ino = file(&f.fs, "f", b"abc").ino;
    let root = Caller::new(0, 0);
    let mode = |mode| SetAttr { mode: Some(mode), ..SetAttr::default() };
    let mode_after = |act: &dyn Fn()| {
        f.fs.setattr(ino, &mode(0o6755), root).unwrap();
        act();
        f.fs.getattr(ino).unwrap().mode
    };
    assert_eq!(mode_after(&|| assert!(f.fs.write(ino, 0, b"x").is_ok())), 0o6755);
    assert_eq!(mode_after(&|| assert!(f.fs.write_clearing_setid(ino, 0, b"x").is_ok())), 0o755);
    assert_eq!(mode_after(&|| assert!(f.fs.setattr(ino, &size(2), root).is_ok())), 0o6755);
    assert_eq!(mode_after(&|| assert!(f.fs.setattr(ino, &size(2), USER).is_ok())), 0o755);
    let owner = SetAttr { uid: Some(5), ..SetAttr::default() };
    assert_eq!(mode_after(&|| assert!(f.fs.setattr(ino, &owner, root).is_ok())), 0o755);
    let dir = f.fs.mkdir(ROOT, b"d", 0o2755, USER).unwrap().ino;
    assert_eq!(f.fs.setattr(dir, &owner, root).unwrap().mode, 0o2755);
    // A change to the same owner, which comes without attributes; a stranger may ask for it too.
    let same = SetAttr::default();
    assert_eq!(mode_after(&|| assert!(f.fs.setattr(ino, &same, root).is_ok())), 0o755);
    assert_eq!(mode_after(&|| assert!(f.fs.setattr(ino, &same, Caller::new(5, 5)).is_ok())), 0o755);
    assert_eq!(mode_after(&|| assert!(f.fs.setattr(ino, &same, Caller::new(6, 5)).is_ok())), 0o6755);
}

#[test]
fn statfs_tells_of_the_disk_and_the_inode_numbers() {
    let f = Fixture::new();
    let before = f.fs.statfs().unwrap();
    file(&f.fs, "f", b"");
    let after = f.fs.statfs().unwrap();
    // 2^40, less those of the files in .lsmfs.
    assert_eq!((after.block_size, after.name_max, after.files), (4096, 255, (1 << 40) - (1 << 24)));
    assert_eq!(before.files_free - after.files_free, 1);
    assert!(after.available <= after.free && after.free <= after.blocks);
}
