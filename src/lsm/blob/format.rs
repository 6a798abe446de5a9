//! A blob file's bytes: its header, and how values stand in it (see [`super`]).

use super::{Pointer, file_name};
use crate::disk::Object;
use crate::lsm::table::compress::{self, Codec};
use crate::lsm::value::put_tail;
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::io::ErrorKind;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The length of a file's header.
pub const HEADER_LEN: usize = 40;
/// The length of what stands before each value.
pub const VALUE_HEADER_LEN: usize = 16;
/// The version of the format that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"lsmfsblb";

/// The header of file `number` of the store with this id.
pub(crate) fn file_header(number: u64, store: u64) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_be_bytes());
    out[16..24].copy_from_slice(&number.to_be_bytes());
    let sum = xxh3_64_with_seed(&out[..32], store);
    out[32..].copy_from_slice(&sum.to_be_bytes());
    out
}

/// Checks the header of file `number`.
///
/// # Errors
/// [`Error::NewerFormat`] if a later version wrote the file, [`Error::Corruption`].
pub(crate) fn check_file_header(object: &dyn Object, number: u64, store: u64) -> Result<()> {
    let header = read_exact(object, number, 0, HEADER_LEN)?;
    let damaged = |offset, what: &str| Error::corruption(file_name(number), offset, what);
    let (Some(magic), Some(sum)) = (header.first_chunk::<8>(), header.last_chunk::<8>()) else {
        return Err(damaged(0, "it is shorter than its header"));
    };
    if magic != MAGIC {
        return Err(damaged(0, "it does not begin as a blob file"));
    }
    if u64::from_be_bytes(*sum) != xxh3_64_with_seed(&header[..32], store) {
        return Err(damaged(32, "its header's checksum does not match"));
    }
    let found = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    if found > VERSION {
        return Err(Error::NewerFormat { file: file_name(number), found, supported: VERSION });
    }
    if header[16..24] != number.to_be_bytes() {
        return Err(damaged(16, "it belongs to another file"));
    }
    Ok(())
}

/// Fills in the header of a value that stands at `pointer`'s place; sets the pointer's checksum.
pub(super) fn seal(pointer: &mut Pointer, codec: Codec, value: &mut [u8]) {
    let (header, stored) = value.split_at_mut(VALUE_HEADER_LEN);
    assert_eq!(stored.len(), pointer.len as usize, "the pointer has the value's length");
    pointer.checksum = checksum(pointer, codec as u8, stored);
    header[..8].copy_from_slice(&pointer.checksum.to_be_bytes());
    header[8..12].copy_from_slice(&pointer.len.to_be_bytes());
    header[12..16].copy_from_slice(&[codec as u8, 0, 0, 0]);
}

fn checksum(pointer: &Pointer, codec: u8, stored: &[u8]) -> u64 {
    let mut place = [0; 21];
    place[..8].copy_from_slice(&pointer.file.to_be_bytes());
    place[8..16].copy_from_slice(&pointer.offset.to_be_bytes());
    place[16..20].copy_from_slice(&pointer.len.to_be_bytes());
    place[20] = codec;
    xxh3_64_with_seed(stored, xxh3_64(&place))
}

/// A value as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub codec: Codec,
    pub bytes: Bytes,
    pointer: Pointer,
}

impl Stored {
    /// The value itself.
    pub fn contents(self) -> Result<Bytes> {
        if self.codec == Codec::Raw {
            return Ok(self.bytes);
        }
        let contents = compress::decompress(self.codec, &self.bytes);
        contents.map(Bytes::from).map_err(|e| damaged(&self.pointer, e.0))
    }

    /// As [`put_tail`], the value itself.
    pub fn put(&self, out: &mut [u8]) -> Result<usize> {
        if self.codec == Codec::Raw {
            return Ok(put_tail(&self.bytes, out));
        }
        compress::decompress_to(self.codec, &self.bytes, out).map_err(|e| damaged(&self.pointer, e.0))
    }
}

fn damaged(pointer: &Pointer, what: &str) -> Error {
    Error::corruption(file_name(pointer.file), pointer.offset, what)
}

/// Reads what `pointer` points to, and checks it.
pub(super) fn read_stored(object: &dyn Object, pointer: &Pointer) -> Result<Stored> {
    let framed = read_exact(object, pointer.file, pointer.offset, pointer.framed_len())?;
    let Some((header, stored)) = framed.split_first_chunk::<VALUE_HEADER_LEN>() else {
        return Err(damaged(pointer, "a value shorter than its header"));
    };
    let codec = header[12];
    let stated = header[..8] == pointer.checksum.to_be_bytes()
        && header[8..12] == pointer.len.to_be_bytes()
        && header[13..] == [0; 3];
    if !stated {
        return Err(damaged(pointer, "the value is not the one that its record points to"));
    }
    if checksum(pointer, codec, stored) != pointer.checksum {
        return Err(damaged(pointer, "value checksum mismatch"));
    }
    let codec = Codec::from_u8(codec).ok_or_else(|| damaged(pointer, "unknown compression"))?;
    Ok(Stored { codec, bytes: framed.slice(VALUE_HEADER_LEN..), pointer: *pointer })
}

/// Reads `len` bytes; a file that ends before them is damaged.
fn read_exact(object: &dyn Object, number: u64, offset: u64, len: usize) -> Result<Bytes> {
    object.read_at(offset, len).map_err(|e| match e.source.kind() {
        ErrorKind::UnexpectedEof => {
            Error::corruption(file_name(number), offset, format!("the file ends within these {len} bytes"))
        }
        _ => e.into(),
    })
}
