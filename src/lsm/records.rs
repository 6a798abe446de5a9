//! Every record of a volume where it stands: for those who want to see what the engine keeps.

use crate::lsm::Error;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{Kind, KindOrBound, SeqNo};
use crate::lsm::table::Table;
use crate::lsm::volume::Volume;
use bytes::Bytes;

/// Where records stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a memtable: 0 is the mutable one, then come the immutable ones, newest first.
    Memtable(usize),
    /// In a table.
    Table {
        /// Its level.
        level: usize,
        /// Its file's name.
        file: String,
    },
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// The write's sequence number.
    pub seq: SeqNo,
    /// What the write did.
    pub kind: Kind,
    /// The head of the value; of a range tombstone, the end of what it deletes.
    pub head: Bytes,
    /// The tail of the value; of a blob pointer, where that is ([`crate::lsm::blob::Pointer`]).
    pub tail: Bytes,
}

impl Volume {
    /// Hands every record to `each`, in the order in which reads look: memtables from the newest on, then
    /// the levels' tables. In each, records come in the order of their keys, newest version first.
    pub fn records<E: From<Error>>(
        &self,
        mut each: impl FnMut(&Place, &Record<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.check_open()?;
        let tree = self.tree();
        for (number, memtable) in tree.memtables().enumerate() {
            walk(&mut memtable.iter(), None, &mut |record| each(&Place::Memtable(number), record))?;
        }
        for (level, tables) in tree.levels.iter().enumerate() {
            for meta in tables {
                let table = self.shared().tables.get(meta)?;
                let place = Place::Table { level, file: meta.file().name() };
                walk(&mut table.iter_uncached(), Some(&table), &mut |record| each(&place, record))?;
            }
        }
        Ok(())
    }
}

/// Hands every record of a source to `each`. A table's range tombstones do not carry their ends.
fn walk<E: From<Error>>(
    source: &mut impl InternalIterator,
    table: Option<&Table>,
    each: &mut impl FnMut(&Record<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    source.seek_to_first()?;
    while source.valid() {
        let key = source.key();
        let KindOrBound::Kind(kind) = key.kind else { unreachable!("records have a kind") };
        let head = match table.filter(|_| kind == Kind::RangeTombstone) {
            Some(table) => end_in(table, key.user, key.seq),
            None => Bytes::copy_from_slice(source.head()),
        };
        each(&Record { key: key.user, seq: key.seq, kind, head, tail: source.tail()? })?;
        source.next()?;
    }
    Ok(())
}

/// Where the range tombstone of this start and number ends, or is cut by another.
pub(crate) fn end_in(table: &Table, start: &[u8], seq: SeqNo) -> Bytes {
    table.ranges().covering(start, seq).map_or_else(Bytes::new, |(_, end)| end.clone())
}
