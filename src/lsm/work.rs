//! Which volumes the background threads look at: those that have something to flush or to compact. One at rest is
//! not among them, so a look costs the same whether there are ten volumes or ten thousand.
//!
//! A volume is told of when it freezes a memtable or when its tables change, and stays until a look has
//! found nothing to do. What lies outside a volume and makes a compaction of it due (a full disk, a blob file
//! that is to be emptied, a pack with few tables in use) is for whoever looks at all of them
//! (`background.rs`).
//!
//! # Locks
//! Both sets are leaves. They hold ids: volumes hold what they share, and are not held by it.

use crate::lsm::manifest::VolumeId;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Volumes that have work.
#[derive(Debug, Default)]
pub(crate) struct Work {
    flushes: Mutex<BTreeSet<VolumeId>>,
    compactions: Mutex<BTreeSet<VolumeId>>,
}

impl Work {
    /// A volume has an immutable memtable.
    pub fn froze(&self, volume: VolumeId) {
        self.flushes.lock().insert(volume);
    }

    /// A volume's tables have changed.
    pub fn reshaped(&self, volume: VolumeId) {
        self.compactions.lock().insert(volume);
    }

    /// Takes out those that may have something to flush.
    pub fn take_flushes(&self) -> BTreeSet<VolumeId> {
        std::mem::take(&mut self.flushes.lock())
    }

    /// Takes out those that may have something to compact.
    pub fn take_compactions(&self) -> BTreeSet<VolumeId> {
        std::mem::take(&mut self.compactions.lock())
    }
}
