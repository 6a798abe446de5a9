//! What fuzzing puts into a table's blocks, and into a table as a whole (see [`crate::fuzzing`]).

use crate::fuzzing::Target;
use crate::lsm::cache::BlockCache;
use crate::lsm::fuzzing::Memory;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, MAX_SEQ};
use crate::lsm::table::compress::{Codec, decompress};
use crate::lsm::table::data_cursor::DataCursor;
use crate::lsm::table::filter::{Filter, PrefixRule};
use crate::lsm::table::footer::Footer;
use crate::lsm::table::frame::{self, BlockType, Handle};
use crate::lsm::table::index::IndexBlock;
use crate::lsm::table::walk::walk;
use crate::lsm::table::{Place, Properties, Table, TableMeta, ranges};
use bytes::Bytes;
use std::sync::Arc;

pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("block", block),
    ("index", index),
    ("filter", filter),
    ("meta", meta),
    ("compressed", compressed),
    ("table", table),
];

/// Records that are looked at: entries of an index may point to one block many times.
const RECORDS_MAX: usize = 2000;

/// Keys to look for: pieces of the input, and the ends of all keys.
fn keys(input: &[u8]) -> [&[u8]; 4] {
    [&[], input.get(..2).unwrap_or(input), input.get(3..6).unwrap_or_default(), &[0xff; 9]]
}

fn block(input: &[u8]) {
    let mut cursor = DataCursor::new();
    if cursor.set_block(Bytes::copy_from_slice(input)).is_err() {
        return;
    }
    let mut records = 0;
    let mut look = |cursor: &DataCursor| {
        records += 1;
        assert!(records <= 4 * (input.len() + 1));
        let _ = (cursor.key().user.len(), cursor.head().len(), cursor.tail(), cursor.value_block(0));
    };
    let mut moved = cursor.seek_to_first();
    while moved.is_ok() && cursor.valid() {
        look(&cursor);
        moved = cursor.next();
    }
    let mut moved = cursor.seek_to_last();
    while moved.is_ok() && cursor.valid() {
        look(&cursor);
        moved = cursor.prev();
    }
    for user in keys(input) {
        for seq in [0, 7, MAX_SEQ] {
            let target = KeyRef::bound(user, seq);
            if cursor.seek(target).is_ok() && cursor.valid() {
                let _ = cursor.prev();
            }
            let _ = cursor.seek_before(target);
        }
    }
}

fn index(input: &[u8]) {
    let Ok(index) = IndexBlock::open(Bytes::copy_from_slice(input)) else { return };
    for i in 0..index.len() {
        let _ = (index.handle(i), index.filter(i), index.start(i), index.start_is(i, b"key"));
    }
    for user in keys(input) {
        let target = KeyRef::bound(user, 7);
        assert!(index.find(target).is_ok_and(|i| i < index.len()) || index.find(target).is_err());
        let before = index.find_before(target);
        assert!(before.is_err() || before.is_ok_and(|i| i.is_none_or(|i| i < index.len())));
    }
}

fn filter(input: &[u8]) {
    let Ok(filter) = Filter::open(Bytes::copy_from_slice(input)) else { return };
    let rule = PrefixRule { id: 1, extract: |key| key.get(..2) };
    for user in keys(input) {
        let _ = (filter.may_contain(user), filter.may_contain_prefix(&rule, user));
    }
}

/// A table's meta, its properties and its range tombstones.
fn meta(input: &[u8]) {
    if let Some(meta) = TableMeta::decode(&mut &input[..]) {
        let mut encoded = Vec::new();
        meta.encode(&mut encoded);
        assert_eq!(TableMeta::decode(&mut &encoded[..]), Some(meta));
    }
    if let Some(properties) = Properties::decode(input, 9) {
        assert_eq!(Properties::decode(&properties.encode(), 9), Some(properties));
    }
    if let Ok(set) = ranges::decode(input) {
        let mut encoded = Vec::new();
        set.tombstones().for_each(|t| ranges::encode(&mut encoded, &t.start, &t.end, t.seq));
        assert!(ranges::decode(&encoded).is_ok());
        keys(input).iter().for_each(|key| _ = set.covering(key, MAX_SEQ));
    }
}

