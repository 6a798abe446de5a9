//! Index blocks: sorted start keys, each with where something stands.
//!
//! ```text
//! block   := entry* | starts | base (8) | n_entries (4) | format (1)
//! entry   := varint len | start key (internal, encoded) | varint offset - base | varint length
//!            | filter's varint offset | filter's varint length      (the last two in the top index only)
//! starts  := (offset of an entry (4))*
//! ```
//!
//! Fixed numbers are little-endian. Entries are found by their ordinal, so keys are compared where
//! they stand and a search copies nothing.
//!
//! The **start key** of a block is above every key of the block before it and not above its own
//! first key. It is the shortest prefix of the first user key that is above the user key before
//! it, as a bound that precedes all versions; or, where a block starts with a further version of
//! one user key, its first key itself. Hence a search (the *last* entry whose start is at or below
//! the target) finds the block in which the target's position is, and all versions of a user key
//! that a block does not hold stand in blocks whose start is that user key.
//!
//! In an index partition the entries are data blocks. They are written before their index, in one
//! run from `base`, so their offsets are small numbers that are known before the run is written.
//! In the top index the entries are partitions (an index partition and its filter), `base` is 0.

use crate::lsm::key::{KeyRef, MAX_SEQ};
use crate::lsm::table::data::common_prefix_len;
use crate::lsm::table::frame::Handle;
use crate::lsm::table::{Malformed, varint};
use bytes::Bytes;

const FORMAT: u8 = 0;
const FOOTER_LEN: usize = 13;
const START_LEN: usize = 4;
/// A varint, a key's trailer and a handle.
const ENTRY_MIN_LEN: usize = 11;

type Result<T> = std::result::Result<T, Malformed>;

/// The start key of a block that starts with `first` and follows one that ends with `last`.
pub(crate) fn start_key<'a>(last: Option<KeyRef<'_>>, first: KeyRef<'a>) -> KeyRef<'a> {
    let Some(last) = last else { return KeyRef::bound(b"", MAX_SEQ) };
    if last.user == first.user {
        return first;
    }
    // `first` is above `last` and another user key, so it goes on past what they share.
    let shared = common_prefix_len(last.user, first.user);
    KeyRef::bound(&first.user[..=shared], MAX_SEQ)
}

/// Builds one index block after the other.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    buf: Vec<u8>,
    starts: Vec<u32>,
}

impl IndexBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The length of the block if it were finished now.
    pub(crate) fn len(&self) -> usize {
        self.buf.len() + self.starts.len() * START_LEN + FOOTER_LEN
    }

    /// Adds an entry: its encoded start key, its handle relative to the base, and in the top index
    /// the handle of its filter.
    pub(crate) fn add(&mut self, start: &[u8], relative: Handle, filter: Option<Handle>) {
        self.starts.push(self.buf.len() as u32);
        varint::put_bytes(&mut self.buf, start);
        relative.encode(&mut self.buf);
        if let Some(filter) = filter {
            filter.encode(&mut self.buf);
        }
    }

    /// Completes the block; its contents stay until [`IndexBuilder::clear`].
    pub(crate) fn finish(&mut self, base: u64) -> &[u8] {
        for start in &self.starts {
            self.buf.extend_from_slice(&start.to_le_bytes());
        }
        self.buf.extend_from_slice(&base.to_le_bytes());
        self.buf.extend_from_slice(&(self.starts.len() as u32).to_le_bytes());
        self.buf.push(FORMAT);
        &self.buf
    }

    /// Starts the next block.
    pub(crate) fn clear(&mut self) {
        self.buf.clear();
        self.starts.clear();
    }
}

/// An index block's contents. Has at least one entry.
#[derive(Debug, Clone)]
pub(crate) struct IndexBlock {
    contents: Bytes,
    starts_at: usize,
    entries: usize,
    base: u64,
}

impl IndexBlock {
    pub(crate) fn open(contents: Bytes) -> Result<IndexBlock> {
        const BAD: Malformed = Malformed("an index block's footer");
        let (body, footer) = contents.split_last_chunk::<FOOTER_LEN>().ok_or(BAD)?;
        let [base @ .., e0, e1, e2, e3, format] = *footer;
        if format != FORMAT {
            return Err(Malformed("an index block's format"));
        }
        let entries = u32::from_le_bytes([e0, e1, e2, e3]) as usize;
        let starts_at = body.len().checked_sub(entries.saturating_mul(START_LEN)).ok_or(BAD)?;
        if entries == 0 || starts_at < ENTRY_MIN_LEN {
            return Err(BAD);
        }
        Ok(IndexBlock { contents, starts_at, entries, base: u64::from_le_bytes(base) })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// The start key of entry `i`, which is below [`IndexBlock::len`].
    #[inline]
    pub(crate) fn start(&self, i: usize) -> Result<KeyRef<'_>> {
        Ok(self.entry(i)?.0)
    }

    /// What entry `i` points to.
    pub(crate) fn handle(&self, i: usize) -> Result<Handle> {
        self.handle_and_rest(i).map(|(handle, _)| handle)
    }

