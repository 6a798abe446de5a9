//! Garbage in blob files: how much there is, and which files compactions should empty.
//!
//! A file's garbage is what no table and no memtable points to. (What is overwritten and not yet compacted
//! still counts as live, and so does twice what a fork still has in a table that its parent has compacted;
//! memtables that refer to [`Options::blob_file_size`] bytes are frozen, so compactions find it soon.)
//! While more than a quarter of all bytes is garbage, the file with the largest share of it is emptied, and
//! with it all that are mostly garbage: each compaction moves the values of those files that its records
//! point to, and if no other compaction is due, the tables that point to them are compacted for their own
//! sake. A file that nothing points to is not rewritten: it is deleted when its last reader is gone.
//!
//! So at rest blob files take about a third more than what is live, and a byte is moved about three times
//! for each byte that this frees, at worst; a file that is overwritten as a whole is never moved.
//!
//! Who overwrites faster than compactions follow is **slowed** ([`crate::lsm::stall`]): from as much garbage as there
//! is live, and [`FREE_FILES`] files more, until there is three times as much. Nobody waits for it: garbage
//! collection comes after all other compactions, and some of it may have to wait for a reader.
//!
//! [`Options::blob_file_size`]: crate::lsm::Options::blob_file_size

use super::HEADER_LEN;
use crate::lsm::options::CompactionMode;
use crate::lsm::store::Shared;
use crate::lsm::volume::Tree;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Garbage is collected while it is more than one byte in this many …
const GARBAGE_ONE_IN: u64 = 4;
/// … and with the worst file goes each that has more than one in this many.
const MOSTLY_ONE_IN: u64 = 2;

/// Garbage of so many files slows nobody.
const FREE_FILES: u64 = 4;

/// What all blob files hold that may be emptied, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    live: AtomicU64,
    garbage: AtomicU64,
}

/// What a blob file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobUsage {
    pub file: u64,
    /// The file's length.
    pub len: u64,
    /// Bytes that tables or memtables point to.
    pub live: u64,
    /// May compactions empty it? Not while it is written, or a memtable points to it; not if it is damaged.
    pub settled: bool,
}

impl BlobUsage {
    /// Bytes of values, dead or alive.
    fn bytes(&self) -> u64 {
        self.len.saturating_sub(HEADER_LEN as u64)
    }

    /// Bytes that nothing points to.
    pub fn garbage(&self) -> u64 {
        self.bytes().saturating_sub(self.live)
    }

    fn is_garbage_for_one_in(&self, n: u64) -> bool {
        self.garbage().saturating_mul(n) > self.bytes()
    }
}

impl Shared {
    /// What each blob file holds, oldest first.
    pub(crate) fn blob_usage(&self) -> Vec<BlobUsage> {
        // The files first: what is written meanwhile then counts as live, not as garbage.
        let files: Vec<_> = self
            .live_blobs
            .all()
            .iter()
            .map(|b| (b.number, b.len(), b.is_sealed() && !b.is_damaged()))
            .collect();
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        let mut fresh = BTreeSet::new();
        // What forks share counts once. The trees are held while the addresses of their parts are compared.
        let trees: Vec<Arc<Tree>> = self.volumes().iter().map(|volume| volume.tree()).collect();
        let (mut memtables, mut levels, mut tables) = (HashSet::new(), HashSet::new(), HashSet::new());
        for tree in &trees {
            let new = tree.memtables().filter(|memtable| memtables.insert(Arc::as_ptr(memtable)));
            for used in new.flat_map(|memtable| memtable.blob_uses()) {
                *live.entry(used.0).or_default() += used.1;
                fresh.insert(used.0);
            }
            let new = tree.levels.iter().filter(|level| levels.insert(level.as_ptr()));
            for used in new.flatten().filter(|t| tables.insert(t.number)).flat_map(|table| &table.blobs) {
                *live.entry(used.file).or_default() += used.bytes;
            }
        }
        let usage = |(file, len, movable)| BlobUsage {
            file,
            len,
            live: live.get(&file).copied().unwrap_or(0),
            settled: movable && !fresh.contains(&file),
        };
        files.into_iter().map(usage).collect()
    }
}

