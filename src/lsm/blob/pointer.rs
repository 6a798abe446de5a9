//! Where a value stands, and what a table's records point to.
//!
//! ```text
//! pointer := varint file number | varint offset | varint length of the stored bytes | checksum (8)
//! use     := varint file number | varint bytes | varint end
//! ```

use super::{HEADER_LEN, VALUE_HEADER_LEN};
use crate::lsm::names::MAX_NUMBER;
use crate::lsm::varint;

/// Where a value stands in a blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The file's number.
    pub file: u64,
    /// Where the value's header begins.
    pub offset: u64,
    /// The length of the stored bytes behind it.
    pub len: u32,
    /// The value's checksum.
    pub checksum: u64,
}

impl Pointer {
    /// The bytes that the value takes in its file, its header among them.
    pub fn framed_len(&self) -> usize {
        self.len as usize + VALUE_HEADER_LEN
    }

    /// The offset behind the value.
    pub fn end(&self) -> u64 {
        self.offset + self.framed_len() as u64
    }

    /// Appends the encoded pointer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.file);
        varint::put(out, self.offset);
        varint::put(out, u64::from(self.len));
        out.extend_from_slice(&self.checksum.to_be_bytes());
    }

    /// The pointer that `encoded` is; `None` if it is none.
    pub fn decode(mut encoded: &[u8]) -> Option<Pointer> {
        let input = &mut encoded;
        let (file, offset) = (varint::take(input)?, varint::take(input)?);
        let (len, checksum) = (varint::take_u32(input)?, varint::take_bytes(input, 8)?);
        let checksum = u64::from_be_bytes(*checksum.first_chunk()?);
        let sound = input.is_empty() && (HEADER_LEN as u64..MAX_NUMBER).contains(&offset);
        sound.then_some(Pointer { file, offset, len, checksum })
    }
}

/// What the records of one table, or one memtable, point to in one blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUse {
    /// The file's number.
    pub file: u64,
    /// The bytes that the values take.
    pub bytes: u64,
    /// The end of the last of them: the file is at least this long.
    pub end: u64,
    /// Those among the bytes that newer records point to, if the table tells them apart
    /// ([`TableMeta::split`](crate::lsm::table::TableMeta::split)). Encoded apart.
    pub newer: u64,
}

impl BlobUse {
    /// Adds a pointer to what is used of each file, in the order of their numbers.
    pub fn add(uses: &mut Vec<BlobUse>, pointer: &Pointer, is_newer: bool) {
        let (bytes, end) = (pointer.framed_len() as u64, pointer.end());
        let newer = if is_newer { bytes } else { 0 };
        match uses.binary_search_by_key(&pointer.file, |used| used.file) {
            Ok(at) => {
                uses[at].bytes += bytes;
                uses[at].newer += newer;
                uses[at].end = uses[at].end.max(end);
            }
            Err(at) => uses.insert(at, BlobUse { file: pointer.file, bytes, end, newer }),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        [self.file, self.bytes, self.end].into_iter().for_each(|n| varint::put(out, n));
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Option<BlobUse> {
        let (file, bytes, end) = (varint::take(input)?, varint::take(input)?, varint::take(input)?);
        let used = BlobUse { file, bytes, end, newer: 0 };
        (used.end < MAX_NUMBER && used.bytes < MAX_NUMBER).then_some(used)
    }
}