    /// The filter of entry `i` of the top index; its length is 0 if there is none.
    pub(crate) fn filter(&self, i: usize) -> Result<Handle> {
        let (_, mut rest) = self.handle_and_rest(i)?;
        Handle::decode(&mut rest).ok_or(Malformed("an index entry's filter"))
    }

    /// The entry in which `target`'s position is: the last whose start is at or before it, or the
    /// first if none is.
    pub(crate) fn find(&self, target: KeyRef<'_>) -> Result<usize> {
        Ok(self.partition_point(|start| start <= target)?.saturating_sub(1))
    }

    /// The last entry that may hold a record before `target`; `None` if none may.
    pub(crate) fn find_before(&self, target: KeyRef<'_>) -> Result<Option<usize>> {
        Ok(self.partition_point(|start| start < target)?.checked_sub(1))
    }

    fn partition_point(&self, before: impl Fn(KeyRef<'_>) -> bool) -> Result<usize> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.start(middle)?) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The start key of entry `i`, and the bytes behind it.
    #[inline]
    fn entry(&self, i: usize) -> Result<(KeyRef<'_>, &[u8])> {
        debug_assert!(i < self.entries);
        let at = self.starts_at + i * START_LEN;
        let at = u32::from_le_bytes(self.contents[at..at + START_LEN].try_into().expect("4 bytes"));
        let mut rest = self.contents[..self.starts_at].get(at as usize..).unwrap_or(&[]);
        let start = varint::take_bytes(&mut rest).and_then(KeyRef::decode);
        Ok((start.ok_or(Malformed("an index entry's key"))?, rest))
    }

    fn handle_and_rest(&self, i: usize) -> Result<(Handle, &[u8])> {
        let (_, mut rest) = self.entry(i)?;
        let bad = Malformed("an index entry's handle");
        let relative = Handle::decode(&mut rest).ok_or(bad)?;
        let offset = self.base.checked_add(relative.offset).ok_or(bad)?;
        Ok((Handle { offset, len: relative.len }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::key::Kind;
    use proptest::prelude::*;

    fn put(user: &[u8], seq: u64) -> KeyRef<'_> {
        KeyRef::new(user, seq, Kind::Put)
    }

    #[test]
    fn start_keys_are_short_and_between_their_neighbours() {
        let cases: [(KeyRef<'_>, KeyRef<'_>, KeyRef<'_>); 5] = [
            (put(b"abcdef", 1), put(b"abxyz", 1), KeyRef::bound(b"abx", MAX_SEQ)),
            (put(b"ab", 1), put(b"abc", 1), KeyRef::bound(b"abc", MAX_SEQ)),
            (put(b"", 1), put(b"zz", 9), KeyRef::bound(b"z", MAX_SEQ)),
            (put(b"k", 9), put(b"k", 5), put(b"k", 5)),
            (put(b"12345678", 1), put(b"123456789", 1), KeyRef::bound(b"123456789", MAX_SEQ)),
        ];
        for (last, first, expected) in cases {
            let start = start_key(Some(last), first);
            assert_eq!(start, expected);
            assert!(last < start && start <= first);
        }
        assert!(start_key(None, put(b"", MAX_SEQ)) < put(b"", MAX_SEQ));
    }

    #[test]
    fn a_search_finds_the_last_start_at_or_before_the_target() {
        let mut builder = IndexBuilder::default();
        for (i, key) in [b"".as_slice(), b"b", b"d"].into_iter().enumerate() {
            let mut start = Vec::new();
            KeyRef::bound(key, MAX_SEQ).encode_to(&mut start);
            builder.add(&start, Handle { offset: i as u64 * 10, len: 9 }, None);
        }
        let len = builder.len();
        let block = IndexBlock::open(Bytes::copy_from_slice(builder.finish(1000))).unwrap();
        assert_eq!(block.contents.len(), len);
        for (key, found) in [(b"".as_slice(), 0), (b"a", 0), (b"b", 1), (b"c", 1), (b"d", 2), (b"e", 2)] {
            assert_eq!(block.find(KeyRef::bound(key, MAX_SEQ)).unwrap(), found, "{key:?}");
        }
        assert_eq!(block.find_before(KeyRef::bound(b"", MAX_SEQ)).unwrap(), None);
        assert_eq!(block.find_before(KeyRef::bound(b"b", MAX_SEQ)).unwrap(), Some(0));
        assert_eq!(block.find_before(put(b"b", 1)).unwrap(), Some(1));
        assert_eq!(block.handle(2).unwrap(), Handle { offset: 1020, len: 9 });
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            entries in 0u8..20,
            user in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            if let Some([count @ .., format]) = bytes.last_chunk_mut::<5>() {
                *count = [entries, 0, 0, 0];
                *format = FORMAT;
            }
            if let Ok(block) = IndexBlock::open(bytes.into()) {
                let _ = block.find(put(&user, 1));
                let _ = block.find_before(put(&user, 1));
                for i in 0..block.len() {
                    let _ = (block.start(i), block.handle(i), block.filter(i));
                }
            }
        }
    }
}
