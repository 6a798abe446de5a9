//! The read path of one key: memtables newest to oldest, then L0 newest to oldest, then one table a level.
//!
//! A table is skipped by its key range before any I/O, then by its filter. Versions are folded newest
//! to oldest and the walk ends at the first put or tombstone.

use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{Kind, KindOrBound};
use crate::lsm::store::Shared;
use crate::lsm::table::TableMeta;
use crate::lsm::value::Fold;
use crate::lsm::volume::Tree;
use crate::lsm::{Result, SeqNo, Value};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Which part of a value a read needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The head; tails are left empty and not read.
    Head,
    /// All of it.
    Whole,
}

impl Tree {
    /// The value of `key` at `seq`.
    pub fn get(&self, shared: &Shared, key: &[u8], seq: SeqNo) -> Result<Option<Value>> {
        let mut fold = Fold::default();
        self.versions(shared, key, seq, Part::Whole, &mut |kind, value| fold.push(kind, || Ok(value)))?;
        fold.finish(key)
    }

    /// The head of `key`'s value at `seq`.
    pub fn get_head(&self, shared: &Shared, key: &[u8], seq: SeqNo) -> Result<Option<Bytes>> {
        let mut patched = false;
        let mut head = None;
        self.versions(shared, key, seq, Part::Head, &mut |kind, value| {
            match kind {
                // Patches leave the head alone.
                Kind::Patch => {
                    patched = true;
                    return Ok(ControlFlow::Continue(()));
                }
                Kind::Put | Kind::FirstPut => head = Some(value.head),
                Kind::Tombstone | Kind::RangeTombstone | Kind::BlobPointer => {}
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(head.or(patched.then(Bytes::new)))
    }

    /// The number of patches over `key`'s newest full value at `seq`.
    pub fn patch_depth(&self, shared: &Shared, key: &[u8], seq: SeqNo) -> Result<usize> {
        let mut depth = 0;
        self.versions(shared, key, seq, Part::Head, &mut |kind, _| {
            if kind == Kind::Patch {
                depth += 1;
                return Ok(ControlFlow::Continue(()));
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(depth)
    }

    /// Shows the versions of `key` at `seq`, newest first, to `visit`, until it breaks.
    fn versions(
        &self,
        shared: &Shared,
        key: &[u8],
        seq: SeqNo,
        part: Part,
        visit: &mut dyn FnMut(Kind, Value) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for memtable in self.memtables() {
            if memtable.versions(key, seq, &mut *visit)?.is_break() {
                return Ok(());
            }
        }
        for meta in self.tables_for(key) {
            if table_versions(shared, meta, key, seq, part, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The tables whose range holds `key`, newest data first.
    fn tables_for<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a TableMeta> {
        let (l0, deeper) = self.levels.split_first().map_or((&[][..], &[][..]), |(l0, d)| (l0.as_slice(), d));
        let newest_first = l0.iter().filter(move |table| table.contains_key(key));
        let one_a_level = deeper.iter().filter_map(move |level| {
            let at = level.partition_point(|table| table.largest.as_ref() < key);
            level.get(at).filter(|table| table.contains_key(key))
        });
        newest_first.chain(one_a_level)
    }
}

fn table_versions(
    shared: &Shared,
    meta: &TableMeta,
    key: &[u8],
    seq: SeqNo,
    part: Part,
    visit: &mut dyn FnMut(Kind, Value) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    if meta.smallest_seq > seq {
        return Ok(ControlFlow::Continue(()));
    }
    let table = shared.tables.get(meta)?;
    let Some(mut cursor) = table.seek_key(key, seq)? else { return Ok(ControlFlow::Continue(())) };
    while cursor.valid() && cursor.key().user == key {
        if let KindOrBound::Kind(kind) = cursor.key().kind {
            let head = Bytes::copy_from_slice(cursor.head());
            let tail = if part == Part::Whole { cursor.tail()? } else { Bytes::new() };
            if visit(kind, Value { head, tail })?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        cursor.next()?;
    }
    Ok(ControlFlow::Continue(()))
}
