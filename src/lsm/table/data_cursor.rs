//! A cursor over the records of one data block, in both directions.
//!
//! It reads entries in place. The one thing it allocates is the buffer of the current user key,
//! which it keeps from block to block.

use crate::lsm::key::{KeyRef, Kind, KindOrBound, SeqNo};
use crate::lsm::table::Malformed;
use crate::lsm::table::data::{DataBlock, Entry, Place, Tail, common_prefix_len};
use crate::lsm::table::frame::Handle;
use bytes::Bytes;
use std::ops::Range;

type Result<T> = std::result::Result<T, Malformed>;

/// A cursor over one data block. It starts out without a block, and not valid.
#[derive(Debug)]
pub(crate) struct DataCursor {
    block: Option<DataBlock>,
    /// Where the current entry starts, if there is one.
    at: Option<usize>,
    /// The entry after it.
    next: Place,
    user: Vec<u8>,
    seq: SeqNo,
    kind: Kind,
    head: Range<usize>,
    tail: Tail,
}

const NO_BLOCK: Malformed = Malformed("no data block is loaded");

impl DataCursor {
    pub(crate) fn new() -> DataCursor {
        DataCursor {
            block: None,
            at: None,
            next: Place::default(),
            user: Vec::new(),
            seq: 0,
            kind: Kind::Put,
            head: 0..0,
            tail: Tail::Here(0..0),
        }
    }

    /// Takes a block. The cursor is then not valid.
    pub(crate) fn set_block(&mut self, contents: Bytes) -> Result<()> {
        self.clear();
        self.block = Some(DataBlock::open(contents)?);
        Ok(())
    }

    /// Lets the block go.
    pub(crate) fn clear(&mut self) {
        self.at = None;
        self.block = None;
    }

    pub(crate) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// Leaves the current record.
    pub(crate) fn unset(&mut self) {
        self.at = None;
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.at.is_some()
    }

    #[inline]
    pub(crate) fn key(&self) -> KeyRef<'_> {
        debug_assert!(self.valid());
        KeyRef { user: &self.user, seq: self.seq, kind: KindOrBound::Kind(self.kind) }
    }

    #[inline]
    pub(crate) fn head(&self) -> &[u8] {
        self.contents(&self.head)
    }

    /// The head as a slice that keeps the block in memory.
    pub(crate) fn head_bytes(&self) -> Bytes {
        self.slice(&self.head)
    }

    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// A part of the block that a parsed entry named.
    pub(crate) fn slice(&self, range: &Range<usize>) -> Bytes {
        self.block.as_ref().map_or_else(Bytes::new, |block| block.contents.slice(range.clone()))
    }

    /// The value block of a slot.
    pub(crate) fn value_block(&self, slot: u32) -> Result<Handle> {
        self.block.as_ref().ok_or(NO_BLOCK)?.value_block(slot)
    }

    /// Moves to the first record.
    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.at = None;
        let first = self.block.as_ref().ok_or(NO_BLOCK)?.restart(0);
        self.go_to_restart(first)
    }

    /// Moves to the last record.
    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.at = None;
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        let end = block.values_at;
        let last = block.restart(block.restarts - 1);
        self.go_to_restart(last)?;
        while self.next.entry < end {
            self.step()?;
        }
        Ok(())
    }

    /// Moves to the first record at or after `target`; not valid if there is none.
    pub(crate) fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.at = None;
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        // The record stands in the interval of the last restart before the target, or at the next.
        let mut place = block.last_restart(|place| {
            let entry = block.entry(place)?;
            if entry.shared != 0 {
                return Err(Malformed("a restart is not at a whole key"));
            }
            Ok(entry.key(&block.contents) < target)
        })?;
        // How much of the target the last entry that was passed has; no key is put together on the
        // way, because the one that is sought has its shared part in common with the target.
        let mut matched = 0;
        while place.entry != block.values_at {
            let entry = block.entry(place)?;
            if entry.shared <= matched {
                let key = entry.key(&block.contents);
                let rest = KeyRef { user: &target.user[entry.shared..], ..target };
                let common = common_prefix_len(key.user, rest.user);
                // Keys compare as their remainders do, and these as what follows their common part.
                if cut(key, common) >= cut(rest, common) {
                    self.user.clear();
                    self.user.extend_from_slice(&target.user[..entry.shared]);
                    self.enter(place, entry);
                    return Ok(());
                }
                matched = entry.shared + common;
            }
            place = entry.next;
        }
        Ok(())
    }

    /// Moves to the last record before `target`; not valid if there is none.
    pub(crate) fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.seek(target)?;
        if self.valid() { self.prev() } else { self.seek_to_last() }
    }

    /// Moves to the next record; not valid if there is none.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        debug_assert!(self.valid());
        self.step()
    }

    /// Moves to the record before; not valid if there is none.
    pub(crate) fn prev(&mut self) -> Result<()> {
        let Some(current) = self.at.take() else { return Ok(()) };
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        if current == block.entries_at {
            return Ok(());
        }
        let restart = block.last_restart(|place| Ok(place.entry < current))?;
        self.go_to_restart(restart)?;
        while self.next.entry < current {
            self.step()?;
        }
        if self.next.entry != current {
            self.at = None;
            return Err(Malformed("a restart is not at an entry"));
        }
        Ok(())
    }

    fn go_to_restart(&mut self, place: Place) -> Result<()> {
        self.at = None;
        self.next = place;
        self.user.clear();
        self.step()
    }

    /// Moves to the entry at `self.next`; the user key of the entry before it is in `self.user`.
    #[inline]
    fn step(&mut self) -> Result<()> {
        let place = self.next;
        self.at = None;
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        if place.entry == block.values_at {
            return Ok(());
        }
        let entry = block.entry(place)?;
        if entry.shared > self.user.len() {
            return Err(Malformed("an entry shares more than the key before it has"));
        }
        self.user.truncate(entry.shared);
        self.enter(place, entry);
        Ok(())
    }

    /// Makes the entry at `place` the current one; its shared part is in `self.user`.
    #[inline]
    fn enter(&mut self, place: Place, entry: Entry) {
        let Some(block) = &self.block else { return };
        self.user.extend_from_slice(&block.contents[entry.unshared]);
        self.seq = entry.seq;
        self.kind = entry.kind;
        self.head = entry.head;
        self.tail = entry.tail;
        self.next = entry.next;
        self.at = Some(place.entry);
    }

    #[inline]
    fn contents(&self, range: &Range<usize>) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block.contents[range.clone()])
    }
}

/// A key without the first `len` bytes of its user key.
fn cut(key: KeyRef<'_>, len: usize) -> KeyRef<'_> {
    KeyRef { user: &key.user[len..], ..key }
}

#[cfg(test)]
#[path = "data_cursor_tests.rs"]
mod tests;