impl Shared {
    /// The files that compactions should empty now. On a full disk only the one that takes the least room
    /// to empty.
    pub(crate) fn blobs_to_empty(&self) -> BTreeSet<u64> {
        if self.live_blobs.is_empty() {
            return BTreeSet::new();
        }
        let usages = self.blob_usage();
        let files = to_empty(&usages);
        // Only while there is work that lessens it.
        let counted = || usages.iter().filter(|usage| usage.live > 0 && !files.is_empty());
        self.garbage.live.store(counted().map(|usage| usage.live).sum(), Relaxed);
        self.garbage.garbage.store(counted().map(BlobUsage::garbage).sum(), Relaxed);
        if !self.reserve.wants_room() {
            return files;
        }
        let least = usages.iter().filter(|usage| files.contains(&usage.file)).min_by_key(|usage| usage.live);
        least.map(|usage| usage.file).into_iter().collect()
    }
}

impl Shared {
    /// How much garbage holds writers back: from 0 (slowing sets in) to 1 (they are slowed the most).
    pub(crate) fn garbage_pressure(&self) -> f64 {
        let free = self.options.blob_file_size.saturating_mul(FREE_FILES);
        let garbage = self.garbage.garbage.load(Relaxed).saturating_sub(free) as f64;
        if garbage == 0.0 || self.options.compaction == CompactionMode::None {
            return -1.0;
        }
        let live = self.garbage.live.load(Relaxed).max(1) as f64;
        (garbage - live) / (2.0 * live)
    }
}

/// The files that compactions should empty.
pub(crate) fn to_empty(usages: &[BlobUsage]) -> BTreeSet<u64> {
    let in_use = || usages.iter().filter(|usage| usage.live > 0);
    let (bytes, garbage) =
        in_use().fold((0u64, 0u64), |sum, usage| (sum.0 + usage.bytes(), sum.1 + usage.garbage()));
    if garbage.saturating_mul(GARBAGE_ONE_IN) <= bytes {
        return BTreeSet::new();
    }
    let settled = || in_use().filter(|usage| usage.settled);
    let share = |usage: &&BlobUsage| (u128::from(usage.garbage()) << 64) / u128::from(usage.bytes().max(1));
    let worst = settled().filter(|usage| usage.is_garbage_for_one_in(GARBAGE_ONE_IN)).max_by_key(share);
    let mostly = settled().filter(|usage| usage.is_garbage_for_one_in(MOSTLY_ONE_IN));
    worst.into_iter().chain(mostly).map(|usage| usage.file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(file: u64, bytes: u64, live: u64) -> BlobUsage {
        BlobUsage { file, len: bytes + HEADER_LEN as u64, live, settled: true }
    }

    fn emptied(usages: &[BlobUsage]) -> Vec<u64> {
        to_empty(usages).into_iter().collect()
    }

    #[test]
    fn the_worst_file_goes_when_garbage_passes_its_share() {
        assert_eq!(emptied(&[]), [0; 0]);
        assert_eq!(emptied(&[usage(1, 100, 75), usage(2, 100, 75)]), [0; 0]);
        assert_eq!(emptied(&[usage(1, 100, 75), usage(2, 100, 74)]), [2]);
        assert_eq!(emptied(&[usage(1, 100, 10), usage(2, 100, 49), usage(3, 100, 60)]), [1, 2]);
        assert_eq!(emptied(&[usage(1, 1000, 1000), usage(2, 100, 1)]), [0; 0], "not enough in all");
    }

    #[test]
    fn what_is_dead_or_still_written_is_left_alone() {
        assert_eq!(emptied(&[usage(1, 100, 0), usage(2, 100, 80)]), [0; 0]);
        let fresh = BlobUsage { settled: false, ..usage(1, 100, 10) };
        assert_eq!(emptied(&[fresh, usage(2, 100, 90)]), [0; 0]);
        assert_eq!(emptied(&[fresh, usage(2, 100, 70)]), [2]);
    }
}
