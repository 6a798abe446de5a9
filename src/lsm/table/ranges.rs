//! The block of range tombstones: all of a table's, in the order of its records.
//!
//! ```text
//! block     := tombstone*
//! tombstone := varint len, start | varint len, end | varint sequence number
//! ```

use crate::lsm::key::MAX_SEQ;
use crate::lsm::range::{RangeSet, RangeTombstone};
use crate::lsm::table::Malformed;
use crate::lsm::varint;
use bytes::Bytes;

/// Appends one tombstone.
pub(crate) fn encode(out: &mut Vec<u8>, start: &[u8], end: &[u8], seq: u64) {
    varint::put_prefixed(out, start);
    varint::put_prefixed(out, end);
    varint::put(out, seq);
}

/// Reads a block.
pub(crate) fn decode(mut block: &[u8]) -> Result<RangeSet, Malformed> {
    let mut set = RangeSet::default();
    while !block.is_empty() {
        set.add(decode_one(&mut block).ok_or(Malformed("the range tombstones"))?);
    }
    Ok(set)
}

fn decode_one(input: &mut &[u8]) -> Option<RangeTombstone> {
    let start = Bytes::copy_from_slice(varint::take_prefixed(input)?);
    let end = Bytes::copy_from_slice(varint::take_prefixed(input)?);
    let seq = varint::take(input).filter(|seq| *seq <= MAX_SEQ)?;
    Some(RangeTombstone { start, end, seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_read_back_and_a_cut_block_is_malformed() {
        let mut block = Vec::new();
        encode(&mut block, b"a", b"m", 7);
        encode(&mut block, b"k", b"z", MAX_SEQ);
        let set = decode(&block).unwrap();
        assert_eq!(set.covering(b"l", 9).map(|(seq, _)| seq), Some(7));
        assert_eq!(set.covering(b"l", MAX_SEQ).map(|(seq, _)| seq), Some(MAX_SEQ));
        assert!(decode(&block[..block.len() - 1]).is_err());
        assert!(decode(&[9]).is_err());
    }
}
