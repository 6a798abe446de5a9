//! Index blocks: sorted start keys, each with where something stands.
//!
//! ```text
//! block   := entry* | prefix | offsets | length of prefix (4) | base (8) | n_entries (4) | format (1)
//! entry   := varint len << 1 | exact | rest of the start's user key | its trailer (8, big-endian), if exact
//!            | varint offset - base | varint length
//!            | filter's varint offset | filter's varint length      (the last two in the top index only)
//! offsets := (offset of an entry (4))*
//! ```
//!
//! Fixed numbers but the trailer are little-endian. All start keys begin with `prefix`, which
//! their entries leave out; that keeps the index small, and comparisons short. Entries are found
//! by their ordinal, so keys are compared where they stand and a search copies nothing.
//!
//! The **start key** of a block is above every key of the block before it and not above its own
//! first key. It is the shortest prefix of the first user key that is above the user key before
//! it, as a bound that precedes all versions (the whole first user key, for the first block of
//! all); or, where a block starts with a further version of one user key, *exactly* its first key.
//! Hence a search (the *last* entry whose start is at or below the target) finds the block in
//! which the target's position is, and all versions of a user key that a block does not hold stand
//! in blocks whose start is that user key.
//!
//! In an index partition the entries are data blocks. They are written before their index, in one
//! run from `base`, so their offsets are small numbers that are known before the run is written.
//! In the top index the entries are partitions (an index partition and its filter), `base` is 0.

use crate::lsm::key::{KeyRef, KindOrBound, MAX_SEQ, TRAILER_LEN};
use crate::lsm::table::Malformed;
use crate::lsm::table::data::common_prefix_len;
use crate::lsm::table::frame::Handle;
use crate::lsm::varint;
use bytes::Bytes;
use std::cmp::Ordering;

const FORMAT: u8 = 0;
const FOOTER_LEN: usize = 17;
const OFFSET_LEN: usize = 4;
/// Three varints.
const ENTRY_MIN_LEN: usize = 3;

type Result<T> = std::result::Result<T, Malformed>;

/// The start key of a block that starts with `first` and follows one that ends with `last`.
pub(crate) fn start_key<'a>(last: Option<KeyRef<'_>>, first: KeyRef<'a>) -> KeyRef<'a> {
    match last {
        None => KeyRef::bound(first.user, MAX_SEQ),
        Some(last) if last.user == first.user => first,
        Some(last) => {
            // `first` is above `last` and another user key, so it goes on past what they share.
            let shared = common_prefix_len(last.user, first.user);
            KeyRef::bound(&first.user[..=shared], MAX_SEQ)
        }
    }
}

/// Builds one index block after the other.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    /// Encoded start key and handles of each entry, one after the other.
    buf: Vec<u8>,
    /// Where in `buf` the entries' keys and handles end.
    ends: Vec<(usize, usize)>,
    block: Vec<u8>,
}

impl IndexBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// About the length of the block if it were finished now, or more: the keys whole.
    pub(crate) fn len(&self) -> usize {
        self.buf.len() + self.ends.len() * OFFSET_LEN + FOOTER_LEN
    }

    /// Adds an entry: its encoded start key, its handle relative to the base, and in the top index
    /// the handle of its filter.
    pub(crate) fn add(&mut self, start: &[u8], relative: Handle, filter: Option<Handle>) {
        self.buf.extend_from_slice(start);
        let key_end = self.buf.len();
        relative.encode(&mut self.buf);
        if let Some(filter) = filter {
            filter.encode(&mut self.buf);
        }
        self.ends.push((key_end, self.buf.len()));
    }

    /// The block of what was added since the last call.
    pub(crate) fn finish(&mut self, base: u64) -> &[u8] {
        let entries = self.entries();
        let (first, last) = (entries[0].0, entries[entries.len() - 1].0);
        // What the first and the last key share, all between them do.
        let prefix = first.user[..common_prefix_len(first.user, last.user)].to_vec();
        let mut block = Vec::with_capacity(self.len());
        let mut offsets = Vec::with_capacity(entries.len() * OFFSET_LEN);
        for (start, handles) in &entries {
            offsets.extend_from_slice(&(block.len() as u32).to_le_bytes());
            let rest = &start.user[prefix.len()..];
            let exact = start.kind != KindOrBound::First;
            varint::put(&mut block, (rest.len() as u64) << 1 | u64::from(exact));
            block.extend_from_slice(rest);
            if exact {
                block.extend_from_slice(&start.trailer().to_be_bytes());
            }
            block.extend_from_slice(handles);
        }
        block.extend_from_slice(&prefix);
        block.extend_from_slice(&offsets);
        block.extend_from_slice(&(prefix.len() as u32).to_le_bytes());
        block.extend_from_slice(&base.to_le_bytes());
        block.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        block.push(FORMAT);
        self.buf.clear();
        self.ends.clear();
        self.block = block;
        &self.block
    }

    fn entries(&self) -> Vec<(KeyRef<'_>, &[u8])> {
        let mut at = 0;
        let entry = |&(key_end, end): &(usize, usize)| {
            let start = KeyRef::decode(&self.buf[at..key_end]).expect("a key that was encoded");
            at = end;
            (start, &self.buf[key_end..end])
        };
        self.ends.iter().map(entry).collect()
    }
}

