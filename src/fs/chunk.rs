//! A file's chunks: which of their pages are stored, and changing them.
//!
//! A chunk has 16 pages of 4 KiB. A page is *stored*, and counted, once something other than
//! zeros was written to it; one that was never written, or was written as a whole with zeros, is a hole. A
//! chunk is in one of three states:
//!
//! | stored pages | the chunk's key | its page map |
//! |---|---|---|
//! | none | absent | absent |
//! | some | there | says which |
//! | all, up to the file's end | there | absent |
//!
//! The bytes of a hole in a chunk that is there are zeros, or lie past what the chunk holds. A file all of
//! whose pages are stored has no page maps, which its record tells: writing to it looks for none.
//!
//! A chunk of which little changes is patched, which neither reads nor rewrites it; when many patches lie
//! over it, or most of it changes, it is put.

mod bytes;
mod pages;

pub(super) use self::bytes::{fill, overlay, pieces, zero_extended};
pub(super) use self::pages::{Pages, mapped_pages};

use self::bytes::is_zero;
use self::pages::PAGE;
use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::change::Change;
use crate::fs::entry::{CHUNK_SIZE, PAGE_SIZE, Record, encode_page_map, pages_of};
use crate::fs::error::Cause;
use crate::fs::inline::{Inline, PATCHES_MAX};
use crate::fs::keys;
use crate::fs::node::{Node, Outcome};
use crate::fs::reclaim::FEW;
use ::bytes::Bytes;
use std::ops::{Bound, Range};

/// The largest part of a chunk that is patched.
const PATCH_MAX: usize = CHUNK_SIZE as usize / 2;

/// Zeros for a whole chunk.
static ZEROS: [u8; CHUNK_SIZE as usize] = [0; CHUNK_SIZE as usize];

/// What of a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub pages: Pages,
    /// Does a page map say so?
    mapped: bool,
}

impl Stored {
    const NOTHING: Stored = Stored { pages: Pages::NONE, mapped: false };
}

impl FileSystem {
    /// A stored chunk.
    pub(super) fn chunk(&self, ino: Ino, number: u32) -> Outcome<Option<Bytes>> {
        let key = keys::chunk(ino, number);
        let chunk = self.volume.get(&key)?.map(|value| value.tail);
        check_chunk_len(&key, chunk.as_ref().map_or(0, Bytes::len))?;
        Ok(chunk)
    }

    /// Fills `out`, which is as long as a chunk, with a chunk and zeros behind what is stored of it: the kernel
    /// keeps it, so the store does not.
    pub(super) fn read_whole_chunk(&self, ino: Ino, number: u32, out: &mut [u8]) -> Outcome<()> {
        let key = keys::chunk(ino, number);
        let stored = self.volume.read_tail_once(&key, out)?;
        check_chunk_len(&key, stored)?;
        out[stored..].fill(0);
        Ok(())
    }

    /// What is stored of a chunk of a file.
    pub(super) fn stored(&self, record: &Record, number: u32) -> Outcome<Stored> {
        let all = Pages::of_chunk(record.size, number);
        if record.pages == 0 || all.is_empty() {
            return Ok(Stored::NOTHING);
        }
        let whole = Stored { pages: all, mapped: false };
        if record.is_full() {
            return Ok(whole);
        }
        let map = keys::page_map(record.ino, number);
        if let Some(head) = self.volume.get_head(&map)? {
            return Ok(Stored { pages: mapped_pages(&map, &head, all)?, mapped: true });
        }
        let exists = self.volume.get_head(&keys::chunk(record.ino, number))?.is_some();
        Ok(if exists { whole } else { Stored::NOTHING })
    }

    /// May another patch be laid over a chunk?
    fn may_patch(&self, ino: Ino, number: u32) -> Outcome<bool> {
        Ok(self.volume.patch_depth(&keys::chunk(ino, number))? < PATCHES_MAX)
    }
}

fn check_chunk_len(key: &[u8], len: usize) -> Outcome<()> {
    match len as u64 > CHUNK_SIZE {
        true => Err(Cause::bad_record(key, "chunk too long")),
        false => Ok(()),
    }
}

/// A change of one file's chunks. Between [`Chunks::open`] and [`Chunks::close`] each chunk may be changed
/// once, for what was changed is not read again before the commit.
pub(super) struct Chunks<'c, 'f> {
    fs: &'c FileSystem,
    change: &'c mut Change<'f>,
    /// The file before.
    old: Record,
    /// The file's size after.
    size: u64,
    /// What was inline and goes to the start of chunk 0.
    spilled: Bytes,
    /// Pages that are stored.
    pages: u64,
    /// Was the chunk changed that the file ended in before?
    end_changed: bool,
}

