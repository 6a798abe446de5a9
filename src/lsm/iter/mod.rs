//! Iterators over internal keys: the interface of all sources, and what is built on it.
//!
//! A source (memtable, table, a level's run of tables) yields records in [`KeyRef`] order, every
//! version of every key. It is positioned by `seek*`; before that, and past either end, it is not
//! `valid`. After an error it is not valid either.

pub mod difference;
pub(crate) mod level;
pub(crate) mod merge;
pub mod scan;
pub mod scan_back;
pub(crate) mod source;
pub(crate) mod stepping;
pub(crate) mod stripes;
mod versions;

use crate::lsm::Result;
use crate::lsm::key::KeyRef;
use bytes::Bytes;

/// A cursor over records in internal key order.
pub trait InternalIterator {
    /// Does the cursor stand on a record?
    fn valid(&self) -> bool;

    /// The record's key. The cursor must be valid.
    fn key(&self) -> KeyRef<'_>;

    /// The head of the record's value. The cursor must be valid.
    fn head(&self) -> &[u8];

    /// The tail of the record's value; may read it from the disk. The cursor must be valid.
    fn tail(&self) -> Result<Bytes>;

    /// Moves to the first record at or after `target`.
    fn seek(&mut self, target: KeyRef<'_>) -> Result<()>;

    /// Moves to the last record before `target`.
    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()>;

    /// Moves to the first record.
    fn seek_to_first(&mut self) -> Result<()>;

    /// Moves to the last record.
    fn seek_to_last(&mut self) -> Result<()>;

    /// Moves to the next record. The cursor must be valid.
    fn next(&mut self) -> Result<()>;

    /// Moves to the record before. The cursor must be valid.
    fn prev(&mut self) -> Result<()>;
}
