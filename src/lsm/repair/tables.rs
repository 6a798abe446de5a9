//! Tables: copying what can be read of a damaged one, and merging many into one.

use super::Repair;
use crate::lsm::blob::{BlobReader, Pointer};
use crate::lsm::cache::BlockCache;
use crate::lsm::check::{Lens, Problem, TableCheck};
use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::iter::source::Source;
use crate::lsm::iter::stepping::Stepping;
use crate::lsm::iter::stripes::keep_visible;
use crate::lsm::key::{KeyRef, Kind};
use crate::lsm::memtable::Memtable;
use crate::lsm::range::{RangeSet, RangeTombstone};
use crate::lsm::table::cache::open_object;
use crate::lsm::table::walk::{Found, walk};
use crate::lsm::table::{Table, TableBuilder, TableIter, TableMeta};
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;

/// Tables that are merged at once: no more are open.
const MERGED_AT_ONCE: usize = 256;

impl Repair<'_> {
    /// A copy of what can be read of a table; `None` if nothing can.
    pub(super) fn copy_of(&mut self, meta: &TableMeta, blobs: &BlobReader) -> Result<Option<TableMeta>> {
        match self.open(meta)? {
            Ok(table) => self.copy(&Arc::new(table), blobs),
            Err(error) => {
                let keys = Some((meta.smallest.clone(), Some(meta.largest.clone())));
                self.watch.problem(Problem { error, keys });
                Ok(None)
            }
        }
    }

    /// Opens a table; the inner error is that of damage.
    pub(super) fn open(&self, meta: &TableMeta) -> Result<std::result::Result<Table, Error>> {
        let object = match open_object(self.disk.as_ref(), meta) {
            Err(Error::Disk(e)) if e.is_not_found() => {
                return Ok(Err(meta.place().damage(0, "it is missing")));
            }
            opened => opened?,
        };
        let len = object.len()?;
        match Table::open(object, meta.place(), len, Arc::new(BlockCache::new(0))) {
            Ok(table) => Ok(Ok(table)),
            Err(error @ Error::Corruption { .. }) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    fn copy(&mut self, table: &Arc<Table>, blobs: &BlobReader) -> Result<Option<TableMeta>> {
        let mut copy = Output(None);
        let mut last: Option<(Bytes, u64)> = None;
        let mut failed = None;
        let mut copied = 0;
        // They stand in a block of their own, and are whole where the record that marks the place of one is not.
        let mut ranges = table.ranges().tombstones().peekable();
        walk(table, &mut |found| {
            if failed.is_some() {
                return;
            }
            let (key, kind, head, tail) = match found {
                Found::Record { kind: Kind::RangeTombstone, .. } => return,
                Found::Record { key, kind, head, tail } => (key, kind, head, tail),
                Found::Lost { error, from, to } => {
                    return self.watch.problem(Problem { error, keys: Some((from, to)) });
                }
                Found::Beside(error) => return self.watch.problem(error.into()),
            };
            // What is out of order nobody would find.
            let trailer = key.trailer();
            if last.as_ref().is_some_and(|(user, before)| {
                user.as_ref() > key.user || (user == key.user && *before <= trailer)
            }) {
                return;
            }
            last = Some((Bytes::copy_from_slice(key.user), trailer));
            let value = tail.and_then(|tail| checked(kind, tail, blobs));
            let (key, head, tail) = match value {
                Ok(tail) => (key, head, tail),
                Err(error @ Error::Corruption { .. }) => {
                    let user = Bytes::copy_from_slice(key.user);
                    self.watch.problem(Problem { error, keys: Some((user.clone(), Some(user))) });
                    (KeyRef::new(key.user, key.seq, Kind::Tombstone), &[][..], Bytes::new())
                }
                Err(error) => return failed = Some(error),
            };
            let mut add = |key: KeyRef<'_>, head: &[u8], tail: &[u8]| {
                copied += 1;
                copy.add(self, key, head, tail)
            };
            let is_before = |t: &RangeTombstone| place_of(t) < key;
            let mut before = std::iter::from_fn(|| ranges.next_if(is_before));
            let added = before.try_for_each(|t| add(place_of(&t), &t.end, &[]));
            failed = added.and_then(|()| add(key, head, &tail)).err();
        });
        if let Some(error) = failed {
            return Err(error);
        }
        for tombstone in ranges {
            copied += 1;
            copy.add(self, place_of(&tombstone), &tombstone.end, &[])?;
        }
        self.done.brought_back += copied;
        copy.finish()
    }

    /// A table all of which can be read: this one, or a copy of it.
    pub(super) fn sound_table(
        &mut self,
        meta: &TableMeta,
        lens: &Lens,
        blobs: &BlobReader,
    ) -> Result<Option<Arc<Table>>> {
        let mut sound = super::Sound(true);
        TableCheck::new(Some(blobs)).run(self.disk, lens, meta, false, &mut sound)?;
        let table = match self.open(meta)? {
            Ok(table) => Arc::new(table),
            Err(error) => {
                self.watch.problem(error.into());
                return Ok(None);
            }
        };
        if sound.0 {
            return Ok(Some(table));
        }
        let Some(copy) = self.copy(&table, blobs)? else { return Ok(None) };
        self.old.push(copy.file().name());
        Ok(self.open(&copy)?.ok().map(Arc::new))
    }

    /// Merges tables and memtables into one table; `None` if there are no records.
    pub(super) fn merge(
        &mut self,
        mut tables: Vec<Arc<Table>>,
        memtables: &[Arc<Memtable>],
    ) -> Result<Option<TableMeta>> {
        while tables.len() > MERGED_AT_ONCE {
            let first: Vec<Arc<Table>> = tables.drain(..MERGED_AT_ONCE).collect();
            if let Some(meta) = self.merge_once(&first, &[])? {
                self.old.push(meta.file().name());
                tables.extend(self.open(&meta)?.ok().map(Arc::new));
            }
        }
        self.merge_once(&tables, memtables)
    }

    fn merge_once(
        &mut self,
        tables: &[Arc<Table>],
        memtables: &[Arc<Memtable>],
    ) -> Result<Option<TableMeta>> {
        let mut ranges = RangeSet::default();
        tables.iter().for_each(|table| table.ranges().tombstones().for_each(|t| ranges.add(t)));
        memtables.iter().for_each(|m| m.with_ranges(|own| own.tombstones().for_each(|t| ranges.add(t))));
        let of_tables = tables.iter().map(|table| Source::Tables(table.iter_uncached()));
        let of_memtables = memtables.iter().map(|memtable| Source::Memtable(memtable.iter()));
        let mut source = distinct(MergeIter::new(of_tables.chain(of_memtables).collect()));
        let mut merged = Output(None);
        let mut last: Option<(Bytes, u64)> = None;
        let load = |_: &[u8]| Err(Error::Internal("nothing is folded here".to_string()));
        // Without stripes every version is kept.
        keep_visible(&mut source, &ranges, &[], &mut false, &load, &mut |key, head, tail| {
            let place = (Bytes::copy_from_slice(key.user), key.trailer());
            // The same range tombstone may stand in several tables.
            if last.as_ref() == Some(&place) {
                return Ok(());
            }
            last = Some(place);
            merged.add(self, key, head, tail)
        })?;
        merged.finish()
    }
}

