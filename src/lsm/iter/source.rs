//! The sources of a scan or a compaction, as one type: a memtable, or tables that follow one another.

use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::level::{LevelIter, Prefix};
use crate::lsm::key::KeyRef;
use crate::lsm::levels::LiveTable;
use crate::lsm::memtable::{Memtable, MemtableIter};
use crate::lsm::range::RangeSet;
use crate::lsm::store::Shared;
use crate::lsm::table::Table;
use crate::lsm::volume::Tree;
use crate::lsm::{Result, SeqNo};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

/// A cursor over one source: a memtable, or tables by way of their cursor `T`.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most sources are tables; a box would cost each step")]
pub(crate) enum Source<T = LevelIter> {
    Memtable(MemtableIter),
    Tables(T),
}

macro_rules! each {
    ($self:expr, $source:ident => $call:expr) => {
        match $self {
            Source::Memtable($source) => $call,
            Source::Tables($source) => $call,
        }
    };
}

impl<T: InternalIterator> InternalIterator for Source<T> {
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

/// The range tombstones of one source.
#[derive(Debug)]
enum Ranges {
    Memtable(Arc<Memtable>),
    Table(Arc<Table>),
}

/// The range tombstones of a scan's sources.
#[derive(Debug, Default)]
pub(crate) struct Covers {
    /// By the sources' places among the cursors.
    ranges: Vec<(usize, Ranges)>,
}

/// A range tombstone over a key.
#[derive(Debug)]
pub(crate) struct Cover {
    pub seq: SeqNo,
    /// The place of its source among the cursors: those behind it hold only older records of the range.
    pub age: usize,
    /// Where its fragment ends.
    pub end: Bytes,
}

impl Covers {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The newest range tombstone over `key` that a reader at `seq` sees.
    pub fn newest_over(&self, key: &[u8], seq: SeqNo) -> Option<Cover> {
        let over = |(age, ranges): &(usize, Ranges)| {
            let found = |set: &RangeSet| {
                let (seq, end) = set.covering(key, seq)?;
                Some(Cover { seq, age: *age, end: end.clone() })
            };
            match ranges {
                Ranges::Memtable(memtable) => memtable.with_ranges(found),
                Ranges::Table(table) => found(table.ranges()),
            }
        };
        self.ranges.iter().filter_map(over).max_by_key(|cover| cover.seq)
    }
}

/// What a scan reads.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Newest first. A level's tables share one cursor, which opens them as it gets to them.
    pub cursors: Vec<Source>,
    /// Their range tombstones.
    pub covers: Covers,
    /// The memtables and tables behind the cursors.
    pub active: usize,
}

/// Can no key be between the bounds?
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}

impl Tree {
    /// Every memtable and table that may hold a key between the bounds, for a reader at `seq`. Nothing else is
    /// touched: memtables are asked, tables are judged by the key range that the manifest gives; only those
    /// with range tombstones are opened already.
    pub fn sources(
        &self,
        shared: &Shared,
        seq: SeqNo,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Sources> {
        let mut sources = Sources::default();
        if is_empty_range(from, to) {
            return Ok(sources);
        }
        let prefix = shared.table_options.prefix.and_then(|rule| {
            let bytes = Bytes::copy_from_slice(rule.of_range(from, to)?);
            Some(Prefix { rule, bytes, metrics: shared.metrics.clone() })
        });
        for memtable in self.memtables().filter(|m| m.overlaps(from, to)) {
            if memtable.has_ranges() {
                sources.covers.ranges.push((sources.cursors.len(), Ranges::Memtable(memtable.clone())));
            }
            sources.cursors.push(Source::Memtable(memtable.iter_for(seq)));
        }
        sources.active = sources.cursors.len();
        for (n, level) in self.levels.iter().enumerate() {
            let tables: Vec<Arc<LiveTable>> =
                level.iter().filter(|t| t.overlaps(from, to)).cloned().collect();
            sources.active += tables.len();
            let runs =
                if n == 0 { tables.into_iter().map(|table| vec![table]).collect() } else { vec![tables] };
            for run in runs.into_iter().filter(|run| !run.is_empty()) {
                for table in run.iter().filter(|table| table.range_tombstones > 0) {
                    sources
                        .covers
                        .ranges
                        .push((sources.cursors.len(), Ranges::Table(shared.tables.get(table)?)));
                }
                sources.cursors.push(Source::Tables(LevelIter::new(&shared.tables, run, prefix.clone())));
            }
        }
        Ok(sources)
    }
}
