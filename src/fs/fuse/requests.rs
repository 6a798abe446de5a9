//! The requests, one function each: translate, ask, answer.

use crate::fs::attr::{Attr, SetAttr};
use crate::fs::error::Result;
use crate::fs::fuse::convert::{
    allocation, caller, kind_of_mode, maker, rename_mode, requested_time, seek, set_time, xattr_mode,
};
use crate::fs::fuse::{Face, MAX_BACKGROUND, MAX_WRITE, WANTED};
use crate::fs::views::Views;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

impl Face {
    /// Agrees with the kernel that requests come over io_uring, where that is wanted and offered.
    fn agree_on_ring(&self, config: &mut KernelConfig) {
        let wanted = self.agreed.ring.load(Ordering::Relaxed);
        let agreed = wanted && config.add_capabilities(InitFlags::FUSE_OVER_IO_URING).is_ok();
        self.agreed.ring.store(agreed, Ordering::Relaxed);
        if wanted && !agreed {
            tracing::warn!(
                "the kernel does not take up io_uring: requests come over the device, to one thread"
            );
        }
    }

    /// Handles a request that gives a file a name.
    fn make(
        &self,
        op: &'static str,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
        make: impl FnOnce(&Views) -> Result<Attr>,
    ) {
        let late = |made| self.found_late(parent.0, name.as_bytes(), made);
        self.serve_or(op, reply, |fs| make(fs).map(Some), late);
    }
}

/// The face, as fuser calls it.
#[derive(Debug)]
pub(super) struct Requests(pub Arc<Face>);

impl Deref for Requests {
    type Target = Face;

    fn deref(&self) -> &Face {
        &self.0
    }
}

impl Filesystem for Requests {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if !config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            return Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
        }
        let may_be_silent = config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        let silent = may_be_silent && self.fs.keeps_listings();
        self.agreed.opens_silently.store(silent, Ordering::Relaxed);
        self.agree_on_ring(config);
        for flag in WANTED {
            if config.add_capabilities(flag).is_err() {
                tracing::info!("the kernel does not know {flag:?}");
            }
        }
        // Without the lists' flag the kernel would check by the mode alone, and apply the umask itself.
        if self.xattrs {
            let lists = InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK;
            let _ = config.add_capabilities(lists);
        }
        // Both refuse only what is out of range, and say what would not be.
        let _ = config.set_max_write(MAX_WRITE).or_else(|nearest| config.set_max_write(nearest));
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.follow(request);
        let name = name.as_bytes();
        let late = |found| self.found_late(parent.0, name, found);
        self.serve_or("lookup", reply, |fs| fs.lookup(parent.0, name), late);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.forgotten(ino.0, count);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.follow(request);
        self.serve("getattr", reply, |fs| fs.getattr(ino.0));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.follow(request);
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(requested_time),
        };
        let late = |_| self.forget_inode(ino.0);
        self.serve_or("setattr", reply, |fs| fs.setattr(ino.0, &set, caller(request)), late);
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        self.follow(request);
        self.serve("readlink", reply, |fs| fs.readlink(ino.0));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.follow(request);
        let Some(kind) = kind_of_mode(mode) else { return reply.error(Errno::EINVAL) };
        self.make("mknod", parent, name, reply, |fs| {
            fs.mknod(parent.0, name.as_bytes(), kind, mode, rdev, maker(request, umask))
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.follow(request);
        self.make("mkdir", parent, name, reply, |fs| {
            fs.mkdir(parent.0, name.as_bytes(), mode, maker(request, umask))
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.follow(request);
        let name = name.as_bytes();
        let late = |()| self.forget_names(&[(parent.0, name)]);
        self.serve_or("unlink", reply, |fs| fs.unlink(parent.0, name), late);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.follow(request);
        let name = name.as_bytes();
        let late = |()| self.forget_names(&[(parent.0, name)]);
        self.serve_or("rmdir", reply, |fs| fs.rmdir(parent.0, name), late);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.follow(request);
        let target = target.as_os_str().as_bytes();
        self.make("symlink", parent, name, reply, |fs| {
            fs.symlink(parent.0, name.as_bytes(), target, caller(request))
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.follow(request);
        let Some(mode) = rename_mode(flags) else { return reply.error(Errno::EINVAL) };
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        let late = |()| self.forget_names(&[(parent.0, name), (new_parent.0, new_name)]);
        let rename = |fs: &Views| self.move_name((parent.0, name), (new_parent.0, new_name), mode, fs);
        self.serve_or("rename", reply, rename, late);
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.follow(request);
        self.make("link", parent, name, reply, |fs| fs.link(ino.0, parent.0, name.as_bytes()));
    }

    // From then on the kernel asks for MKNOD.
    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.readers.nearby.note(request.pid(), size as usize);
        self.serve("read", reply, |fs| fs.read(ino.0, offset, size as usize));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _open_flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.readers.nearby.note(request.pid(), data.len());
        let write = |fs: &Views| match flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            true => fs.write_clearing_setid(ino.0, offset, data),
            false => fs.write(ino.0, offset, data),
        };
        self.serve_or("write", reply, write, |_| self.forget_inode(ino.0));
    }

    fn fsync(
        &self,
        request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(request, reply);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(request, reply);
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_silently() {
            return reply.error(Errno::ENOSYS);
        }
        self.follow(request);
        let open = |fs: &Views| {
            fs.opendir(ino.0)?;
            Ok((FileHandle(0), fs.keeps_listings()))
        };
        self.serve("opendir", reply, open);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.follow(request);
        self.list_names((ino.0, request.pid()), offset, reply);
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.follow(request);
        self.list_entries((ino.0, request.pid()), offset, reply);
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.follow(request);
        self.serve("statfs", reply, |fs| fs.statfs(ino.0));
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.follow(request);
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let Some(mode) = xattr_mode(flags) else { return reply.error(Errno::EINVAL) };
        let set = |fs: &Views| fs.setxattr(ino.0, name.as_bytes(), value, mode, caller(request));
        self.serve_or("setxattr", reply, set, |()| self.forget_inode(ino.0));
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.follow(request);
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        self.serve("getxattr", reply, |fs| Ok((fs.getxattr(ino.0, name.as_bytes())?, size)));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.follow(request);
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        self.serve("listxattr", reply, |fs| Ok((Some(fs.listxattr(ino.0)?.into()), size)));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.follow(request);
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let remove = |fs: &Views| fs.removexattr(ino.0, name.as_bytes());
        self.serve_or("removexattr", reply, remove, |()| self.forget_inode(ino.0));
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // From then on the kernel does not ask: files are always ready.
    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some((what, keep_size)) = allocation(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let allocate = |fs: &Views| fs.allocate(ino.0, offset, len, what, keep_size, caller(request));
        self.serve_or("fallocate", reply, allocate, |()| self.forget_inode(ino.0));
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.follow(request);
        let Some(what) = seek(whence) else { return reply.error(Errno::EINVAL) };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        self.serve("lseek", reply, |fs| fs.seek(ino.0, offset, what));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((from.0, from_offset), (to.0, to_offset));
        let copy = |fs: &Views| fs.copy_range(from, to, len, caller(request));
        self.serve_or("copy_file_range", reply, copy, |_| self.forget_inode(to.0));
    }
}
