//! Answers to READDIR and READDIRPLUS, over the device and over a ring.

use crate::fs::attr::{Attr, Ino};
use crate::fs::error::Result;
use crate::fs::fuse::answer::Claim;
use crate::fs::fuse::convert::{file_attr, file_type, nothing, refused};
use crate::fs::fuse::kept::Kept;
use crate::fs::fuse::notices::Notice;
use crate::fs::fuse::ring::Answer;
use crate::fs::fuse::shown::Entries;
use crate::fs::fuse::{Face, GENERATION, ttl};
use crate::fs::readdir::DirEntry;
use crate::fs::views::{OpenDir, Views};
use fuser::{Errno, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Takes an entry of a listing, or says that it has no room for it.
type Add<'a> = &'a mut dyn FnMut(DirEntry<'_>) -> bool;

/// A directory, and who lists it.
type Lister = (Ino, u32);

/// Whether an answer was put down.
type Put = std::result::Result<(), Errno>;

/// The attributes that are told of an entry, where the kernel knows too many inodes (`full`) or not.
fn told(entry: &DirEntry<'_>, full: bool) -> Attr {
    match entry.attr {
        Some(attr) if full => refused(attr),
        Some(attr) => attr,
        None => nothing(entry.ino, entry.kind),
    }
}

impl Face {
    /// Lists names from a cookie on.
    pub(super) fn list_names(&self, who: Lister, offset: u64, reply: ReplyDirectory) {
        let claim = Claim::new("readdir", reply);
        let mut add = |entry: DirEntry<'_>| {
            let name = OsStr::from_bytes(entry.name);
            let (ino, kind) = (INodeNo(entry.ino), file_type(entry.kind));
            // Where the reply is taken nothing more is wanted.
            claim.with(|reply| reply.add(ino, entry.cookie, kind, name)).unwrap_or(true)
        };
        let list = |fs: &Views| self.go_on(fs, who, offset, Views::readdir, &mut add);
        let answer = |reply: ReplyDirectory, listed| match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        };
        self.serve_claimed(&claim, "readdir", list, answer, |()| ());
    }

    /// Lists entries from a cookie on, which makes the kernel know their inodes.
    pub(super) fn list_entries(&self, who: Lister, offset: u64, reply: ReplyDirectoryPlus) {
        let claim = Claim::new("readdirplus", reply);
        let list = |fs: &Views| {
            // Each counts as looked up, also if the listing comes too late.
            let mut referenced = Vec::new();
            let full = self.notices.is_full(fs.referenced());
            self.go_on(fs, who, offset, Views::readdir_plus, &mut |entry| {
                let attr = file_attr(&told(&entry, full));
                let name = OsStr::from_bytes(entry.name);
                let (ino, ttl) = (INodeNo(entry.ino), ttl(entry.ino));
                let left = claim.with(|reply| reply.add(ino, entry.cookie, name, ttl, &attr, GENERATION));
                if left == Some(false) && entry.attr.is_some() {
                    referenced.push(entry.ino);
                }
                left.unwrap_or(true)
            })?;
            Ok(referenced)
        };
        let answer = |reply: ReplyDirectoryPlus, listed| match listed {
            Ok(_) => reply.ok(),
            Err(e) => reply.error(e),
        };
        let late = |referenced: Vec<Ino>| referenced.iter().for_each(|ino| self.fs.forget(*ino, 1));
        self.serve_claimed(&claim, "readdirplus", list, answer, late);
    }

    /// As [`Face::list_names`], into a ring's answer of at most `most` bytes.
    pub(super) fn put_names(&self, who: Lister, cookie: u64, most: usize, answer: &mut Answer<'_>) -> Put {
        let mut add =
            |entry: DirEntry<'_>| !answer.dirent(most, entry.name, (entry.ino, entry.kind), entry.cookie);
        self.ask("readdir", |fs| self.go_on(fs, who, cookie, Views::readdir, &mut add))
    }

    /// As [`Face::list_entries`], into a ring's answer of at most `most` bytes.
    pub(super) fn put_entries(&self, who: Lister, cookie: u64, most: usize, answer: &mut Answer<'_>) -> Put {
        self.ask("readdirplus", |fs| {
            let full = self.notices.is_full(fs.referenced());
            self.go_on(fs, who, cookie, Views::readdir_plus, &mut |entry| {
                let attr = (&told(&entry, full), ttl(entry.ino));
                !answer.direntplus(most, entry.name, attr, (entry.ino, entry.cookie))
            })
        })
    }

    /// Lists a directory from a cookie on, with `list`, until `add` says that it took no more.
    fn go_on(
        &self,
        fs: &Views,
        (ino, caller): Lister,
        cookie: u64,
        list: impl FnOnce(&Views, &OpenDir, u64, Add<'_>) -> Result<()>,
        add: Add<'_>,
    ) -> Result<()> {
        let (dir, mut kept) = self.listing(fs, (ino, caller), cookie)?;
        let (mut stopped, mut shown) = (None, Entries::default());
        list(fs, &dir, cookie, &mut |entry| {
            let full = add(entry);
            if !full {
                stopped = Some(entry.cookie);
                shown.add(entry.cookie, entry.name);
                kept.add(entry.name);
            }
            full
        })?;
        self.shown.note(ino, shown);
        match stopped {
            Some(cookie) => self.listings.keep(ino, caller, cookie, (dir, kept)),
            // Nothing more was taken: that is the end, by which the kernel takes what it was told as whole.
            None => {
                let is_mixed = self.listings.complete(ino, |(dir, _)| fs.has_changed(dir));
                if is_mixed || kept.may_fill_its_pages() {
                    self.drop_kept(ino);
                }
            }
        }
        Ok(())
    }

    /// Has the kernel drop the entries that it was told of, before this returns. It may wait for somebody who is just being
    /// shown some, and he for a page of a file: so one handler does it at a time, at most, and for others it is done soon.
    fn drop_kept(&self, ino: Ino) {
        match (self.kernel.get(), self.dropping.try_lock()) {
            (Some(kernel), Some(_turn)) => {
                if let Err(e) = kernel.inval_inode(INodeNo(ino), 0, 0) {
                    tracing::debug!("the kernel was not told to drop the entries of {ino}: {e}");
                }
            }
            _ => self.notices.push(Notice::Inode(ino)),
        }
    }

    /// What a caller's listing goes on with, and what the kernel keeps of it.
    fn listing(&self, fs: &Views, (ino, caller): Lister, cookie: u64) -> Result<(OpenDir, Kept)> {
        if cookie == 0 {
            return Ok((fs.opendir(ino)?, Kept::nothing()));
        }
        let is_older = |(dir, _): &(OpenDir, Kept)| fs.has_changed(dir);
        if let Some(under_way) = self.listings.take(ino, caller, cookie, is_older) {
            return Ok(under_way);
        }
        let dir = fs.opendir(ino)?;
        if let Some(name) = self.shown.name(ino, cookie) {
            dir.stopped_behind(cookie, &name);
        }
        Ok((dir, Kept::unknown()))
    }
}
