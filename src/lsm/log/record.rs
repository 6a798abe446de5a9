//! Log records and segment headers, byte by byte. All integers big-endian.
//!
//! A segment (`NNNNNN.log`, and the manifest's `edits-NNNNNN`) opens with
//!
//! ```text
//! offset  size
//! 0       8    magic
//! 8       4    format version
//! 12      4    zero
//! 16      8    file number
//! 24      8    base: the log position of the segment's first byte
//! 32      8    checksum (xxh3, seeded with the store's id) of bytes 0..32
//! ```
//!
//! and goes on with records:
//!
//! ```text
//! offset  size
//! 0       4    checksum (xxh3, low half, seeded with the store's id) of bytes 4..40
//! 4       4    checksum (xxh3, low half) of the payload
//! 8       4    payload length
//! 12      1    kind of record
//! 13      3    zero
//! 16      8    file number of the segment
//! 24      8    first sequence number of the payload's writes
//! 32      8    log position known to be synced when this record was written
//! 40      …    payload
//! ```
//!
//! A log position is a byte offset in the concatenation of all segments. The file number in each
//! header makes bytes of an older file at the same place on the disk fail to pass for records. The
//! store's id is random and stands in the manifest only: nobody can make bytes of a value pass for a
//! header, which recovery looks for at any offset.

use crate::lsm::{Error, Result, SeqNo};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The length of a record's header.
pub const HEADER_LEN: usize = 40;
/// The length of a segment's header.
pub const SEGMENT_HEADER_LEN: usize = 40;
/// The version of the format that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// The longest payload.
pub const MAX_PAYLOAD_LEN: usize = 1 << 30;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A batch of writes (see [`crate::lsm::batch`]).
    Batch = 1,
    /// Nothing: a witness of what is synced (see [`crate::lsm::log`]).
    Skip = 2,
    /// Manifest edits (see [`crate::lsm::manifest`]); in the write-ahead log, of volumes.
    Edits = 3,
}

impl RecordKind {
    fn from_u8(n: u8) -> Option<RecordKind> {
        Some(match n {
            1 => RecordKind::Batch,
            2 => RecordKind::Skip,
            3 => RecordKind::Edits,
            _ => return None,
        })
    }
}

/// A record's header, without its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: RecordKind,
    /// Its length.
    pub payload_len: u32,
    /// The number of the segment's file.
    pub file: u64,
    /// The sequence number of its first write.
    pub first_seq: SeqNo,
    /// The log position known to be synced when the record was written.
    pub synced: u64,
}

/// What sets the headers in one sort of a store's files apart from all other bytes.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    /// The sort of file.
    pub magic: &'static [u8; 8],
    /// The store's id.
    pub store: u64,
}

impl Framing {
    fn header_sum(&self, header: &[u8]) -> u32 {
        xxh3_64_with_seed(header, self.store) as u32
    }
}

fn payload_sum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

impl Header {
    /// Fills in the header of `record`, whose payload stands after [`HEADER_LEN`] bytes of room.
    pub fn fill(&self, framing: &Framing, record: &mut [u8]) {
        let (header, payload) = record.split_at_mut(HEADER_LEN);
        assert_eq!(payload.len(), self.payload_len as usize, "the header states the payload's length");
        header[4..8].copy_from_slice(&payload_sum(payload).to_be_bytes());
        header[8..12].copy_from_slice(&self.payload_len.to_be_bytes());
        header[12..16].copy_from_slice(&[self.kind as u8, 0, 0, 0]);
        header[16..24].copy_from_slice(&self.file.to_be_bytes());
        header[24..32].copy_from_slice(&self.first_seq.to_be_bytes());
        header[32..40].copy_from_slice(&self.synced.to_be_bytes());
        let own = framing.header_sum(&header[4..]);
        header[..4].copy_from_slice(&own.to_be_bytes());
    }

