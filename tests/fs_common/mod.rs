//! What the tests of the file system share: a file system on a simulated disk.

// Each test program uses a part of it.
#![allow(dead_code)]

pub mod archives;
pub mod audit;
pub mod gate;
pub mod mounted;

use lsmfs::disk::Disk;
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::errno::errno;
use lsmfs::fs::tree::{Tree, TreePath};
use lsmfs::fs::{Attr, Caller, DirHandle, FileSystem, FsOptions, Ino, ROOT, Result, SetAttr, engine_options};
use lsmfs::lsm::{Options, Store};
use std::sync::Arc;

/// Who does things in tests.
pub const USER: Caller = Caller { uid: 1000, gid: 100, umask: 0 };

/// A file system on a simulated disk.
pub struct Fixture {
    pub sim: Arc<SimDisk>,
    pub store: Arc<Store>,
    pub fs: Arc<FileSystem>,
    pub options: Options,
}

impl Fixture {
    /// An empty file system.
    pub fn new() -> Fixture {
        Fixture::with(engine_options())
    }

    /// An empty file system on an engine that flushes all the time.
    pub fn small_memtables() -> Fixture {
        Fixture::with(Options { memtable_size: 16 << 10, ..engine_options() })
    }

    pub fn with(options: Options) -> Fixture {
        Fixture::on(SimDisk::new(1), options)
    }

    /// What there is on a disk.
    pub fn on(sim: SimDisk, options: Options) -> Fixture {
        let sim = Arc::new(sim);
        let (store, fs) = open(&sim, &options);
        Fixture { sim, store, fs, options }
    }

    /// Closes everything and opens it again.
    pub fn reopen(&mut self) {
        self.fs.close().unwrap();
        self.store.close().unwrap();
        (self.store, self.fs) = open(&self.sim, &self.options);
    }

    /// Kills the process, as it were, and opens what the operating system keeps.
    pub fn kill(&mut self) {
        self.sim = Arc::new(self.sim.crash_keep_all());
        (self.store, self.fs) = open(&self.sim, &self.options);
    }

    /// Cuts the power, as it were, and opens what the disk kept.
    pub fn cut_power(&mut self) {
        self.sim = Arc::new(self.sim.crash());
        (self.store, self.fs) = open(&self.sim, &self.options);
    }

    /// Waits until everything that was done is durable.
    pub fn sync(&self) {
        let (done, wait) = std::sync::mpsc::channel();
        self.fs.fsync_then(Box::new(move |synced| done.send(synced).unwrap()));
        wait.recv().unwrap().unwrap();
    }

    /// The keys of a volume that start with `first`.
    pub fn keys(&self, first: u8) -> Vec<Vec<u8>> {
        let volume = self.store.volume("main").unwrap();
        let range = (std::ops::Bound::Included(&[first][..]), std::ops::Bound::Excluded(&[first + 1][..]));
        let mut scan = volume.scan(range.0, range.1).unwrap();
        let mut keys = Vec::new();
        while scan.next().unwrap() {
            keys.push(scan.key().to_vec());
        }
        keys
    }
}

/// An engine whose writers wait soon where nothing is flushed.
pub fn stalls_soon() -> Options {
    Options { memtable_size: 16 << 10, memtable_stall_size: 64 << 10, ..engine_options() }
}

/// An engine whose background work is done by hand.
pub fn stepped() -> Options {
    Options { background: false, ..engine_options() }
}

fn open(sim: &Arc<SimDisk>, options: &Options) -> (Arc<Store>, Arc<FileSystem>) {
    let disk: Arc<dyn Disk> = sim.clone();
    let store = Arc::new(Store::open(disk, options.clone()).unwrap());
    let fs_options = FsOptions { owner: Caller::new(0, 0), ..FsOptions::default() };
    let fs = FileSystem::open(store.clone(), "main", fs_options).unwrap();
    (store, Arc::new(fs))
}

/// The number of a failed operation.
pub fn number<T: std::fmt::Debug>(result: Result<T>) -> i32 {
    errno(&result.unwrap_err())
}

/// The names of access control lists.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The bytes of an access control list from (tag, permissions, user or group).
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    bytes
}

/// A new size.
pub fn size(size: u64) -> SetAttr {
    SetAttr { size: Some(size), ..SetAttr::default() }
}

pub fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// All of the file at a path.
pub fn read(f: &Fixture, at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let read = Tree::new(&f.fs).read(&path(at), |piece| {
        out.extend_from_slice(piece);
        Ok::<(), lsmfs::fs::Error>(())
    });
    read.unwrap();
    out
}

/// A new file in the root, with contents.
pub fn file(fs: &FileSystem, name: &str, contents: &[u8]) -> Attr {
    let attr = fs.create(ROOT, name.as_bytes(), 0o644, USER).unwrap();
    assert_eq!(fs.write(attr.ino, 0, contents).unwrap(), contents.len());
    fs.getattr(attr.ino).unwrap()
}

/// All of a file.
pub fn contents(fs: &FileSystem, ino: Ino) -> Vec<u8> {
    let size = fs.getattr(ino).unwrap().size;
    fs.read(ino, 0, size as usize + 10).unwrap().to_vec()
}

/// Names in a directory, `.` and `..` aside, read `at_once` at a time.
pub fn names_by(fs: &FileSystem, dir: &DirHandle, mut cookie: u64, at_once: usize) -> Vec<String> {
    let (mut names, mut told) = (Vec::new(), 0);
    loop {
        let mut left = at_once;
        let before = cookie;
        fs.readdir(dir, cookie, &mut |entry| {
            if left == 0 {
                return true;
            }
            left -= 1;
            assert!(entry.cookie > told);
            (told, cookie) = (entry.cookie, entry.cookie);
            if !matches!(entry.name, b"." | b"..") {
                names.push(String::from_utf8_lossy(entry.name).into_owned());
            }
            false
        })
        .unwrap();
        if cookie == before {
            return names;
        }
    }
}

/// Names in a directory.
pub fn names(fs: &FileSystem, dir: Ino) -> Vec<String> {
    names_by(fs, &fs.opendir(dir).unwrap(), 0, 7)
}