/// An index block's contents. Has at least one entry.
#[derive(Debug, Clone)]
pub(crate) struct IndexBlock {
    contents: Bytes,
    prefix_at: usize,
    offsets_at: usize,
    entries: usize,
    base: u64,
}

impl IndexBlock {
    pub(crate) fn open(contents: Bytes) -> Result<IndexBlock> {
        const BAD: Malformed = Malformed("an index block's footer");
        let (body, footer) = contents.split_last_chunk::<FOOTER_LEN>().ok_or(BAD)?;
        let [p0, p1, p2, p3, base @ .., e0, e1, e2, e3, format] = *footer;
        if format != FORMAT {
            return Err(Malformed("an index block's format"));
        }
        let prefix_len = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        let entries = u32::from_le_bytes([e0, e1, e2, e3]) as usize;
        let offsets_at = body.len().checked_sub(entries.saturating_mul(OFFSET_LEN)).ok_or(BAD)?;
        let prefix_at = offsets_at.checked_sub(prefix_len).ok_or(BAD)?;
        if entries == 0 || prefix_at < ENTRY_MIN_LEN {
            return Err(BAD);
        }
        Ok(IndexBlock { contents, prefix_at, offsets_at, entries, base: u64::from_le_bytes(base) })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// What entry `i`, which is below [`IndexBlock::len`], points to.
    pub(crate) fn handle(&self, i: usize) -> Result<Handle> {
        self.handle_and_rest(i).map(|(handle, _)| handle)
    }

    /// The filter of entry `i` of the top index; its length is 0 if there is none.
    pub(crate) fn filter(&self, i: usize) -> Result<Handle> {
        let (_, mut rest) = self.handle_and_rest(i)?;
        Handle::decode(&mut rest).ok_or(Malformed("an index entry's filter"))
    }

    /// The user key of entry `i`'s start.
    pub(crate) fn start(&self, i: usize) -> Result<Bytes> {
        let (rest, _) = self.entry(i)?;
        Ok([self.prefix(), rest.user].concat().into())
    }

    /// Is the start of entry `i` of this user key?
    pub(crate) fn start_is(&self, i: usize, user: &[u8]) -> Result<bool> {
        let (rest, _) = self.entry(i)?;
        Ok(user.strip_prefix(self.prefix()) == Some(rest.user))
    }

    /// The entry in which `target`'s position is: the last whose start is at or before it, or the
    /// first if none is.
    pub(crate) fn find(&self, target: KeyRef<'_>) -> Result<usize> {
        Ok(self.partition_point(target, Ordering::is_le)?.saturating_sub(1))
    }

    /// The last entry that may hold a record before `target`; `None` if none may.
    pub(crate) fn find_before(&self, target: KeyRef<'_>) -> Result<Option<usize>> {
        Ok(self.partition_point(target, Ordering::is_lt)?.checked_sub(1))
    }

    /// The number of entries whose start compares to `target` as `before` wants.
    fn partition_point(&self, target: KeyRef<'_>, before: fn(Ordering) -> bool) -> Result<usize> {
        let Some(rest) = target.user.strip_prefix(self.prefix()) else {
            // All starts are on the same side of the target.
            return Ok(if self.prefix() < target.user { self.entries } else { 0 });
        };
        let rest = KeyRef { user: rest, ..target };
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            let (start, _) = self.entry(middle)?;
            if before(start.cmp(&rest)) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    #[inline]
    fn prefix(&self) -> &[u8] {
        &self.contents[self.prefix_at..self.offsets_at]
    }

    /// The start key of entry `i` without the prefix, and the bytes behind it.
    #[inline]
    fn entry(&self, i: usize) -> Result<(KeyRef<'_>, &[u8])> {
        debug_assert!(i < self.entries);
        const BAD: Malformed = Malformed("an index entry's key");
        let at = self.offsets_at + i * OFFSET_LEN;
        let at = u32::from_le_bytes(self.contents[at..at + OFFSET_LEN].try_into().expect("4 bytes"));
        let mut rest = self.contents[..self.prefix_at].get(at as usize..).ok_or(BAD)?;
        let len_and_exact = varint::take(&mut rest).ok_or(BAD)?;
        let (user, after) = rest.split_at_checked((len_and_exact >> 1) as usize).ok_or(BAD)?;
        if len_and_exact & 1 == 0 {
            return Ok((KeyRef::bound(user, MAX_SEQ), after));
        }
        let (encoded, after) = rest.split_at_checked(user.len() + TRAILER_LEN).ok_or(BAD)?;
        Ok((KeyRef::decode(encoded).ok_or(BAD)?, after))
    }

    fn handle_and_rest(&self, i: usize) -> Result<(Handle, &[u8])> {
        const BAD: Malformed = Malformed("an index entry's handle");
        let (_, mut rest) = self.entry(i)?;
        let relative = Handle::decode(&mut rest).ok_or(BAD)?;
        let offset = self.base.checked_add(relative.offset).ok_or(BAD)?;
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
        assert_eq!(start_key(None, put(b"abc", 3)), KeyRef::bound(b"abc", MAX_SEQ));
    }

    fn index(starts: &[KeyRef<'_>]) -> IndexBlock {
        let mut builder = IndexBuilder::default();
        for (i, start) in starts.iter().enumerate() {
            let mut encoded = Vec::new();
            start.encode_to(&mut encoded);
            builder.add(&encoded, Handle { offset: i as u64 * 10, len: 9 }, None);
        }
        let block = IndexBlock::open(Bytes::copy_from_slice(builder.finish(1000))).unwrap();
        assert!(builder.is_empty());
        block
    }

    #[test]
    fn a_search_finds_the_last_start_at_or_before_the_target() {
        let starts = [b"b".as_slice(), b"d", b"f"].map(|user| KeyRef::bound(user, MAX_SEQ));
        let block = index(&starts);
        for (key, found) in [(b"".as_slice(), 0), (b"b", 0), (b"c", 0), (b"d", 1), (b"e", 1), (b"g", 2)] {
            assert_eq!(block.find(KeyRef::bound(key, MAX_SEQ)).unwrap(), found, "{key:?}");
        }
        assert_eq!(block.find_before(KeyRef::bound(b"b", MAX_SEQ)).unwrap(), None);
        assert_eq!(block.find_before(KeyRef::bound(b"d", MAX_SEQ)).unwrap(), Some(0));
        assert_eq!(block.find_before(put(b"d", 1)).unwrap(), Some(1));
        assert_eq!(block.handle(2).unwrap(), Handle { offset: 1020, len: 9 });
    }

    proptest! {
        #[test]
        fn an_index_agrees_with_the_list(
            mut starts in proptest::collection::vec((proptest::collection::vec(0u8..3, 0..4), 0u64..4, any::<bool>()), 1..20),
            long in any::<bool>(),
            target in (proptest::collection::vec(0u8..3, 0..4), 0u64..4),
        ) {
            let long = if long { b"shared".to_vec() } else { Vec::new() };
            for (user, ..) in &mut starts {
                user.splice(0..0, long.iter().copied());
            }
            let mut starts: Vec<_> = starts
                .iter()
                .map(|(user, seq, exact)| if *exact { put(user, *seq) } else { KeyRef::bound(user, MAX_SEQ) })
                .collect();
            starts.sort();
            starts.dedup();
            let block = index(&starts);
            for lead in [b"".as_slice(), b"shared", b"shape", b"sharee", b"sharedd"] {
                let user = [lead, &target.0].concat();
                for target in [put(&user, target.1), KeyRef::bound(&user, MAX_SEQ)] {
                    let at_or_before = starts.iter().filter(|&&start| start <= target).count();
                    prop_assert_eq!(block.find(target).unwrap(), at_or_before.saturating_sub(1));
                    let before = starts.iter().filter(|&&start| start < target).count();
                    prop_assert_eq!(block.find_before(target).unwrap(), before.checked_sub(1));
                }
                for (i, start) in starts.iter().enumerate() {
                    prop_assert_eq!(block.start_is(i, &user).unwrap(), start.user == user);
                }
            }
        }

        #[test]
        fn garbage_never_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            entries in 0u8..20,
            user in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            if let Some(footer) = bytes.last_chunk_mut::<FOOTER_LEN>() {
                footer[1..4].fill(0);
                footer[12..].copy_from_slice(&[entries, 0, 0, 0, FORMAT]);
            }
            if let Ok(block) = IndexBlock::open(bytes.into()) {
                let _ = block.find(put(&user, 1));
                let _ = block.find_before(put(&user, 1));
                for i in 0..block.len() {
                    let _ = (block.handle(i), block.filter(i), block.start_is(i, &user));
                }
            }
        }
    }
}
