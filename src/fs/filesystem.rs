//! A file system: what belongs to the whole of it.
//!
//! All methods may be called from any thread; the locks and their order are in `lock.rs`. A lookup, a
//! create and each entry listed with its attributes count a reference to the inode, which the caller
//! gives back with [`FileSystem::forget`]; an inode number is valid while it is referenced. The root
//! always is.

use crate::disk::Space;
use crate::fs::access::{AccessTimes, AtomicAccessTimes};
use crate::fs::attr::{Attr, Caller, FileKind, INO_LIMIT, Ino, NAME_MAX, ROOT, Timestamp};
use crate::fs::batch::Staging;
use crate::fs::change::{Change, Written};
use crate::fs::control::{self, Control};
use crate::fs::entry::{CHUNK_SIZE, Entry, Record};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::inode::Inodes;
use crate::fs::keys;
use crate::fs::lock::Locks;
use crate::fs::news::Seats;
use crate::fs::node::{Outcome, decode_entry};
use crate::fs::number::Numbers;
use crate::fs::recent::Recent;
use crate::fs::sweep::Removals;
use crate::lsm::{Options, Quota, Store, Tally, Volume};
use std::sync::Arc;

/// The block size that [`StatFs`] counts in.
pub const BLOCK_SIZE: u32 = 4096;

/// A file system's settings.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// Refuse every change.
    pub read_only: bool,
    /// The owner of the root directory, when it is made.
    pub owner: Caller,
    /// Which reads move times of access.
    pub access_times: AccessTimes,
}

impl Default for FsOptions {
    fn default() -> FsOptions {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        FsOptions {
            read_only: false,
            owner: Caller::new(uid.as_raw(), gid.as_raw()),
            access_times: AccessTimes::default(),
        }
    }
}

/// The room in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// The unit of the following counts, in bytes.
    pub block_size: u32,
    /// Blocks on the disk below, or in the volume's quota.
    pub blocks: u64,
    /// Blocks that are free, those reserved for root included.
    pub free: u64,
    /// Blocks that are free for anyone.
    pub available: u64,
    /// Inode numbers in all, or files in the volume's quota.
    pub files: u64,
    /// Inode numbers that are left (none is used twice), or files that the quota leaves.
    pub files_free: u64,
    /// The longest name, in bytes.
    pub name_max: u32,
}

impl StatFs {
    /// On a disk with this room, when so many inode numbers were used.
    pub(super) fn new(space: &Space, used: u64) -> StatFs {
        let block = u64::from(BLOCK_SIZE);
        StatFs {
            block_size: BLOCK_SIZE,
            blocks: space.total / block,
            free: space.free / block,
            available: space.available / block,
            files: INO_LIMIT,
            files_free: INO_LIMIT - used,
            name_max: NAME_MAX as u32,
        }
    }
}

/// The files and directories of one volume.
#[derive(Debug)]
pub struct FileSystem {
    pub(super) store: Arc<Store>,
    pub(super) options: FsOptions,
    pub(super) access_times: AtomicAccessTimes,
    pub(super) control: Control,
    pub(super) volume: Arc<Volume>,
    pub(super) locks: Locks,
    /// Shared with the stages of batches.
    pub(super) inodes: Arc<Inodes>,
    pub(super) recent: Recent,
    pub(super) numbers: Arc<Numbers>,
    pub(super) written: Written,
    pub(super) removals: Removals,
    /// Is it the stage of a batch?
    pub(super) staging: Option<Staging>,
    /// Those who are told of changes that others make.
    pub(super) seats: Arc<Seats>,
}

/// Chunks of a file that are written whole, or nearly, go to blob files: this many bytes at least.
const BLOB_MIN: usize = CHUNK_SIZE as usize / 2;

/// What most changes write, about: the records of a file and its directory.
const RECORDS: usize = 256;

/// The engine's settings for a store of files.
pub fn engine_options() -> Options {
    Options { prefix: Some(keys::GROUPS), blob_min: BLOB_MIN, ..Options::default() }
}

impl FileSystem {
    /// Opens a volume as a file system. Makes the root directory if there is none, and gives back
    /// what files held that were unlinked and open when the last process ended.
    pub fn open(store: Arc<Store>, volume: &str, options: FsOptions) -> Result<FileSystem> {
        Self::try_open(store, volume, options).context("open", || Subject::FileSystem)
    }

    /// As [`FileSystem::open`], on a volume of the store or on a snapshot, which cannot be changed.
    pub fn open_volume(store: Arc<Store>, volume: Arc<Volume>, options: FsOptions) -> Result<FileSystem> {
        Self::open_sharing(store, volume, options, Recent::new(), Arc::default())
    }

    /// As [`FileSystem::open_volume`], with a table that is shared with other file systems, and with the volume's seats.
    pub(super) fn open_sharing(
        store: Arc<Store>,
        volume: Arc<Volume>,
        options: FsOptions,
        recent: Recent,
        seats: Arc<Seats>,
    ) -> Result<FileSystem> {
        Self::try_open_volume(store, volume, options, recent, seats).context("open", || Subject::FileSystem)
    }

    fn try_open(store: Arc<Store>, volume: &str, options: FsOptions) -> Outcome<FileSystem> {
        let volume = store.volume(volume)?;
        Self::try_open_volume(store, volume, options, Recent::new(), Arc::default())
    }

