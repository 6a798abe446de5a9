//! A regular file's size.
//!
//! Growing sets the size and nothing else: what is not stored reads as zeros. Shrinking removes what is
//! stored past the new size: a few chunks one by one, more with one range tombstone. The chunks that go are
//! counted by their heads, so a sparse file of hundreds of gigabytes is cut at the cost of what exists.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp};
use crate::fs::change::Change;
use crate::fs::entry::{CHUNK_SIZE, MAX_FILE_SIZE};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Node, Outcome};
use crate::fs::reclaim::{first_keys, scan_has_more};
use std::ops::Bound;

impl FileSystem {
    /// Adds a change of a file's size to a change.
    pub(super) fn resize(
        &self,
        change: &mut Change<'_>,
        node: &mut Node,
        size: u64,
        now: Timestamp,
    ) -> Outcome<()> {
        if size > MAX_FILE_SIZE {
            return Err(Cause::FileTooLarge);
        }
        node.modified(now);
        self.drop_capabilities(change, node)?;
        if size < node.record.size {
            if node.record.chunks == 0 {
                let len = node.inline.len().min(usize::try_from(size).unwrap_or(usize::MAX));
                node.set_inline(node.inline.slice(..len));
            } else {
                self.cut_chunks(change, node, size)?;
            }
        }
        node.record.size = size;
        Ok(())
    }

    /// Removes what chunks hold from `size` on.
    fn cut_chunks(&self, change: &mut Change<'_>, node: &mut Node, size: u64) -> Outcome<()> {
        let ino = node.ino();
        let first = size.div_ceil(CHUNK_SIZE);
        // The chunk that the new end lies in, if it lies within one.
        let kept = (size % CHUNK_SIZE) as usize;
        let cut = (size / CHUNK_SIZE) as u32;
        let cut_exists = kept > 0 && self.chunk_exists(&node.record, cut)?;

        let removed = self.remove_chunks(change, ino, first)?;
        node.record.chunks -= removed.min(node.record.chunks);
        if cut_exists {
            self.cut_chunk(change, ino, cut, kept)?;
        }
        Ok(())
    }

    /// Cuts a chunk to `len` bytes.
    fn cut_chunk(&self, change: &mut Change<'_>, ino: Ino, number: u32, len: usize) -> Outcome<()> {
        let key = keys::chunk(ino, number);
        if self.may_patch(ino, number)? {
            change.batch.patch(&key, len as u32, &[]);
        } else {
            let old = self.chunk(ino, number)?.unwrap_or_default();
            change.batch.put_split(&key, b"", &old[..len.min(old.len())]);
        }
        Ok(())
    }

    /// Adds the removal of a file's chunks from `first` on, and returns how many those are.
    fn remove_chunks(&self, change: &mut Change<'_>, ino: Ino, first: u64) -> Outcome<u64> {
        let Ok(first) = u32::try_from(first) else { return Ok(0) };
        let (from, to) = (keys::chunk(ino, first), keys::chunks(ino).1);
        let mut scan = self.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        let few = first_keys(&mut scan)?;
        let mut removed = few.len() as u64;
        if !scan_has_more(&mut scan, &few)? {
            few.iter().for_each(|key| change.batch.delete(key));
            change.batch.note_deleted(removed * CHUNK_SIZE);
            return Ok(removed);
        }
        change.batch.delete_range(&from, &to);
        removed += 1;
        while scan.next()? {
            removed += 1;
        }
        change.batch.note_deleted(removed * CHUNK_SIZE);
        Ok(removed)
    }
}
