//! Filters: Bloom filters over the user keys of an index partition, and over their prefixes.
//!
//! ```text
//! block := line* | rule (4, little-endian) | probes (1) | format (1)
//! ```
//!
//! A line is 64 bytes, one cache line, so that a look costs one cache miss. A key is hashed once
//! (XXH3-64; a prefix with `PREFIX_SEED`): the upper 32 bits choose the line, as a fraction of
//! their number; the lower 32 are multiplied by `STEP` again and again, and the top 9 bits of
//! each product are the number of a bit in the line (bit `n % 8` of byte `n / 8`) that is set.
//! With 10 bits a key about 1 % of the keys that are not there look as if they were.
//!
//! `rule` is the [`PrefixRule`] whose prefixes were added, 0 if none were. A prefix is looked up
//! only under the rule that the filter was built with, else "may be there" is the answer.

use crate::lsm::table::Malformed;
use bytes::Bytes;
use std::ops::Bound;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const FORMAT: u8 = 0;
const FOOTER_LEN: usize = 6;
const LINE_LEN: usize = 64;
const LINE_BITS: usize = LINE_LEN * 8;
/// The bits of a bit's number in a line.
const BIT_BITS: u32 = LINE_BITS.trailing_zeros();
/// Keeps a prefix from looking like the key of the same bytes.
const PREFIX_SEED: u64 = 1;
/// 2^32 divided by the golden ratio: its multiples spread evenly.
const STEP: u32 = 0x9e37_79b9;

/// How keys fall into groups that scans ask for: which prefix of a key names its group.
///
/// If a key's prefix is `p`, every key that starts with `p` must have the prefix `p`.
#[derive(Debug, Clone, Copy)]
pub struct PrefixRule {
    /// Names the rule in the file; not 0. Another `extract` needs another number.
    pub id: u32,
    /// The prefix of a key; `None` if it is in no group.
    pub extract: fn(&[u8]) -> Option<&[u8]>,
}

impl PrefixRule {
    /// The one prefix of all keys in a range, if they share one.
    pub fn of_range<'a>(&self, from: Bound<&'a [u8]>, to: Bound<&[u8]>) -> Option<&'a [u8]> {
        let (Bound::Included(from) | Bound::Excluded(from)) = from else { return None };
        let prefix = (self.extract)(from)?;
        let inside = match to {
            Bound::Included(to) => to.starts_with(prefix),
            Bound::Excluded(to) => to.starts_with(prefix) || is_successor(to, prefix),
            Bound::Unbounded => false,
        };
        inside.then_some(prefix)
    }

    /// Is `prefix` the prefix of the keys that start with it?
    fn covers(&self, prefix: &[u8]) -> bool {
        (self.extract)(prefix) == Some(prefix)
    }
}

/// Is `key` the first key behind all that start with `prefix`?
fn is_successor(key: &[u8], prefix: &[u8]) -> bool {
    let Some(last) = prefix.iter().rposition(|&byte| byte != u8::MAX) else { return false };
    key.len() == last + 1 && key[..last] == prefix[..last] && key[last] == prefix[last] + 1
}

/// Gathers the hashes of a partition's keys, then makes its filter.
pub(crate) struct FilterBuilder {
    bits_per_key: usize,
    rule: Option<PrefixRule>,
    hashes: Vec<u64>,
    /// The hashes last added: versions of a key, and a group's keys, follow each other.
    last_key: Option<u64>,
    last_prefix: Option<u64>,
}

impl FilterBuilder {
    /// With 0 bits a key there is no filter.
    pub(crate) fn new(bits_per_key: usize, rule: Option<PrefixRule>) -> FilterBuilder {
        assert!(rule.is_none_or(|rule| rule.id != 0), "prefix rule 0 means none");
        FilterBuilder { bits_per_key, rule, hashes: Vec::new(), last_key: None, last_prefix: None }
    }

    /// Adds a user key.
    pub(crate) fn add(&mut self, user: &[u8]) {
        if self.bits_per_key == 0 {
            return;
        }
        let hash = Some(hash_key(user));
        if self.last_key != hash {
            self.last_key = hash;
            self.hashes.extend(hash);
        }
        let Some(prefix) = self.rule.and_then(|rule| (rule.extract)(user)) else { return };
        let hash = Some(hash_prefix(prefix));
        if self.last_prefix != hash {
            self.last_prefix = hash;
            self.hashes.extend(hash);
        }
    }

    /// The length of the block if it were finished now.
    pub(crate) fn len(&self) -> usize {
        self.lines() * LINE_LEN + FOOTER_LEN
    }

    /// The filter of the keys since the last call; empty if there is none.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        if self.bits_per_key == 0 {
            return Vec::new();
        }
        let (lines, probes) = (self.lines(), probes(self.bits_per_key));
        let mut block = vec![0; lines * LINE_LEN];
        for &hash in &self.hashes {
            let line = line_of(hash, lines);
            for bit in bits_of(hash, probes) {
                block[line + bit / 8] |= 1 << (bit % 8);
            }
        }
        block.extend_from_slice(&self.rule.map_or(0, |rule| rule.id).to_le_bytes());
        block.extend_from_slice(&[probes, FORMAT]);
        self.hashes.clear();
        (self.last_key, self.last_prefix) = (None, None);
        block
    }

    fn lines(&self) -> usize {
        (self.hashes.len() * self.bits_per_key).div_ceil(LINE_BITS).clamp(1, u32::MAX as usize)
    }
}

/// A filter block's contents.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    contents: Bytes,
    lines: usize,
    probes: u8,
    rule: u32,
}

