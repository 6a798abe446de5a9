//! Data blocks: records in internal key order, prefix-compressed, read in place.
//!
//! ```text
//! block    := body* | entry* | values | restarts
//!             | offset of the first entry (4) | n_values (4) | n_restarts (4) | format (1)
//! body     := head | tail, if it stands here
//! entry    := varint shared | varint unshared | varint head_len << 2 | form
//!             | place of the tail | unshared bytes of the user key | key trailer (8, big-endian)
//! form     := 0  the tail is empty                    place: nothing
//!             1  the tail stands here                 place: varint len
//!             2  the tail stands in a value block     place: varint slot | varint start | varint len
//! values   := (offset (8) | stored length (4))*       the value blocks; a slot is an index into them
//! restarts := (offset of an entry (4) | offset of its body (4))*
//! ```
//!
//! Fixed numbers are little-endian but for the key trailer. Each entry has a body, in the same
//! order. They stand apart so that a search touches few cache lines and memory pages: all keys of
//! a block together mostly take less than a page.
//!
//! `shared` is the length of the longest prefix that a user key has in common with the one before
//! it (searches rely on it being the longest); at a restart (every [`RESTART_INTERVAL`] entries,
//! the first one included) it is 0, so that a search can start there. A tail in a value block is
//! the `len` bytes at `start` of the block's contents. Format 0 is the one described; others may
//! put more (a hash index of the keys) before the footer.
//!
//! Every number is checked before use, and every entry takes bytes, so a damaged block yields
//! [`Malformed`] or wrong records, but neither a panic nor an endless loop. (Its checksum was
//! right, so in practice it yields what was written.)

use crate::lsm::key::{KeyRef, Kind, SeqNo, TRAILER_LEN};
use crate::lsm::table::Malformed;
use crate::lsm::table::frame::Handle;
use crate::lsm::varint;
use bytes::Bytes;
use std::ops::Range;

/// Entries from one restart to the next.
pub(crate) const RESTART_INTERVAL: usize = 16;

pub(crate) const FORMAT: u8 = 0;
pub(crate) const FOOTER_LEN: usize = 13;
const VALUE_LEN: usize = 12;
const RESTART_LEN: usize = 8;
/// Three varints and a trailer.
const ENTRY_MIN_LEN: usize = 3 + TRAILER_LEN;

const FORM_NONE: u64 = 0;
const FORM_HERE: u64 = 1;
const FORM_APART: u64 = 2;

type Result<T> = std::result::Result<T, Malformed>;

/// A tail as the builder takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TailIn<'a> {
    /// It is put beside the head; may be empty.
    Here(&'a [u8]),
    /// It stands in the value block `slot`.
    Apart { slot: u32, start: u32, len: u32 },
}

/// Builds one data block after the other.
#[derive(Default)]
pub(crate) struct DataBlockBuilder {
    bodies: Vec<u8>,
    keys: Vec<u8>,
    /// Offsets in `keys` and in `bodies`.
    restarts: Vec<(u32, u32)>,
    values: Vec<Handle>,
    entries: usize,
}

