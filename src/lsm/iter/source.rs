//! The sources of a scan or a compaction, as one type: a memtable, or tables that follow one another.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::level::LevelIter;
use crate::lsm::key::KeyRef;
use crate::lsm::levels::LiveTable;
use crate::lsm::memtable::MemtableIter;
use crate::lsm::store::Shared;
use crate::lsm::volume::Tree;
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

/// A cursor over one source.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most sources are tables; a box would cost each step")]
pub(crate) enum Source {
    Memtable(MemtableIter),
    Level(LevelIter),
}

macro_rules! each {
    ($self:expr, $source:ident => $call:expr) => {
        match $self {
            Source::Memtable($source) => $call,
            Source::Level($source) => $call,
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
    /// Cursors over every memtable and table that may hold a key between the bounds, and how many
    /// memtables and tables that are. Nothing else is touched: memtables are asked, tables are judged by the
    /// key range that the manifest gives. A level's tables share one cursor, which opens them as
    /// it gets to them.
    pub fn sources(&self, shared: &Shared, from: Bound<&[u8]>, to: Bound<&[u8]>) -> (Vec<Source>, usize) {
        let memtables = self.memtables().filter(|m| m.overlaps(from, to));
        let mut sources: Vec<Source> = memtables.map(|m| Source::Memtable(m.iter())).collect();
        let mut active = sources.len();
        for (n, level) in self.levels.iter().enumerate() {
            let tables: Vec<Arc<LiveTable>> =
                level.iter().filter(|t| t.overlaps(from, to)).cloned().collect();
            active += tables.len();
            let cursor = |tables| Source::Level(LevelIter::new(&shared.tables, tables));
            match n {
                0 => sources.extend(tables.into_iter().map(|table| cursor(vec![table]))),
                _ if tables.is_empty() => {}
                _ => sources.push(cursor(tables)),
            }
        }
        (sources, active)
    }
}
