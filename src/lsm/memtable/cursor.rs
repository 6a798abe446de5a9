//! A cursor over a memtable.

use super::Memtable;
use super::node::{Node, Version};
use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, SeqNo};
use bytes::Bytes;
use crossbeam_skiplist::SkipSet;
use crossbeam_skiplist::set::Entry;
use std::ops::Bound;
use std::sync::Arc;

/// A cursor over a memtable's records. Records inserted while it lives may or may not be seen; by
/// their sequence numbers they are invisible to whoever reads through it.
///
/// A *reader's* cursor shows him only what he needs: no version that is newer than he sees, and, on its way
/// forward, none below the one that gives him the value. So a key that is written to all the time, such as a
/// directory's, is one step.
#[derive(Debug)]
pub(crate) struct MemtableIter {
    /// Borrows from `table`. Declared first: dropped first.
    position: Option<Position<'static>>,
    table: Arc<Memtable>,
    /// Versions are shown whose trailers are not above this one.
    newest: u64,
    /// Does it show all of them?
    all: bool,
}

/// A node, and one of its versions.
#[derive(Debug)]
struct Position<'a> {
    entry: Entry<'a, Node>,
    version: Version<'a>,
}

impl<'a> Position<'a> {
    /// On the version of a node that `find` finds; the entry, if it finds none.
    fn on(
        entry: Entry<'a, Node>,
        find: impl FnOnce(&Node) -> Option<Version<'_>>,
    ) -> std::result::Result<Position<'a>, Entry<'a, Node>> {
        let Some(found) = find(&entry) else { return Err(entry) };
        // SAFETY: only the lifetime changes. The version borrows from the arena, which lives for `'a`: the entry
        // came of a borrow of the memtable for `'a`.
        let version = unsafe { std::mem::transmute::<Version<'_>, Version<'a>>(found) };
        Ok(Position { entry, version })
    }

    /// On the node's newest version whose trailer is not above `bound`, or else on the next node's that is not above
    /// `newest`.
    fn from(entry: Entry<'a, Node>, bound: Option<u64>, newest: u64) -> Option<Position<'a>> {
        let mut found = Position::on(entry, |node| node.at_most(bound?));
        while let Err(entry) = found {
            found = Position::on(entry.next()?, |node| node.at_most(newest));
        }
        found.ok()
    }

    /// On the node's oldest version whose trailer is from `bound` to `newest`, or else on the previous node's.
    fn before(entry: Entry<'a, Node>, bound: Option<u64>, newest: u64) -> Option<Position<'a>> {
        let visible = |version: &Version<'_>| version.trailer <= newest;
        let mut found = Position::on(entry, |node| node.at_least(bound?).filter(visible));
        while let Err(entry) = found {
            found = Position::on(entry.prev()?, |node| node.at_least(0).filter(visible));
        }
        found.ok()
    }
}

impl MemtableIter {
    /// Not positioned yet.
    pub fn new(table: Arc<Memtable>) -> MemtableIter {
        MemtableIter { position: None, table, newest: u64::MAX, all: true }
    }

    /// For a reader at `seq`; not positioned yet.
    pub fn for_reader(table: Arc<Memtable>, seq: SeqNo) -> MemtableIter {
        MemtableIter { position: None, table, newest: KeyRef::bound(&[], seq).trailer(), all: false }
    }

    /// Below which trailer the versions go on that are to be shown, after this one.
    fn below(&self, version: &Version<'_>) -> Option<u64> {
        // A patch lies over an older version. A scan needs none below one with a head: it looks up the tail apart.
        let goes_on = self.all || version.kind() == Kind::Patch;
        version.trailer.checked_sub(1).filter(|_| goes_on)
    }

    fn stand_on<'a>(&'a mut self, find: impl FnOnce(&'a SkipSet<Node>) -> Option<Position<'a>>) {
        let found = find(&self.table.nodes);
        // SAFETY: only the lifetime changes. The position borrows from the memtable in `self.table`,
        // which lives on the heap, does not move with `self`, is never replaced, and outlives
        // `self.position` because that field is dropped first. The position is not handed out: what the
        // accessors return borrows `self`.
        let found = unsafe { std::mem::transmute::<Option<Position<'a>>, Option<Position<'static>>>(found) };
        self.position = found;
    }

    fn current(&self) -> &Position<'static> {
        self.position.as_ref().expect("the cursor is valid")
    }
}

impl InternalIterator for MemtableIter {
    fn valid(&self) -> bool {
        self.position.is_some()
    }

    fn key(&self) -> KeyRef<'_> {
        let Position { entry, version } = self.current();
        entry.internal_key(version)
    }

    fn head(&self) -> &[u8] {
        self.current().version.head
    }

    fn tail(&self) -> Result<Bytes> {
        Ok(self.table.arena.bytes(self.current().version.tail))
    }

    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        let newest = self.newest;
        self.stand_on(|nodes| {
            let entry = nodes.lower_bound(Bound::Included(target.user))?;
            let bound = if entry.key() == target.user { target.trailer().min(newest) } else { newest };
            Position::from(entry, Some(bound), newest)
        });
        Ok(())
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        let newest = self.newest;
        self.stand_on(|nodes| {
            let entry = nodes.upper_bound(Bound::Included(target.user))?;
            let bound = if entry.key() == target.user { target.trailer().checked_add(1) } else { Some(0) };
            Position::before(entry, bound, newest)
        });
        Ok(())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        let newest = self.newest;
        self.stand_on(|nodes| Position::from(nodes.front()?, Some(newest), newest));
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let newest = self.newest;
        self.stand_on(|nodes| Position::before(nodes.back()?, Some(0), newest));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let Position { entry, version } = self.position.take().expect("the cursor is valid");
        self.position = Position::from(entry, self.below(&version), self.newest);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        let Position { entry, version } = self.position.take().expect("the cursor is valid");
        self.position = Position::before(entry, version.trailer.checked_add(1), self.newest);
        Ok(())
    }
}
