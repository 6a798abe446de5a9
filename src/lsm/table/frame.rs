//! Block framing: how any block stands in the file.
//!
//! ```text
//! stored contents | block type (1) | compression (1) | checksum (8, little-endian)
//! ```
//!
//! The stored contents are the contents themselves (compression 0), or their length (4 bytes,
//! little-endian) and their compressed form (1: lz4 block, 2: zstd frame). The checksum is XXH3-64
//! of the stored contents, seeded with XXH3-64 of
//!
//! ```text
//! table's number (8, little-endian) | offset of the block in the table (8, little-endian) | block type | compression
//! ```
//!
//! so a block that was swapped with another, written to the wrong place or read as something else
//! is noticed like a flipped bit. Nothing is parsed or decompressed before the checksum was right.

use crate::disk::{Object, ObjectWriter};
use crate::lsm::Result;
use crate::lsm::table::compress::{self, Codec};
use crate::lsm::table::{Malformed, Place};
use crate::lsm::varint;
use bytes::Bytes;
use std::io::ErrorKind;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The bytes behind every block's stored contents.
pub(crate) const TRAILER_LEN: usize = 10;

/// What a block holds. The numbers are part of the format; 7 is reserved for range tombstones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BlockType {
    Data = 1,
    Index = 2,
    TopIndex = 3,
    Filter = 4,
    Value = 5,
    Properties = 6,
    Ranges = 7,
}

/// Where a block stands: the offset and the length of its stored contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Handle {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        varint::put(out, self.offset);
        varint::put(out, u64::from(self.len));
    }

    #[inline]
    pub(crate) fn decode(input: &mut &[u8]) -> Option<Handle> {
        Some(Handle { offset: varint::take(input)?, len: varint::take_u32(input)? })
    }

    /// The bytes that the block takes in the file.
    pub(crate) fn framed_len(self) -> usize {
        self.len as usize + TRAILER_LEN
    }
}

/// The checksum of a block that stands at `offset` of the file with this number.
fn checksum(number: u64, offset: u64, block_type: u8, codec: u8, stored: &[u8]) -> u64 {
    let mut place = [0; 18];
    place[..8].copy_from_slice(&number.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16] = block_type;
    place[17] = codec;
    xxh3_64_with_seed(stored, xxh3_64(&place))
}

/// The trailer of a block that stands at `offset`.
pub(crate) fn trailer(
    number: u64,
    offset: u64,
    block_type: BlockType,
    codec: Codec,
    stored: &[u8],
) -> [u8; TRAILER_LEN] {
    let mut trailer = [0; TRAILER_LEN];
    trailer[0] = block_type as u8;
    trailer[1] = codec as u8;
    let sum = checksum(number, offset, block_type as u8, codec as u8, stored);
    trailer[2..].copy_from_slice(&sum.to_le_bytes());
    trailer
}

/// Checks a framed block and gives its contents; uncompressed ones are a slice of `framed`.
pub(crate) fn unframe(
    framed: &Bytes,
    number: u64,
    offset: u64,
    expected: BlockType,
) -> std::result::Result<Bytes, Malformed> {
    let (stored, trailer) =
        framed.split_last_chunk::<TRAILER_LEN>().ok_or(Malformed("a block shorter than its trailer"))?;
    let [block_type, codec, sum @ ..] = *trailer;
    if u64::from_le_bytes(sum) != checksum(number, offset, block_type, codec, stored) {
        return Err(Malformed("block checksum mismatch"));
    }
    if block_type != expected as u8 {
        return Err(Malformed("a block of another type"));
    }
    match Codec::from_u8(codec) {
        Some(Codec::Raw) => Ok(framed.slice(..stored.len())),
        Some(codec) => compress::decompress(codec, stored).map(Bytes::from),
        None => Err(Malformed("unknown compression")),
    }
}

/// Reads `len` bytes of a table; a file that ends before them is damaged.
pub(crate) fn read_exact(object: &dyn Object, place: Place, offset: u64, len: usize) -> Result<Bytes> {
    object.read_at(offset, len).map_err(|e| match e.source.kind() {
        ErrorKind::UnexpectedEof => place.damage(offset, format!("the file ends within these {len} bytes")),
        _ => e.into(),
    })
}

/// Reads a block. The handle must lie within the file.
pub(crate) fn read_block(
    object: &dyn Object,
    place: Place,
    handle: Handle,
    block_type: BlockType,
) -> Result<Bytes> {
    let framed = read_exact(object, place, handle.offset, handle.framed_len())?;
    unframe(&framed, place.number, handle.offset, block_type).map_err(|e| place.damage(handle.offset, e.0))
}

/// The end of a table that is being written: counts offsets, and gathers small writes.
pub(crate) struct FrameWriter {
    writer: Box<dyn ObjectWriter>,
    number: u64,
    /// Bytes written so far, the buffered ones included.
    offset: u64,
    /// Bytes not yet handed to `writer`; at most [`BUFFER_LEN`].
    buffer: Vec<u8>,
}

/// Writes up to this length are gathered.
const BUFFER_LEN: usize = 64 << 10;

impl FrameWriter {
    pub(crate) fn new(writer: Box<dyn ObjectWriter>, number: u64) -> FrameWriter {
        FrameWriter { writer, number, offset: 0, buffer: Vec::with_capacity(BUFFER_LEN) }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends bytes that are framed already, or need no frame.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.write_buffered()?;
        }
        if bytes.len() > BUFFER_LEN {
            self.writer.write(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Frames and appends a block.
    pub(crate) fn append_block(
        &mut self,
        block_type: BlockType,
        codec: Codec,
        stored: &[u8],
    ) -> Result<Handle> {
        let handle = Handle { offset: self.offset, len: stored.len() as u32 };
        let trailer = trailer(self.number, self.offset, block_type, codec, stored);
        self.append(stored)?;
        self.append(&trailer)?;
        Ok(handle)
    }

    /// Completes the file and gives its length.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.write_buffered()?;
        self.writer.finish()?;
        Ok(self.offset)
    }

    fn write_buffered(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.writer.write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::options::Compression;
    use crate::lsm::table::compress::Compressor;

    fn framed(compression: Compression, contents: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(compression);
        let (codec, stored) = compressor.compress(contents);
        let trailer = trailer(7, 4096, BlockType::Data, codec, stored);
        [stored, &trailer].concat()
    }

    #[test]
    fn a_block_reads_back_only_as_itself_at_its_place() {
        let contents = b"some contents that repeat, contents that repeat ".repeat(20);
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let framed = Bytes::from(framed(compression, &contents));
            assert_eq!(unframe(&framed, 7, 4096, BlockType::Data).unwrap(), contents);
            assert!(unframe(&framed, 8, 4096, BlockType::Data).is_err(), "of another file");
            assert!(unframe(&framed, 7, 4097, BlockType::Data).is_err(), "at another place");
            assert!(unframe(&framed, 7, 4096, BlockType::Value).is_err(), "of another type");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let framed = framed(compression, &b"abcdefgh".repeat(16));
            for bit in 0..framed.len() * 8 {
                let mut damaged = framed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(unframe(&damaged.into(), 7, 4096, BlockType::Data).is_err(), "bit {bit}");
            }
            for cut in 0..framed.len() {
                let cut = Bytes::copy_from_slice(&framed[..cut]);
                assert!(unframe(&cut, 7, 4096, BlockType::Data).is_err());
            }
        }
    }
}
