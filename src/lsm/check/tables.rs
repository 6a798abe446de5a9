//! Checking one table: what is in it, and whether that is what the manifest says.

use super::{Checked, Problem, Watch};
use crate::disk::{Disk, Listed};
use crate::lsm::blob::{BlobReader, Pointer};
use crate::lsm::cache::BlockCache;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind};
use crate::lsm::memtable::Memtable;
use crate::lsm::table::cache::open_object;
use crate::lsm::table::walk::{Found, walk};
use crate::lsm::table::{Place, Table, TableMeta};
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// The lengths of a store's files, by name.
pub(crate) struct Lens(HashMap<String, u64>);

impl Lens {
    pub fn of(listed: &[Listed]) -> Lens {
        Lens(listed.iter().map(|file| (file.name.clone(), file.len)).collect())
    }
}

/// A check of one table.
pub(crate) struct TableCheck<'a> {
    /// Where the values are that its records point to; none: they are not read.
    blobs: Option<&'a BlobReader>,
    records: u64,
    blob_values: u64,
}

impl<'a> TableCheck<'a> {
    pub fn new(blobs: Option<&'a BlobReader>) -> TableCheck<'a> {
        TableCheck { blobs, records: 0, blob_values: 0 }
    }

    /// Adds to the account of the whole.
    pub fn count_in(&self, checked: &mut Checked) {
        checked.tables += 1;
        checked.records += self.records;
        checked.blob_values += self.blob_values;
    }

    /// Reads a table, and compares it to what the manifest says, if that is known: else only its place and
    /// length are taken from `table`.
    ///
    /// # Errors
    /// A disk that fails otherwise than by damage.
    pub fn run(
        &mut self,
        disk: &Arc<dyn Disk>,
        lens: &Lens,
        table: &TableMeta,
        is_known: bool,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let name = table.file().name();
        let meta = is_known.then_some(table);
        let all = meta.map(|meta| (meta.smallest.clone(), Some(meta.largest.clone())));
        let mut unreadable = |error| {
            watch.problem(Problem { error, keys: all.clone() });
            Ok(())
        };
        let Some(&len) = lens.0.get(&name) else {
            return unreadable(Error::corruption(name, 0, "it is missing"));
        };
        let expected = table.file_len();
        if expected != len {
            let what = format!("it has {len} bytes and should have {expected}");
            return unreadable(Error::corruption(name, len, what));
        }
        let open = |object| Table::open(object, table.place(), table.size, Arc::new(BlockCache::new(0)));
        let opened = open_object(disk.as_ref(), table).and_then(open);
        match opened {
            Ok(table) => self.check_contents(&Arc::new(table), meta, watch),
            Err(error @ Error::Corruption { .. }) => unreadable(error),
            Err(error) => Err(error),
        }
    }

    fn check_contents(
        &mut self,
        table: &Arc<Table>,
        meta: Option<&TableMeta>,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let (place, size) = (table.place(), table.size());
        let mut last: Option<(Bytes, u64)> = None;
        let (mut damaged, mut failed) = (false, None);
        let properties = table.properties().ok();
        let split = properties.as_ref().map_or(0, |properties| properties.meta.split);
        let section = meta.and_then(|meta| meta.section);
        let mut counted = TableMeta { section, split, ..TableMeta::empty(place.number) };
        let wrong = |what: String| Problem::from(place.damage(size, what));
        let per_record = meta.map_or(0, |meta| size / meta.entries.max(1));
        walk(table, &mut |found| match found {
            Found::Beside(error) => watch.problem(error.into()),
            Found::Lost { error, from, to } => {
                damaged = true;
                note(watch, &mut failed, Problem { error, keys: Some((from, to)) });
            }
            Found::Record { key, kind, head, tail } => {
                self.records += 1;
                watch.read(per_record);
                if last.as_ref().is_some_and(|(user, trailer)| !ascends(user, *trailer, key)) {
                    watch.problem(wrong(format!("its keys are out of order at {}", key.user.escape_ascii())));
                }
                last = Some((Bytes::copy_from_slice(key.user), key.trailer()));
                let tail = tail.unwrap_or_else(|error| {
                    damaged = true;
                    note(watch, &mut failed, Problem { error, keys: Some(one(key.user)) });
                    Bytes::new()
                });
                count(&mut counted, key, kind, head, &tail);
                if kind.is_blob() && !damaged {
                    let problem = self.check_pointer(place, size, key, &tail, &mut counted, watch);
                    problem.into_iter().for_each(|problem| note(watch, &mut failed, problem));
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if damaged {
            return Ok(());
        }
        counted.size = size;
        counted.settle_split();
        counted.largest = largest(table, last.map_or_else(Bytes::new, |(user, _)| user));
        let said =
            [("the manifest says", meta), ("its properties say", properties.as_ref().map(|p| &p.meta))];
        for (who, said) in said {
            for what in said.map_or_else(Vec::new, |said| differences(said, &counted)) {
                watch.problem(wrong(format!("{who} {what}")));
            }
        }
        Ok(())
    }

    /// Reads what a record points to.
    fn check_pointer(
        &mut self,
        place: Place,
        size: u64,
        key: KeyRef<'_>,
        tail: &[u8],
        counted: &mut TableMeta,
        watch: &mut dyn Watch,
    ) -> Option<Problem> {
        let Some(pointer) = Pointer::decode(tail) else {
            let error = place.damage(size, "a record's blob pointer is malformed");
            return Some(Problem { error, keys: Some(one(key.user)) });
        };
        counted.refer(&pointer, key.seq);
        let blobs = self.blobs?;
        self.blob_values += 1;
        watch.read(pointer.framed_len() as u64);
        let error = blobs.load_uncached(tail).err()?;
        Some(Problem { error, keys: Some(one(key.user)) })
    }
}

/// Tells of damage; any other failure ends the check.
fn note(watch: &mut dyn Watch, failed: &mut Option<Error>, problem: Problem) {
    match &problem.error {
        Error::Disk(e) if !e.is_not_found() => _ = failed.get_or_insert(problem.error),
        _ => watch.problem(problem),
    }
}

/// One key as a range.
fn one(user: &[u8]) -> (Bytes, Option<Bytes>) {
    let user = Bytes::copy_from_slice(user);
    (user.clone(), Some(user))
}

fn ascends(user: &[u8], trailer: u64, next: KeyRef<'_>) -> bool {
    user < next.user || (user == next.user && trailer > next.trailer())
}

/// Counts a record as the builder did.
fn count(meta: &mut TableMeta, key: KeyRef<'_>, kind: Kind, head: &[u8], tail: &[u8]) {
    if meta.entries == 0 {
        meta.smallest = Bytes::copy_from_slice(key.user);
    }
    // The end of a range tombstone stands elsewhere, and does not count.
    let head = if kind == Kind::RangeTombstone { &[] } else { head };
    meta.count(key, kind, head, tail);
}

/// The largest key as the builder sets it.
fn largest(table: &Table, last: Bytes) -> Bytes {
    let ends = table.ranges().tombstones().map(|tombstone| tombstone.end);
    let ends = ends.map(|end| if end.ends_with(&[0]) { end.slice(..end.len() - 1) } else { end });
    ends.fold(last, Ord::max)
}

/// What differs between what is said of a table and what is in it.
fn differences(said: &TableMeta, counted: &TableMeta) -> Vec<String> {
    let numbers = [
        ("bytes", said.size, counted.size),
        ("records", said.entries, counted.entries),
        ("tombstones", said.tombstones, counted.tombstones),
        ("range tombstones", said.range_tombstones, counted.range_tombstones),
        ("patches", said.patches, counted.patches),
        ("as its smallest sequence number", said.smallest_seq, counted.smallest_seq),
        ("as its largest sequence number", said.largest_seq, counted.largest_seq),
        ("bytes of keys", said.key_bytes, counted.key_bytes),
        ("bytes of heads", said.head_bytes, counted.head_bytes),
    ];
    let differ = numbers.into_iter().filter(|(_, said, counted)| said != counted);
    let mut found: Vec<String> =
        differ.map(|(what, said, counted)| format!("{said} {what}; there is {counted}")).collect();
    let keys = [("first", &said.smallest, &counted.smallest), ("last", &said.largest, &counted.largest)];
    for (which, said, counted) in keys {
        if said != counted {
            let (said, counted) = (said.escape_ascii(), counted.escape_ascii());
            found.push(format!("{said} is its {which} key; it is {counted}"));
        }
    }
    if said.blobs != counted.blobs {
        found.push(format!("it points to {:?}; it does to {:?}", said.blobs, counted.blobs));
    }
    found
}

/// Reads the values in blob files that a memtable's records point to.
pub(crate) fn check_pointers(
    memtable: &Arc<Memtable>,
    blobs: &BlobReader,
    checked: &mut Checked,
    watch: &mut dyn Watch,
) -> Result<()> {
    let mut iter = memtable.iter();
    iter.seek_to_first()?;
    let mut failed = None;
    while iter.valid() {
        if iter.key().kind.is_blob() {
            checked.blob_values += 1;
            if let Err(error) = blobs.load_uncached(&iter.tail()?) {
                note(watch, &mut failed, Problem { error, keys: Some(one(iter.key().user)) });
            }
        }
        iter.next()?;
    }
    failed.map_or(Ok(()), Err)
}
