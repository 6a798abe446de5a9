//! Data blocks: records in internal key order, prefix-compressed, read in place.
//!
//! ```text
//! block    := entry* | values | restarts | n_restarts (4) | n_values (4) | format (1)
//! entry    := varint shared | varint unshared | varint head_len << 2 | form
//!             | place of the tail | unshared bytes of the user key | key trailer (8, big-endian)
//!             | head | tail, if it stands here
//! form     := 0  the tail is empty                    place: nothing
//!             1  the tail stands here                 place: varint len
//!             2  the tail stands in a value block     place: varint slot | varint start | varint len
//! values   := (offset (8) | stored length (4))*       the value blocks; a slot is an index into them
//! restarts := (offset of an entry (4))*
//! ```
//!
//! Fixed numbers are little-endian but for the key trailer. A user key starts with the first
//! `shared` bytes of the one before it; at a restart (every [`RESTART_INTERVAL`] entries, the
//! first one included) `shared` is 0, so a search can start there. A tail in a value block is the
//! `len` bytes at `start` of the block's contents. Format 0 is the one described; others may put
//! more (a hash index of the keys) between the restarts and their number.
//!
//! Every number that a cursor reads is checked before use, and every entry takes at least
//! [`ENTRY_MIN_LEN`] bytes, so a damaged block yields [`Malformed`] or wrong records, but neither
//! a panic nor an endless loop. (Its checksum was right, so in practice it yields what was written.)

use crate::lsm::key::{KeyRef, Kind, KindOrBound, SeqNo, TRAILER_LEN};
use crate::lsm::table::frame::Handle;
use crate::lsm::table::{Malformed, varint};
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Range;

/// Entries from one restart to the next.
pub(crate) const RESTART_INTERVAL: usize = 16;

const FORMAT: u8 = 0;
const FOOTER_LEN: usize = 9;
const VALUE_LEN: usize = 12;
const RESTART_LEN: usize = 4;
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
    buf: Vec<u8>,
    restarts: Vec<u32>,
    values: Vec<Handle>,
    entries: usize,
}