impl DataBlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The length of the block if it were finished now.
    pub(crate) fn len(&self) -> usize {
        let arrays = self.values.len() * VALUE_LEN + self.restarts.len() * RESTART_LEN;
        self.bodies.len() + self.keys.len() + arrays + FOOTER_LEN
    }

    /// The slot that the next value block gets.
    pub(crate) fn next_slot(&self) -> u32 {
        self.values.len() as u32
    }

    /// Names the value block of [`DataBlockBuilder::next_slot`].
    pub(crate) fn add_value_block(&mut self, handle: Handle) {
        self.values.push(handle);
    }

    /// Adds a record; `previous` is the user key of the record before (any, if there is none).
    pub(crate) fn add(&mut self, previous: &[u8], key: KeyRef<'_>, head: &[u8], tail: TailIn<'_>) {
        let shared = if self.entries.is_multiple_of(RESTART_INTERVAL) {
            self.restarts.push((self.keys.len() as u32, self.bodies.len() as u32));
            0
        } else {
            common_prefix_len(previous, key.user)
        };
        let unshared = &key.user[shared..];
        let form = match tail {
            TailIn::Here([]) => FORM_NONE,
            TailIn::Here(_) => FORM_HERE,
            TailIn::Apart { .. } => FORM_APART,
        };
        let keys = &mut self.keys;
        varint::put(keys, shared as u64);
        varint::put(keys, unshared.len() as u64);
        varint::put(keys, (head.len() as u64) << 2 | form);
        match tail {
            TailIn::Here([]) => {}
            TailIn::Here(tail) => varint::put(keys, tail.len() as u64),
            TailIn::Apart { slot, start, len } => {
                varint::put(keys, slot.into());
                varint::put(keys, start.into());
                varint::put(keys, len.into());
            }
        }
        keys.extend_from_slice(unshared);
        keys.extend_from_slice(&key.trailer().to_be_bytes());
        self.bodies.extend_from_slice(head);
        if let TailIn::Here(tail) = tail {
            self.bodies.extend_from_slice(tail);
        }
        self.entries += 1;
    }

    /// Completes the block; its contents stay until [`DataBlockBuilder::clear`].
    pub(crate) fn finish(&mut self) -> &[u8] {
        assert!(!self.is_empty(), "a data block without entries");
        let entries_at = self.bodies.len() as u32;
        let block = &mut self.bodies;
        block.extend_from_slice(&self.keys);
        for value in &self.values {
            block.extend_from_slice(&value.offset.to_le_bytes());
            block.extend_from_slice(&value.len.to_le_bytes());
        }
        for (key_at, body_at) in &self.restarts {
            block.extend_from_slice(&(entries_at + key_at).to_le_bytes());
            block.extend_from_slice(&body_at.to_le_bytes());
        }
        block.extend_from_slice(&entries_at.to_le_bytes());
        block.extend_from_slice(&(self.values.len() as u32).to_le_bytes());
        block.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        block.push(FORMAT);
        block
    }

    /// Starts the next block.
    pub(crate) fn clear(&mut self) {
        self.bodies.clear();
        self.keys.clear();
        self.restarts.clear();
        self.values.clear();
        self.entries = 0;
    }
}

/// The length of the longest common prefix.
pub(crate) fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let a = u64::from_le_bytes(a.try_into().expect("8 bytes"));
        let b = u64::from_le_bytes(b.try_into().expect("8 bytes"));
        if a != b {
            return len + (a ^ b).trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(a, b)| a == b).count()
}

/// A data block's contents, and where its parts are, in this order.
#[derive(Debug, Clone)]
pub(crate) struct DataBlock {
    pub(crate) contents: Bytes,
    pub(crate) entries_at: usize,
    pub(crate) values_at: usize,
    restarts_at: usize,
    /// The number of restarts; at least one.
    pub(crate) restarts: usize,
}

impl DataBlock {
    pub(crate) fn open(contents: Bytes) -> Result<DataBlock> {
        const BAD: Malformed = Malformed("a data block's footer");
        let (body, footer) = contents.split_last_chunk::<FOOTER_LEN>().ok_or(BAD)?;
        if footer[FOOTER_LEN - 1] != FORMAT {
            return Err(Malformed("a data block's format"));
        }
        let (entries_at, values, restarts) = (u32_at(footer, 0), u32_at(footer, 4), u32_at(footer, 8));
        let restarts_at = body.len().checked_sub(restarts.saturating_mul(RESTART_LEN)).ok_or(BAD)?;
        let values_at = restarts_at.checked_sub(values.saturating_mul(VALUE_LEN)).ok_or(BAD)?;
        if restarts == 0 || values_at < entries_at.saturating_add(ENTRY_MIN_LEN) {
            return Err(BAD);
        }
        Ok(DataBlock { contents, entries_at, values_at, restarts_at, restarts })
    }

    /// The restart `i`, which is below their number.
    #[inline]
    pub(crate) fn restart(&self, i: usize) -> Place {
        let at = self.restarts_at + i * RESTART_LEN;
        Place { entry: u32_at(&self.contents, at), body: u32_at(&self.contents, at + 4) }
    }

