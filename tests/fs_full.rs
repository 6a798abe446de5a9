//! A full disk below a file system: `ENOSPC`, nothing lost, nothing wedged; removing frees room, and writing
//! resumes.

mod fs_common;

use fs_common::audit::audit;
use fs_common::{Fixture, USER, contents, number, size, stepped};
use lsmfs::fs::{AccessTimes, Cause, FsOptions, Host, ROOT, Views};
use lsmfs::lsm::{Options, Store};
use std::collections::BTreeMap;

/// Small everything.
fn options() -> Options {
    Options {
        memtable_size: 64 << 10,
        memtable_stall_size: 192 << 10,
        log_segment_size: 32 << 10,
        spare_log_segments: 1,
        blob_file_size: 256 << 10,
        level_base_size: 1 << 20,
        table_size: 256 << 10,
        ..stepped()
    }
}

/// Contents that do not compress.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Does what is due, however it ends.
fn step(store: &Store) {
    while matches!(store.step(), Ok(true)) {}
}

struct Full {
    f: Fixture,
    files: BTreeMap<String, Vec<u8>>,
}

impl Full {
    fn new(capacity: u64) -> Full {
        Full::with(options(), capacity)
    }

    fn with(options: Options, capacity: u64) -> Full {
        let mut f = Fixture::with(options);
        f.sim.set_capacity(capacity);
        // A store looks at the size of its disk when it opens.
        f.reopen();
        Full { f, files: BTreeMap::new() }
    }

    /// Writes one file; false if the disk is full. What was made of it is removed then.
    fn write(&mut self, n: u64, len: usize) -> bool {
        let (name, contents) = (format!("file{n}"), bytes(n, len));
        let made = match self.f.fs.create(ROOT, name.as_bytes(), 0o644, USER) {
            Ok(made) => made,
            Err(error) => {
                assert_eq!(number::<()>(Err(error)), libc::ENOSPC);
                return false;
            }
        };
        let written = self.f.fs.write(made.ino, 0, &contents);
        self.f.fs.forget(made.ino, 1);
        if let Err(error) = written {
            assert_eq!(number::<()>(Err(error)), libc::ENOSPC, "{name}");
            self.f.fs.unlink(ROOT, name.as_bytes()).unwrap();
            return false;
        }
        self.files.insert(name, contents);
        true
    }

    /// Writes a file while the engine gives room back.
    fn write_in_the_end(&mut self, n: u64, len: usize) -> bool {
        (0..20).any(|_| {
            step(&self.f.store);
            self.write(n, len)
        })
    }

    /// Fills the disk with files of some length.
    fn fill(&mut self, first: u64, len: usize) {
        for n in first.. {
            let full = !self.write(n, len);
            step(&self.f.store);
            if full {
                return;
            }
            assert!(n < first + 100_000, "the disk never fills");
        }
    }

