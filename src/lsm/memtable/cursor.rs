//! A cursor over a memtable.

use super::Memtable;
use super::node::{Node, Version};
use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use bytes::Bytes;
use crossbeam_skiplist::SkipSet;
use crossbeam_skiplist::set::Entry;
use std::ops::Bound;
use std::sync::Arc;

/// A cursor over a memtable's records. Records inserted while it lives may or may not be seen; by
/// their sequence numbers they are invisible to whoever reads through it.
#[derive(Debug)]
pub(crate) struct MemtableIter {
    /// Borrows from `table`. Declared first: dropped first.
    position: Option<Position<'static>>,
    table: Arc<Memtable>,
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

    fn newest(entry: Entry<'a, Node>) -> Option<Position<'a>> {
        Position::on(entry, |node| node.at_most(u64::MAX)).ok()
    }

    fn oldest(entry: Entry<'a, Node>) -> Option<Position<'a>> {
        Position::on(entry, |node| node.at_least(0)).ok()
    }

    /// On the node's newest version whose trailer is not above `bound`, or else on the next node.
    fn from(entry: Entry<'a, Node>, bound: Option<u64>) -> Option<Position<'a>> {
        let found = Position::on(entry, |node| node.at_most(bound?));
        found.or_else(|entry| Position::newest(entry.next().ok_or(())?).ok_or(())).ok()
    }

    /// On the node's oldest version whose trailer is above `bound`, or else on the previous node.
    fn before(entry: Entry<'a, Node>, bound: u64) -> Option<Position<'a>> {
        let found = Position::on(entry, |node| node.at_least(bound.checked_add(1)?));
        found.or_else(|entry| Position::oldest(entry.prev().ok_or(())?).ok_or(())).ok()
    }
}

impl MemtableIter {
    /// Not positioned yet.
    pub fn new(table: Arc<Memtable>) -> MemtableIter {
        MemtableIter { position: None, table }
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
        self.stand_on(|nodes| {
            let entry = nodes.lower_bound(Bound::Included(target.user))?;
            match entry.key() == target.user {
                true => Position::from(entry, Some(target.trailer())),
                false => Position::newest(entry),
            }
        });
        Ok(())
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.stand_on(|nodes| {
            let entry = nodes.upper_bound(Bound::Included(target.user))?;
            match entry.key() == target.user {
                true => Position::before(entry, target.trailer()),
                false => Position::oldest(entry),
            }
        });
        Ok(())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.stand_on(|nodes| Position::newest(nodes.front()?));
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.stand_on(|nodes| Position::oldest(nodes.back()?));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let Position { entry, version } = self.position.take().expect("the cursor is valid");
        self.position = Position::from(entry, version.trailer.checked_sub(1));
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        let Position { entry, version } = self.position.take().expect("the cursor is valid");
        self.position = Position::before(entry, version.trailer);
        Ok(())
    }
}
