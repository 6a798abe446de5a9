//! What an import leaves that did not come to its end.

use crate::fs::FileSystem;
use crate::fs::attr::{INO_LIMIT, Ino};
use crate::fs::entry::decode_counter;
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::lsm::{Batch, Tally};
use std::ops::{Bound, Range};

/// The ranges of keys of a block's inodes. The first of each is included, the second is not.
pub(super) fn ranges(block: &Range<Ino>) -> impl Iterator<Item = (keys::Prefix, keys::Prefix)> {
    keys::OF_INODES
        .map(|first| (keys::prefix(first, block.start), keys::prefix(first, block.end)))
        .into_iter()
}

/// Adds to a batch that a block is no import's any more.
pub(super) fn forget_block(batch: &mut Batch, block: &Range<Ino>) {
    batch.delete(&keys::import(block.start));
}

impl FileSystem {
    /// Removes what imports left that ended before they appeared. Before anything is written.
    pub(in crate::fs) fn remove_interrupted_imports(&self) -> Outcome<()> {
        let (from, to) = keys::imports();
        let mut scan = self.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        let mut blocks = Vec::new();
        while scan.next()? {
            blocks.push(block(scan.key(), scan.head())?);
        }
        match blocks.is_empty() {
            true => Ok(()),
            false => self.remove_import(&blocks),
        }
    }

    /// Removes all that has these inode numbers.
    pub(super) fn remove_import(&self, blocks: &[Range<Ino>]) -> Outcome<()> {
        let mut batch = Batch::new();
        batch.frees_room();
        for block in blocks {
            for (from, to) in ranges(block) {
                let mut scan = self.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
                if scan.next()? {
                    batch.delete_range(&from, &to);
                }
            }
            forget_block(&mut batch, block);
        }
        Ok(self.volume.write(batch).map(drop)?)
    }

    /// Gives back what members held that later ones of the same path replaced. What it counts the volume's tally does
    /// not have yet: it is returned.
    pub(super) fn reclaim_replaced(&self, blocks: &[Range<Ino>]) -> Tally {
        let mut uncounted = Tally::default();
        for block in blocks {
            let (from, to) = (keys::orphan(block.start), keys::orphan(block.end));
            if let Err(e) = self.reclaim_orphans(&from, &to, Some(&mut uncounted)) {
                tracing::error!("what an import replaced is not given back before the next mount: {e}");
            }
        }
        uncounted
    }
}

/// The block of a record.
pub(in crate::fs) fn block(key: &[u8], head: &[u8]) -> Outcome<Range<Ino>> {
    let bad = |what| Cause::bad_record(key, what);
    let start = keys::import_ino(key).ok_or_else(|| bad("not an import's key"))?;
    let end = decode_counter(head).map_err(bad)?;
    match start < end && end <= INO_LIMIT {
        true => Ok(start..end),
        false => Err(bad("inode number out of range")),
    }
}
