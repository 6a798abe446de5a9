//! What is known of a table without opening it: the manifest stores it, readers skip tables by it.
//!
//! ```text
//! varint length of the rest | varint number | varint size | varint smallest_seq | varint largest_seq
//!   | varint entries | varint tombstones | varint patches | varint range tombstones
//!   | varint key bytes | varint head bytes | varint tail bytes
//!   | varint len, smallest | varint len, largest
//!   | [varint number of blob files, what its records point to in each (see `lsm/blob`)
//!   | [varint number of the pack that it stands in, varint offset there, varint length of the pack
//!   | [varint split, for each blob file: varint bytes of newer records' values]]]
//!   | more, from later versions
//! ```
//!
//! What stands in brackets may be missing: nothing is. Zeros stand for no pack where a split follows.

use crate::lsm::blob::{BlobUse, Pointer};
use crate::lsm::key::{KeyRef, Kind, MAX_SEQ, SeqNo};
use crate::lsm::table::{Place, Section, TableFile};
use crate::lsm::varint;
use bytes::Bytes;
use std::ops::Bound;

/// What is known of a table without opening it. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// Its number: that in the file's name, unless it stands in a pack.
    pub number: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The smallest user key.
    pub smallest: Bytes,
    /// The largest user key; or the end of the range tombstone that reaches furthest.
    pub largest: Bytes,
    /// The smallest sequence number.
    pub smallest_seq: SeqNo,
    /// The largest sequence number.
    pub largest_seq: SeqNo,
    /// Records in the table.
    pub entries: u64,
    /// Tombstones among them, those of ranges too.
    pub tombstones: u64,
    /// Range tombstones among them.
    pub range_tombstones: u64,
    /// Patches among them.
    pub patches: u64,
    /// Bytes of all records' user keys, before compression.
    pub key_bytes: u64,
    /// Bytes of all heads, before compression.
    pub head_bytes: u64,
    /// Bytes of all tails, before compression; what stands in blob files does not count.
    pub tail_bytes: u64,
    /// What its records point to, by the blob files' numbers.
    pub blobs: Vec<BlobUse>,
    /// Its part of a pack, if it stands in one.
    pub section: Option<Section>,
    /// Where its volume had last parted from another one when it was made (`lineage.rs`), if that is between its records:
    /// what those newer than this point to is counted apart. 0: nothing is.
    pub split: SeqNo,
}

impl TableMeta {
    /// The meta of a table without records: what a builder starts from.
    pub(crate) fn empty(number: u64) -> TableMeta {
        TableMeta {
            number,
            size: 0,
            smallest: Bytes::new(),
            largest: Bytes::new(),
            smallest_seq: MAX_SEQ,
            largest_seq: 0,
            entries: 0,
            tombstones: 0,
            range_tombstones: 0,
            patches: 0,
            key_bytes: 0,
            head_bytes: 0,
            tail_bytes: 0,
            blobs: Vec::new(),
            section: None,
            split: 0,
        }
    }

    /// The file that it stands in.
    pub fn file(&self) -> TableFile {
        self.place().file
    }

    /// The length of that file.
    pub fn file_len(&self) -> u64 {
        self.section.map_or(self.size, |section| section.pack_len)
    }

    pub(crate) fn place(&self) -> Place {
        Place::new(self.number, self.section)
    }

    /// Counts what a record points to.
    pub(crate) fn refer(&mut self, pointer: &Pointer, seq: SeqNo) {
        BlobUse::add(&mut self.blobs, pointer, seq > self.split);
    }

    /// All records are counted: does the split tell any apart?
    pub(crate) fn settle_split(&mut self) {
        if self.blobs.is_empty() || self.split < self.smallest_seq || self.split >= self.largest_seq {
            self.split = 0;
        }
        if self.split == 0 {
            self.blobs.iter_mut().for_each(|used| used.newer = 0);
        }
    }

    /// Bytes of one blob file that its records newer than `seq` point to, at least.
    pub fn blob_bytes_after(&self, used: &BlobUse, seq: SeqNo) -> u64 {
        match self.smallest_seq > seq {
            true => used.bytes,
            false if self.split >= seq => used.newer,
            false => 0,
        }
    }

