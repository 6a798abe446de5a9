//! Many threads at once in the same few directories and files: nothing is lost, nothing waits for ever.

mod fs_common;

use fs_common::audit::audit;
use fs_common::{Fixture, USER, contents};
use lsmfs::fs::errno::errno;
use lsmfs::fs::{FileKind, FileSystem, Ino, ROOT, RenameMode, Result};
use std::collections::{BTreeMap, BTreeSet};

const THREADS: u64 = 4;

/// A sequence of numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Runs `work` on every thread with its own dice.
fn threads<T: Send>(work: impl Fn(u64, Dice) -> T + Sync) -> Vec<T> {
    std::thread::scope(|s| {
        let running: Vec<_> = (0..THREADS)
            .map(|i| {
                let work = &work;
                s.spawn(move || work(i, Dice(0x9e37_79b9 + i)))
            })
            .collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// Did it happen? Only `allowed` failures may prevent it.
fn happened<T>(result: Result<T>, allowed: &[i32]) -> bool {
    match result {
        Ok(_) => true,
        Err(e) => {
            assert!(allowed.contains(&errno(&e)), "{e}");
            false
        }
    }
}

/// Walks the tree and checks that it is one: every inode has one name, every directory the links that its
/// subdirectories make. Returns the number of files and directories.
fn check_tree(fs: &FileSystem) -> (usize, usize) {
    let (mut files, mut dirs, mut seen) = (0, BTreeMap::from([(ROOT, 2)]), BTreeSet::new());
    let mut ways = vec![ROOT];
    while let Some(dir) = ways.pop() {
        let handle = fs.opendir(dir).unwrap();
        fs.readdir_plus(&handle, 2, &mut |entry| {
            assert!(seen.insert(entry.ino), "inode {} has two names", entry.ino);
            if entry.kind == FileKind::Directory {
                *dirs.get_mut(&dir).unwrap() += 1;
                dirs.insert(entry.ino, 2);
                ways.push(entry.ino);
            } else {
                files += 1;
            }
            false
        })
        .unwrap();
    }
    for (dir, nlink) in &dirs {
        assert_eq!(fs.getattr(*dir).unwrap().nlink, *nlink, "links of directory {dir}");
    }
    (files, dirs.len())
}

#[test]
fn creates_removes_and_renames_in_shared_directories_add_up() {
    let mut f = Fixture::small_memtables();
    let fs = &f.fs;
    let dirs: Vec<Ino> = (0..3u8).map(|i| fs.mkdir(ROOT, &[b'A' + i], 0o755, USER).unwrap().ino).collect();
    let made: Vec<i64> = threads(|_, mut dice| {
        let mut made = 0;
        for _ in 0..2000 {
            let (dir, other) = (dirs[dice.below(3)], dirs[dice.below(3)]);
            let (name, to) = ([b'a' + dice.below(8) as u8], [b'a' + dice.below(8) as u8]);
            match dice.below(5) {
                0 | 1 => {
                    made += i64::from(happened(fs.create(dir, &name, 0o644, USER), &[libc::EEXIST]));
                }
                2 => made -= i64::from(happened(fs.unlink(dir, &name), &[libc::ENOENT])),
                3 => {
                    let mode = RenameMode::NoReplace;
                    happened(fs.rename(dir, &name, other, &to, mode), &[libc::ENOENT, libc::EEXIST]);
                }
                _ => {
                    let mode = RenameMode::Exchange;
                    happened(fs.rename(dir, &name, other, &to, mode), &[libc::ENOENT]);
                }
            }
        }
        made
    });
    let made = usize::try_from(made.iter().sum::<i64>()).unwrap();
    assert_eq!(check_tree(fs), (made, 4));
    f.reopen();
    assert_eq!(check_tree(&f.fs), (made, 4));
}

#[test]
fn links_made_and_removed_at_once_add_up() {
    let mut f = Fixture::small_memtables();
    let fs = &f.fs;
    let dir = fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap().ino;
    let inos: Vec<Ino> = (0..3u8)
        .map(|i| fs.create(ROOT, &[b'A' + i], 0o644, USER).unwrap().ino)
        .inspect(|ino| assert_eq!(fs.write(*ino, 0, &[1; 5000]).unwrap(), 5000))
        .collect();
    threads(|_, mut dice| {
        for _ in 0..1000 {
            let (ino, at) = (inos[dice.below(3)], [ROOT, dir][dice.below(2)]);
            let (name, to) = ([b'a' + dice.below(6) as u8], [b'a' + dice.below(6) as u8]);
            let allowed = [libc::EEXIST, libc::ENOENT];
            match dice.below(4) {
                0 | 1 if happened(fs.link(ino, at, &name), &allowed) => fs.forget(ino, 1),
                2 => {
                    happened(fs.unlink(at, &name), &allowed);
                }
                3 => {
                    happened(fs.rename(at, &name, ROOT, &to, RenameMode::Replace), &allowed);
                }
                _ => assert_eq!(fs.write(ino, dice.below(9000) as u64, b"x").unwrap(), 1),
            }
        }
    });
    for ino in inos {
        fs.forget(ino, 1);
    }
    fs.forget(dir, 1);
    audit(&f);
    f.reopen();
    audit(&f);
}

#[test]
fn directories_moved_across_stay_a_tree() {
    let mut f = Fixture::new();
    let fs = &f.fs;
    let dirs: Vec<Ino> = (0..8u8).map(|i| fs.mkdir(ROOT, &[b'a' + i], 0o755, USER).unwrap().ino).collect();
    threads(|_, mut dice| {
        for _ in 0..2000 {
            // A directory keeps its name wherever it goes, so that nothing is replaced.
            let name = [b'a' + dice.below(8) as u8];
            let (from, to) = (dice.below(9), dice.below(9));
            let place = |at: usize| dirs.get(at).copied().unwrap_or(ROOT);
            let allowed = [libc::ENOENT, libc::EINVAL, libc::EEXIST, libc::ENOTEMPTY];
            happened(fs.rename(place(from), &name, place(to), &name, RenameMode::Replace), &allowed);
        }
    });
    assert_eq!(check_tree(fs), (0, 9));
    f.reopen();
    assert_eq!(check_tree(&f.fs), (0, 9));
}

#[test]
fn writes_to_one_file_are_not_lost() {
    let f = Fixture::small_memtables();
    let ino = f.fs.create(ROOT, b"f", 0o644, USER).unwrap().ino;
    let part = 700;
    threads(|i, _| {
        for at in (0..400).filter(|at| at % THREADS == i) {
            assert_eq!(f.fs.write(ino, at * part, &vec![at as u8 | 1; part as usize]).unwrap(), 700);
        }
    });
    let all = contents(&f.fs, ino);
    assert_eq!(all.len() as u64, 400 * part);
    for (at, bytes) in all.chunks(part as usize).enumerate() {
        assert!(bytes.iter().all(|b| *b == at as u8 | 1), "part {at}");
    }
}

#[test]
fn readers_see_whole_writes() {
    let f = Fixture::new();
    let ino = f.fs.create(ROOT, b"f", 0o644, USER).unwrap().ino;
    let len = 150_000;
    f.fs.write(ino, 0, &vec![0; len]).unwrap();
    threads(|i, mut dice| {
        for round in 0..60u8 {
            if i == 0 {
                f.fs.write(ino, 0, &vec![round; len]).unwrap();
            } else {
                let read = f.fs.read(ino, dice.below(1000) as u64, len).unwrap();
                assert!(read.iter().all(|b| *b == read[0]));
            }
        }
    });
}

#[test]
fn references_balance_under_listings_and_removals() {
    let f = Fixture::small_memtables();
    let fs = &f.fs;
    threads(|i, mut dice| {
        for _ in 0..200 {
            let name = [b'a' + dice.below(20) as u8];
            if i % 2 == 0 {
                if let Ok(attr) = fs.create(ROOT, &name, 0o644, USER) {
                    fs.write(attr.ino, 0, &[1; 9000]).unwrap();
                    fs.forget(attr.ino, 1);
                }
                happened(fs.unlink(ROOT, &[b'a' + dice.below(20) as u8]), &[libc::ENOENT]);
            } else {
                let mut listed = Vec::new();
                let handle = fs.opendir(ROOT).unwrap();
                fs.readdir_plus(&handle, 2, &mut |entry| {
                    listed.push(entry.ino);
                    false
                })
                .unwrap();
                for ino in listed {
                    assert_eq!(fs.getattr(ino).unwrap().ino, ino);
                    fs.forget(ino, 1);
                }
            }
        }
    });
    assert_eq!(fs.referenced(), 0);
    let (files, _) = check_tree(fs);
    assert_eq!((f.keys(b'o').len(), f.keys(b'd').len()), (0, files));
}
