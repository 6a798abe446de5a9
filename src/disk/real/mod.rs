//! The real disk: a directory on the operating system's file system.
//!
//! - The directory is held open and every file is reached through it, so neither a rename of the
//!   directory nor a mount over it leads elsewhere.
//! - An object is written to `NAME.N.lsmfs.tmp`, synced, renamed to `NAME` unless that exists, and
//!   the directory is synced. Leftovers of a process that died are removed when the store is opened.
//! - Files are made with mode 0600, directories with 0700.
//!
//! Locks: the store's lock ([`StoreLock`]) is held from the open until the disk is released, or it and
//! everything that writes through it are dropped: nothing is changed without it. `naming` is taken only where the file system cannot rename
//! without replacing; nothing else is locked.

mod files;

use super::lock::StoreLock;
use super::{
    Disk, DiskError, LOCK_FILE, LOST_DIR, Listed, LogFile, Object, ObjectWriter, OpenError, RESERVE_FILE,
    Result, Space, UNFINISHED_SUFFIX, check_name, is_hidden, lost_names,
};
use files::{Log, Reader, Writer};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A store's directory on the operating system's file system, locked against other processes.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    store: Arc<Directory>,
}

/// The open and locked directory.
#[derive(Debug)]
struct Directory {
    dir: File,
    lock: StoreLock,
    released: AtomicBool,
    naming: Mutex<()>,
    /// Numbers the unfinished objects.
    next_unfinished: AtomicU64,
}

impl RealDisk {
    /// Opens the directory, making it (mode 0700, missing parents too) if it is missing, and takes
    /// its lock, for which it waits as [`StoreLock::acquire`] does.
    pub fn open_or_create(dir: &Path, wait: Duration) -> std::result::Result<RealDisk, OpenError> {
        make_dir(dir).map_err(|e| OpenError::new(dir, "create", dir, e))?;
        RealDisk::open_locked(dir, wait, open_dir(dir)?)
    }

