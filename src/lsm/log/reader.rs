//! Reading a segment: its whole records, and what the bytes after them prove.
//!
//! A bad record is either the torn tail of a power cut (what follows was never synced) or damage
//! (it was). Only a *later* record can tell: each carries the position that was known to be synced
//! when it was written. A bad record below such a position is damage; otherwise the log ends at
//! the bad record, whatever good records follow it: a power cut may keep later pages and lose
//! earlier ones. In a recycled file the records of its earlier life follow, whose headers state another
//! segment: they are bad records that prove nothing.

use super::record::{Framing, HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::Result;
use bytes::Bytes;

/// One whole record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: Bytes,
    /// Where it begins in the file.
    pub offset: u64,
}

/// A segment's records, up to the first that is not whole.
#[derive(Debug)]
pub struct SegmentReader {
    bytes: Bytes,
    framing: Framing,
    file: u64,
    offset: usize,
}

impl SegmentReader {
    /// Over a segment's bytes; `None` if its header is not whole or says another file or base
    /// (`base`: `None` if any will do).
    ///
    /// # Errors
    /// [`crate::lsm::Error::NewerFormat`] if a later version wrote the segment.
    pub fn new(
        bytes: Bytes,
        framing: Framing,
        name: &str,
        file: u64,
        base: Option<u64>,
    ) -> Result<Option<SegmentReader>> {
        let header = SegmentHeader::decode(&bytes, &framing, name)?;
        Ok(header.filter(|h| h.file == file && base.is_none_or(|b| b == h.base)).map(|_| SegmentReader {
            bytes,
            framing,
            file,
            offset: SEGMENT_HEADER_LEN,
        }))
    }

    /// The offset after the last whole record.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// Were all bytes read as records?
    pub fn at_end(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// The highest synced position that any whole record header after the current place states.
    pub fn synced_after(&self) -> Option<u64> {
        highest_synced(self.bytes.get(self.offset..).unwrap_or_default(), &self.framing, self.file)
    }
}

impl Iterator for SegmentReader {
    type Item = Record;

    /// The next whole record; `None` at the end, and for good at a record that is not whole.
    fn next(&mut self) -> Option<Record> {
        let (header, sum) = Header::decode(self.bytes.get(self.offset..)?, &self.framing)?;
        let start = self.offset + HEADER_LEN;
        let end = start.checked_add(header.payload_len as usize)?;
        let payload = self.bytes.get(start..end)?;
        if header.file != self.file || !Header::payload_matches(payload, sum) {
            return None;
        }
        let record = Record { header, payload: self.bytes.slice(start..end), offset: self.offset as u64 };
        self.offset = end;
        Some(record)
    }
}

/// Could `start`, the first bytes of a file (as many as a segment's header has, unless the file is
/// shorter), be what a power cut left of a segment? If its header did not arrive whole there are
/// zeros, or the file ends within it. In a recycled file's place there may be its earlier life's, and a
/// header may have arrived where the file's new name did not: so any segment's header will do.
pub fn may_be_segment(start: &[u8], framing: &Framing) -> bool {
    let never_arrived = start.iter().all(|byte| *byte == 0);
    let cut_short = start.len() < SEGMENT_HEADER_LEN && start.iter().zip(framing.magic).all(|(a, b)| a == b);
    let whole = || matches!(SegmentHeader::decode(start, framing, ""), Ok(Some(_)));
    never_arrived || cut_short || whole()
}

/// The highest synced position that any record header of segment `file` within `bytes` states, at
/// whatever offset it stands.
pub fn highest_synced(bytes: &[u8], framing: &Framing, file: u64) -> Option<u64> {
    let number = file.to_be_bytes();
    (0..bytes.len().saturating_sub(HEADER_LEN - 1))
        // The file number is compared before the checksum is computed: this runs once a byte.
        .filter(|at| bytes[at + 16..at + 24] == number)
        .filter_map(|at| Header::decode(&bytes[at..], framing))
        .map(|(header, _)| header.synced)
        .max()
}