impl DataBlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The length of the block if it were finished now.
    pub(crate) fn len(&self) -> usize {
        self.buf.len() + self.values.len() * VALUE_LEN + self.restarts.len() * RESTART_LEN + FOOTER_LEN
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
            self.restarts.push(self.buf.len() as u32);
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
        let buf = &mut self.buf;
        varint::put(buf, shared as u64);
        varint::put(buf, unshared.len() as u64);
        varint::put(buf, (head.len() as u64) << 2 | form);
        match tail {
            TailIn::Here([]) => {}
            TailIn::Here(tail) => varint::put(buf, tail.len() as u64),
            TailIn::Apart { slot, start, len } => {
                varint::put(buf, slot.into());
                varint::put(buf, start.into());
                varint::put(buf, len.into());
            }
        }
        buf.extend_from_slice(unshared);
        buf.extend_from_slice(&key.trailer().to_be_bytes());
        buf.extend_from_slice(head);
        if let TailIn::Here(tail) = tail {
            buf.extend_from_slice(tail);
        }
        self.entries += 1;
    }

    /// Completes the block; its contents stay until [`DataBlockBuilder::clear`].
    pub(crate) fn finish(&mut self) -> &[u8] {
        assert!(!self.is_empty(), "a data block without entries");
        for value in &self.values {
            self.buf.extend_from_slice(&value.offset.to_le_bytes());
            self.buf.extend_from_slice(&value.len.to_le_bytes());
        }
        for restart in &self.restarts {
            self.buf.extend_from_slice(&restart.to_le_bytes());
        }
        self.buf.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.buf.extend_from_slice(&(self.values.len() as u32).to_le_bytes());
        self.buf.push(FORMAT);
        &self.buf
    }

    /// Starts the next block.
    pub(crate) fn clear(&mut self) {
        self.buf.clear();
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

/// A data block's contents, and where its parts are.
#[derive(Debug, Clone)]
struct DataBlock {
    contents: Bytes,
    /// The entries stand before this; the values from here.
    values_at: usize,
    restarts_at: usize,
    restarts: usize,
}

impl DataBlock {
    fn open(contents: Bytes) -> Result<DataBlock> {
        const BAD: Malformed = Malformed("a data block's footer");
        let (body, footer) = contents.split_last_chunk::<FOOTER_LEN>().ok_or(BAD)?;
        let [r0, r1, r2, r3, v0, v1, v2, v3, FORMAT] = *footer else {
            return Err(Malformed("a data block's format"));
        };
        let restarts = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let values = u32::from_le_bytes([v0, v1, v2, v3]) as usize;
        let restarts_at = body.len().checked_sub(restarts.saturating_mul(RESTART_LEN)).ok_or(BAD)?;
        let values_at = restarts_at.checked_sub(values.saturating_mul(VALUE_LEN)).ok_or(BAD)?;
        if restarts == 0 || values_at < ENTRY_MIN_LEN {
            return Err(BAD);
        }
        Ok(DataBlock { contents, values_at, restarts_at, restarts })
    }

    /// The offset of restart `i`, which is below the number of restarts.
    fn restart(&self, i: usize) -> usize {
        let at = self.restarts_at + i * RESTART_LEN;
        u32::from_le_bytes(self.contents[at..at + RESTART_LEN].try_into().expect("4 bytes")) as usize
    }

    fn value_block(&self, slot: u32) -> Result<Handle> {
        let table = &self.contents[self.values_at..self.restarts_at];
        let handle = table.chunks_exact(VALUE_LEN).nth(slot as usize);
        let handle = handle.ok_or(Malformed("a tail's value block is not named"))?;
        let (offset, len) = handle.split_at(8);
        Ok(Handle {
            offset: u64::from_le_bytes(offset.try_into().expect("8 bytes")),
            len: u32::from_le_bytes(len.try_into().expect("4 bytes")),
        })
    }

    /// The first restart in `restarts` for which `before` is false, if it is true and then false.
    fn restart_partition_point(&self, mut before: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
        let (mut low, mut high) = (0, self.restarts);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.restart(middle))? { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

/// A parsed entry: where its parts are in the contents.
#[derive(Debug, Clone)]
struct Entry {
    shared: usize,
    unshared: Range<usize>,
    seq: SeqNo,
    kind: Kind,
    head: Range<usize>,
    tail: Tail,
    next: usize,
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

/// Parses the entry at `at`; entries end at `end`, which is within `contents`.
#[inline]
fn parse(contents: &[u8], at: usize, end: usize) -> Result<Entry> {
    let entries = &contents[..end];
    let mut rest = entries.get(at..).ok_or(SHORT)?;
    let mut number = || varint::take(&mut rest).ok_or(SHORT);
    let (shared, unshared, head_and_form) = (number()? as usize, number()? as usize, number()?);
    let head_len = (head_and_form >> 2) as usize;
    let mut tail_len = 0;
    let mut tail = Tail::Here(0..0);
    match head_and_form & 3 {
        FORM_NONE => {}
        FORM_HERE => tail_len = number()? as usize,
        FORM_APART => {
            let mut number = || varint::take_u32(&mut rest).ok_or(SHORT);
            tail = Tail::Apart { slot: number()?, start: number()?, len: number()? };
        }
        _ => return Err(Malformed("an entry's tail has no known form")),
    }
    let unshared = span(end - rest.len(), unshared, end)?;
    let trailer = span(unshared.end, TRAILER_LEN, end)?;
    let head = span(trailer.end, head_len, end)?;
    let here = span(head.end, tail_len, end)?;
    let next = here.end;
    if matches!(tail, Tail::Here(_)) {
        tail = Tail::Here(here);
    }
    let trailer = u64::from_be_bytes(entries[trailer].try_into().expect("8 bytes"));
    let kind = Kind::from_u8(trailer as u8).ok_or(Malformed("an entry's kind is unknown"))?;
    Ok(Entry { shared, unshared, seq: trailer >> 8, kind, head, tail, next })
}

/// The `len` bytes from `start`, if they end by `end`.
#[inline]
fn span(start: usize, len: usize, end: usize) -> Result<Range<usize>> {
    if len <= end - start { Ok(start..start + len) } else { Err(SHORT) }
}

/// A cursor over one data block. It starts out without a block, and not valid.
///
/// The one allocation is the buffer of the current user key, kept from block to block.
#[derive(Debug)]
pub(crate) struct DataCursor {
    block: Option<DataBlock>,
    /// Where the current entry starts, if there is one.
    at: Option<usize>,
    /// Where the entry after it starts.
    next: usize,
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
            next: 0,
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
        self.next = 0;
        self.user.clear();
        self.step()
    }

    /// Moves to the last record.
    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        let end = block.values_at;
        let last = block.restart(block.restarts - 1);
        self.go_to_restart(last)?;
        while self.next < end {
            self.step()?;
        }
        Ok(())
    }

    /// Moves to the first record at or after `target`; not valid if there is none.
    pub(crate) fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        let restart = block.restart_partition_point(|at| {
            let entry = parse(&block.contents, at, block.values_at)?;
            let user = restart_key(&block.contents, &entry)?;
            Ok(KeyRef::new(user, entry.seq, entry.kind) < target)
        })?;
        // The record may stand in the interval of the last restart before the target.
        let start = block.restart(restart.saturating_sub(1));
        self.go_to_restart(start)?;
        while self.valid() && self.key() < target {
            self.step()?;
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
        if current == 0 {
            return Ok(());
        }
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        let restart = block.restart_partition_point(|at| Ok(at < current))?;
        let start = block.restart(restart.saturating_sub(1));
        self.go_to_restart(start)?;
        while self.next < current {
            self.step()?;
        }
        if self.next != current {
            self.at = None;
            return Err(Malformed("a restart is not at an entry"));
        }
        Ok(())
    }

    fn go_to_restart(&mut self, at: usize) -> Result<()> {
        self.at = None;
        self.next = at;
        self.user.clear();
        self.step()
    }

    /// Moves to the entry at `self.next`; the user key of the entry before it is in `self.user`.
    #[inline]
    fn step(&mut self) -> Result<()> {
        let at = self.next;
        self.at = None;
        let block = self.block.as_ref().ok_or(NO_BLOCK)?;
        if at == block.values_at {
            return Ok(());
        }
        let entry = parse(&block.contents, at, block.values_at)?;
        if entry.shared > self.user.len() {
            return Err(Malformed("an entry shares more than the key before it has"));
        }
        self.user.truncate(entry.shared);
        self.user.extend_from_slice(&block.contents[entry.unshared]);
        self.seq = entry.seq;
        self.kind = entry.kind;
        self.head = entry.head;
        self.tail = entry.tail;
        self.next = entry.next;
        self.at = Some(at);
        Ok(())
    }

    #[inline]
    fn contents(&self, range: &Range<usize>) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block.contents[range.clone()])
    }
}

/// The user key of an entry at a restart.
fn restart_key<'a>(contents: &'a [u8], entry: &Entry) -> Result<&'a [u8]> {
    match entry.shared.cmp(&0) {
        Ordering::Equal => Ok(&contents[entry.unshared.clone()]),
        _ => Err(Malformed("a restart is not at a whole key")),
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