    /// Bytes in blob files that its records point to.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|used| used.bytes).sum()
    }

    /// Counts a record. The key range is the builder's to set.
    pub(crate) fn count(&mut self, key: KeyRef<'_>, kind: Kind, head: &[u8], tail: &[u8]) {
        self.entries += 1;
        self.tombstones += u64::from(matches!(kind, Kind::Tombstone | Kind::RangeTombstone));
        self.range_tombstones += u64::from(kind == Kind::RangeTombstone);
        self.patches += u64::from(kind.is_patch());
        self.smallest_seq = self.smallest_seq.min(key.seq);
        self.largest_seq = self.largest_seq.max(key.seq);
        self.key_bytes += key.user.len() as u64;
        self.head_bytes += head.len() as u64;
        self.tail_bytes += tail.len() as u64;
    }

    /// May the table hold the user key, by its key range?
    pub fn contains_key(&self, user: &[u8]) -> bool {
        *self.smallest <= *user && *user <= *self.largest
    }

    /// May the table hold a key between the bounds, by its key range?
    pub fn overlaps(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
        let begins_in_time = match to {
            Bound::Included(to) => *self.smallest <= *to,
            Bound::Excluded(to) => *self.smallest < *to,
            Bound::Unbounded => true,
        };
        let ends_late_enough = match from {
            Bound::Included(from) => *self.largest >= *from,
            Bound::Excluded(from) => *self.largest > *from,
            Bound::Unbounded => true,
        };
        begins_in_time && ends_late_enough
    }

    /// Appends the encoded meta.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(64 + self.smallest.len() + self.largest.len());
        for n in [
            self.number,
            self.size,
            self.smallest_seq,
            self.largest_seq,
            self.entries,
            self.tombstones,
            self.patches,
            self.range_tombstones,
            self.key_bytes,
            self.head_bytes,
            self.tail_bytes,
        ] {
            varint::put(&mut body, n);
        }
        varint::put_prefixed(&mut body, &self.smallest);
        varint::put_prefixed(&mut body, &self.largest);
        if !self.blobs.is_empty() || self.section.is_some() || self.split > 0 {
            varint::put(&mut body, self.blobs.len() as u64);
            self.blobs.iter().for_each(|used| used.encode(&mut body));
        }
        if self.section.is_some() || self.split > 0 {
            let Section { pack, offset, pack_len } = self.section.unwrap_or_default();
            [pack, offset, pack_len].iter().for_each(|n| varint::put(&mut body, *n));
        }
        if self.split > 0 {
            varint::put(&mut body, self.split);
            self.blobs.iter().for_each(|used| varint::put(&mut body, used.newer));
        }
        varint::put_prefixed(out, &body);
    }

    /// Does it lie within its pack, if it stands in one?
    pub(crate) fn fits(&self) -> bool {
        let within = |section: Section| {
            section.offset.checked_add(self.size).is_some_and(|end| end <= section.pack_len)
        };
        self.section.is_none_or(within)
    }

    /// Takes an encoded meta off the front of `input`; `None` if there is none.
    pub fn decode(input: &mut &[u8]) -> Option<TableMeta> {
        let mut body = varint::take_prefixed(input)?;
        let mut number = || varint::take(&mut body);
        let mut meta = TableMeta {
            number: number()?,
            size: number()?,
            smallest_seq: number()?,
            largest_seq: number()?,
            entries: number()?,
            tombstones: number()?,
            patches: number()?,
            range_tombstones: number()?,
            key_bytes: number()?,
            head_bytes: number()?,
            tail_bytes: number()?,
            smallest: Bytes::new(),
            largest: Bytes::new(),
            blobs: Vec::new(),
            section: None,
            split: 0,
        };
        meta.smallest = Bytes::copy_from_slice(varint::take_prefixed(&mut body)?);
        meta.largest = Bytes::copy_from_slice(varint::take_prefixed(&mut body)?);
        if !body.is_empty() {
            for _ in 0..varint::take(&mut body)? {
                meta.blobs.push(BlobUse::decode(&mut body)?);
            }
        }
        if !body.is_empty() {
            let mut number = || varint::take(&mut body);
            let section = Section { pack: number()?, offset: number()?, pack_len: number()? };
            meta.section = Some(section).filter(|section| *section != Section::default());
        }
        if !body.is_empty() {
            meta.split = varint::take(&mut body)?;
            for used in &mut meta.blobs {
                used.newer = varint::take(&mut body)?;
            }
        }
        let sound = meta.blobs.is_sorted_by_key(|used| used.file)
            && meta.smallest <= meta.largest
            && meta.smallest_seq <= meta.largest_seq
            && meta.fits()
            && meta.blobs.iter().all(|used| used.newer <= used.bytes);
        sound.then_some(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Bound::*;

    fn meta(smallest: &'static [u8], largest: &'static [u8]) -> TableMeta {
        TableMeta {
            size: 1 << 40,
            smallest: Bytes::from_static(smallest),
            largest: Bytes::from_static(largest),
            smallest_seq: 3,
            largest_seq: MAX_SEQ,
            entries: 300,
            tombstones: 2,
            patches: 1,
            range_tombstones: 1,
            key_bytes: 1000,
            head_bytes: 2000,
            tail_bytes: 3000,
            ..TableMeta::empty(42)
        }
    }

    #[test]
    fn a_meta_reads_back_and_a_cut_or_senseless_one_does_not() {
        let section = Some(Section { pack: 41, offset: 77, pack_len: 1 << 41 });
        let blobs = vec![BlobUse { file: 7, bytes: 500, end: 900, newer: 200 }];
        for meta in [
            meta(b"a", b"zz"),
            meta(b"", b""),
            TableMeta { section, ..meta(b"a", b"b") },
            TableMeta { blobs: blobs.clone(), split: 7, ..meta(b"a", b"b") },
            TableMeta { blobs, section, split: 7, ..meta(b"a", b"b") },
        ] {
            let mut encoded = Vec::new();
            meta.encode(&mut encoded);
            for cut in 0..encoded.len() {
                assert_eq!(TableMeta::decode(&mut &encoded[..cut]), None);
            }
            encoded.push(99);
            let mut input = encoded.as_slice();
            assert_eq!(TableMeta::decode(&mut input), Some(meta));
            assert_eq!(input, [99]);
        }
        let mut encoded = Vec::new();
        meta(b"z", b"a").encode(&mut encoded);
        assert_eq!(TableMeta::decode(&mut encoded.as_slice()), None);
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        let mut encoded = Vec::new();
        let section = Some(Section { pack: 41, offset: 77, pack_len: 1 << 41 });
        let meta = TableMeta { section, split: 5, ..meta(b"a", b"b") };
        meta.encode(&mut encoded);
        encoded[0] += 2;
        encoded.extend_from_slice(b"..next");
        let mut input = encoded.as_slice();
        assert_eq!(TableMeta::decode(&mut input), Some(meta));
        assert_eq!(input, b"next");
    }

    #[test]
    fn values_of_newer_records_are_told_apart_where_the_split_is_between_them() {
        let count = |seqs: [SeqNo; 3], split| {
            let mut meta = TableMeta { split, ..TableMeta::empty(1) };
            for seq in seqs {
                meta.count(KeyRef::new(b"k", seq, Kind::BlobPointer), Kind::BlobPointer, b"", b"");
                meta.refer(&Pointer { file: 3, offset: 40, len: 84, checksum: 0 }, seq);
            }
            meta.settle_split();
            meta
        };
        let after = |meta: &TableMeta, seq| meta.blob_bytes_after(&meta.blobs[0], seq);
        let meta = count([10, 20, 30], 15);
        assert_eq!((meta.blobs[0].bytes, meta.blobs[0].newer, meta.split), (300, 200, 15));
        assert_eq!([9, 15, 16].map(|seq| after(&meta, seq)), [300, 200, 0]);
        assert_eq!(after(&meta, 12), 200, "at least");
        for split in [0, 9, 30] {
            let meta = count([10, 20, 30], split);
            assert_eq!((meta.blobs[0].newer, meta.split), (0, 0));
            assert_eq!([9, 15].map(|seq| after(&meta, seq)), [300, 0]);
        }
    }

    #[test]
    fn overlap_is_decided_at_both_ends() {
        let meta = meta(b"c", b"f");
        assert!(meta.overlaps(Unbounded, Unbounded));
        assert!(meta.overlaps(Included(b"f"), Unbounded));
        assert!(!meta.overlaps(Excluded(b"f"), Unbounded));
        assert!(meta.overlaps(Unbounded, Included(b"c")));
        assert!(!meta.overlaps(Unbounded, Excluded(b"c")));
        assert!(meta.overlaps(Included(b"a"), Included(b"z")));
        assert!(meta.overlaps(Included(b"d"), Included(b"d")));
        assert!(!meta.overlaps(Included(b"g"), Included(b"z")));
        assert!(meta.contains_key(b"c") && meta.contains_key(b"f") && meta.contains_key(b"d"));
        assert!(!meta.contains_key(b"b") && !meta.contains_key(b"f\0"));
    }
}
