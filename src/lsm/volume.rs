//! A volume: one named tree of keys in a store.

use crate::lsm::{Batch, Result, SeqNo, Value};
use std::ops::Bound;

/// One named tree of keys in a store. All methods may be called from any thread.
#[derive(Debug)]
pub struct Volume {}

impl Volume {
    /// The value of a key.
    pub fn get(&self, _key: &[u8]) -> Result<Option<Value>> {
        todo!()
    }

    /// The head of a key's value; its tail is not read.
    pub fn get_head(&self, _key: &[u8]) -> Result<Option<bytes::Bytes>> {
        todo!()
    }

    /// How many patches lie over the key's newest full value (0: none, or the key is absent).
    /// Reads no tails.
    pub fn patch_depth(&self, _key: &[u8]) -> Result<usize> {
        todo!()
    }

    /// Writes a batch: in the operating system's hands (it survives the process) and visible when
    /// this returns; durable after [`crate::lsm::Store::sync`].
    /// Returns the sequence number of its last write.
    pub fn write(&self, _batch: Batch) -> Result<SeqNo> {
        todo!()
    }

    /// The keys between two bounds as they are now, in order. Positioned before the first:
    /// call [`Scan::next`].
    pub fn scan(&self, _from: Bound<&[u8]>, _to: Bound<&[u8]>) -> Result<Scan> {
        todo!()
    }

    /// The sequence number of the newest visible write in the store.
    pub fn visible_seq(&self) -> SeqNo {
        todo!()
    }

    /// Keeps the present state readable until the snapshot is dropped.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }
}

/// A state of a volume that stays readable. Holds no lock; tables and memtables it needs are
/// kept while it lives only by the scans and reads that run.
#[derive(Debug)]
pub struct Snapshot {}

impl Snapshot {
    /// The sequence number that the snapshot reads at.
    pub fn seq(&self) -> SeqNo {
        todo!()
    }

    /// As [`Volume::get`], at the snapshot.
    pub fn get(&self, _key: &[u8]) -> Result<Option<Value>> {
        todo!()
    }

    /// As [`Volume::scan`], at the snapshot.
    pub fn scan(&self, _from: Bound<&[u8]>, _to: Bound<&[u8]>) -> Result<Scan> {
        todo!()
    }
}

/// A cursor over the visible keys of a range.
#[derive(Debug)]
pub struct Scan {}

impl Scan {
    /// Moves to the next key; false at the end.
    pub fn next(&mut self) -> Result<bool> {
        todo!()
    }

    /// The key. Only after [`Scan::next`] said true.
    pub fn key(&self) -> &[u8] {
        todo!()
    }

    /// The head of the value. Only after [`Scan::next`] said true.
    pub fn head(&self) -> &[u8] {
        todo!()
    }

    /// The tail of the value; may read it from the disk. Only after [`Scan::next`] said true.
    pub fn tail(&self) -> Result<bytes::Bytes> {
        todo!()
    }

    /// Sources (memtables and tables) inside the scan's bounds, opened or not.
    pub fn num_active_iterators(&self) -> usize {
        todo!()
    }
}