impl<'c, 'f> Chunks<'c, 'f> {
    /// Starts a change of a file, which will have the size `size`. What was inline goes into chunk 0.
    pub fn open(
        fs: &'c FileSystem,
        change: &'c mut Change<'f>,
        node: &mut Node,
        size: u64,
    ) -> Outcome<Chunks<'c, 'f>> {
        let old = node.record.clone();
        let spilled = fs.inline(node)?;
        (node.inline, node.record.inline_len) = (Inline::NONE, 0);
        Ok(Chunks { fs, change, pages: old.pages, old, size, spilled, end_changed: false })
    }

    /// Writes data.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Outcome<()> {
        for piece in pieces(offset, data.len()) {
            self.lay(piece.chunk, piece.within, &data[piece.of_range])?;
        }
        Ok(())
    }

    /// Makes the bytes from `offset` up to `end` zeros; whole pages become holes.
    pub fn clear(&mut self, offset: u64, end: u64) -> Outcome<()> {
        let (first, last) = (offset.div_ceil(CHUNK_SIZE), end / CHUNK_SIZE);
        let zeros = |len: u64| &ZEROS[..len as usize];
        if first > last {
            return self.write(offset, zeros(end - offset));
        }
        self.write(offset, zeros(first * CHUNK_SIZE - offset))?;
        self.remove(first, last)?;
        self.write(last * CHUNK_SIZE, zeros(end - last * CHUNK_SIZE))
    }

    /// Removes what lies past the new size, which is below the old one.
    pub fn cut(&mut self) -> Outcome<()> {
        debug_assert!(self.size < self.old.size && self.spilled.is_empty());
        self.remove(self.size.div_ceil(CHUNK_SIZE), self.old.size.div_ceil(CHUNK_SIZE))?;
        let (number, kept) = ((self.size / CHUNK_SIZE) as u32, (self.size % CHUNK_SIZE) as usize);
        if kept == 0 {
            return Ok(());
        }
        let before = self.fs.stored(&self.old, number)?;
        let after = before.pages.both(Pages::of_chunk(self.size, number));
        if !after.is_empty() {
            let key = keys::chunk(self.old.ino, number);
            if self.fs.may_patch(self.old.ino, number)? {
                self.change.batch.patch(&key, kept as u32, &[]);
            } else {
                let old = self.fs.chunk(self.old.ino, number)?.unwrap_or_default();
                self.change.batch.put_split(&key, b"", &old[..kept.min(old.len())]);
            }
        }
        self.note(number, before, after);
        Ok(())
    }

    /// Ends the change: the file's record says what is stored now.
    pub fn close(mut self, node: &mut Node) -> Outcome<()> {
        if !self.spilled.is_empty() {
            self.lay(0, 0..0, b"")?;
        }
        let end = (self.old.size.saturating_sub(1) / CHUNK_SIZE) as u32;
        let grows = Pages::of_chunk(self.old.size, end) != Pages::of_chunk(self.size, end);
        if grows && self.size > self.old.size && !self.end_changed {
            // A chunk that was stored up to the file's end has a hole there now.
            self.lay(end, 0..0, b"")?;
        }
        node.record.pages = self.pages;
        node.record.size = self.size;
        Ok(())
    }

    /// Lays data over a chunk.
    fn lay(&mut self, number: u32, within: Range<usize>, data: &[u8]) -> Outcome<()> {
        if number == 0 && !self.spilled.is_empty() {
            let whole = overlay(&std::mem::take(&mut self.spilled), within.start, data);
            return self.lay(0, 0..whole.len(), &whole);
        }
        self.end_changed |= u64::from(number) == self.old.size.saturating_sub(1) / CHUNK_SIZE;
        let before = self.fs.stored(&self.old, number)?;
        let (after, changes) = self.pages_after(number, before.pages, &within, data);
        if changes && !after.is_empty() {
            self.store(number, before.pages, after, within, data)?;
        }
        self.note(number, before, after);
        Ok(())
    }

    /// The pages that are stored when data was laid over a chunk, and whether it changes any of them.
    fn pages_after(&self, number: u32, before: Pages, within: &Range<usize>, data: &[u8]) -> (Pages, bool) {
        let len = self.chunk_len(number);
        let (mut after, mut changes) = (before, false);
        let mut at = within.start;
        while at < within.end {
            let page = at / PAGE;
            let end = ((page + 1) * PAGE).min(within.end);
            let zeros = is_zero(&data[at - within.start..end - within.start]);
            let whole = at == page * PAGE && end == ((page + 1) * PAGE).min(len);
            changes |= !zeros || before.has(page);
            match zeros {
                false => after.add(page),
                true if whole => after.remove(page),
                true => {}
            }
            at = end;
        }
        (after, changes)
    }

    /// Writes data into a chunk of which the pages `before` are stored, and then `after`.
    fn store(
        &mut self,
        number: u32,
        before: Pages,
        after: Pages,
        within: Range<usize>,
        data: &[u8],
    ) -> Outcome<()> {
        let (ino, len) = (self.old.ino, self.chunk_len(number));
        let key = keys::chunk(ino, number);
        let batch = &mut self.change.batch;
        if before.is_empty() {
            // Holes at the end need not be written.
            let data = &data[..data.len().min(after.end() - within.start)];
            match within.start {
                0 => batch.first_put(&key, b"", data),
                at => batch.patch(&key, (at + data.len()) as u32, &[(at as u32, data)]),
            }
        } else if data.len() == len {
            batch.put_split(&key, b"", data);
        } else if data.len() <= PATCH_MAX && self.fs.may_patch(ino, number)? {
            batch.patch(&key, len as u32, &[(within.start as u32, data)]);
        } else {
            let old = self.fs.chunk(ino, number)?.unwrap_or_default();
            batch.put_split(&key, b"", &overlay(&old, within.start, data));
        }
        Ok(())
    }

    /// Notes which pages of a chunk are stored now: its page map, or that it is gone.
    fn note(&mut self, number: u32, before: Stored, after: Pages) {
        let (chunk, map) = (keys::chunk(self.old.ino, number), keys::page_map(self.old.ino, number));
        let batch = &mut self.change.batch;
        if after.is_empty() && !before.pages.is_empty() {
            batch.delete(&chunk);
            batch.note_deleted(before.pages.count() * PAGE_SIZE);
        }
        let wanted = !after.is_empty() && after != Pages::of_chunk(self.size, number);
        match wanted {
            true if before.mapped && before.pages == after => {}
            true => batch.put(&map, &encode_page_map(after.bits())),
            false if before.mapped => batch.delete(&map),
            false => {}
        }
        self.pages = (self.pages + after.count()).saturating_sub(before.pages.count());
    }

    /// Removes the chunks from number `from` up to `to`.
    fn remove(&mut self, from: u64, to: u64) -> Outcome<()> {
        let Ok(first) = u32::try_from(from) else { return Ok(()) };
        let to = to.min(self.old.size.div_ceil(CHUNK_SIZE));
        if from >= to || self.old.pages == 0 {
            return Ok(());
        }
        let ino = self.old.ino;
        let lower = keys::chunk(ino, first);
        let upper =
            u32::try_from(to).map_or(keys::chunks(ino).1.to_vec(), |to| keys::chunk(ino, to).to_vec());
        let mut scan = self.fs.volume.scan(Bound::Included(&lower), Bound::Excluded(&upper))?;
        let mut count = match self.old.is_full() {
            true => {
                Count::Known(pages_of((to * CHUNK_SIZE).min(self.old.size)) - pages_of(from * CHUNK_SIZE))
            }
            false if from == 0 && to * CHUNK_SIZE >= self.old.size => Count::Known(self.old.pages),
            false => Count::Counting(0),
        };
        let mut few = Vec::new();
        let mut many = false;
        while scan.next()? {
            match few.len() < FEW {
                true => few.push(scan.key().to_vec()),
                false => many = true,
            }
            match &mut count {
                Count::Known(_) if many => break,
                Count::Known(_) => {}
                Count::Counting(pages) => *pages = self.counted(*pages, scan.key(), scan.head())?,
            }
        }
        match many {
            true => self.change.batch.delete_range(&lower, &upper),
            false => few.iter().for_each(|key| self.change.batch.delete(key)),
        }
        let (Count::Known(pages) | Count::Counting(pages)) = count;
        self.change.batch.note_deleted(pages * PAGE_SIZE);
        self.pages = self.pages.saturating_sub(pages);
        self.end_changed |= to * CHUNK_SIZE >= self.old.size;
        Ok(())
    }

    /// A count of stored pages, with what the next key says. A page map follows its chunk.
    fn counted(&self, pages: u64, key: &[u8], head: &[u8]) -> Outcome<u64> {
        if let Some(number) = keys::chunk_number(key) {
            return Ok(pages + Pages::of_chunk(self.old.size, number).count());
        }
        let number = keys::page_map_number(key).ok_or_else(|| Cause::bad_record(key, "not a chunk's key"))?;
        let all = Pages::of_chunk(self.old.size, number);
        Ok((pages + mapped_pages(key, head, all)?.count()).saturating_sub(all.count()))
    }

    /// The length of a chunk: no stored byte stands past the file's size.
    fn chunk_len(&self, number: u32) -> usize {
        self.size.saturating_sub(u64::from(number) * CHUNK_SIZE).min(CHUNK_SIZE) as usize
    }
}

/// Pages of chunks that are removed.
enum Count {
    /// Without a look at them.
    Known(u64),
    /// So far.
    Counting(u64),
}
