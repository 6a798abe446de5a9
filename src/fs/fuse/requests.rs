//! The requests, one function each: translate, ask, answer.

use crate::fs::FileSystem;
use crate::fs::allocate::Seek;
use crate::fs::attr::{Attr, FileKind, SetAttr};
use crate::fs::fuse::convert::{
    allocation, bare_attr, caller, file_attr, file_type, kind_of_mode, maker, rename_mode, requested_time,
    set_time, xattr_mode,
};
use crate::fs::fuse::{Face, GENERATION, MAX_BACKGROUND, MAX_WRITE, TTL, WANTED, ttl};
use crate::fs::readdir::DirEntry;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

fn reply_entry(reply: ReplyEntry, answer: std::result::Result<Attr, Errno>) {
    match answer {
        Ok(attr) => reply.entry(ttl(attr.ino), &file_attr(&attr), GENERATION),
        Err(e) => reply.error(e),
    }
}

fn reply_attr(reply: ReplyAttr, answer: std::result::Result<Attr, Errno>) {
    match answer {
        Ok(attr) => reply.attr(ttl(attr.ino), &file_attr(&attr)),
        Err(e) => reply.error(e),
    }
}

fn reply_empty(reply: ReplyEmpty, answer: std::result::Result<(), Errno>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

/// Answers with a value, or, to a request without room for any, with its length.
fn reply_xattr(reply: ReplyXattr, value: &[u8], room: u32) {
    match u32::try_from(value.len()) {
        Ok(len) if room == 0 => reply.size(len),
        Ok(len) if len <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Face {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if !config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            return Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
        }
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

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.ask("lookup", |fs| fs.lookup(parent.0, name.as_bytes())) {
            Ok(Some(attr)) => reply.entry(ttl(attr.ino), &file_attr(&attr), GENERATION),
            Ok(None) => reply.entry(&TTL, &bare_attr(0, FileKind::File), GENERATION),
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        let _ = self.ask("forget", |fs| {
            fs.forget(ino.0, count);
            Ok(())
        });
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply_attr(reply, self.ask("getattr", |fs| fs.getattr(ino.0)));
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
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(requested_time),
        };
        reply_attr(reply, self.ask("setattr", |fs| fs.setattr(ino.0, &set, caller(request))));
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.ask("readlink", |fs| fs.readlink(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
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
        let Some(kind) = kind_of_mode(mode) else { return reply.error(Errno::EINVAL) };
        let made = self
            .ask("mknod", |fs| fs.mknod(parent.0, name.as_bytes(), kind, mode, rdev, maker(request, umask)));
        reply_entry(reply, made);
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
        let made = self.ask("mkdir", |fs| fs.mkdir(parent.0, name.as_bytes(), mode, maker(request, umask)));
        reply_entry(reply, made);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.ask("unlink", |fs| fs.unlink(parent.0, name.as_bytes())));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.ask("rmdir", |fs| fs.rmdir(parent.0, name.as_bytes())));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes();
        let made = self.ask("symlink", |fs| fs.symlink(parent.0, name.as_bytes(), target, caller(request)));
        reply_entry(reply, made);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = rename_mode(flags) else { return reply.error(Errno::EINVAL) };
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        let renamed = self.ask("rename", |fs| fs.rename(parent.0, name, new_parent.0, new_name, mode));
        reply_empty(reply, renamed);
    }

    fn link(&self, _request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        reply_entry(reply, self.ask("link", |fs| fs.link(ino.0, parent.0, name.as_bytes())));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
        match self.ask("create", |fs| fs.create(parent.0, name.as_bytes(), mode, maker(request, umask))) {
            Ok(attr) => reply.created(&TTL, &file_attr(&attr), GENERATION, FileHandle(0), flags),
            Err(e) => reply.error(e),
        }
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
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.ask("read", |fs| fs.read(ino.0, offset, size as usize)) {
            Ok(data) => reply.data(&data),
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _open_flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.ask("write", |fs| {
            if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                fs.write_clearing_setid(ino.0, offset, data)
            } else {
                fs.write(ino.0, offset, data)
            }
        });
        match written {
            // No more than one request's data, which fits.
            Ok(len) => reply.written(len as u32),
            Err(e) => reply.error(e),
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(reply);
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.ask("opendir", |fs| fs.opendir(ino.0)) {
            Ok(dir) => {
                let handle = self.next_dir.fetch_add(1, Ordering::Relaxed);
                self.dirs.lock().insert(handle, Arc::new(dir));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(e) => reply.error(e),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut add = |entry: DirEntry<'_>| {
            let name = OsStr::from_bytes(entry.name);
            reply.add(INodeNo(entry.ino), entry.cookie, file_type(entry.kind), name)
        };
        let listed =
            self.dir(handle).and_then(|dir| self.ask("readdir", |fs| fs.readdir(&dir, offset, &mut add)));
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut add = |entry: DirEntry<'_>| {
            let attr = match &entry.attr {
                Some(attr) => file_attr(attr),
                None => bare_attr(entry.ino, entry.kind),
            };
            let name = OsStr::from_bytes(entry.name);
            reply.add(INodeNo(entry.ino), entry.cookie, name, ttl(entry.ino), &attr, GENERATION)
        };
        let listed = self
            .dir(handle)
            .and_then(|dir| self.ask("readdir", |fs| fs.readdir_plus(&dir, offset, &mut add)));
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let dir = self.dirs.lock().remove(&handle.0);
        drop(dir);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.ask("statfs", FileSystem::statfs) {
            Ok(s) => reply.statfs(
                s.blocks,
                s.free,
                s.available,
                s.files,
                s.files_free,
                s.block_size,
                s.name_max,
                s.block_size,
            ),
            Err(e) => reply.error(e),
        }
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
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let Some(mode) = xattr_mode(flags) else { return reply.error(Errno::EINVAL) };
        let name = name.as_bytes();
        let set = self.ask("setxattr", |fs| fs.setxattr(ino.0, name, value, mode, caller(request)));
        reply_empty(reply, set);
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        match self.ask("getxattr", |fs| fs.getxattr(ino.0, name.as_bytes())) {
            Ok(Some(value)) => reply_xattr(reply, &value, size),
            Ok(None) => reply.error(Errno::NO_XATTR),
            Err(e) => reply.error(e),
        }
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        match self.ask("listxattr", |fs| fs.listxattr(ino.0)) {
            Ok(names) => reply_xattr(reply, &names, size),
            Err(e) => reply.error(e),
        }
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !self.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        reply_empty(reply, self.ask("removexattr", |fs| fs.removexattr(ino.0, name.as_bytes())));
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
        let done =
            self.ask("fallocate", |fs| fs.allocate(ino.0, offset, len, what, keep_size, caller(request)));
        reply_empty(reply, done);
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        // The kernel asks for nothing else.
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.ask("lseek", |fs| fs.seek(ino.0, offset, what)) {
            // No file is that large.
            Ok(at) => reply.offset(at as i64),
            Err(e) => reply.error(e),
        }
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
        match self.ask("copy_file_range", |fs| fs.copy_range(from, to, len, caller(request))) {
            // One request copies a bounded part, which fits.
            Ok(len) => reply.written(len as u32),
            Err(e) => reply.error(e),
        }
    }
}
