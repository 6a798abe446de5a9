//! Ranges of a file and bytes of its chunks: what is not stored is zeros.

use crate::fs::entry::CHUNK_SIZE;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// A part of a range of a file that lies in one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fs) struct Piece {
    pub chunk: u32,
    /// Where it lies in the chunk.
    pub within: Range<usize>,
    /// Where it lies in the range.
    pub of_range: Range<usize>,
}

/// Cuts a range of a file, which ends at the largest size at most, at the chunks' bounds.
pub(in crate::fs) fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % CHUNK_SIZE) as usize;
        let take = (len - done).min(CHUNK_SIZE as usize - start);
        let of_range = done..done + take;
        done += take;
        Some(Piece { chunk: (at / CHUNK_SIZE) as u32, within: start..start + take, of_range })
    })
}

pub(super) fn is_zero(data: &[u8]) -> bool {
    data.iter().all(|byte| *byte == 0)
}

/// What exists of a range of stored bytes.
fn present<'a>(stored: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    let end = range.end.min(stored.len());
    &stored[range.start.min(end)..end]
}

/// Fills `out` with the range of stored bytes that is as long; zeros follow them.
pub(in crate::fs) fn fill(out: &mut [u8], stored: &[u8], range: &Range<usize>) {
    let stored = present(stored, range);
    let (there, behind) = out.split_at_mut(stored.len());
    there.copy_from_slice(stored);
    behind.fill(0);
}

/// A range of stored bytes; zeros follow them.
pub(in crate::fs) fn zero_extended(stored: &Bytes, range: Range<usize>) -> Bytes {
    if range.end <= stored.len() {
        return stored.slice(range);
    }
    let mut out = BytesMut::with_capacity(range.len());
    out.extend_from_slice(present(stored, &range));
    out.resize(range.len(), 0);
    out.freeze()
}

/// Stored bytes with `data` laid over them; a gap between is filled with zeros.
pub(in crate::fs) fn overlay(stored: &[u8], at: usize, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(stored.len().max(at + data.len()));
    out.extend_from_slice(stored);
    if out.len() < at + data.len() {
        out.resize(at + data.len(), 0);
    }
    out[at..at + data.len()].copy_from_slice(data);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::entry::MAX_FILE_SIZE;

    #[test]
    fn ranges_are_cut_at_chunk_bounds() {
        let cut: Vec<_> = pieces(CHUNK_SIZE - 1, CHUNK_SIZE as usize + 2).collect();
        let size = CHUNK_SIZE as usize;
        assert_eq!(
            cut,
            [
                Piece { chunk: 0, within: size - 1..size, of_range: 0..1 },
                Piece { chunk: 1, within: 0..size, of_range: 1..size + 1 },
                Piece { chunk: 2, within: 0..1, of_range: size + 1..size + 2 },
            ]
        );
        assert_eq!(pieces(5, 0).count(), 0);
        let last = pieces(MAX_FILE_SIZE - 1, 1).next().unwrap();
        assert_eq!((last.chunk, last.within), (u32::MAX, size - 1..size));
    }

    #[test]
    fn what_is_not_stored_reads_as_zeros() {
        let stored = Bytes::from_static(b"abc");
        assert_eq!(zero_extended(&stored, 1..3), b"bc"[..]);
        assert_eq!(zero_extended(&stored, 2..5), b"c\0\0"[..]);
        assert_eq!(zero_extended(&stored, 7..9), b"\0\0"[..]);
        for (range, expected) in [(1..3, b"bc"), (2..4, b"c\0"), (7..9, b"\0\0")] {
            let mut out = *b"xx";
            fill(&mut out, &stored, &range);
            assert_eq!(out, *expected);
        }
    }

    #[test]
    fn data_is_laid_over_what_is_stored() {
        assert_eq!(overlay(b"abc", 1, b"X"), b"aXc"[..]);
        assert_eq!(overlay(b"abc", 2, b"XY"), b"abXY"[..]);
        assert_eq!(overlay(b"abc", 5, b"X"), b"abc\0\0X"[..]);
    }
}
