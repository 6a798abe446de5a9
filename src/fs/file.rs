//! A regular file's contents: reading and writing.
//!
//! Contents start out inline in the entry. The first write that ends past [`INLINE_MAX`] moves them into
//! chunks (see chunk.rs), where they stay until nothing of them is left.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp, without_setid};
use crate::fs::change::Change;
use crate::fs::chunk::{Chunks, fill, pieces, zero_extended};
use crate::fs::control;
use crate::fs::entry::{CHUNK_SIZE, INLINE_MAX, MAX_FILE_SIZE};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::node::{Outcome, check_file};
use crate::fs::room::Room;
use bytes::Bytes;

impl FileSystem {
    /// Bytes of a regular file: `len` of them, fewer only at its end.
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Result<Bytes> {
        let read = self.try_read(ino, offset, len).context("read", || Subject::Inode(ino))?;
        self.note_access(ino);
        Ok(read)
    }

    fn try_read(&self, ino: Ino, offset: u64, len: usize) -> Outcome<Bytes> {
        let _inode = self.locks.inodes.shared(ino);
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
        if node.record.pages == 0 {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            return Ok(zero_extended(&self.inline(&node)?, start..start.saturating_add(len)));
        }
        if let Some(piece) = pieces(offset, len).next().filter(|piece| piece.of_range.len() == len) {
            let chunk = self.chunk(ino, piece.chunk)?.unwrap_or_default();
            return Ok(zero_extended(&chunk, piece.within));
        }
        let mut room = Room::take(len);
        for piece in pieces(offset, len) {
            let out = &mut room[piece.of_range];
            if out.len() as u64 == CHUNK_SIZE {
                self.read_whole_chunk(ino, piece.chunk, out)?;
            } else {
                let chunk = self.chunk(ino, piece.chunk)?.unwrap_or_default();
                fill(out, &chunk, &piece.within);
            }
        }
        Ok(Bytes::from_owner(room))
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
        self.admit(data.len())?;
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load_to_change(ino)?;
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
        let mut change = Change::with_room(self, data.len());
        let size = node.record.size.max(end);
        if node.record.pages == 0 && end <= INLINE_MAX as u64 {
            let len = usize::from(node.record.inline_len).max(end as usize);
            self.lay_inline(&mut node, offset as usize, data, len)?;
            node.record.size = size;
        } else {
            let mut chunks = Chunks::open(self, &mut change, &mut node, size)?;
            chunks.write(offset, data)?;
            chunks.close(&mut node)?;
        }
        node.modified(Timestamp::now());
        self.drop_capabilities(&mut change, &mut node)?;
        if clear_setid {
            node.record.mode = without_setid(node.record.mode);
        }
        change.save(&mut node);
        change.commit()?;
        Ok(data.len())
    }
}