    /// Opens a store's directory and takes its lock, for which it waits as [`StoreLock::acquire`]
    /// does. Where no store was ever opened before, it makes none and leaves no trace.
    pub fn open(dir: &Path, wait: Duration) -> std::result::Result<RealDisk, OpenError> {
        let file = open_dir(dir)?;
        match retry_on_intr(|| rustix::fs::statat(&file, LOCK_FILE, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(_) => RealDisk::open_locked(dir, wait, file),
            Err(Errno::NOENT) => Err(OpenError::NotAStore { dir: dir.to_owned() }),
            Err(e) => Err(OpenError::new(dir, "open", dir, e.into())),
        }
    }

    fn open_locked(dir: &Path, wait: Duration, file: File) -> std::result::Result<RealDisk, OpenError> {
        let path = dir.canonicalize().map_err(|e| OpenError::new(dir, "open", dir, e))?;
        let lock = StoreLock::acquire(dir, wait)?;
        let store = Directory {
            dir: file,
            lock,
            released: AtomicBool::new(false),
            naming: Mutex::new(()),
            next_unfinished: AtomicU64::new(0),
        };
        let cleaned = store.remove_unfinished().and_then(|()| store.set_reserve(0));
        cleaned.map_err(|e| OpenError::new(dir, "clean up", dir, e))?;
        Ok(RealDisk { path, store: Arc::new(store) })
    }

    /// The directory's path, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's lock.
    pub fn lock(&self) -> &StoreLock {
        &self.store.lock
    }

    fn failed(&self, op: &'static str, e: io::Error) -> DiskError {
        DiskError::new(op, self.path.display().to_string(), e)
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        check_name("create", name)?;
        let number = self.store.next_unfinished.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{name}.{number}{UNFINISHED_SUFFIX}");
        let file = self
            .store
            .open_file(&unfinished, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
            .map_err(|e| DiskError::new("create", name, e))?;
        Ok(Box::new(Writer::new(self.store.clone(), file, name, unfinished)))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Object>> {
        check_name("open", name)?;
        let file = self.store.open_file(name, OFlags::RDONLY).map_err(|e| DiskError::new("open", name, e))?;
        Ok(Arc::new(Reader::new(file, name)))
    }

    fn create_log(&self, name: &str) -> Result<Arc<dyn LogFile>> {
        check_name("create", name)?;
        let file = self
            .store
            .open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
            .map_err(|e| DiskError::new("create", name, e))?;
        Ok(Arc::new(Log::new(self.store.clone(), file, name)))
    }

    fn reuse_log(&self, old: &str, name: &str) -> Result<Arc<dyn LogFile>> {
        check_name("rename", old).and_then(|()| check_name("rename", name))?;
        let reuse = || {
            let file = self.store.open_file(old, OFlags::WRONLY)?;
            self.store.rename_if_absent(old, &self.store.dir, name)?;
            Ok(file)
        };
        let file = reuse().map_err(|e| DiskError::new("rename", old, e))?;
        Ok(Arc::new(Log::new(self.store.clone(), file, name)))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        self.store.list().map_err(|e| self.failed("list", e))
    }

    fn delete(&self, name: &str) -> Result<()> {
        check_name("delete", name)?;
        self.store.remove(name).map_err(|e| DiskError::new("delete", name, e))
    }

    fn move_to_lost(&self, name: &str) -> Result<()> {
        check_name("move", name)?;
        self.store.move_to_lost(name).map_err(|e| DiskError::new("move", name, e))
    }

    fn rewrite_log(&self, name: &str, contents: &[u8]) -> Result<()> {
        check_name("rewrite", name)?;
        let rewrite = || {
            let file = self.store.open_file(name, OFlags::WRONLY)?;
            file.write_all_at(contents, 0)?;
            file.set_len(contents.len() as u64)?;
            file.sync_all()
        };
        rewrite().map_err(|e| DiskError::new("rewrite", name, e))
    }

    fn sync_dir(&self) -> Result<()> {
        self.store.dir.sync_all().map_err(|e| self.failed("sync", e))
    }

    fn set_reserve(&self, bytes: u64) -> Result<()> {
        self.store.set_reserve(bytes).map_err(|e| DiskError::new("reserve", RESERVE_FILE, e))
    }

    fn release(&self) {
        self.store.released.store(true, Ordering::Release);
        self.store.lock.release();
    }

    fn space(&self) -> Result<Space> {
        let stat = retry_on_intr(|| rustix::fs::fstatvfs(&self.store.dir))
            .map_err(|e| self.failed("statfs", e.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail), free: bytes(stat.f_bfree) })
    }
}

impl Directory {
    /// Refuses changes once the lock is released.
    fn check_held(&self) -> io::Result<()> {
        match self.released.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the store was released")),
            false => Ok(()),
        }
    }

    /// Opens a regular file; symbolic links are not followed.
    fn open_file(&self, name: &str, access: OFlags) -> io::Result<File> {
        if access != OFlags::RDONLY {
            self.check_held()?;
        }
        // Nonblocking, so that a fifo of that name does not block the open.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(retry_on_intr(|| rustix::fs::openat(&self.dir, name, flags, mode))?);
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_held()?;
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()))?)
    }

    /// The regular files of the directory whose name is `wanted`. Names that are not UTF-8 are
    /// nobody's here.
    fn files(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in retry_on_intr(|| Dir::read_from(&self.dir))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| wanted(name)) else { continue };
            let stat = match retry_on_intr(|| {
                rustix::fs::statat(&self.dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            }) {
                Ok(stat) => stat,
                // Deleted since the directory was read.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                files.push(Listed { name: name.to_owned(), len: u64::try_from(stat.st_size).unwrap_or(0) });
            }
        }
        Ok(files)
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        self.files(|name| !is_hidden(name))
    }

    /// The room is a file's, which has its blocks before anything is written to it. Gone with the process's
    /// successor, if not before.
    fn set_reserve(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return match self.remove(RESERVE_FILE) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
        }
        let file = self.open_file(RESERVE_FILE, OFlags::WRONLY | OFlags::CREATE)?;
        file.set_len(bytes)?;
        match retry_on_intr(|| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)) {
            // A file system that cannot promise room keeps none.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(file.set_len(0)?),
            kept => Ok(kept?),
        }
    }

    fn remove_unfinished(&self) -> io::Result<()> {
        for file in self.files(|name| name.ends_with(UNFINISHED_SUFFIX))? {
            self.remove(&file.name)?;
        }
        Ok(())
    }

    /// Renames a file, unless the new name exists (`AlreadyExists`).
    fn rename_if_absent(&self, from: &str, to_dir: &File, to: &str) -> io::Result<()> {
        self.check_held()?;
        let renamed =
            retry_on_intr(|| rustix::fs::renameat_with(&self.dir, from, to_dir, to, RenameFlags::NOREPLACE));
        match renamed {
            // The file system, or the kernel, does not know NOREPLACE.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.look_and_rename(from, to_dir, to),
            renamed => Ok(renamed?),
        }
    }

    /// [`Directory::rename_if_absent`] in two steps, which no other thread (the mutex) and no other
    /// process (the store's lock) comes between.
    fn look_and_rename(&self, from: &str, to_dir: &File, to: &str) -> io::Result<()> {
        let _naming = self.naming.lock();
        match retry_on_intr(|| rustix::fs::statat(to_dir, to, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(Errno::NOENT) => Ok(retry_on_intr(|| rustix::fs::renameat(&self.dir, from, to_dir, to))?),
            Err(e) => Err(e.into()),
        }
    }

    fn move_to_lost(&self, name: &str) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::mkdirat(&self.dir, LOST_DIR, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lost =
            File::from(retry_on_intr(|| rustix::fs::openat(&self.dir, LOST_DIR, flags, Mode::empty()))?);
        for new_name in lost_names(name) {
            match self.rename_if_absent(name, &lost, &new_name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // The new entry must not become durable later than the old one's end.
                Ok(()) => return lost.sync_all(),
                Err(e) => return Err(e),
            }
        }
        Err(Errno::EXIST.into())
    }
}

fn open_dir(dir: &Path) -> std::result::Result<File, OpenError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::open(dir, flags, Mode::empty())) {
        Ok(fd) => Ok(File::from(fd)),
        Err(e) => Err(OpenError::new(dir, "open", dir, e.into())),
    }
}

/// Makes `dir` and its missing parents, each durable in its own parent.
fn make_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            // Somebody else was faster.
            Err(_) if path.is_dir() => continue,
            made => made?,
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
