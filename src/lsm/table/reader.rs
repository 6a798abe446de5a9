//! An open table: its top index, and the way to its blocks through the cache.

use crate::disk::Object;
use crate::lsm::cache::{BlockCache, BlockKey};
use crate::lsm::key::{KeyRef, MAX_SEQ, SeqNo};
use crate::lsm::range::RangeSet;
use crate::lsm::table::filter::Filter;
use crate::lsm::table::footer::{FOOTER_LEN, Footer, lies_within};
use crate::lsm::table::frame::{BlockType, Handle, read_block, read_exact, unframe};
use crate::lsm::table::index::IndexBlock;
use crate::lsm::table::ranges;
use crate::lsm::table::{Malformed, Place, PrefixRule, Properties, TableIter};
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;

/// The end of the file that is read at once when a table is opened. The footer, the top index and
/// the properties of a table of 64 MiB fit.
const TAIL_LEN: u64 = 16 << 10;

/// What a read does with blocks that are not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheUse {
    /// Keep them there.
    Fill,
    /// Leave the cache as it is: a compaction's blocks will not be read again.
    Bypass,
}

/// What a table's filter says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterAnswer {
    /// There is no filter.
    None,
    /// The key is not in the table.
    Excluded,
    /// It may be.
    Passed,
}

/// An open table. May be used from any thread.
#[derive(Debug)]
pub struct Table {
    object: Arc<dyn Object>,
    place: Place,
    size: u64,
    cache: Arc<BlockCache>,
    top_index: IndexBlock,
    top_index_at: u64,
    properties: Handle,
    ranges: RangeSet,
}

impl Table {
    /// Opens the table of this place and length in bytes, with one read in most cases.
    pub(crate) fn open(
        object: Arc<dyn Object>,
        place: Place,
        size: u64,
        cache: Arc<BlockCache>,
    ) -> Result<Table> {
        let tail_at = size.saturating_sub(TAIL_LEN);
        let tail = read_exact(&*object, place, tail_at, (size - tail_at) as usize)?;
        let Some((before, footer)) = tail.split_last_chunk::<FOOTER_LEN>() else {
            return Err(place.damage(0, "shorter than a table's footer"));
        };
        let footer_at = tail_at + before.len() as u64;
        let Footer { top_index, properties, ranges } = Footer::decode(footer, place, footer_at)?;
        if !lies_within(top_index, size) {
            return Err(place.damage(footer_at, "top index outside the table"));
        }
        let damaged = |e: Malformed| place.damage(top_index.offset, e.0);
        let contents = match top_index.offset.checked_sub(tail_at) {
            Some(at) => {
                let framed = tail.slice(at as usize..at as usize + top_index.framed_len());
                let contents = unframe(&framed, place.number, top_index.offset, BlockType::TopIndex);
                // A copy, so that the table does not keep the whole tail in memory.
                Bytes::copy_from_slice(&contents.map_err(damaged)?)
            }
            None => read_block(&*object, place, top_index, BlockType::TopIndex)?,
        };
        let ranges = match ranges.len {
            0 => RangeSet::default(),
            _ if !lies_within(ranges, size) => {
                return Err(place.damage(footer_at, "range tombstones outside the table"));
            }
            _ => ranges::decode(&read_block(&*object, place, ranges, BlockType::Ranges)?)
                .map_err(|e| place.damage(ranges.offset, e.0))?,
        };
        Ok(Table {
            object,
            place,
            size,
            cache,
            top_index: IndexBlock::open(contents).map_err(damaged)?,
            top_index_at: top_index.offset,
            properties,
            ranges,
        })
    }

    /// The table's number.
    pub fn number(&self) -> u64 {
        self.place.number
    }

    /// Where it stands.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The table's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The range tombstones.
    pub(crate) fn ranges(&self) -> &RangeSet {
        &self.ranges
    }

    /// The table's account of itself.
    pub fn properties(&self) -> Result<Properties> {
        let block = self.block(self.properties, BlockType::Properties, CacheUse::Bypass)?;
        Properties::decode(&block, self.size)
            .ok_or_else(|| self.damaged(self.properties.offset, Malformed("the properties")))
    }

