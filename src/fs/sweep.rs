//! Sweeping: a directory that much is removed from stays fast to list.
//!
//! Each removed name leaves a tombstone, and until compaction has taken it away, whoever lists the
//! directory passes it. So every [`SWEEP_EVERY`]th removal looks whether all names are gone from the directory's
//! first on, or from the removed one on, up to some name that is there (programs remove in the order of a
//! listing, or in the reverse), and deletes that range in one more record. Iterators seek past such a range in
//! all memtables and tables older than the one that has the record, and there a flush drops what it
//! covers: so a listing walks over what one memtable holds at most, and what was removed since the last sweep.
//!
//! Removals are counted by a few counters that all directories share by their number: two that fall
//! together are swept at other times, no more.

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::change::Change;
use crate::fs::keys;
use crate::fs::node::Outcome;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Removals between two sweeps of a directory.
const SWEEP_EVERY: u32 = 2048;
/// Fewer passed records are not worth a range tombstone.
const WORTHWHILE: u64 = 1000;
const COUNTERS: usize = 64;

/// How much was removed.
#[derive(Debug)]
pub(super) struct Removals([AtomicU32; COUNTERS]);

impl Removals {
    pub fn new() -> Removals {
        Removals(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    /// Counts a removal from `dir`; is a sweep due?
    fn count(&self, dir: Ino) -> bool {
        let removed = self.0[dir as usize % COUNTERS].fetch_add(1, Relaxed);
        removed % SWEEP_EVERY == SWEEP_EVERY - 1
    }
}

impl FileSystem {
    /// Sweeps a directory if that is due, in the change that removes `name` from it; what the change adds to
    /// the directory it adds later. The caller holds the directory's inode lock exclusively. What cannot be
    /// read is not swept: the removal does without.
    pub(super) fn sweep(&self, change: &mut Change<'_>, dir: Ino, name: &[u8]) {
        if self.removals.count(dir)
            && let Err(e) = self.sweep_around(change, dir, name)
        {
            tracing::warn!("directory {dir} is not swept: {e}");
        }
    }

    fn sweep_around(&self, change: &mut Change<'_>, dir: Ino, name: &[u8]) -> Outcome<()> {
        let (first, end) = keys::entries(dir);
        let mut behind_name = keys::entry(dir, name);
        behind_name.push(0);
        for from in [&first[..], &behind_name] {
            let mut scan = self.volume.scan(Bound::Included(from), Bound::Excluded(&end))?;
            let up_to = if scan.next()? { scan.key() } else { &end };
            if scan.records_passed() > WORTHWHILE {
                change.batch.delete_range(from, up_to);
            }
        }
        Ok(())
    }
}