impl Filter {
    pub(crate) fn open(contents: Bytes) -> Result<Filter, Malformed> {
        const BAD: Malformed = Malformed("a filter's footer");
        let (lines, footer) = contents.split_last_chunk::<FOOTER_LEN>().ok_or(BAD)?;
        let [rule @ .., probes, FORMAT] = *footer else { return Err(Malformed("a filter's format")) };
        if lines.is_empty() || lines.len() % LINE_LEN != 0 {
            return Err(BAD);
        }
        let lines = lines.len() / LINE_LEN;
        Ok(Filter { contents, lines, probes, rule: u32::from_le_bytes(rule) })
    }

    /// May the user key be in the partition?
    pub(crate) fn may_contain(&self, user: &[u8]) -> bool {
        self.look(hash_key(user))
    }

    /// May a key of this prefix be in the partition?
    pub(crate) fn may_contain_prefix(&self, rule: &PrefixRule, prefix: &[u8]) -> bool {
        self.rule != rule.id || !rule.covers(prefix) || self.look(hash_prefix(prefix))
    }

    fn look(&self, hash: u64) -> bool {
        let line = line_of(hash, self.lines);
        let line = &self.contents[line..line + LINE_LEN];
        bits_of(hash, self.probes).all(|bit| line[bit / 8] & 1 << (bit % 8) != 0)
    }
}

fn hash_key(user: &[u8]) -> u64 {
    xxh3_64(user)
}

fn hash_prefix(prefix: &[u8]) -> u64 {
    xxh3_64_with_seed(prefix, PREFIX_SEED)
}

/// The bits set for each key: ln 2 of the bits a key has is best for a plain Bloom filter, a
/// little less for one whose lines fill unevenly.
fn probes(bits_per_key: usize) -> u8 {
    (bits_per_key * 3 / 5).clamp(1, 16) as u8
}

/// Where the line of a hash starts.
fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize * LINE_LEN
}

/// The bits of a hash in its line.
fn bits_of(hash: u64, probes: u8) -> impl Iterator<Item = usize> {
    let mut state = hash as u32;
    (0..probes).map(move |_| {
        state = state.wrapping_mul(STEP);
        (state >> (u32::BITS - BIT_BITS)) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST_TWO: PrefixRule = PrefixRule { id: 9, extract: |key| key.get(..2) };
    const OTHER: PrefixRule = PrefixRule { id: 8, extract: |key| key.get(..2) };

    fn filter(bits_per_key: usize, keys: &[Vec<u8>]) -> Filter {
        let mut builder = FilterBuilder::new(bits_per_key, Some(FIRST_TWO));
        keys.iter().for_each(|key| builder.add(key));
        let len = builder.len();
        let block = builder.finish();
        assert_eq!(block.len(), len);
        Filter::open(block.into()).unwrap()
    }

    #[test]
    fn about_one_percent_of_absent_keys_look_present() {
        for keys in [100usize, 10_000, 100_000] {
            let mut builder = FilterBuilder::new(10, None);
            (0..keys).for_each(|i| builder.add(format!("key{i}").as_bytes()));
            let filter = Filter::open(builder.finish().into()).unwrap();
            let found = (0..10_000).filter(|i| filter.may_contain(format!("absent{i}").as_bytes())).count();
            assert!(found < 160, "{found} of 10000 absent keys, {keys} keys in the filter");
        }
    }

    #[test]
    fn a_prefix_of_another_rule_or_length_may_be_there() {
        let filter = filter(20, &[b"abc".to_vec()]);
        assert!(filter.may_contain_prefix(&FIRST_TWO, b"ab"));
        assert!(!filter.may_contain_prefix(&FIRST_TWO, b"zz"));
        assert!(filter.may_contain_prefix(&OTHER, b"zz"), "built by another rule");
        assert!(filter.may_contain_prefix(&FIRST_TWO, b"z"), "no prefix of this rule");
        assert!(filter.may_contain_prefix(&FIRST_TWO, b"zzz"), "longer than a prefix");
        assert!(!filter.may_contain(b"ab"), "a prefix is not a key");
    }

    #[test]
    fn a_range_has_a_prefix_only_if_all_its_keys_have() {
        use Bound::*;
        let of = |from, to| FIRST_TWO.of_range(from, to);
        assert_eq!(of(Included(b"ab"), Excluded(b"ac")), Some(b"ab".as_slice()));
        assert_eq!(of(Excluded(b"abc"), Included(b"abz")), Some(b"ab".as_slice()));
        assert_eq!(of(Included(b"a\xff"), Excluded(b"b")), Some(b"a\xff".as_slice()));
        assert_eq!(of(Included(b"ab"), Included(b"ac")), None);
        assert_eq!(of(Included(b"ab"), Excluded(b"ac\0")), None);
        assert_eq!(of(Included(b"ab"), Unbounded), None);
        assert_eq!(of(Included(b"a"), Excluded(b"ab")), None);
        assert_eq!(of(Included(b"\xff\xff"), Unbounded), None);
        assert_eq!(of(Unbounded, Excluded(b"ac")), None);
    }

    proptest! {
        #[test]
        fn no_false_negatives(
            mut keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 1..200),
            bits in 1usize..30,
        ) {
            keys.sort();
            let filter = filter(bits, &keys);
            for key in &keys {
                prop_assert!(filter.may_contain(key));
                if let Some(prefix) = key.get(..2) {
                    prop_assert!(filter.may_contain_prefix(&FIRST_TWO, prefix));
                }
            }
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), lines in 0usize..4) {
            bytes.resize(lines * LINE_LEN + FOOTER_LEN - 1, 3);
            bytes.push(FORMAT);
            if let Ok(filter) = Filter::open(bytes.into()) {
                filter.may_contain(b"k");
            }
        }
    }
}
