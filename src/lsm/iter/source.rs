//! The sources of a scan, as one type: a memtable or a table.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use crate::lsm::memtable::MemtableIter;
use crate::lsm::store::Shared;
use crate::lsm::table::{TableIter, TableMeta};
use crate::lsm::volume::Tree;
use bytes::Bytes;
use std::ops::Bound;

/// A cursor over one source.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most sources are tables; a box would cost each step")]
pub(crate) enum Source {
    Memtable(MemtableIter),
    Table(TableIter),
}

impl Source {
    /// A cursor over a table; opens it, reads no block.
    pub fn table(shared: &Shared, meta: &TableMeta) -> Result<Source> {
        Ok(Source::Table(shared.tables.get(meta)?.iter()))
    }
}

macro_rules! each {
    ($self:expr, $source:ident => $call:expr) => {
        match $self {
            Source::Memtable($source) => $call,
            Source::Table($source) => $call,
        }
    };
}

impl InternalIterator for Source {
    fn valid(&self) -> bool {
        each!(self, s => s.valid())
    }
    fn key(&self) -> KeyRef<'_> {
        each!(self, s => s.key())
    }
    fn head(&self) -> &[u8] {
        each!(self, s => s.head())
    }
    fn tail(&self) -> Result<Bytes> {
        each!(self, s => s.tail())
    }
    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        each!(self, s => s.seek(target))
    }
    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        each!(self, s => s.seek_before(target))
    }
    fn seek_to_first(&mut self) -> Result<()> {
        each!(self, s => s.seek_to_first())
    }
    fn seek_to_last(&mut self) -> Result<()> {
        each!(self, s => s.seek_to_last())
    }
    fn next(&mut self) -> Result<()> {
        each!(self, s => s.next())
    }
    fn prev(&mut self) -> Result<()> {
        each!(self, s => s.prev())
    }
}

impl Tree {
    /// Cursors over every memtable and table that may hold a key between the bounds. Nothing else is
    /// touched: memtables are asked, tables are judged by the key range that the manifest gives.
    pub fn sources(&self, shared: &Shared, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Vec<Source>> {
        let memtables =
            self.memtables().filter(|m| m.overlaps(from, to)).map(|m| Ok(Source::Memtable(m.iter())));
        let tables = self.levels.iter().flatten().filter(|t| t.overlaps(from, to));
        memtables.chain(tables.map(|t| Source::table(shared, t))).collect()
    }
}
