//! Compressed archives: what they are compressed with is told by their first bytes.

use super::{ArchiveError, Result};
use std::io::{BufReader, Chain, Cursor, Read};

/// The first bytes of compressed files, and what they are compressed with.
const OTHERS: [(&[u8], &str); 4] =
    [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"LZIP", "lzip"), (b"\x04\x22\x4d\x18", "lz4")];

/// What is read at once from the outside.
const BUFFER: usize = 256 << 10;

/// The archive itself: unpacked, if it is compressed with gzip or zstd.
///
/// # Errors
/// It cannot be read, or is compressed with something else.
pub fn unpacked<'a, R: Read + Send + 'a>(mut input: R) -> Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::new();
    Read::by_ref(&mut input).take(6).read_to_end(&mut start).map_err(ArchiveError::Read)?;
    let other = OTHERS.iter().find(|(magic, _)| start.starts_with(magic));
    let is = |magic: &[u8]| start.starts_with(magic);
    let (gzip, zstd) = (is(b"\x1f\x8b"), is(b"\x28\xb5\x2f\xfd"));
    let whole: BufReader<Chain<Cursor<Vec<u8>>, R>> =
        BufReader::with_capacity(BUFFER, Cursor::new(start.clone()).chain(input));
    match other {
        Some((_, name)) => Err(ArchiveError::Malformed {
            offset: 0,
            what: format!("it is compressed with {name}: unpack it first, and import from standard input"),
        }),
        None if gzip => {
            Ok(Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(whole))))
        }
        None if zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(ArchiveError::Read)?;
            Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
        }
        None => Ok(Box::new(whole)),
    }
}
