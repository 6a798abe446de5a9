//! A regular file's size.
//!
//! Growing sets the size and nothing else: what is not stored reads as zeros. Shrinking removes what is
//! stored past the new size, at a cost of what exists there, not of the range: a sparse file of hundreds
//! of gigabytes is cut at once. One change removes [`WINDOW`] chunks; a file with more to remove is cut
//! from its end in several changes, each of which leaves a whole file of an intermediate size.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp};
use crate::fs::change::Change;
use crate::fs::entry::{CHUNK_SIZE, MAX_FILE_SIZE};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Node, Outcome};
use crate::lsm::{Scan, Volume};
use std::ops::Bound;

/// Chunks removed in one batch: 256 MiB of a file without holes.
pub(super) const WINDOW: usize = 4096;

impl FileSystem {
    /// Adds a change of a file's size to a change. What a large cut does before its last step is applied
    /// at once.
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

        let windows = self.windows(ino, first)?;
        for &start in windows.iter().skip(1).rev() {
            let mut step = Change::new(self);
            let removed = remove_chunks(&mut step, &mut scan_chunks(&self.volume, ino, start)?)?;
            node.record.chunks -= removed.min(node.record.chunks);
            node.record.size = u64::from(start) * CHUNK_SIZE;
            step.save(node);
            step.commit()?;
        }
        if let Some(&start) = windows.first() {
            let removed = remove_chunks(change, &mut scan_chunks(&self.volume, ino, start)?)?;
            node.record.chunks -= removed.min(node.record.chunks);
        }
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

    /// The chunk that each [`WINDOW`] of the existing chunks from `first` on starts with.
    fn windows(&self, ino: Ino, first: u64) -> Outcome<Vec<u32>> {
        let mut starts = Vec::new();
        let Ok(first) = u32::try_from(first) else { return Ok(starts) };
        let mut scan = scan_chunks(&self.volume, ino, first)?;
        let mut seen = 0;
        while scan.next()? {
            if seen % WINDOW == 0 {
                starts.push(chunk_number(scan.key())?);
            }
            seen += 1;
        }
        Ok(starts)
    }
}

/// A file's chunks from `first` on, by their heads.
pub(super) fn scan_chunks(volume: &Volume, ino: Ino, first: u32) -> Outcome<Scan> {
    let (from, to) = (keys::chunk(ino, first), keys::chunks_end(ino));
    Ok(volume.scan(Bound::Included(&from), Bound::Excluded(&to))?)
}

/// Adds the removal of what a scan finds to a change, and returns how many chunks that were.
fn remove_chunks(change: &mut Change<'_>, scan: &mut Scan) -> Outcome<u64> {
    let mut removed = 0;
    while scan.next()? {
        change.batch.delete(scan.key());
        removed += 1;
    }
    debug_assert!(removed <= WINDOW as u64);
    Ok(removed)
}

fn chunk_number(key: &[u8]) -> Outcome<u32> {
    keys::chunk_number(key).ok_or_else(|| Cause::bad_record(key, "not a chunk's key"))
}