    /// A cursor over all records. It reads nothing before it is first positioned.
    pub fn iter(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), CacheUse::Fill)
    }

    /// As [`Table::iter`], for a pass over records that will not be read again, as a compaction's:
    /// blocks that are not in the cache are not put there.
    pub fn iter_uncached(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), CacheUse::Bypass)
    }

    /// The versions of a user key that a reader at `seq` may see: a cursor on the newest, from
    /// which `next` leads to the older ones and then to other keys. `None` if there are none.
    ///
    /// Reads the filter, and unless that excludes the key an index partition and a data block.
    pub fn seek_key(self: &Arc<Self>, user: &[u8], seq: SeqNo) -> Result<Option<TableIter>> {
        Ok(self.look_up(user, seq)?.1)
    }

    /// As [`Table::seek_key`]; also tells what the filter said.
    pub(crate) fn look_up(
        self: &Arc<Self>,
        user: &[u8],
        seq: SeqNo,
    ) -> Result<(FilterAnswer, Option<TableIter>)> {
        let target = KeyRef::bound(user, seq);
        let partition = self.find_partition(target)?;
        let answer = match self.filter(partition)? {
            None => FilterAnswer::None,
            Some(filter) if filter.may_contain(user) => FilterAnswer::Passed,
            Some(_) => return Ok((FilterAnswer::Excluded, None)),
        };
        let mut iter = self.iter();
        Ok((answer, iter.seek_key(partition, target)?.then_some(iter)))
    }

    /// May the table hold a version of the user key? Never false if it does.
    pub fn may_contain(&self, user: &[u8]) -> Result<bool> {
        let partition = self.find_partition(KeyRef::bound(user, MAX_SEQ))?;
        Ok(self.filter(partition)?.is_none_or(|filter| filter.may_contain(user)))
    }

    /// May the table hold a key of this prefix? Never false if it does.
    pub fn may_contain_prefix(&self, rule: &PrefixRule, prefix: &[u8]) -> Result<bool> {
        // If the first key of the prefix stands in a later partition, it is the first there and the
        // key before it lacks the prefix: so the start between them is no longer than the prefix,
        // and that partition is the one that is found.
        let partition = self.find_partition(KeyRef::bound(prefix, MAX_SEQ))?;
        Ok(self.filter(partition)?.is_none_or(|filter| filter.may_contain_prefix(rule, prefix)))
    }

    /// The start of a partition.
    pub(crate) fn partition_start(&self, partition: usize) -> Result<Bytes> {
        self.top_index.start(partition).map_err(|e| self.damaged(self.top_index_at, e))
    }

    pub(crate) fn partitions(&self) -> usize {
        self.top_index.len()
    }

    /// The partition in which `target`'s position is.
    pub(crate) fn find_partition(&self, target: KeyRef<'_>) -> Result<usize> {
        self.top_index.find(target).map_err(|e| self.damaged(self.top_index_at, e))
    }

    /// The last partition that may hold a record before `target`.
    pub(crate) fn find_partition_before(&self, target: KeyRef<'_>) -> Result<Option<usize>> {
        self.top_index.find_before(target).map_err(|e| self.damaged(self.top_index_at, e))
    }

    /// Does a partition start with a further version of this user key?
    pub(crate) fn partition_starts_with(&self, partition: usize, user: &[u8]) -> Result<bool> {
        self.top_index.start_is(partition, user).map_err(|e| self.damaged(self.top_index_at, e))
    }

    /// Reads the index of a partition; also gives its offset.
    pub(crate) fn index(&self, partition: usize, cache_use: CacheUse) -> Result<(IndexBlock, u64)> {
        let handle = self.top_index.handle(partition).map_err(|e| self.damaged(self.top_index_at, e))?;
        let contents = self.block(handle, BlockType::Index, cache_use)?;
        let index = IndexBlock::open(contents).map_err(|e| self.damaged(handle.offset, e))?;
        Ok((index, handle.offset))
    }

    /// Reads the filter of a partition, if it has one.
    pub(crate) fn filter(&self, partition: usize) -> Result<Option<Filter>> {
        let handle = self.top_index.filter(partition).map_err(|e| self.damaged(self.top_index_at, e))?;
        if handle.len == 0 {
            return Ok(None);
        }
        let contents = self.block(handle, BlockType::Filter, CacheUse::Fill)?;
        Filter::open(contents).map(Some).map_err(|e| self.damaged(handle.offset, e))
    }

    /// The contents of a block, from the cache or the file.
    pub(crate) fn block(&self, handle: Handle, block_type: BlockType, cache_use: CacheUse) -> Result<Bytes> {
        if !lies_within(handle, self.size) {
            return Err(self.damaged(handle.offset, Malformed("a block outside the table")));
        }
        let key = BlockKey { file: self.place.number, offset: handle.offset };
        let read = || read_block(&*self.object, self.place, handle, block_type);
        match cache_use {
            CacheUse::Fill => self.cache.get_or_load(key, read),
            CacheUse::Bypass => self.cache.peek(key).map_or_else(read, Ok),
        }
    }

    /// The error for damage in the block at `offset`.
    pub(crate) fn damaged(&self, offset: u64, what: Malformed) -> Error {
        self.place.damage(offset, what.0)
    }
}
