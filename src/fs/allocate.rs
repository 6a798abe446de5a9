//! A regular file's space: `fallocate`, holes, and copying from one file to another.
//!
//! What is written here goes to a log and then into tables that are merged: room for a certain part of a file
//! can't be set aside. Allocating therefore makes sure that the disk has the room now, and sets the size; what
//! is written there later may still meet a full disk. Punching a hole, or zeroing a range, gives space back.

use crate::fs::FileSystem;
use crate::fs::attr::{Caller, Ino, Timestamp, without_setid};
use crate::fs::change::Change;
use crate::fs::chunk::{Chunks, Pages, mapped_pages};
use crate::fs::control;
use crate::fs::entry::{CHUNK_SIZE, INLINE_MAX, MAX_FILE_SIZE, PAGE_SIZE, Record};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::{Node, Outcome, check_file};
use crate::lsm::{Scan, Tally};
use std::ops::{Bound, Range};

/// The most that one request copies: a bound on its memory and on the time that others wait.
const COPY_MAX: usize = 4 << 20;

/// Pages of a chunk.
const CHUNK_PAGES: u64 = CHUNK_SIZE / PAGE_SIZE;

/// What happens to a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// It can be written to: see the module's header.
    Reserve,
    /// It becomes a hole: it reads as zeros and takes no space, but for parts of pages at its ends.
    PunchHole,
    /// It reads as zeros. As a hole, which may also extend the file.
    Zero,
}

/// What to look for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next page that is stored.
    Data,
    /// The next hole; there is one at the file's end.
    Hole,
}

impl FileSystem {
    /// Reserves, punches or zeroes `len` bytes from `offset` on. With `keep_size` the file's size stays.
    pub fn allocate(
        &self,
        ino: Ino,
        offset: u64,
        len: u64,
        what: Allocate,
        keep_size: bool,
        caller: Caller,
    ) -> Result<()> {
        self.try_allocate(ino, offset, len, what, keep_size, caller)
            .context("fallocate", || Subject::Inode(ino))
    }

    fn try_allocate(
        &self,
        ino: Ino,
        offset: u64,
        len: u64,
        what: Allocate,
        keep_size: bool,
        caller: Caller,
    ) -> Outcome<()> {
        self.admit(0)?;
        let end = offset.checked_add(len).filter(|end| *end <= MAX_FILE_SIZE).ok_or(Cause::FileTooLarge)?;
        if len == 0 {
            return Err(Cause::Invalid("a range without a length"));
        }
        if what == Allocate::PunchHole && !keep_size {
            return Err(Cause::NotSupported);
        }
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load_to_change(ino)?;
        check_file(&node.record)?;
        if what == Allocate::Reserve {
            self.check_room(end.saturating_sub(offset.max(node.record.size)))?;
        }
        let size = if keep_size { node.record.size } else { node.record.size.max(end) };
        let cleared = if what == Allocate::Reserve { end..end } else { offset..end.min(size) };
        let mut change = Change::new(self);
        if what == Allocate::PunchHole {
            change.batch.frees_room();
        }
        if node.record.pages == 0 {
            self.clear_inline(&mut node, cleared)?;
            node.record.size = size;
        } else {
            let mut chunks = Chunks::open(self, &mut change, &mut node, size)?;
            if cleared.start < cleared.end {
                chunks.clear(cleared.start, cleared.end)?;
            }
            chunks.close(&mut node)?;
        }
        node.modified(Timestamp::now());
        self.drop_capabilities(&mut change, &mut node)?;
        if !caller.keeps_setid() {
            node.record.mode = without_setid(node.record.mode);
        }
        change.save(&mut node);
        change.commit()
    }

    /// Makes a range of inline contents zeros.
    fn clear_inline(&self, node: &mut Node, range: Range<u64>) -> Outcome<()> {
        let len = usize::from(node.record.inline_len);
        let at = |end: u64| usize::try_from(end).unwrap_or(usize::MAX).min(len);
        let (start, end) = (at(range.start), at(range.end));
        match start < end {
            true => self.lay_inline(node, start, &[0; INLINE_MAX][..end - start], len),
            false => Ok(()),
        }
    }

    /// Have the disk and the volume's quota room for `len` more bytes?
    fn check_room(&self, len: u64) -> Outcome<()> {
        self.volume.admits(Tally { files: 0, bytes: i64::try_from(len).unwrap_or(i64::MAX) })?;
        if len > self.store.space()?.available { Err(Cause::DiskFull) } else { Ok(()) }
    }

