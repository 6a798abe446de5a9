//! A ring's requests: each becomes one call of [`Views`], as those that come over the device do (`requests.rs`).

use crate::fs::attr::{Attr, Caller, FileKind, SetAttr, SetTime, Timestamp};
use crate::fs::error::Result;
use crate::fs::filesystem::StatFs;
use crate::fs::fuse::convert::{allocation, kind_of_mode, nothing, rename_mode, seek, xattr_mode};
use crate::fs::fuse::ring::opcode::*;
use crate::fs::fuse::ring::wire::{Answer, Request, Words};
use crate::fs::fuse::{Face, TTL, ttl};
use crate::fs::views::Views;
use bytes::Bytes;
use fuser::{Errno, RenameFlags};

/// Which values a request sets (`FATTR_…`).
const MODE: u32 = 1;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;
const CTIME: u32 = 1 << 10;

/// Setuid and setgid are to be cleared (`FUSE_WRITE_KILL_SUIDGID`).
const KILL_SETID: u32 = 1 << 2;

/// How a directory may be kept when it is opened (`FOPEN_KEEP_CACHE`, `FOPEN_CACHE_DIR`).
const KEEP_LISTING: u32 = 1 << 1 | 1 << 3;

/// What is to be answered.
pub enum Reply {
    Nothing,
    /// A name's file, if there is one.
    Entry(Option<Attr>),
    Attr(Attr),
    Data(Bytes),
    /// Of an extended attribute's value, or list: what there is, and the room for it; without any its length is wanted.
    Xattr(Bytes, u32),
    /// So many bytes were written.
    Written(usize),
    Opened {
        keeps_listing: bool,
    },
    StatFs(StatFs),
    Offset(u64),
    /// Entries from a cookie on, as many bytes at most.
    Listing {
        cookie: u64,
        most: usize,
        with_attributes: bool,
    },
}

type Answered = std::result::Result<Reply, Errno>;

impl Face {
    /// Handles a request.
    pub(in crate::fs::fuse) fn serve_ring(&self, request: &Request<'_>) -> Answered {
        let header = &request.header;
        tracing::debug!(
            "{} {}, inode {}, process {}",
            name(header.opcode),
            header.unique,
            header.ino,
            header.pid
        );
        self.served(request).unwrap_or(Err(Errno::EINVAL))
    }