    fn remove(&mut self, name: &str) {
        self.f.fs.unlink(ROOT, name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        self.files.remove(name);
    }

    fn assert_all_there(&self) {
        for (name, wanted) in &self.files {
            let found = self.f.fs.lookup(ROOT, name.as_bytes()).unwrap().unwrap();
            assert!(contents(&self.f.fs, found.ino) == *wanted, "{name}");
            self.f.fs.forget(found.ino, 1);
        }
        let names = fs_common::names(&self.f.fs, ROOT);
        assert_eq!(names.len(), self.files.len());
    }
}

#[test]
fn removing_frees_room_and_writing_resumes() {
    for (len, capacity) in [(200_000, 4 << 20), (40_000, 4 << 20), (1000, 4 << 20)] {
        let mut full = Full::new(capacity);
        full.fill(0, len);
        full.assert_all_there();
        let names: Vec<String> = (0..full.files.len()).map(|n| format!("file{n}")).collect();
        assert!(
            (names.len() * len) as u64 > capacity / 4,
            "{} files of {len} bytes in {capacity}",
            names.len()
        );
        names[names.len() / 2..].iter().for_each(|name| full.remove(name));
        full.assert_all_there();
        let more = names.len() / 4;
        for n in 0..more {
            let written = full.write_in_the_end(100_000 + n as u64, len);
            assert!(written, "{n} of {more} files of {len} bytes");
        }
        full.assert_all_there();
        audit(&full.f);
        full.f.reopen();
        full.assert_all_there();
        full.f.kill();
        full.assert_all_there();
    }
}

/// With settings made for large disks: all pieces are made to fit the disk. Small files stand in tables, whose room
/// comes back by merges only.
#[test]
fn removing_small_files_frees_a_small_disk_whatever_the_settings() {
    let mut full = Full::with(stepped(), 12 << 20);
    let len = 3000;
    full.fill(0, len);
    let count = full.files.len();
    assert!(count * len > 4 << 20, "{count} files");
    full.assert_all_there();
    // A part of them first, then all.
    for n in (0..count).filter(|n| n % 3 > 0) {
        full.remove(&format!("file{n}"));
    }
    for n in 0..count / 3 {
        assert!(full.write_in_the_end(100_000 + n as u64, len), "{n} of {count} again");
    }
    full.assert_all_there();
    let names: Vec<String> = full.files.keys().cloned().collect();
    names.iter().for_each(|name| full.remove(name));
    for n in 0..count * 3 / 4 {
        assert!(full.write_in_the_end(200_000 + n as u64, len), "{n} of {count} after all were removed");
    }
    full.assert_all_there();
    audit(&full.f);
    full.f.reopen();
    full.assert_all_there();
}

#[test]
fn a_full_disk_takes_every_removal_and_every_cut() {
    let mut full = Full::new(4 << 20);
    full.fill(0, 100_000);
    let names: Vec<String> = full.files.keys().cloned().collect();
    for (n, name) in names.iter().enumerate() {
        if n % 2 == 0 {
            let ino = full.f.fs.lookup(ROOT, name.as_bytes()).unwrap().unwrap().ino;
            full.f.fs.setattr(ino, &size(10), USER).unwrap();
            full.f.fs.forget(ino, 1);
            full.files.get_mut(name).unwrap().truncate(10);
        } else {
            full.remove(name);
        }
    }
    full.assert_all_there();
    names.iter().step_by(2).for_each(|name| full.remove(name));
    step(&full.f.store);
    audit(&full.f);
    assert!(full.write_in_the_end(5, 1 << 20), "all was removed");
}

/// The disk runs full at another moment each time: whatever fails then loses nothing, and goes on when there is
/// room.
#[test]
fn wherever_the_disk_runs_full_nothing_is_lost() {
    for room in (0..60).map(|i| i * 2301) {
        let mut full = Full::new(1 << 30);
        (0..8).for_each(|n| _ = full.write(n, 20_000));
        full.f.store.flush().unwrap();
        let used: u64 = full.f.sim.files().iter().map(|file| file.len).sum();
        // There is room for the reserve, which a flush takes when it gets scarce; then it runs out.
        full.f.sim.set_capacity(used + (300 << 10));
        full.f.fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap();
        full.f.store.flush().unwrap();
        full.f.fs.rmdir(ROOT, b"dir").unwrap();
        full.f.sim.set_capacity(used + (300 << 10) + room);
        let mut refused = false;
        for n in 8..40 {
            refused |= !full.write(n, 500 + 900 * n as usize);
            if n % 5 == 0 {
                let _ = full.f.store.flush();
            }
            step(&full.f.store);
        }
        assert!(refused, "{room} bytes");
        full.assert_all_there();
        if room % 2 == 0 {
            full.f.kill();
        }
        full.assert_all_there();
        full.f.sim.set_capacity(1 << 30);
        assert!(full.write(1000, 30_000), "{room} bytes: there is room again");
        audit(&full.f);
        full.f.reopen();
        full.assert_all_there();
    }
}

#[test]
fn without_room_for_its_root_no_volume_is_left_behind() {
    let mut full = Full::new(2 << 20);
    full.fill(0, 50_000);
    let host = Host::new(full.f.store.clone(), FsOptions::default());
    let views = Views::of_all(host.clone(), AccessTimes::Kept);
    let mut refused = 0;
    for n in 0..2000 {
        let name = format!("volume{n}");
        let made = match n % 2 {
            0 => views.mkdir(ROOT, name.as_bytes(), 0o755, USER).map(drop),
            _ => host.create_volume(&name).map(drop),
        };
        assert_eq!(host.volume(&name).is_ok(), made.is_ok(), "{name}: {made:?}");
        if made.is_err() {
            assert_eq!(number(made), libc::ENOSPC, "{name}");
            refused += 1;
        }
        if refused == 10 {
            break;
        }
    }
    assert_eq!(refused, 10);
    full.f.sim.set_capacity(1 << 30);
    let again = (0..20).any(|_| {
        step(&full.f.store);
        views.mkdir(ROOT, b"again", 0o755, USER).is_ok()
    });
    assert!(again, "there is room again");
}

#[test]
fn without_room_for_a_new_name_the_error_says_so() {
    let mut full = Full::new(2 << 20);
    full.fill(0, 50_000);
    let refused =
        (0..2000).find_map(|n| full.f.fs.mkdir(ROOT, format!("dir{n}").as_bytes(), 0o755, USER).err());
    let refused = refused.expect("directories need room too");
    assert!(matches!(&refused.cause, Cause::Engine(e) if e.is_full()), "{refused}");
}
