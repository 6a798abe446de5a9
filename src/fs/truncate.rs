//! A regular file's size.
//!
//! Growing sets the size and nothing else: what is not stored reads as zeros. Shrinking removes what is
//! stored past the new size: a few chunks one by one, more with one range tombstone. The pages that go are
//! counted by the chunks' keys and page maps, so a sparse file of hundreds of gigabytes is cut at the cost
//! of what exists.

use crate::fs::FileSystem;
use crate::fs::attr::Timestamp;
use crate::fs::change::Change;
use crate::fs::chunk::Chunks;
use crate::fs::entry::MAX_FILE_SIZE;
use crate::fs::error::Cause;
use crate::fs::node::{Node, Outcome};

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
        if size < node.record.size {
            change.batch.frees_room();
        }
        node.modified(now);
        if node.record.pages == 0 {
            let len = usize::from(node.record.inline_len);
            if let Some(cut) = usize::try_from(size).ok().filter(|size| *size < len) {
                self.lay_inline(node, cut, b"", cut)?;
            }
            node.record.size = size;
            return Ok(());
        }
        let shrinks = size < node.record.size;
        let mut chunks = Chunks::open(self, change, node, size)?;
        if shrinks {
            chunks.cut()?;
        }
        chunks.close(node)
    }
}