/// A compressed block: its codec, then its stored contents.
fn compressed(input: &[u8]) {
    let Some((&codec, stored)) = input.split_first() else { return };
    let Some(codec) = Codec::from_u8(codec).filter(|codec| *codec != Codec::Raw) else { return };
    // Lengths up to the limit are allowed, and cost what they say.
    let len = stored.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    if len > 1 << 20 && len < 1 << 26 {
        return;
    }
    if let Ok(contents) = decompress(codec, stored) {
        assert_eq!(contents.len(), len as usize);
    }
}

/// A table's blocks, one after the other, to which the target adds trailers and the footer.
///
/// ```text
/// number of blocks (1) | (length (2, big-endian) | type (1) | compression (1)) of each | contents of each
/// ```
fn table(input: &[u8]) {
    let Some(file) = assemble(input) else { return };
    let (size, cache) = (file.len() as u64, Arc::new(BlockCache::new(0)));
    let Ok(table) = Table::open(Arc::new(Memory(file.into())), Place::single(NUMBER), size, cache) else {
        return;
    };
    let table = Arc::new(table);
    let _ = table.properties();
    let mut found = 0;
    walk(&table, &mut |_| found += 1);
    let mut iter = table.iter_uncached();
    let mut moved = iter.seek_to_first();
    for _ in 0..RECORDS_MAX {
        if moved.is_err() || !iter.valid() {
            break;
        }
        let _ = (iter.key().trailer(), iter.head().len(), iter.tail());
        moved = iter.next();
    }
    let mut moved = iter.seek_to_last();
    for _ in 0..RECORDS_MAX {
        if moved.is_err() || !iter.valid() {
            break;
        }
        moved = iter.prev();
    }
    for user in keys(input) {
        let _ = table.may_contain(user);
        if let Ok(Some(found)) = table.seek_key(user, MAX_SEQ) {
            let _ = (found.valid(), found.valid().then(|| found.tail()));
        }
        let target = KeyRef::bound(user, 7);
        let _ = (iter.seek(target), iter.seek_before(target));
    }
}

/// The number of the table.
pub(crate) const NUMBER: u64 = 1;

const TYPES: [BlockType; 7] = [
    BlockType::Data,
    BlockType::Index,
    BlockType::TopIndex,
    BlockType::Filter,
    BlockType::Value,
    BlockType::Properties,
    BlockType::Ranges,
];

fn assemble(input: &[u8]) -> Option<Vec<u8>> {
    let (&count, rest) = input.split_first()?;
    let (list, mut contents) = rest.split_at_checked(4 * usize::from(count))?;
    let mut file = Vec::with_capacity(input.len() * 2);
    let mut footer =
        Footer { top_index: Handle::default(), properties: Handle::default(), ranges: Handle::default() };
    for entry in list.chunks_exact(4) {
        let len = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
        let stored = contents.split_off(..len.min(contents.len()))?;
        let block_type = TYPES.into_iter().find(|t| *t as u8 == entry[2])?;
        let codec = Codec::from_u8(entry[3])?;
        let stated = stored.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        if codec != Codec::Raw && stated > 1 << 20 {
            return None;
        }
        let handle = Handle { offset: file.len() as u64, len: stored.len() as u32 };
        match block_type {
            BlockType::TopIndex => footer.top_index = handle,
            BlockType::Properties => footer.properties = handle,
            BlockType::Ranges => footer.ranges = handle,
            _ => {}
        }
        file.extend_from_slice(stored);
        file.extend_from_slice(&frame::trailer(NUMBER, handle.offset, block_type, codec, stored));
    }
    file.extend_from_slice(&footer.encode(NUMBER));
    Some(file)
}

/// Takes a table apart: the input from which the target puts it together again.
#[cfg(test)]
pub(crate) fn take_apart(file: &Bytes) -> Vec<u8> {
    let (mut list, mut contents, mut at) = (Vec::new(), Vec::new(), 0);
    let end = file.len() - crate::lsm::table::footer::FOOTER_LEN;
    while at < end {
        let is_block = |len: &usize| {
            let framed = file.slice(at..at + len + frame::TRAILER_LEN);
            TYPES.into_iter().any(|t| frame::unframe(&framed, NUMBER, at as u64, t).is_ok())
        };
        let len = (0..=end - at - frame::TRAILER_LEN).find(is_block).expect("a block");
        list.extend_from_slice(&(len as u16).to_be_bytes());
        list.extend_from_slice(&file[at + len..at + len + 2]);
        contents.extend_from_slice(&file[at..at + len]);
        at += len + frame::TRAILER_LEN;
    }
    [&[(list.len() / 4) as u8], &list[..], &contents].concat()
}