/// A table that is begun with its first record.
struct Output(Option<TableBuilder>);

impl Output {
    fn add(&mut self, repair: &mut Repair<'_>, key: KeyRef<'_>, head: &[u8], tail: &[u8]) -> Result<()> {
        match &mut self.0 {
            Some(builder) => builder.add(key, head, tail),
            empty => empty.insert(repair.new_table()?).add(key, head, tail),
        }
    }

    /// The table; `None` without records.
    fn finish(self) -> Result<Option<TableMeta>> {
        self.0.map(TableBuilder::finish).transpose()
    }
}

/// The key of a range tombstone's record.
fn place_of(tombstone: &RangeTombstone) -> KeyRef<'_> {
    KeyRef::new(&tombstone.start, tombstone.seq, Kind::RangeTombstone)
}

/// The tail of a record, if what it points to can be read.
fn checked(kind: Kind, tail: Bytes, blobs: &BlobReader) -> Result<Bytes> {
    if kind.is_blob() {
        let pointer = Pointer::decode(&tail);
        let pointer = pointer.ok_or_else(|| Error::corruption("table", 0, "a blob pointer is malformed"))?;
        match blobs.load_uncached(&tail) {
            Err(Error::Disk(e)) if e.is_not_found() => {
                let name = crate::lsm::blob::file_name(pointer.file);
                return Err(Error::corruption(name, 0, "it is missing"));
            }
            loaded => _ = loaded?,
        }
    }
    Ok(tail)
}

/// A source in which no internal key comes twice: without a manifest, what a compaction read may be there
/// beside what it wrote. Walked forward only.
fn distinct(source: MergeIter<Source<TableIter>>) -> impl InternalIterator {
    Stepping::new(source, |source: &mut MergeIter<_>| {
        let (user, trailer) = (source.key().user.to_vec(), source.key().trailer());
        while source.valid() && source.key().user == user && source.key().trailer() == trailer {
            source.next()?;
        }
        Ok(())
    })
}
