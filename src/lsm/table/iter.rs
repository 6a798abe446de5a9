//! A cursor over a table's records.
//!
//! It holds at most one index partition, one data block and one value block. A seek loads the block in which the
//! target's position is, and the one behind or before it only if the record stands there.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, MAX_SEQ};
use crate::lsm::table::data::Tail;
use crate::lsm::table::data_cursor::DataCursor;
use crate::lsm::table::frame::{BlockType, Handle};
use crate::lsm::table::index::IndexBlock;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::table::{Malformed, Table};
use bytes::Bytes;
use std::cell::RefCell;
use std::sync::Arc;

/// A cursor over the records of a table, in both directions.
#[derive(Debug)]
pub struct TableIter {
    table: Arc<Table>,
    cache_use: CacheUse,
    /// The index that is loaded.
    index: Option<LoadedIndex>,
    /// The data block in `data`: its place in the index, and its offset.
    slot: usize,
    data_at: u64,
    pub(super) data: DataCursor,
    /// The value block that was read last, and its offset: the tails of neighbours stand in one.
    values: RefCell<Option<(u64, Bytes)>>,
}

#[derive(Debug)]
pub(super) struct LoadedIndex {
    partition: usize,
    at: u64,
    pub(super) block: IndexBlock,
}

impl TableIter {
    pub(crate) fn new(table: Arc<Table>, cache_use: CacheUse) -> TableIter {
        let (data, values) = (DataCursor::new(), RefCell::default());
        TableIter { table, cache_use, index: None, slot: 0, data_at: 0, data, values }
    }

    /// The record's head, as a slice that keeps its data block in memory. The cursor must be valid.
    pub fn head_bytes(&self) -> Bytes {
        self.data.head_bytes()
    }

    /// Moves to the newest version of `target`'s user key at or after `target`, whose position is
    /// in `partition`. False, and not necessarily valid, if there is none.
    pub(crate) fn seek_key(&mut self, partition: usize, target: KeyRef<'_>) -> Result<bool> {
        let found = self.try_seek_key(partition, target);
        self.checked(found)
    }

    fn try_seek_key(&mut self, partition: usize, target: KeyRef<'_>) -> Result<bool> {
        self.seek_in_partition(partition, target)?;
        if !self.data.valid() {
            // The next block holds versions of the key only if it starts within them.
            if !self.next_starts_with(target.user)? {
                return Ok(false);
            }
            self.skip_forward()?;
        }
        Ok(self.data.valid() && self.data.key().user == target.user)
    }

    /// Is the start of the data block behind the loaded one of this user key?
    fn next_starts_with(&self, user: &[u8]) -> Result<bool> {
        let index = self.loaded();
        let (slot, partition) = (self.slot + 1, index.partition + 1);
        if slot < index.block.len() {
            self.in_index(|index| index.start_is(slot, user))
        } else if partition < self.table.partitions() {
            self.table.partition_starts_with(partition, user)
        } else {
            Ok(false)
        }
    }

    /// Moves to the first record at or after `target` in the one data block of `partition` in
    /// which its position is; not valid if it is behind the block's last record.
    fn seek_in_partition(&mut self, partition: usize, target: KeyRef<'_>) -> Result<()> {
        self.load_index(partition)?;
        let slot = self.in_index(|index| index.find(target))?;
        self.load_data(slot)?;
        self.with_data(|data| data.seek(target))
    }

