//! Building a table.
//!
//! Blocks are cut in an order that lets everything be written once, front to back, with the memory
//! of one partition: a data block's value blocks go to the file as they fill, ahead of it; finished
//! data blocks wait in `run` until their partition is complete, then follow in one piece, and the
//! partition's filter and index behind them.

use crate::disk::ObjectWriter;
use crate::lsm::batch::MAX_KEY_LEN;
use crate::lsm::blob::reader::pointer_in;
use crate::lsm::key::{KeyRef, Kind, KindOrBound};
use crate::lsm::options::Compression;
use crate::lsm::range::RangeTombstone;
use crate::lsm::table::compress::{Codec, Compressor};
use crate::lsm::table::data::{DataBlockBuilder, TailIn};
use crate::lsm::table::filter::FilterBuilder;
use crate::lsm::table::footer::Footer;
use crate::lsm::table::frame::{BlockType, FrameWriter, Handle, TRAILER_LEN, trailer};
use crate::lsm::table::index::{IndexBuilder, start_key};
use crate::lsm::table::{Properties, TableMeta, TableOptions, ranges};
use crate::lsm::{Error, Result};
use bytes::Bytes;

/// The longest key: more than a batch takes. Where a compaction cuts a range tombstone the rest begins
/// right behind a key, one byte longer, and may be cut there again.
pub const MAX_TABLE_KEY_LEN: usize = MAX_KEY_LEN + 1024;
/// The longest head, and the longest tail.
pub const MAX_VALUE_PART_LEN: usize = 1 << 30;

/// Data blocks of a partition, in bytes: long enough that a scan reads in large pieces, short
/// enough that the builder's memory and the index and filter a cold read loads stay small.
const PARTITION_LEN: usize = 1 << 20;

/// A filter may take as many bytes as this many blocks before its partition ends.
const FILTER_MAX_BLOCKS: usize = 4;

/// Larger blocks have no use, and block lengths must fit 32 bits whatever the options.
const BLOCK_SIZE_MAX: usize = 16 << 20;

/// Writes one table. Dropped unfinished, it leaves no file behind.
pub struct TableBuilder {
    options: TableOptions,
    out: FrameWriter,
    compressor: Compressor,
    meta: TableMeta,
    /// The key of the last record: `last_user` and its number and kind.
    last: Option<(u64, KindOrBound)>,
    last_user: Vec<u8>,
    ranges: Vec<RangeTombstone>,
    data: DataBlockBuilder,
    /// The start key of the block in `data`.
    data_start: Vec<u8>,
    /// Tails for the next value block of the block in `data`.
    values: Vec<u8>,
    partition: Partition,
    top_index: IndexBuilder,
    properties: Properties,
}

/// The partition that is being built.
struct Partition {
    /// Its first block's start key.
    start: Vec<u8>,
    /// Its finished data blocks, framed; their checksums are filled in when their offsets are known.
    run: Vec<u8>,
    /// Where in `run` they are, and how they are compressed.
    blocks: Vec<(Handle, Codec)>,
    index: IndexBuilder,
    filter: FilterBuilder,
}

impl TableBuilder {
    /// Starts the table with this number. `writer` is the new object of the table's name.
    pub fn new(writer: Box<dyn ObjectWriter>, number: u64, options: &TableOptions) -> Result<TableBuilder> {
        let options = TableOptions { block_size: options.block_size.min(BLOCK_SIZE_MAX), ..options.clone() };
        Ok(TableBuilder {
            out: FrameWriter::new(writer, number),
            compressor: Compressor::new(options.compression),
            meta: TableMeta { split: options.split, ..TableMeta::empty(number) },
            last: None,
            last_user: Vec::new(),
            ranges: Vec::new(),
            data: DataBlockBuilder::default(),
            data_start: Vec::new(),
            values: Vec::new(),
            partition: Partition {
                start: Vec::new(),
                run: Vec::new(),
                blocks: Vec::new(),
                index: IndexBuilder::default(),
                filter: FilterBuilder::new(options.filter_bits_per_key, options.prefix),
            },
            top_index: IndexBuilder::default(),
            properties: Properties {
                meta: TableMeta::empty(number),
                compression: compression_number(options.compression),
                block_size: options.block_size as u64,
                value_threshold: options.value_threshold as u64,
                partitions: 0,
                data_blocks: 0,
                value_blocks: 0,
                prefix_rule: options.prefix.map_or(0, |rule| rule.id.into()),
                store: options.store,
                homes: options.homes.clone(),
                replaces: options.replaces.clone(),
            },
            options,
        })
    }

