//! Snapshots: sequence numbers that stay readable.
//!
//! # Locks
//! `Snapshots::living` is the innermost lock; it is held to read the visible sequence number and register
//! it in one step, and by a flush or compaction to learn which versions it must keep.

use crate::lsm::commit::Commits;
use crate::lsm::iter::scan::Scan;
use crate::lsm::iter::scan_back::ScanBack;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::volume::Volume;
use crate::lsm::{Result, SeqNo, Value};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The sequence numbers that must stay readable, with the number of snapshots at each.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    living: Mutex<BTreeMap<SeqNo, usize>>,
}

impl Snapshots {
    fn take(&self, volume: &Volume) -> SeqNo {
        let mut living = self.living.lock();
        let seq = volume.visible_seq();
        *living.entry(seq).or_default() += 1;
        seq
    }

    fn release(&self, seq: SeqNo) {
        let mut living = self.living.lock();
        if let Some(count) = living.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                living.remove(&seq);
            }
        }
    }

    /// The number of living snapshots.
    pub fn len(&self) -> usize {
        self.living.lock().values().sum()
    }

    /// The sequence numbers, ascending, at which some reader now or later may read: those of the
    /// snapshots, and the visible one, which any later snapshot is at or above.
    pub fn stripes(&self, commits: &Commits) -> Vec<SeqNo> {
        let living = self.living.lock();
        let visible = commits.visible();
        living.keys().copied().filter(|seq| *seq < visible).chain([visible]).collect()
    }
}

/// A state of a volume that stays readable while this lives.
#[derive(Debug)]
pub struct Snapshot {
    volume: Arc<Volume>,
    seq: SeqNo,
}

impl Snapshot {
    pub(crate) fn new(volume: Arc<Volume>) -> Snapshot {
        let shared = volume.shared();
        let seq = shared.snapshots.take(&volume);
        Snapshot { volume, seq }
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The sequence number that the snapshot reads at.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    /// As [`Volume::get`], at the snapshot.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.volume.note_read(key);
        let tree = self.volume.tree();
        self.volume.check_open()?;
        tree.get(self.volume.shared(), key, self.seq, CacheUse::Fill)
    }

    /// As [`Volume::scan`], at the snapshot.
    pub fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Scan> {
        self.volume.note_scan(from, to);
        let tree = self.volume.tree();
        self.volume.check_open()?;
        Scan::new(self.volume.shared_arc(), tree, self.seq, from, to)
    }

    /// As [`Volume::scan_back`], at the snapshot.
    pub fn scan_back(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<ScanBack> {
        self.volume.note_scan(from, to);
        let tree = self.volume.tree();
        self.volume.check_open()?;
        ScanBack::new(self.volume.shared(), &tree, self.seq, from, to)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.volume.shared().snapshots.release(self.seq);
    }
}
