//! Answers: one face for fuser's replies, and who of two gives one.

use crate::fs::attr::{Attr, FileKind};
use crate::fs::filesystem::StatFs;
use crate::fs::fuse::convert::{file_attr, nothing};
use crate::fs::fuse::{GENERATION, TTL, ttl};
use bytes::Bytes;
use fuser::{
    Errno, FileHandle, FopenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// A reply that can be refused.
pub(super) trait Refuse: Send + 'static {
    /// Answers with an error.
    fn refuse(self, error: Errno);
}

/// A reply, and what it takes.
pub(super) trait Reply: Refuse {
    /// What it takes.
    type Answer;
    /// Answers.
    fn give(self, answer: Self::Answer);
}

macro_rules! refuse {
    ($($reply:ident)*) => {
        $(impl Refuse for fuser::$reply {
            fn refuse(self, error: Errno) {
                self.error(error);
            }
        })*
    };
}

refuse!(ReplyAttr ReplyData ReplyDirectory ReplyDirectoryPlus ReplyEmpty ReplyEntry);
refuse!(ReplyLseek ReplyOpen ReplyStatfs ReplyWrite ReplyXattr);

impl Reply for ReplyEntry {
    /// Without attributes: there is no such name, which the kernel may remember.
    type Answer = Option<Attr>;

    fn give(self, found: Option<Attr>) {
        match found {
            Some(attr) => self.entry(ttl(attr.ino), &file_attr(&attr), GENERATION),
            None => self.entry(&TTL, &file_attr(&nothing(0, FileKind::File)), GENERATION),
        }
    }
}

impl Reply for ReplyAttr {
    type Answer = Attr;

    fn give(self, attr: Attr) {
        self.attr(ttl(attr.ino), &file_attr(&attr));
    }
}

impl Reply for ReplyEmpty {
    type Answer = ();

    fn give(self, (): ()) {
        self.ok();
    }
}

impl Reply for ReplyData {
    type Answer = Bytes;

    fn give(self, data: Bytes) {
        self.data(&data);
    }
}

impl Reply for ReplyWrite {
    /// Bytes written: no more than one request's data, which 32 bits hold.
    type Answer = usize;

    fn give(self, len: usize) {
        self.written(len as u32);
    }
}

impl Reply for ReplyLseek {
    /// An offset in the file, which no file is too large for.
    type Answer = u64;

    fn give(self, at: u64) {
        self.offset(at as i64);
    }
}

impl Reply for ReplyOpen {
    /// A directory's handle, and whether the kernel may keep its listing.
    type Answer = (FileHandle, bool);

    fn give(self, (handle, keeps): (FileHandle, bool)) {
        // The second one: what it has kept stays when the directory is opened.
        let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        self.opened(handle, if keeps { keep } else { FopenFlags::empty() });
    }
}

impl Reply for ReplyStatfs {
    type Answer = StatFs;

    fn give(self, s: StatFs) {
        let block = s.block_size;
        self.statfs(s.blocks, s.free, s.available, s.files, s.files_free, block, s.name_max, block);
    }
}

impl Reply for ReplyXattr {
    /// A value, or nothing, and the request's room for it: without any, its length is wanted.
    type Answer = (Option<Bytes>, u32);

    fn give(self, (value, room): (Option<Bytes>, u32)) {
        let Some(value) = value else { return self.error(Errno::NO_XATTR) };
        match u32::try_from(value.len()) {
            Ok(len) if room == 0 => self.size(len),
            Ok(len) if len <= room => self.data(&value),
            _ => self.error(Errno::ERANGE),
        }
    }
}

/// A request's reply, for the one that takes it first: the handler, or the watch at the deadline.
pub(super) struct Claim<R> {
    op: &'static str,
    reply: Mutex<Option<R>>,
}

impl<R> Claim<R> {
    /// Nobody has taken it.
    pub fn new(op: &'static str, reply: R) -> Arc<Claim<R>> {
        Arc::new(Claim { op, reply: Mutex::new(Some(reply)) })
    }

    /// The reply, unless it is taken.
    pub fn take(&self) -> Option<R> {
        self.reply.lock().take()
    }

    /// Looks at the reply, unless it is taken.
    pub fn with<T>(&self, look: impl FnOnce(&mut R) -> T) -> Option<T> {
        self.reply.lock().as_mut().map(look)
    }
}

/// What can be answered without its handler.
pub(super) trait Expire: Send + Sync {
    /// Answers with an error and returns what the request was, unless it is answered.
    fn expire(&self) -> Option<&'static str>;
}

impl<R: Refuse> Expire for Claim<R> {
    fn expire(&self) -> Option<&'static str> {
        let reply = self.take()?;
        reply.refuse(Errno::EIO);
        Some(self.op)
    }
}