    /// The first place from `offset` on that is data, or a hole.
    pub fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        self.try_seek(ino, offset, what).context("lseek", || Subject::Inode(ino))
    }

    fn try_seek(&self, ino: Ino, offset: u64, what: Seek) -> Outcome<u64> {
        let _inode = self.locks.inodes.shared(ino);
        let record = self.load_record(ino)?;
        check_file(&record)?;
        if offset >= record.size {
            return Err(Cause::PastEnd);
        }
        let found = if record.is_full() || control::is_control(ino) {
            Some(if what == Seek::Data { offset } else { record.size })
        } else if record.pages == 0 {
            seek_inline(&record, offset, what)
        } else if what == Seek::Data {
            self.seek_data(&record, offset)?
        } else {
            Some(self.seek_hole(&record, offset)?)
        };
        Ok(found.ok_or(Cause::PastEnd)?.clamp(offset, record.size))
    }

    /// The first page from `offset` on that is stored in a chunk.
    fn seek_data(&self, record: &Record, offset: u64) -> Outcome<Option<u64>> {
        let mut chunks = StoredChunks::from(self, record, offset)?;
        while let Some((number, stored)) = chunks.next()? {
            let start = u64::from(number) * CHUNK_SIZE;
            let from = offset.saturating_sub(start) / PAGE_SIZE;
            if let Some(page) = (from..CHUNK_PAGES).find(|page| stored.has(*page as usize)) {
                return Ok(Some(start + page * PAGE_SIZE));
            }
        }
        Ok(None)
    }

    /// The first page from `offset` on that is not stored.
    fn seek_hole(&self, record: &Record, offset: u64) -> Outcome<u64> {
        let mut chunks = StoredChunks::from(self, record, offset)?;
        let mut at = offset - offset % PAGE_SIZE;
        while let Some((number, stored)) = chunks.next()? {
            let start = u64::from(number) * CHUNK_SIZE;
            if start > at {
                break;
            }
            let from = (at - start) / PAGE_SIZE;
            if let Some(page) = (from..CHUNK_PAGES).find(|page| !stored.has(*page as usize)) {
                return Ok(start + page * PAGE_SIZE);
            }
            at = start + CHUNK_SIZE;
        }
        Ok(at)
    }

    /// Copies up to `len` bytes from one file into another, or within one, and returns how many: fewer at
    /// the end of the first file, and where there are more than one request copies.
    pub fn copy_range(&self, from: (Ino, u64), to: (Ino, u64), len: u64, caller: Caller) -> Result<usize> {
        let len = usize::try_from(len).unwrap_or(COPY_MAX).min(COPY_MAX);
        let apart = from.0 != to.0 || from.1.abs_diff(to.1) >= len as u64;
        if !apart {
            return Err(Cause::Invalid("the ranges overlap").of("copy", Subject::Inode(to.0)));
        }
        let data = self.read(from.0, from.1, len)?;
        match caller.keeps_setid() {
            true => self.write(to.0, to.1, &data),
            false => self.write_clearing_setid(to.0, to.1, &data),
        }
    }
}

/// Inline contents are data, what follows their page is a hole.
fn seek_inline(record: &Record, offset: u64, what: Seek) -> Option<u64> {
    let data = u64::from(record.inline_len).next_multiple_of(PAGE_SIZE);
    match what {
        Seek::Data if offset < data => Some(offset),
        Seek::Data => None,
        Seek::Hole => Some(data),
    }
}

/// The chunks of a file that are stored, in order, with their pages.
struct StoredChunks<'a> {
    record: &'a Record,
    scan: Scan,
    /// A chunk whose page map may follow.
    ahead: Option<u32>,
}

impl<'a> StoredChunks<'a> {
    /// From the chunk on that `offset`, which is below the file's size, lies in.
    fn from(fs: &FileSystem, record: &'a Record, offset: u64) -> Outcome<StoredChunks<'a>> {
        let first = (offset / CHUNK_SIZE) as u32;
        let (from, to) = (keys::chunk(record.ino, first), keys::chunks(record.ino).1);
        let scan = fs.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        Ok(StoredChunks { record, scan, ahead: None })
    }

    fn next(&mut self) -> Outcome<Option<(u32, Pages)>> {
        let size = self.record.size;
        let all = |number| Pages::of_chunk(size, number);
        while self.scan.next()? {
            let (key, head) = (self.scan.key(), self.scan.head());
            if let Some(number) = keys::chunk_number(key) {
                if let Some(before) = self.ahead.replace(number) {
                    return Ok(Some((before, all(before))));
                }
            } else if let Some(number) = self.ahead.take() {
                return Ok(Some((number, mapped_pages(key, head, all(number))?)));
            }
        }
        Ok(self.ahead.take().map(|number| (number, all(number))))
    }
}
