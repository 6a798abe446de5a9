//! A store's figures: what it is made of at one moment.

use crate::lsm::store::Store;
use crate::lsm::table::{self, TableMeta};
use crate::lsm::volume::Volume;
use bytes::Bytes;

/// A store's shape.
#[derive(Debug, Clone)]
pub struct StoreStats {
    /// The volumes.
    pub volumes: Vec<VolumeStats>,
    /// Live log segments, oldest first.
    pub log_segments: Vec<LogSegmentStats>,
    /// The newest visible sequence number.
    pub last_seq: u64,
}

/// A log segment's shape.
#[derive(Debug, Clone, Copy)]
pub struct LogSegmentStats {
    /// Its number.
    pub number: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A volume's shape.
#[derive(Debug, Clone)]
pub struct VolumeStats {
    /// Its name.
    pub name: String,
    /// Bytes in the mutable memtable.
    pub memtable_bytes: usize,
    /// Bytes in each immutable memtable, newest first.
    pub immutable_bytes: Vec<usize>,
    /// The levels, L0 first (its newest table first).
    pub levels: Vec<Vec<TableStats>>,
}

/// A table's shape.
#[derive(Debug, Clone)]
pub struct TableStats {
    /// Its file's name.
    pub file: String,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Records in it.
    pub entries: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// The smallest user key.
    pub smallest: Bytes,
    /// The largest user key.
    pub largest: Bytes,
}

impl Store {
    /// What the store is made of now.
    pub fn stats(&self) -> StoreStats {
        let shared = self.shared();
        let segment = |s: crate::lsm::log::Segment| LogSegmentStats { number: s.number, bytes: s.len };
        StoreStats {
            volumes: shared.volumes().iter().map(|v| v.stats()).collect(),
            log_segments: shared.log.segments().into_iter().map(segment).collect(),
            last_seq: shared.commits.visible(),
        }
    }
}

impl Volume {
    fn stats(&self) -> VolumeStats {
        let tree = self.tree();
        VolumeStats {
            name: self.name().to_string(),
            memtable_bytes: tree.memtable.size(),
            immutable_bytes: tree.immutable.iter().map(|m| m.size()).collect(),
            levels: tree
                .levels
                .iter()
                .map(|level| level.iter().map(|t| TableStats::from(&***t)).collect())
                .collect(),
        }
    }
}

impl From<&TableMeta> for TableStats {
    fn from(meta: &TableMeta) -> TableStats {
        TableStats {
            file: table::file_name(meta.number),
            bytes: meta.size,
            entries: meta.entries,
            tombstones: meta.tombstones,
            smallest: meta.smallest.clone(),
            largest: meta.largest.clone(),
        }
    }
}
