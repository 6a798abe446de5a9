//! A regular file's contents: reading and writing.
//!
//! Contents start out inline in the entry. The first write that ends past [`INLINE_MAX`] moves them into
//! chunks, where they stay until the file is cut to nothing. A chunk of which little changes is patched,
//! which neither reads nor rewrites it; when many patches lie over it, or most of it changes, it is put.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp, without_setid};
use crate::fs::change::Change;
use crate::fs::control;
use crate::fs::entry::{CHUNK_SIZE, INLINE_MAX, MAX_FILE_SIZE, Record};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::{Home, Node, Outcome, check_file};
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Patches over one chunk before it is put again.
const PATCHES_MAX: usize = 16;

/// The largest part of a chunk that is patched.
const PATCH_MAX: usize = CHUNK_SIZE as usize / 2;

/// A part of a range of a file that lies in one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    chunk: u32,
    /// Where it lies in the chunk.
    within: Range<usize>,
    /// Where it lies in the range.
    of_range: Range<usize>,
}

/// Cuts a range of a file, which ends at [`MAX_FILE_SIZE`] at most, at the chunks' bounds.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    debug_assert!(offset + len as u64 <= MAX_FILE_SIZE);
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % CHUNK_SIZE) as usize;
        let take = (len - done).min(CHUNK_SIZE as usize - start);
        let of_range = done..done + take;
        done += take;
        Some(Piece { chunk: (at / CHUNK_SIZE) as u32, within: start..start + take, of_range })
    })
}

impl FileSystem {
    /// Bytes of a regular file: `len` of them, fewer only at its end.
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Result<Bytes> {
        let _inode = self.locks.inodes.shared(ino);
        self.try_read(ino, offset, len).context("read", || Subject::Inode(ino))
    }

    fn try_read(&self, ino: Ino, offset: u64, len: usize) -> Outcome<Bytes> {
        if control::is_control(ino) {
            return self.control.read(ino, offset, len);
        }
        let node = self.load(ino)?;
        check_file(&node.record)?;
        let left = node.record.size.saturating_sub(offset);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(Bytes::new());
        }
        if node.record.chunks == 0 {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            return Ok(zero_extended(&node.inline, start..start.saturating_add(len)));
        }
        if let Some(piece) = pieces(offset, len).next().filter(|piece| piece.of_range.len() == len) {
            let chunk = self.chunk(ino, piece.chunk)?.unwrap_or_default();
            return Ok(zero_extended(&chunk, piece.within));
        }
        let mut out = BytesMut::with_capacity(len);
        for piece in pieces(offset, len) {
            let chunk = self.chunk(ino, piece.chunk)?.unwrap_or_default();
            out.extend_from_slice(present(&chunk, &piece.within));
            out.resize(piece.of_range.end, 0);
        }
        Ok(out.freeze())
    }

    /// Writes to a regular file, extending it where needed, and returns how much was written: all of
    /// it, or less where the file would become larger than files can be.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.try_write(ino, offset, data, false).context("write", || Subject::Inode(ino))
    }

    /// As [`FileSystem::write`], by somebody who may not keep setuid and setgid bits on what he writes
    /// to: they are cleared.
    pub fn write_clearing_setid(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.try_write(ino, offset, data, true).context("write", || Subject::Inode(ino))
    }

    fn try_write(&self, ino: Ino, offset: u64, data: &[u8], clear_setid: bool) -> Outcome<usize> {
        self.check_writable()?;
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load(ino)?;
        check_file(&node.record)?;
        if data.is_empty() {
            return Ok(0);
        }
        let room = MAX_FILE_SIZE.saturating_sub(offset);
        let data = &data[..data.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if data.is_empty() {
            return Err(Cause::FileTooLarge);
        }
        let end = offset + data.len() as u64;
        let mut change = Change::new(self);
        if node.record.chunks == 0 && end <= INLINE_MAX as u64 {
            node.set_inline(overlay(&node.inline, offset as usize, data));
            node.record.size = node.record.size.max(end);
        } else {
            self.write_chunks(&mut change, &mut node, offset, data)?;
        }
        node.modified(Timestamp::now());
        self.drop_capabilities(&mut change, &mut node)?;
        if clear_setid {
            node.record.mode = without_setid(node.record.mode);
        }
        change.save(&node);
        change.commit()?;
        Ok(data.len())
    }

    /// Adds a write into chunks to a change.
    fn write_chunks(
        &self,
        change: &mut Change<'_>,
        node: &mut Node,
        offset: u64,
        data: &[u8],
    ) -> Outcome<()> {
        let size = node.record.size.max(offset + data.len() as u64);
        let mut writer = ChunkWriter {
            fs: self,
            old: node.record.clone(),
            size,
            spilled: std::mem::take(&mut node.inline),
            chunks: node.record.chunks,
        };
        node.record.inline_len = 0;
        if !node.record.has_more() && node.home == Home::Orphan {
            change.put_orphan(node.ino());
        }
        if !writer.spilled.is_empty() && offset >= CHUNK_SIZE {
            writer.put(change, 0, &writer.spilled.clone());
        }
        for piece in pieces(offset, data.len()) {
            writer.write(change, piece.chunk, piece.within, &data[piece.of_range])?;
        }
        node.record.chunks = writer.chunks;
        node.record.size = size;
        Ok(())
    }

    /// A stored chunk.
    pub(super) fn chunk(&self, ino: Ino, number: u32) -> Outcome<Option<Bytes>> {
        let key = keys::chunk(ino, number);
        match self.volume.get(&key)? {
            Some(value) if value.tail.len() as u64 > CHUNK_SIZE => {
                Err(Cause::bad_record(&key, "chunk too long"))
            }
            value => Ok(value.map(|value| value.tail)),
        }
    }

    /// May another patch be laid over a chunk?
    pub(super) fn may_patch(&self, ino: Ino, number: u32) -> Outcome<bool> {
        Ok(self.volume.patch_depth(&keys::chunk(ino, number))? < PATCHES_MAX)
    }

    /// Does a chunk exist, that may?
    pub(super) fn chunk_exists(&self, record: &Record, number: u32) -> Outcome<bool> {
        if record.is_dense() {
            return Ok(u64::from(number) < record.chunks);
        }
        Ok(self.volume.get_head(&keys::chunk(record.ino, number))?.is_some())
    }
}

