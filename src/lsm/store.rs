//! A store: opening, closing, and what its volumes share.

use crate::disk::Disk;
use crate::lsm::volume::Volume;
use crate::lsm::{Options, Result};
use std::sync::Arc;

/// An open store. All methods may be called from any thread. Dropping it closes it.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens the store on `disk`; an empty disk becomes a new store with one volume, `main`.
    pub fn open(_disk: Arc<dyn Disk>, _options: Options) -> Result<Store> {
        todo!()
    }

    /// The volume of that name.
    pub fn volume(&self, _name: &str) -> Result<Arc<Volume>> {
        todo!()
    }

    /// Makes every write that was answered before this call durable.
    pub fn sync(&self) -> Result<()> {
        todo!()
    }

    /// As [`Store::sync`], without waiting: `done` is called (on a thread of the store, must not block) when
    /// every write answered before this call is durable. Requests that wait share one sync.
    pub fn sync_then(&self, _done: Box<dyn FnOnce(Result<()>) + Send>) {
        todo!()
    }

    /// The room on the disk below the store.
    pub fn space(&self) -> Result<crate::disk::Space> {
        todo!()
    }

    /// Flushes every memtable and waits for it.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }

    /// What the store is made of now.
    pub fn stats(&self) -> StoreStats {
        todo!()
    }

    /// Flushes, waits for the background threads and leaves a store that opens fast. A second
    /// close does nothing. Operations afterwards fail with [`crate::lsm::Error::Closed`].
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}

/// A store's shape: what `lsmfs stats` prints.
#[derive(Debug, Clone)]
pub struct StoreStats {
    /// The volumes.
    pub volumes: Vec<VolumeStats>,
    /// Live log segments: number and bytes.
    pub log_segments: Vec<(u64, u64)>,
    /// The newest visible sequence number.
    pub last_seq: u64,
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

/// A table, as stats show it.
#[derive(Debug, Clone)]
pub struct TableStats {
    /// The table's file name.
    pub file: String,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Records in it.
    pub entries: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// The smallest user key.
    pub smallest: bytes::Bytes,
    /// The largest user key.
    pub largest: bytes::Bytes,
}
