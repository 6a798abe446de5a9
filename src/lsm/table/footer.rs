//! The footer: the last 64 bytes of a table, numbers little-endian.
//!
//! ```text
//!  0  top index: offset (8) | stored length (4)
//! 12  properties: offset (8) | stored length (4)
//! 24  range tombstones: offset (8) | stored length (4); all 0 if there are none
//! 36  table's number (8)
//! 44  version (4)
//! 48  XXH3-64 of the bytes before it (8)
//! 56  magic (8)
//! ```
//!
//! The last 20 bytes mean the same in every version, so that a damaged version is told from a newer.

use crate::lsm::table::Place;
use crate::lsm::table::frame::{Handle, TRAILER_LEN};
use crate::lsm::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

/// The footer's length.
pub(crate) const FOOTER_LEN: usize = 64;

/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"lsmfsSST";

const NUMBER_AT: usize = 36;
const VERSION_AT: usize = 44;
const CHECKSUM_AT: usize = 48;
const MAGIC_AT: usize = 56;

/// Where to start reading a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) top_index: Handle,
    pub(crate) properties: Handle,
    /// Empty if the table has no range tombstones.
    pub(crate) ranges: Handle,
}

impl Footer {
    pub(crate) fn encode(&self, number: u64) -> [u8; FOOTER_LEN] {
        let mut bytes = [0; FOOTER_LEN];
        for (i, handle) in [self.top_index, self.properties, self.ranges].into_iter().enumerate() {
            bytes[i * 12..i * 12 + 8].copy_from_slice(&handle.offset.to_le_bytes());
            bytes[i * 12 + 8..i * 12 + 12].copy_from_slice(&handle.len.to_le_bytes());
        }
        bytes[NUMBER_AT..VERSION_AT].copy_from_slice(&number.to_le_bytes());
        bytes[VERSION_AT..CHECKSUM_AT].copy_from_slice(&VERSION.to_le_bytes());
        let sum = xxh3_64(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..MAGIC_AT].copy_from_slice(&sum.to_le_bytes());
        bytes[MAGIC_AT..].copy_from_slice(MAGIC);
        bytes
    }

    /// Reads the footer of the table at this place; `offset` is where it stands in the table.
    pub(crate) fn decode(bytes: &[u8; FOOTER_LEN], place: Place, offset: u64) -> Result<Footer> {
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let damaged = |what: &str| Err(place.damage(offset, what));
        if bytes[MAGIC_AT..] != *MAGIC {
            return damaged("a table's footer is missing");
        }
        if u64_at(CHECKSUM_AT) != xxh3_64(&bytes[..CHECKSUM_AT]) {
            return damaged("footer checksum mismatch");
        }
        let version = u32_at(VERSION_AT);
        if version > VERSION {
            return Err(Error::NewerFormat { file: place.file.name(), found: version, supported: VERSION });
        }
        if u64_at(NUMBER_AT) != place.number {
            return damaged(&format!("this is table {} under another name", u64_at(NUMBER_AT)));
        }
        let handle_at = |at| Handle { offset: u64_at(at), len: u32_at(at + 8) };
        Ok(Footer { top_index: handle_at(0), properties: handle_at(12), ranges: handle_at(24) })
    }
}

/// Does a block lie before the footer of a table of `size` bytes?
pub(crate) fn lies_within(handle: Handle, size: u64) -> bool {
    let framed = u64::from(handle.len) + TRAILER_LEN as u64 + FOOTER_LEN as u64;
    handle.offset.checked_add(framed).is_some_and(|end| end <= size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTER: Footer = Footer {
        top_index: Handle { offset: 1 << 40, len: 77 },
        properties: Handle { offset: 5, len: u32::MAX },
        ranges: Handle { offset: 7, len: 9 },
    };

    #[test]
    fn a_footer_reads_back_in_its_own_file_only() {
        let bytes = FOOTER.encode(12);
        assert_eq!(Footer::decode(&bytes, Place::single(12), 0).unwrap(), FOOTER);
        assert!(matches!(Footer::decode(&bytes, Place::single(13), 0), Err(Error::Corruption { .. })));
    }

    #[test]
    fn a_flipped_bit_is_damage_and_a_higher_version_is_not() {
        let bytes = FOOTER.encode(12);
        for bit in 0..FOOTER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(
                Footer::decode(&damaged, Place::single(12), 9),
                Err(Error::Corruption { offset: 9, .. })
            ));
        }
        let mut newer = bytes;
        newer[VERSION_AT] = 2;
        let sum = xxh3_64(&newer[..CHECKSUM_AT]);
        newer[CHECKSUM_AT..MAGIC_AT].copy_from_slice(&sum.to_le_bytes());
        let error = Footer::decode(&newer, Place::single(12), 9).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }));
    }
}