/// A write into a file's chunks.
struct ChunkWriter<'a> {
    fs: &'a FileSystem,
    /// The file before.
    old: Record,
    /// The file's size after.
    size: u64,
    /// What was inline and goes to the start of chunk 0.
    spilled: Bytes,
    /// Chunks that exist.
    chunks: u64,
}

impl ChunkWriter<'_> {
    /// Writes `data` into a chunk.
    fn write(
        &mut self,
        change: &mut Change<'_>,
        number: u32,
        within: Range<usize>,
        data: &[u8],
    ) -> Outcome<()> {
        let ino = self.old.ino;
        let start = u64::from(number) * CHUNK_SIZE;
        // The chunk ends here: no stored byte stands past the file's size.
        let len = (self.size - start).min(CHUNK_SIZE) as usize;
        if number == 0 && !self.spilled.is_empty() {
            let whole = overlay(&self.spilled, within.start, data);
            self.put(change, 0, &whole);
            return Ok(());
        }
        let exists =
            start < self.old.size && self.old.chunks > 0 && self.fs.chunk_exists(&self.old, number)?;
        if !exists {
            match within.start {
                0 => self.put(change, number, data),
                at => {
                    self.chunks += 1;
                    change.batch.patch(&keys::chunk(ino, number), len as u32, &[(at as u32, data)]);
                }
            }
        } else if data.len() == len {
            change.batch.put_split(&keys::chunk(ino, number), b"", data);
        } else if data.len() <= PATCH_MAX && self.fs.may_patch(ino, number)? {
            change.batch.patch(&keys::chunk(ino, number), len as u32, &[(within.start as u32, data)]);
        } else {
            let old = self.fs.chunk(ino, number)?.unwrap_or_default();
            let whole = overlay(&old, within.start, data);
            change.batch.put_split(&keys::chunk(ino, number), b"", &whole);
        }
        Ok(())
    }

    /// Adds a chunk that does not exist.
    fn put(&mut self, change: &mut Change<'_>, number: u32, contents: &[u8]) {
        self.chunks += 1;
        change.batch.first_put(&keys::chunk(self.old.ino, number), b"", contents);
    }
}

/// What exists of a range of stored bytes.
fn present<'a>(stored: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    let end = range.end.min(stored.len());
    &stored[range.start.min(end)..end]
}

/// A range of stored bytes; zeros follow them.
fn zero_extended(stored: &Bytes, range: Range<usize>) -> Bytes {
    if range.end <= stored.len() {
        return stored.slice(range);
    }
    let mut out = BytesMut::with_capacity(range.len());
    out.extend_from_slice(present(stored, &range));
    out.resize(range.len(), 0);
    out.freeze()
}

/// Stored bytes with `data` laid over them; a gap between is filled with zeros.
fn overlay(stored: &[u8], at: usize, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(stored.len().max(at + data.len()));
    out.extend_from_slice(stored);
    if out.len() < at + data.len() {
        out.resize(at + data.len(), 0);
    }
    out[at..at + data.len()].copy_from_slice(data);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_chunk_bounds() {
        let cut: Vec<_> = pieces(CHUNK_SIZE - 1, CHUNK_SIZE as usize + 2).collect();
        let size = CHUNK_SIZE as usize;
        assert_eq!(
            cut,
            [
                Piece { chunk: 0, within: size - 1..size, of_range: 0..1 },
                Piece { chunk: 1, within: 0..size, of_range: 1..size + 1 },
                Piece { chunk: 2, within: 0..1, of_range: size + 1..size + 2 },
            ]
        );
        assert_eq!(pieces(5, 0).count(), 0);
        let last = pieces(MAX_FILE_SIZE - 1, 1).next().unwrap();
        assert_eq!((last.chunk, last.within), (u32::MAX, size - 1..size));
    }

    #[test]
    fn what_is_not_stored_reads_as_zeros() {
        let stored = Bytes::from_static(b"abc");
        assert_eq!(zero_extended(&stored, 1..3), b"bc"[..]);
        assert_eq!(zero_extended(&stored, 2..5), b"c\0\0"[..]);
        assert_eq!(zero_extended(&stored, 7..9), b"\0\0"[..]);
    }

    #[test]
    fn data_is_laid_over_what_is_stored() {
        assert_eq!(overlay(b"abc", 1, b"X"), b"aXc"[..]);
        assert_eq!(overlay(b"abc", 2, b"XY"), b"abXY"[..]);
        assert_eq!(overlay(b"abc", 5, b"X"), b"abc\0\0X"[..]);
    }
}