    /// Parses the entry at `place`.
    #[inline]
    pub(crate) fn entry(&self, place: Place) -> Result<Entry> {
        if place.entry < self.entries_at {
            return Err(SHORT);
        }
        parse(&self.contents[..self.values_at], place, self.entries_at)
    }

    pub(crate) fn value_block(&self, slot: u32) -> Result<Handle> {
        let table = &self.contents[self.values_at..self.restarts_at];
        let handle = table.chunks_exact(VALUE_LEN).nth(slot as usize);
        let handle = handle.ok_or(Malformed("a tail's value block is not named"))?;
        let offset = u64::from_le_bytes(handle[..8].try_into().expect("8 bytes"));
        Ok(Handle { offset, len: u32_at(handle, 8) as u32 })
    }

    /// The last restart for which `before` is true, if it is true and then false; else the first.
    pub(crate) fn last_restart(&self, before: impl Fn(Place) -> Result<bool>) -> Result<Place> {
        let (mut low, mut high) = (0, self.restarts);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.restart(middle))? { low = middle + 1 } else { high = middle }
        }
        Ok(self.restart(low.saturating_sub(1)))
    }
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize
}

/// Where an entry and its body start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) entry: usize,
    pub(crate) body: usize,
}

/// A parsed entry: where its parts are in the contents.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) shared: usize,
    pub(crate) unshared: Range<usize>,
    pub(crate) seq: SeqNo,
    pub(crate) kind: Kind,
    pub(crate) head: Range<usize>,
    pub(crate) tail: Tail,
    pub(crate) next: Place,
}

impl Entry {
    /// The key, its user key without the shared part.
    #[inline]
    pub(crate) fn key<'a>(&self, contents: &'a [u8]) -> KeyRef<'a> {
        KeyRef::new(&contents[self.unshared.clone()], self.seq, self.kind)
    }
}

/// Where a record's tail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// In the data block.
    Here(Range<usize>),
    /// In a value block.
    Apart { slot: u32, start: u32, len: u32 },
}

const SHORT: Malformed = Malformed("an entry exceeds its data block");

/// Parses the entry at `place`. Entries end where `contents` does, bodies at `bodies_end`.
#[inline]
fn parse(contents: &[u8], place: Place, bodies_end: usize) -> Result<Entry> {
    let mut rest = contents.get(place.entry..).ok_or(SHORT)?;
    let mut number = || varint::take(&mut rest).ok_or(SHORT);
    let (shared, unshared, head_and_form) = (number()? as usize, number()? as usize, number()?);
    let head = span(place.body, (head_and_form >> 2) as usize, bodies_end)?;
    let mut tail = Tail::Here(head.end..head.end);
    let mut body_end = head.end;
    match head_and_form & 3 {
        FORM_NONE => {}
        FORM_HERE => {
            let range = span(head.end, number()? as usize, bodies_end)?;
            body_end = range.end;
            tail = Tail::Here(range);
        }
        FORM_APART => {
            let mut number = || varint::take_u32(&mut rest).ok_or(SHORT);
            tail = Tail::Apart { slot: number()?, start: number()?, len: number()? };
        }
        _ => return Err(Malformed("an entry's tail has no known form")),
    }
    let unshared = span(contents.len() - rest.len(), unshared, contents.len())?;
    let trailer = span(unshared.end, TRAILER_LEN, contents.len())?;
    let next = Place { entry: trailer.end, body: body_end };
    let trailer = u64::from_be_bytes(contents[trailer].try_into().expect("8 bytes"));
    let kind = Kind::from_u8(trailer as u8).ok_or(Malformed("an entry's kind is unknown"))?;
    Ok(Entry { shared, unshared, seq: trailer >> 8, kind, head, tail, next })
}

/// The `len` bytes from `start`, if they end by `end`.
#[inline]
fn span(start: usize, len: usize, end: usize) -> Result<Range<usize>> {
    match start.checked_add(len) {
        Some(to) if to <= end => Ok(start..to),
        _ => Err(SHORT),
    }
}
