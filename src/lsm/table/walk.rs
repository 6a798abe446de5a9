//! A walk over everything in a table: every block is read, and what is damaged costs the records in it and
//! no others. For tools that check and mend a store; others stop at the first error.

use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, KindOrBound};
use crate::lsm::records::end_in;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::table::{Table, TableIter};
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;

/// A step of a walk.
pub(crate) enum Found<'a> {
    /// A record; of a range tombstone the head is the end. Its tail may be damaged alone.
    Record { key: KeyRef<'a>, kind: Kind, head: &'a [u8], tail: Result<Bytes> },
    /// Damage that takes no record with it: a filter, the properties.
    Beside(Error),
    /// Damage that makes the records between two user keys unreadable; no key where it goes on to the end.
    Lost { error: Error, from: Bytes, to: Option<Bytes> },
}

/// Walks over a table, in the order of its records.
pub(crate) fn walk(table: &Arc<Table>, each: &mut dyn FnMut(Found<'_>)) {
    for partition in 0..table.partitions() {
        let mut iter = TableIter::new(table.clone(), CacheUse::Bypass);
        let (from, to) = (table.partition_start(partition), next_start(table, partition));
        let filter = table.filter(partition).unwrap_or_else(|error| {
            each(Found::Beside(error));
            None
        });
        if let Err(error) = iter.load_index(partition) {
            each(Found::Lost { error, from: from.unwrap_or_default(), to });
            continue;
        }
        let mut excluded = None;
        for slot in 0..iter.loaded().block.len() {
            let start = iter.in_index(|index| index.start(slot)).unwrap_or_default();
            let next = match slot + 1 < iter.loaded().block.len() {
                true => iter.in_index(|index| index.start(slot + 1)).ok(),
                false => to.clone(),
            };
            let mut see = |found: Found<'_>| {
                if let (Found::Record { key, .. }, Some(filter)) = (&found, &filter)
                    && !filter.may_contain(key.user)
                {
                    excluded.get_or_insert_with(|| key.user.escape_ascii().to_string());
                }
                each(found);
            };
            if let Err((error, from)) = walk_block(table, &mut iter, slot, start, &mut see) {
                each(Found::Lost { error, from, to: next });
            }
        }
        if let Some(key) = excluded {
            let what = format!("the filter of its partition {partition} excludes its key {key}");
            each(Found::Beside(table.place().damage(table.size(), what)));
        }
    }
    if let Err(error) = table.properties() {
        each(Found::Beside(error));
    }
}

fn next_start(table: &Table, partition: usize) -> Option<Bytes> {
    (partition + 1 < table.partitions()).then(|| table.partition_start(partition + 1).ok()).flatten()
}

/// Walks over one data block; an error, and the user key from which records are lost.
fn walk_block(
    table: &Table,
    iter: &mut TableIter,
    slot: usize,
    start: Bytes,
    each: &mut dyn FnMut(Found<'_>),
) -> std::result::Result<(), (Error, Bytes)> {
    let mut last = start;
    iter.load_data(slot).map_err(|e| (e, last.clone()))?;
    iter.with_data(|data| data.seek_to_first()).map_err(|e| (e, last.clone()))?;
    while iter.data.valid() {
        let key = iter.key();
        let KindOrBound::Kind(kind) = key.kind else { unreachable!("records have a kind") };
        if kind == Kind::RangeTombstone {
            let end = end_in(table, key.user, key.seq);
            each(Found::Record { key, kind, head: &end, tail: Ok(Bytes::new()) });
        } else {
            each(Found::Record { key, kind, head: iter.head(), tail: iter.tail() });
        }
        last = Bytes::copy_from_slice(iter.key().user);
        iter.with_data(|data| data.next()).map_err(|e| (e, last.clone()))?;
    }
    Ok(())
}
