//! What counts in a volume's tally ([`crate::lsm::tally`]), and so in its quota.
//!
//! - **Files** are inodes: regular files, directories (the root too), symbolic links, devices and so on. A file
//!   with several names is one.
//! - **Bytes** are what `du` counts, 512 times `st_blocks`: the pages of 4 KiB that are stored, before they are
//!   compressed, or small contents rounded up to 512. Holes count nothing. Added are the names and values of
//!   extended attributes, which `du` does not see.
//! - What is imported counts from the moment at which it appears.
//! - An unlinked file that is open counts until it is given back. (One of which the store holds nothing more counts
//!   no longer: small contents live in memory.)
//!
//! Each record counts by itself ([`of_record`]), so that a tally can be counted again by reading all of them; and
//! each change of a file counts the difference between the file it found and the file that it leaves
//! ([`Node::counted`]).

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::change::Change;
use crate::fs::entry::{Entry, Record, STAT_BLOCK, decode_orphan};
use crate::fs::error::{Context, Result, Subject};
use crate::fs::import::block as import_block;
use crate::fs::keys;
use crate::fs::node::{Home, Node, Outcome};
use crate::lsm::{Tally, Volume};
use std::ops::Bound;

impl Record {
    /// What the file counts, its attributes aside.
    pub(super) fn tally(&self) -> Tally {
        file(self.blocks() * STAT_BLOCK)
    }
}

/// What a file counts that holds so many bytes.
pub(super) fn file(bytes: u64) -> Tally {
    Tally { files: 1, bytes: bytes as i64 }
}

/// What an extended attribute counts.
pub(super) fn xattr(name: &[u8], value_len: usize) -> Tally {
    Tally { files: 0, bytes: (name.len() + value_len) as i64 }
}

impl Node {
    /// What the file counts, its attributes aside.
    pub(super) fn tally(&self) -> Tally {
        match self.home {
            Home::Orphan if !self.record.has_more() => Tally::default(),
            _ => self.record.tally(),
        }
    }
}

impl Change<'_> {
    /// Counts what a file counts more, or less, than it did; says whether there is a difference.
    pub(super) fn count(&mut self, node: &mut Node) -> bool {
        let now = node.tally();
        let change = now - std::mem::replace(&mut node.counted, now);
        self.batch.count(change);
        !change.is_zero()
    }
}

/// What a record counts. One that cannot be read counts nothing.
pub(super) fn of_record(
    key: &[u8],
    head: &[u8],
    tail_len: impl FnOnce() -> Outcome<usize>,
) -> Outcome<Tally> {
    let of_file = |record: Record| record.tally();
    let counted = match key.first() {
        Some(b'e') => match Entry::decode(head) {
            Ok(Entry::File(record)) => of_file(record),
            _ => Tally::default(),
        },
        Some(b'i') if key.len() == keys::PREFIX_LEN => Record::decode(head).map(of_file).unwrap_or_default(),
        Some(b'o') => decode_orphan(head).map(file).unwrap_or_default(),
        Some(b'x') => xattr(keys::xattr_name(key), tail_len()?),
        _ => Tally::default(),
    };
    Ok(counted)
}

/// What a file's extended attributes count.
pub(super) fn of_xattrs(volume: &Volume, ino: Ino) -> Outcome<Tally> {
    let (from, to) = keys::xattrs(ino);
    sum(volume, Bound::Included(&from), Bound::Excluded(&to))
}

fn sum(volume: &Volume, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Outcome<Tally> {
    let mut scan = volume.scan(from, to)?;
    let (mut sum, mut imports) = (Tally::default(), Vec::new());
    while scan.next()? {
        let (key, head) = (scan.key(), scan.head());
        // What is being imported counts when it appears. These records come before all others.
        if keys::import_ino(key).is_some() {
            imports.push(import_block(key, head)?);
        } else if !keys::ino_of(key).is_some_and(|ino| imports.iter().any(|block| block.contains(&ino))) {
            sum += of_record(key, head, || Ok(scan.tail()?.len()))?;
        }
    }
    Ok(sum)
}

/// Counts what a volume holds, by reading all its records.
pub fn recount(volume: &Volume) -> Result<Tally> {
    sum(volume, Bound::Unbounded, Bound::Unbounded).context("count", || Subject::FileSystem)
}

impl FileSystem {
    /// Counts the volume if a version filled it that kept no tallies. Nobody may write to it meanwhile.
    pub(super) fn count_if_uncounted(&self) -> Outcome<()> {
        if self.volume.tally().is_some() {
            return Ok(());
        }
        tracing::info!("the files of volume {} are counted, for the first time", self.volume.name());
        let held = sum(&self.volume, Bound::Unbounded, Bound::Unbounded)?;
        Ok(self.store.correct_tally(&self.volume, held)?)
    }
}
