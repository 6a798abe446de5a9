//! Requests about files: each is the view's file system's, in its numbers.

use crate::fs::allocate::{Allocate, Seek};
use crate::fs::attr::{Attr, Caller, FileKind, Ino, SetAttr};
use crate::fs::error::{Cause, Result, Subject};
use crate::fs::filesystem::{FileSystem, StatFs};
use crate::fs::views::{Place, Views, inner};
use crate::fs::xattr::XattrMode;
use bytes::Bytes;

impl Views {
    /// As [`FileSystem::getattr`].
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        match self.place(ino)? {
            Place::Top(top) => Ok(top.attr()),
            Place::File(view, crate::fs::ROOT) => self.root_attr(&view),
            _ => self.ask("stat", ino, |view, fs, ino| Ok(view.show(fs.getattr(ino)?))),
        }
    }

    /// As [`FileSystem::setattr`].
    pub fn setattr(&self, ino: Ino, set: &SetAttr, caller: Caller) -> Result<Attr> {
        self.ask("setattr", ino, |view, fs, ino| Ok(view.show(fs.setattr(ino, set, caller)?)))
    }

    /// As [`FileSystem::readlink`].
    pub fn readlink(&self, ino: Ino) -> Result<Bytes> {
        self.ask("readlink", ino, |_, fs, ino| fs.readlink(ino))
    }

    /// Makes something in a directory of files; counts a reference to it.
    fn make(
        &self,
        op: &'static str,
        parent: Ino,
        make: impl FnOnce(&FileSystem, Ino) -> Result<Attr>,
    ) -> Result<Attr> {
        self.ask(op, parent, |view, fs, parent| {
            let made = make(fs, parent)?;
            self.count(view, fs);
            Ok(view.show(made))
        })
    }

    /// As [`FileSystem::mknod`].
    pub fn mknod(
        &self,
        parent: Ino,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        rdev: u32,
        caller: Caller,
    ) -> Result<Attr> {
        self.make("mknod", parent, |fs, parent| fs.mknod(parent, name, kind, mode, rdev, caller))
    }

    /// As [`FileSystem::symlink`].
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> Result<Attr> {
        self.make("symlink", parent, |fs, parent| fs.symlink(parent, name, target, caller))
    }

    /// As [`FileSystem::link`], within one view.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        check_same(ino, parent, "link")?;
        self.make("link", parent, |fs, parent| fs.link(inner(ino), parent, name))
    }

    /// As [`FileSystem::mkdir`], in a directory of files.
    pub(super) fn make_directory(&self, parent: Ino, name: &[u8], mode: u32, caller: Caller) -> Result<Attr> {
        self.make("mkdir", parent, |fs, parent| fs.mkdir(parent, name, mode, caller))
    }

    /// As [`FileSystem::unlink`].
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.ask("unlink", parent, |_, fs, parent| fs.unlink(parent, name))
    }

    /// As [`FileSystem::read`].
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Result<Bytes> {
        self.ask("read", ino, |_, fs, ino| fs.read(ino, offset, len))
    }

    /// As [`FileSystem::write`].
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.ask("write", ino, |_, fs, ino| fs.write(ino, offset, data))
    }

    /// As [`FileSystem::write_clearing_setid`].
    pub fn write_clearing_setid(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.ask("write", ino, |_, fs, ino| fs.write_clearing_setid(ino, offset, data))
    }

    /// As [`FileSystem::allocate`].
    pub fn allocate(
        &self,
        ino: Ino,
        offset: u64,
        len: u64,
        what: Allocate,
        keep_size: bool,
        caller: Caller,
    ) -> Result<()> {
        self.ask("allocate", ino, |_, fs, ino| fs.allocate(ino, offset, len, what, keep_size, caller))
    }

    /// As [`FileSystem::seek`].
    pub fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        self.ask("seek", ino, |_, fs, ino| fs.seek(ino, offset, what))
    }

    /// As [`FileSystem::copy_range`], within one view.
    pub fn copy_range(&self, from: (Ino, u64), to: (Ino, u64), len: u64, caller: Caller) -> Result<usize> {
        check_same(from.0, to.0, "copy")?;
        self.ask("copy", to.0, |_, fs, to_ino| {
            fs.copy_range((inner(from.0), from.1), (to_ino, to.1), len, caller)
        })
    }

    /// As [`FileSystem::setxattr`].
    pub fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Result<()> {
        self.ask("setxattr", ino, |_, fs, ino| fs.setxattr(ino, name, value, mode, caller))
    }

    /// As [`FileSystem::getxattr`].
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>> {
        match self.place(ino)? {
            Place::Top(_) => Ok(None),
            _ => self.ask("getxattr", ino, |_, fs, ino| fs.getxattr(ino, name)),
        }
    }

    /// As [`FileSystem::listxattr`].
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        match self.place(ino)? {
            Place::Top(_) => Ok(Vec::new()),
            _ => self.ask("listxattr", ino, |_, fs, ino| fs.listxattr(ino)),
        }
    }

    /// As [`FileSystem::removexattr`].
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.ask("removexattr", ino, |_, fs, ino| fs.removexattr(ino, name))
    }

    /// Makes durable what was answered before.
    pub fn fsync(&self) -> Result<()> {
        self.host.fsync()
    }

    /// As [`FileSystem::fsync_then`], for all that is shown.
    pub fn fsync_then(&self, done: Box<dyn FnOnce(Result<()>) + Send>) {
        self.host.fsync_then(done);
    }

    /// The room that is left, for a file's volume.
    pub fn statfs(&self, ino: Ino) -> Result<StatFs> {
        match self.place(ino)? {
            Place::Top(_) => self.host.statfs(),
            _ => self.ask("statfs", ino, |_, fs, _| fs.statfs()),
        }
    }
}

/// Refuses what would lead from one view into another.
pub(super) fn check_same(one: Ino, other: Ino, op: &'static str) -> Result<()> {
    match one - inner(one) == other - inner(other) {
        true => Ok(()),
        false => Err(Cause::OtherVolume.of(op, Subject::Inode(other))),
    }
}