    /// Adds a record. Its key must be above the one before, and not a bound. The head of a range
    /// tombstone is its end. After an error the table cannot be completed: drop the builder.
    pub fn add(&mut self, key: KeyRef<'_>, head: &[u8], tail: &[u8]) -> Result<()> {
        let KindOrBound::Kind(kind) = key.kind else { panic!("a bound is no record") };
        if kind == Kind::RangeTombstone {
            let (start, end) = (Bytes::copy_from_slice(key.user), Bytes::copy_from_slice(head));
            self.ranges.push(RangeTombstone { start, end, seq: key.seq });
        }
        // A range tombstone's record only marks its place; its end may yet be clipped.
        let head = if kind == Kind::RangeTombstone { &[] } else { head };
        assert!(self.last_key().is_none_or(|last| last < key), "records out of order");
        check_len("key", key.user.len(), MAX_TABLE_KEY_LEN)?;
        check_len("value", head.len(), MAX_VALUE_PART_LEN)?;
        check_len("value", tail.len(), MAX_VALUE_PART_LEN)?;

        let apart = !tail.is_empty() && tail.len() >= self.options.value_threshold;
        let tail_here = if apart { 0 } else { tail.len() };
        let added = key.user.len() + head.len() + tail_here;
        if !self.data.is_empty() && self.data.len() + added > self.options.block_size {
            self.cut_data_block()?;
        }
        if self.data.is_empty() {
            self.start_data_block(key);
        }
        let tail_in = if apart { self.add_value(tail)? } else { TailIn::Here(tail) };
        self.data.add(&self.last_user, key, head, tail_in);
        self.partition.filter.add(key.user);
        self.meta.count(key, kind, head, tail);
        if kind.is_blob() {
            self.meta.refer(&pointer_in(tail)?, key.seq);
        }

        self.last_user.clear();
        self.last_user.extend_from_slice(key.user);
        self.last = Some((key.seq, key.kind));
        Ok(())
    }

    /// Has no record been added?
    pub fn is_empty(&self) -> bool {
        self.meta.entries == 0
    }

    /// About the length of the file if it were finished now.
    pub fn estimated_size(&self) -> u64 {
        let partition = &self.partition;
        let pending = partition.run.len()
            + self.data.len()
            + self.values.len()
            + partition.index.len()
            + partition.filter.len()
            + self.top_index.len();
        self.out.offset() + pending as u64
    }

    /// Completes the file, which then exists under its name. There must be a record in it.
    pub fn finish(self) -> Result<TableMeta> {
        self.finish_before(None)
    }

    /// As [`TableBuilder::finish`]; range tombstones end at `clip`, which must be behind the last record.
    pub(crate) fn finish_before(mut self, clip: Option<&[u8]>) -> Result<TableMeta> {
        assert!(!self.is_empty(), "a table without records");
        self.cut_data_block()?;
        self.cut_partition()?;
        let ranges = self.write_ranges(clip)?;
        self.meta.settle_split();
        self.properties.meta = self.meta.clone();
        let properties =
            self.out.append_block(BlockType::Properties, Codec::Raw, &self.properties.encode())?;
        let (codec, stored) = self.compressor.compress(self.top_index.finish(0));
        let top_index = self.out.append_block(BlockType::TopIndex, codec, stored)?;
        self.out.append(&Footer { top_index, properties, ranges }.encode(self.meta.number))?;
        self.meta.size = self.out.finish()?;
        Ok(self.meta)
    }

    /// Writes the range tombstones and sets the largest key.
    fn write_ranges(&mut self, clip: Option<&[u8]>) -> Result<Handle> {
        let mut furthest = self.last_user.as_slice();
        let mut block = Vec::new();
        for RangeTombstone { start, end, seq } in &self.ranges {
            let end = clip.map_or(end.as_ref(), |clip| end.as_ref().min(clip));
            ranges::encode(&mut block, start, end, *seq);
            // The last key before an end of `k\0` is `k`: so a clipped table does not reach into the next.
            furthest = furthest.max(end.strip_suffix(&[0]).unwrap_or(end));
        }
        self.meta.largest = Bytes::copy_from_slice(furthest);
        match block.as_slice() {
            [] => Ok(Handle::default()),
            block => self.out.append_block(BlockType::Ranges, Codec::Raw, block),
        }
    }