    fn try_seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        let partition = self.table.find_partition(target)?;
        self.seek_in_partition(partition, target)?;
        self.skip_forward()
    }

    fn try_seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.data.unset();
        let Some(partition) = self.table.find_partition_before(target)? else { return Ok(()) };
        self.load_index(partition)?;
        let slot = self.in_index(|index| index.find_before(target))?;
        // The partition starts before the target, and its first block with it.
        self.load_data(slot.unwrap_or(0))?;
        self.with_data(|data| data.seek_before(target))?;
        self.skip_backward()
    }

    fn try_seek_to_last(&mut self) -> Result<()> {
        self.load_index(self.table.partitions() - 1)?;
        self.load_data(self.loaded().block.len() - 1)?;
        self.with_data(DataCursor::seek_to_last)?;
        self.skip_backward()
    }

    fn try_next(&mut self) -> Result<()> {
        self.with_data(DataCursor::next)?;
        self.skip_forward()
    }

    fn try_prev(&mut self) -> Result<()> {
        debug_assert!(self.valid());
        self.with_data(DataCursor::prev)?;
        self.skip_backward()
    }

    /// Where the block in `data` ended, goes on to the first record of the next.
    #[inline]
    fn skip_forward(&mut self) -> Result<()> {
        while !self.data.valid() {
            let index = self.loaded();
            if self.slot + 1 < index.block.len() {
                self.load_data(self.slot + 1)?;
            } else if index.partition + 1 < self.table.partitions() {
                self.load_index(index.partition + 1)?;
                self.load_data(0)?;
            } else {
                return Ok(());
            }
            self.with_data(DataCursor::seek_to_first)?;
        }
        Ok(())
    }

    /// Where the block in `data` began, goes back to the last record of the one before.
    #[inline]
    fn skip_backward(&mut self) -> Result<()> {
        while !self.data.valid() {
            let index = self.loaded();
            if self.slot > 0 {
                self.load_data(self.slot - 1)?;
            } else if index.partition > 0 {
                self.load_index(index.partition - 1)?;
                self.load_data(self.loaded().block.len() - 1)?;
            } else {
                return Ok(());
            }
            self.with_data(DataCursor::seek_to_last)?;
        }
        Ok(())
    }

    /// Loads the index of a partition, if it is not the loaded one; its data block then goes.
    pub(super) fn load_index(&mut self, partition: usize) -> Result<()> {
        if self.index.as_ref().is_none_or(|index| index.partition != partition) {
            self.data.clear();
            let (block, at) = self.table.index(partition, self.cache_use)?;
            self.index = Some(LoadedIndex { partition, at, block });
        }
        Ok(())
    }

    /// Loads the data block in a slot of the loaded index, if it is not the loaded one.
    pub(super) fn load_data(&mut self, slot: usize) -> Result<()> {
        if self.data.has_block() && self.slot == slot {
            return Ok(());
        }
        self.data.clear();
        let handle = self.in_index(|index| index.handle(slot))?;
        let contents = self.table.block(handle, BlockType::Data, self.cache_use)?;
        (self.slot, self.data_at) = (slot, handle.offset);
        self.with_data(|data| data.set_block(contents))
    }

    fn value_block(&self, handle: Handle) -> Result<Bytes> {
        if let Some((at, values)) = &*self.values.borrow()
            && *at == handle.offset
        {
            return Ok(values.clone());
        }
        let values = self.table.block(handle, BlockType::Value, self.cache_use)?;
        self.values.replace(Some((handle.offset, values.clone())));
        Ok(values)
    }

    /// The loaded index. There is one wherever a record is, was or is being looked for.
    #[inline]
    pub(super) fn loaded(&self) -> &LoadedIndex {
        self.index.as_ref().expect("an index is loaded")
    }

    /// Asks the loaded index.
    pub(super) fn in_index<'a, T>(
        &'a self,
        ask: impl FnOnce(&'a IndexBlock) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        let index = self.loaded();
        ask(&index.block).map_err(|e| self.table.damaged(index.at, e))
    }

    /// Moves in the loaded data block.
    #[inline]
    pub(super) fn with_data<T>(
        &mut self,
        act: impl FnOnce(&mut DataCursor) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        act(&mut self.data).map_err(|e| self.table.damaged(self.data_at, e))
    }

    /// After an error nothing that was loaded is used again.
    #[inline]
    fn checked<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.data.clear();
            self.index = None;
            self.values.replace(None);
        }
        result
    }
}

impl InternalIterator for TableIter {
    #[inline]
    fn valid(&self) -> bool {
        self.data.valid()
    }

    #[inline]
    fn key(&self) -> KeyRef<'_> {
        self.data.key()
    }

    #[inline]
    fn head(&self) -> &[u8] {
        self.data.head()
    }

    fn tail(&self) -> Result<Bytes> {
        let (slot, start, len) = match self.data.tail() {
            Tail::Here(range) => return Ok(self.data.slice(range)),
            Tail::Apart { slot, start, len } => (*slot, *start as usize, *len as usize),
        };
        let damaged = |e| self.table.damaged(self.data_at, e);
        let handle = self.data.value_block(slot).map_err(damaged)?;
        let values = self.value_block(handle)?;
        if values.len().checked_sub(start).is_none_or(|rest| rest < len) {
            return Err(damaged(Malformed("a tail exceeds its value block")));
        }
        Ok(values.slice(start..start + len))
    }

    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        let result = self.try_seek(target);
        self.checked(result)
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        let result = self.try_seek_before(target);
        self.checked(result)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.seek(KeyRef::bound(b"", MAX_SEQ))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let result = self.try_seek_to_last();
        self.checked(result)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let result = self.try_next();
        self.checked(result)
    }

    fn prev(&mut self) -> Result<()> {
        let result = self.try_prev();
        self.checked(result)
    }
}