    /// `None` if the request breaks the rules.
    fn served(&self, request: &Request<'_>) -> Option<Answered> {
        let ino = request.header.ino;
        let (mut argument, mut payload) = (request.argument, request.payload);
        let caller = Caller::new(request.header.uid, request.header.gid);
        Some(match request.header.opcode {
            LOOKUP => {
                let name = payload.name()?;
                self.reply("lookup", Reply::Entry, |fs| fs.lookup(ino, name))
            }
            GETATTR => self.reply("getattr", Reply::Attr, |fs| fs.getattr(ino)),
            SETATTR => {
                let set = set_attr(argument)?;
                self.reply("setattr", Reply::Attr, |fs| fs.setattr(ino, &set, caller))
            }
            READLINK => self.reply("readlink", Reply::Data, |fs| fs.readlink(ino)),
            SYMLINK => {
                let (name, target) = (payload.name()?, payload.name()?);
                self.made("symlink", |fs| fs.symlink(ino, name, target, caller))
            }
            MKNOD => {
                let (mode, rdev, umask) = (argument.u32()?, argument.u32()?, argument.u32()?);
                let (name, kind) = (payload.name()?, kind_of_mode(mode)?);
                self.made("mknod", |fs| fs.mknod(ino, name, kind, mode, rdev, caller.with_umask(umask)))
            }
            MKDIR => {
                let (mode, umask) = (argument.u32()?, argument.u32()?);
                let name = payload.name()?;
                self.made("mkdir", |fs| fs.mkdir(ino, name, mode, caller.with_umask(umask)))
            }
            LINK => {
                let (from, name) = (argument.u64()?, payload.name()?);
                self.made("link", |fs| fs.link(from, ino, name))
            }
            UNLINK => {
                let name = payload.name()?;
                self.done("unlink", |fs| fs.unlink(ino, name))
            }
            RMDIR => {
                let name = payload.name()?;
                self.done("rmdir", |fs| fs.rmdir(ino, name))
            }
            RENAME | RENAME2 => {
                let to = argument.u64()?;
                let flags = if request.header.opcode == RENAME2 { argument.u32()? } else { 0 };
                let (name, new_name) = (payload.name()?, payload.name()?);
                let mode = rename_mode(RenameFlags::from_bits_retain(flags))?;
                self.done("rename", |fs| self.move_name((ino, name), (to, new_name), mode, fs))
            }
            READ => {
                let (_handle, offset, size) = (argument.u64()?, argument.u64()?, argument.u32()?);
                self.reply("read", Reply::Data, |fs| fs.read(ino, offset, size as usize))
            }
            WRITE => {
                let (_handle, offset, size) = (argument.u64()?, argument.u64()?, argument.u32()?);
                let clears = argument.u32()? & KILL_SETID != 0;
                let data = payload.0.get(..size as usize)?;
                self.reply("write", Reply::Written, |fs| match clears {
                    true => fs.write_clearing_setid(ino, offset, data),
                    false => fs.write(ino, offset, data),
                })
            }
            FSYNC | FSYNCDIR => self.done("fsync", Views::fsync),
            OPENDIR if !self.opens_silently() => {
                let opened = |keeps_listing| Reply::Opened { keeps_listing };
                self.reply("opendir", opened, |fs| fs.opendir(ino).map(|_| fs.keeps_listings()))
            }
            READDIR | READDIRPLUS => {
                let (_handle, cookie, most) = (argument.u64()?, argument.u64()?, argument.u32()? as usize);
                let with_attributes = request.header.opcode == READDIRPLUS;
                Ok(Reply::Listing { cookie, most, with_attributes })
            }
            RELEASE | RELEASEDIR => Ok(Reply::Nothing),
            STATFS => self.reply("statfs", Reply::StatFs, |fs| fs.statfs(ino)),
            SETXATTR if self.xattrs => {
                let (size, flags) = (argument.u32()? as usize, argument.u32()?);
                let mode = xattr_mode(flags.cast_signed())?;
                let name = payload.name()?;
                let value = payload.0.get(..size)?;
                self.done("setxattr", |fs| fs.setxattr(ino, name, value, mode, caller))
            }
            GETXATTR if self.xattrs => {
                let (room, name) = (argument.u32()?, payload.name()?);
                match self.ask("getxattr", |fs| fs.getxattr(ino, name)) {
                    Ok(Some(value)) => Ok(Reply::Xattr(value, room)),
                    Ok(None) => Err(Errno::NO_XATTR),
                    Err(e) => Err(e),
                }
            }
            LISTXATTR if self.xattrs => {
                let room = argument.u32()?;
                self.reply("listxattr", |list| Reply::Xattr(list, room), |fs| Ok(fs.listxattr(ino)?.into()))
            }
            REMOVEXATTR if self.xattrs => {
                let name = payload.name()?;
                self.done("removexattr", |fs| fs.removexattr(ino, name))
            }
            IOCTL => Err(Errno::ENOTTY),
            FALLOCATE => {
                let (_handle, offset, len) = (argument.u64()?, argument.u64()?, argument.u64()?);
                match allocation(argument.u32()?.cast_signed()) {
                    None => Err(Errno::EOPNOTSUPP),
                    Some((what, keep_size)) => {
                        self.done("fallocate", |fs| fs.allocate(ino, offset, len, what, keep_size, caller))
                    }
                }
            }
            LSEEK => {
                let (_handle, offset, whence) = (argument.u64()?, argument.u64()?, argument.u32()?);
                let what = seek(whence.cast_signed())?;
                match i64::try_from(offset) {
                    Ok(_) => self.reply("lseek", Reply::Offset, |fs| fs.seek(ino, offset, what)),
                    Err(_) => Err(Errno::ENXIO),
                }
            }
            COPY_FILE_RANGE => {
                let (_handle, from_offset) = (argument.u64()?, argument.u64()?);
                let (to, _to_handle, to_offset) = (argument.u64()?, argument.u64()?, argument.u64()?);
                let (from, to, len) = ((ino, from_offset), (to, to_offset), argument.u64()?);
                self.reply("copy_file_range", Reply::Written, |fs| fs.copy_range(from, to, len, caller))
            }
            // Among them OPEN, CREATE and FLUSH: see `fuse.rs`.
            _ => Err(Errno::ENOSYS),
        })
    }

    fn reply<T>(
        &self,
        op: &'static str,
        reply: impl FnOnce(T) -> Reply,
        question: impl FnOnce(&Views) -> Result<T>,
    ) -> Answered {
        self.ask(op, question).map(reply)
    }

    fn made(&self, op: &'static str, make: impl FnOnce(&Views) -> Result<Attr>) -> Answered {
        self.reply(op, |made| Reply::Entry(Some(made)), make)
    }

    fn done(&self, op: &'static str, work: impl FnOnce(&Views) -> Result<()>) -> Answered {
        self.reply(op, |()| Reply::Nothing, work)
    }

    /// Puts down an answer; returns an error's number, or 0.
    pub(in crate::fs::fuse) fn put_reply(
        &self,
        (ino, pid): (u64, u32),
        reply: Answered,
        answer: &mut Answer<'_>,
    ) -> i32 {
        let put = reply.and_then(|reply| match reply {
            Reply::Listing { cookie, most, with_attributes: true } => {
                self.put_entries((ino, pid), cookie, most, answer)
            }
            Reply::Listing { cookie, most, .. } => self.put_names((ino, pid), cookie, most, answer),
            reply => put(reply, answer),
        });
        put.err().map_or(0, |errno| errno.code())
    }
}