    fn last_key(&self) -> Option<KeyRef<'_>> {
        self.last.map(|(seq, kind)| KeyRef { user: &self.last_user, seq, kind })
    }

    /// Notes where the data block that starts with `first` starts.
    fn start_data_block(&mut self, first: KeyRef<'_>) {
        if self.is_empty() {
            self.meta.smallest = Bytes::copy_from_slice(first.user);
        }
        let mut start = std::mem::take(&mut self.data_start);
        start.clear();
        start_key(self.last_key(), first).encode_to(&mut start);
        if self.partition.index.is_empty() {
            self.partition.start.clone_from(&start);
        }
        self.data_start = start;
    }

    /// Puts a tail into a value block; a large one gets a block to itself.
    fn add_value(&mut self, tail: &[u8]) -> Result<TailIn<'static>> {
        if self.values.len() + tail.len() > self.options.block_size {
            self.cut_value_block()?;
        }
        let slot = self.data.next_slot();
        let place = TailIn::Apart { slot, start: self.values.len() as u32, len: tail.len() as u32 };
        if tail.len() >= self.options.block_size {
            self.write_value_block(tail)?;
        } else {
            self.values.extend_from_slice(tail);
        }
        Ok(place)
    }

    fn cut_value_block(&mut self) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let mut values = std::mem::take(&mut self.values);
        let written = self.write_value_block(&values);
        values.clear();
        self.values = values;
        written
    }

    fn write_value_block(&mut self, contents: &[u8]) -> Result<()> {
        let (codec, stored) = self.compressor.compress(contents);
        let handle = self.out.append_block(BlockType::Value, codec, stored)?;
        self.data.add_value_block(handle);
        self.properties.value_blocks += 1;
        Ok(())
    }

    /// Completes the data block and its last value block; ends the partition if it is large enough.
    fn cut_data_block(&mut self) -> Result<()> {
        self.cut_value_block()?;
        let (codec, stored) = self.compressor.compress(self.data.finish());
        let partition = &mut self.partition;
        let place = Handle { offset: partition.run.len() as u64, len: stored.len() as u32 };
        partition.run.extend_from_slice(stored);
        partition.run.extend_from_slice(&[0; TRAILER_LEN]);
        partition.blocks.push((place, codec));
        partition.index.add(&self.data_start, place, None);
        self.data.clear();
        self.properties.data_blocks += 1;

        let full = partition.run.len() >= PARTITION_LEN
            || partition.index.len() >= self.options.block_size
            || partition.filter.len() >= self.options.block_size * FILTER_MAX_BLOCKS;
        if full { self.cut_partition() } else { Ok(()) }
    }

    /// Writes the partition's data blocks, filter and index.
    fn cut_partition(&mut self) -> Result<()> {
        let partition = &mut self.partition;
        if partition.blocks.is_empty() {
            return Ok(());
        }
        let base = self.out.offset();
        for &(place, codec) in &partition.blocks {
            let (stored, rest) = partition.run[place.offset as usize..].split_at_mut(place.len as usize);
            let offset = base + place.offset;
            let sealed = trailer(self.out.number(), offset, BlockType::Data, codec, stored);
            rest[..TRAILER_LEN].copy_from_slice(&sealed);
        }
        self.out.append(&partition.run)?;
        let filter = match partition.filter.finish() {
            none if none.is_empty() => Handle::default(),
            filter => self.out.append_block(BlockType::Filter, Codec::Raw, &filter)?,
        };
        let (codec, stored) = self.compressor.compress(partition.index.finish(base));
        let index = self.out.append_block(BlockType::Index, codec, stored)?;
        self.top_index.add(&partition.start, index, Some(filter));
        partition.run.clear();
        partition.blocks.clear();
        self.properties.partitions += 1;
        Ok(())
    }
}

fn check_len(what: &'static str, len: usize, limit: usize) -> Result<()> {
    if len > limit { Err(Error::TooLarge { what, len, limit }) } else { Ok(()) }
}

fn compression_number(compression: Compression) -> u64 {
    match compression {
        Compression::None => Codec::Raw as u64,
        Compression::Lz4 => Codec::Lz4 as u64,
        Compression::Zstd => Codec::Zstd as u64,
    }
}