    /// The header at the front of `bytes`, with the payload's checksum, if its own checksum holds.
    pub fn decode(bytes: &[u8], framing: &Framing) -> Option<(Header, u32)> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        if u32_at(header, 0) != framing.header_sum(&header[4..]) {
            return None;
        }
        Header::decode_unsigned(bytes)
    }

    /// As [`Header::decode`], where the store's id is lost: the header's own checksum is not looked at.
    pub(crate) fn decode_unsigned(bytes: &[u8]) -> Option<(Header, u32)> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let decoded = Header {
            kind: RecordKind::from_u8(header[12])?,
            payload_len: u32_at(header, 8),
            file: u64_at(header, 16),
            first_seq: u64_at(header, 24),
            synced: u64_at(header, 32),
        };
        let whole = header[13..16] == [0; 3] && decoded.payload_len as usize <= MAX_PAYLOAD_LEN;
        whole.then_some((decoded, u32_at(header, 4)))
    }

    /// Does `payload` match the checksum that [`Header::decode`] gave?
    pub fn payload_matches(payload: &[u8], expected: u32) -> bool {
        payload_sum(payload) == expected
    }
}

fn u32_at(header: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn u64_at(header: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from(u32_at(header, at)) << 32 | u64::from(u32_at(header, at + 4))
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The file's number.
    pub file: u64,
    /// The log position of the file's first byte.
    pub base: u64,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self, framing: &Framing) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(framing.magic);
        out[8..12].copy_from_slice(&VERSION.to_be_bytes());
        out[16..24].copy_from_slice(&self.file.to_be_bytes());
        out[24..32].copy_from_slice(&self.base.to_be_bytes());
        let own = xxh3_64_with_seed(&out[..32], framing.store);
        out[32..].copy_from_slice(&own.to_be_bytes());
        out
    }

    /// The header at the front of `bytes`; `None` if no whole header stands there.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] if a later version wrote it.
    pub fn decode(bytes: &[u8], framing: &Framing, name: &str) -> Result<Option<SegmentHeader>> {
        let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_LEN>() else { return Ok(None) };
        let own = xxh3_64_with_seed(&header[..32], framing.store);
        if header[..8] != *framing.magic || own.to_be_bytes() != header[32..] {
            return Ok(None);
        }
        let found = u32_at(header, 8);
        if found > VERSION {
            return Err(Error::NewerFormat { file: name.to_string(), found, supported: VERSION });
        }
        Ok(Some(SegmentHeader { file: u64_at(header, 16), base: u64_at(header, 24) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMING: Framing = Framing { magic: b"MAGICMAG", store: 42 };

    fn record() -> Vec<u8> {
        let mut record = vec![0; HEADER_LEN];
        record.extend_from_slice(b"payload");
        let header =
            Header { kind: RecordKind::Batch, payload_len: 7, file: 3, first_seq: 1 << 40, synced: 99 };
        header.fill(&FRAMING, &mut record);
        assert_eq!(Header::decode(&record, &FRAMING).unwrap().0, header);
        assert!(Header::decode(&record, &Framing { store: 43, ..FRAMING }).is_none());
        record
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = record();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let noticed = match Header::decode(&bad, &FRAMING) {
                None => true,
                Some((_, sum)) => !Header::payload_matches(&bad[HEADER_LEN..], sum),
            };
            assert!(noticed, "bit {bit}");
        }
    }

    #[test]
    fn segment_headers_read_back_and_newer_ones_are_refused() {
        let header = SegmentHeader { file: 8, base: 1 << 33 };
        let mut bytes = header.encode(&FRAMING);
        let decode = |bytes: &[u8], framing| SegmentHeader::decode(bytes, framing, "f");
        assert_eq!(decode(&bytes, &FRAMING).unwrap(), Some(header));
        assert_eq!(decode(&bytes, &Framing { magic: b"OTHERMAG", ..FRAMING }).unwrap(), None);
        assert_eq!(decode(&bytes, &Framing { store: 43, ..FRAMING }).unwrap(), None);
        assert_eq!(decode(&bytes[..39], &FRAMING).unwrap(), None);
        bytes[11] = 2;
        let sum = xxh3_64_with_seed(&bytes[..32], FRAMING.store).to_be_bytes();
        bytes[32..].copy_from_slice(&sum);
        let newer = decode(&bytes, &FRAMING).unwrap_err();
        assert!(matches!(newer, Error::NewerFormat { found: 2, .. }));
    }
}