    fn try_open_volume(
        store: Arc<Store>,
        volume: Arc<Volume>,
        options: FsOptions,
        recent: Recent,
        seats: Arc<Seats>,
    ) -> Outcome<FileSystem> {
        let options = FsOptions { read_only: options.read_only || volume.is_snapshot(), ..options };
        let fs = FileSystem {
            access_times: AtomicAccessTimes::new(options.access_times),
            numbers: Arc::new(Numbers::open(volume.clone())?),
            control: Control::new(options.owner),
            store,
            options,
            volume,
            locks: Locks::default(),
            inodes: Arc::new(Inodes::new()),
            recent,
            written: Written::new(),
            removals: Removals::new(),
            staging: None,
            seats,
        };
        if !fs.options.read_only {
            fs.count_if_uncounted()?;
        }
        if fs.find_record(0, b"")?.is_none() {
            fs.admit(0)?;
            fs.make_root()?;
        }
        if !fs.options.read_only {
            fs.remove_interrupted_imports()?;
            fs.reclaim_leftovers()?;
        }
        Ok(fs)
    }

    /// The attributes of a volume's root, without opening it; `None` if it was never opened.
    pub(super) fn root_of(volume: &Volume) -> Result<Option<Attr>> {
        let key = keys::entry(0, b"");
        let read = || match volume.get_head(&key)? {
            None => Ok(None),
            Some(head) => match decode_entry(&key, &head)? {
                Entry::File(record) => Ok(Some(Attr::from(&record))),
                Entry::Link(_) => Err(Cause::bad_record(&key, "a root that is a link")),
            },
        };
        read().context("stat", || Subject::Volume(volume.name()))
    }

    /// Does something while nothing can be made in the root, which holds nothing.
    pub(super) fn while_empty(&self, work: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        let _names = self.locks.names.exclusive(ROOT);
        let _inode = self.locks.inodes.exclusive(ROOT);
        self.check_empty(&mut Change::new(self), ROOT)?;
        work()
    }

    /// Writes the root's entry: `e` 0 and no name.
    fn make_root(&self) -> Outcome<()> {
        let owner = self.options.owner;
        let record = Record::new(FileKind::Directory, ROOT, 0o755, owner, Timestamp::now());
        let mut change = Change::new(self);
        change.create(0, b"", &record, b"");
        change.commit()
    }

    /// The volume that the files are in.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Refuses changes where the file system is read-only.
    pub(super) fn check_writable(&self) -> Outcome<()> {
        if self.options.read_only { Err(Cause::ReadOnly) } else { Ok(()) }
    }

    /// A change of about `bytes` bytes begins: refused where the file system is read-only, held back while the
    /// engine has no room. The caller holds no lock, so that nobody waits with it; once it is let in, nothing
    /// that it writes waits for room ([`Change::commit`]).
    pub(super) fn admit(&self, bytes: usize) -> Outcome<()> {
        self.check_writable()?;
        Ok(self.volume.wait_for_room(RECORDS + bytes)?)
    }

    /// Which reads move times of access.
    pub(super) fn access_times(&self) -> AccessTimes {
        self.access_times.load()
    }

    /// From now on these reads move times of access.
    pub fn set_access_times(&self, which: AccessTimes) {
        self.access_times.store(which);
    }

    /// The attributes of a file.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        let _inode = self.locks.inodes.shared(ino);
        let record = self.load_record(ino).context("stat", || Subject::Inode(ino))?;
        Ok(Attr::from(&record))
    }

    /// Takes back `count` references to an inode. After the last one its number is not valid any more,
    /// and a file without a name is gone.
    pub fn forget(&self, ino: Ino, count: u64) {
        if control::is_control(ino) {
            return self.control.forget(ino, count);
        }
        if let Some(orphan) = self.inodes.forget(ino, count) {
            self.dispose(&orphan);
        }
    }

    /// The number of inodes that are referenced, the root aside.
    pub fn referenced(&self) -> usize {
        self.inodes.len()
    }

    /// Some of those that nobody asked for of late, at most `limit`. Each call looks at a part of them, in
    /// turn.
    pub fn coldest(&self, limit: usize) -> Vec<Ino> {
        self.inodes.coldest(limit)
    }

    /// Calls `done` when everything that was answered before this call is durable. `done` runs on a
    /// thread of the store and must not block.
    pub fn fsync_then(&self, done: Box<dyn FnOnce(Result<()>) + Send>) {
        self.store.sync_then(Box::new(move |synced| done(synced.context("fsync", || Subject::FileSystem))));
    }

    /// The room that is left.
    pub fn statfs(&self) -> Result<StatFs> {
        let space = self.store.space().context("statfs", || Subject::FileSystem)?;
        let disk = StatFs::new(&space, self.numbers.used());
        Ok(within(disk, self.volume.quota(), self.volume.tally().unwrap_or_default()))
    }

    /// Ends the file system's own work; the store stays open and is the caller's to close. What is
    /// unlinked and still referenced is given back at the next open. A second close does nothing.
    pub fn close(&self) -> Result<()> {
        self.numbers.give_back().context("close", || Subject::FileSystem)
    }
}

/// The room that a quota leaves, of which `held` is used, on a disk with this room.
fn within(disk: StatFs, quota: Quota, held: Tally) -> StatFs {
    let left = |limit: u64, held: i64| limit.saturating_sub(u64::try_from(held).unwrap_or(0));
    let mut room = disk;
    if let Some(limit) = quota.bytes {
        let block = u64::from(disk.block_size);
        room.blocks = limit / block;
        room.free = left(limit, held.bytes) / block;
        room.available = room.free.min(disk.available);
    }
    if let Some(limit) = quota.files {
        (room.files, room.files_free) = (limit, left(limit, held.files).min(disk.files_free));
    }
    room
}