/// Puts down an answer that is at hand.
fn put(reply: Reply, answer: &mut Answer<'_>) -> std::result::Result<(), Errno> {
    match reply {
        Reply::Nothing | Reply::Listing { .. } => {}
        Reply::Entry(Some(attr)) => answer.entry(&attr, ttl(attr.ino)),
        Reply::Entry(None) => answer.entry(&nothing(0, FileKind::File), &TTL),
        Reply::Attr(attr) => answer.attr(&attr, ttl(attr.ino)),
        Reply::Data(data) => answer.put(&data),
        Reply::Xattr(value, room) => match u32::try_from(value.len()) {
            Ok(len) if room == 0 => answer.length(len),
            Ok(len) if len <= room => answer.put(&value),
            _ => return Err(Errno::ERANGE),
        },
        // No more than a request's data, or its length in 32 bits.
        Reply::Written(len) => answer.length(len as u32),
        Reply::Opened { keeps_listing } => {
            answer.u64(0);
            answer.u32(if keeps_listing { KEEP_LISTING } else { 0 });
            answer.u32(0);
        }
        Reply::StatFs(room) => answer.statfs(&room),
        Reply::Offset(at) => answer.u64(at),
    }
    Ok(())
}

/// `fuse_setattr_in`.
fn set_attr(mut words: Words<'_>) -> Option<SetAttr> {
    let valid = words.u32()?;
    let (_padding, _handle, size, _owner) = (words.u32()?, words.u64()?, words.u64()?, words.u64()?);
    let secs = [words.u64()?, words.u64()?, words.u64()?];
    let nanos = [words.u32()?, words.u32()?, words.u32()?];
    let (mode, _unused, uid, gid) = (words.u32()?, words.u32()?, words.u32()?, words.u32()?);
    let time = |at: usize| Timestamp { secs: secs[at].cast_signed(), nanos: nanos[at] };
    let set_time = |at, set, now| match valid {
        valid if valid & now != 0 => Some(SetTime::Now),
        valid if valid & set != 0 => Some(SetTime::At(time(at))),
        _ => None,
    };
    let is_set = |bit| valid & bit != 0;
    Some(SetAttr {
        mode: is_set(MODE).then_some(mode),
        uid: is_set(UID).then_some(uid),
        gid: is_set(GID).then_some(gid),
        size: is_set(SIZE).then_some(size),
        atime: set_time(0, ATIME, ATIME_NOW),
        mtime: set_time(1, MTIME, MTIME_NOW),
        ctime: is_set(CTIME).then(|| time(2)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request to set what `valid` says.
    fn setattr(valid: u32) -> Vec<u8> {
        let mut bytes = [valid, 0].map(u32::to_ne_bytes).concat();
        // Handle, size, lock owner, times.
        [1, 4096, 2, 10, u64::MAX, 30].into_iter().for_each(|n: u64| bytes.extend(n.to_ne_bytes()));
        [11, 21, 31, 0o644, 0, 1000, 1001, 0].into_iter().for_each(|n: u32| bytes.extend(n.to_ne_bytes()));
        bytes
    }

    #[test]
    fn what_a_request_does_not_say_is_not_set() {
        let at = |secs, nanos| Some(SetTime::At(Timestamp { secs, nanos }));
        assert_eq!(set_attr(Words(&setattr(0))), Some(SetAttr::default()));
        let all = SetAttr {
            mode: Some(0o644),
            uid: Some(1000),
            gid: Some(1001),
            size: Some(4096),
            atime: at(10, 11),
            mtime: at(-1, 21),
            ctime: Some(Timestamp { secs: 30, nanos: 31 }),
        };
        let every = MODE | UID | GID | SIZE | ATIME | MTIME | CTIME;
        assert_eq!(set_attr(Words(&setattr(every))), Some(all));
        let now = SetAttr { atime: Some(SetTime::Now), mtime: at(-1, 21), ..SetAttr::default() };
        assert_eq!(set_attr(Words(&setattr(ATIME | ATIME_NOW | MTIME))), Some(now));
        assert_eq!(set_attr(Words(&setattr(every)[..80])), None);
    }

    #[test]
    fn answers_have_the_payload_that_belongs_to_them() {
        let mut room = [0; 256];
        let mut len = |reply| {
            let mut answer = Answer::new(&mut room);
            put(reply, &mut answer).map(|()| answer.len())
        };
        assert_eq!(len(Reply::Nothing), Ok(0));
        assert_eq!(len(Reply::Entry(None)), Ok(128));
        assert_eq!(len(Reply::Data(Bytes::from_static(b"abc"))), Ok(3));
        assert_eq!(len(Reply::Written(7)), Ok(8));
        assert_eq!(len(Reply::Offset(7)), Ok(8));
        assert_eq!(len(Reply::Opened { keeps_listing: true }), Ok(16));
        // The length of a value, the value, and one that there is no room for.
        let value = Bytes::from_static(b"value");
        assert_eq!(len(Reply::Xattr(value.clone(), 0)), Ok(8));
        assert_eq!(len(Reply::Xattr(value.clone(), 5)), Ok(5));
        assert_eq!(len(Reply::Xattr(value, 4)), Err(Errno::ERANGE));
    }
}
