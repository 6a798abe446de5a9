//! Sparse files: only what they have is stored, and a map says where it belongs.
//!
//! | format | the map |
//! |---|---|
//! | GNU (type `S`) | four entries in the header, and 21 in each block that follows it |
//! | pax 0.0 | a record of offset and one of length for each |
//! | pax 0.1 | one record, numbers with commas between |
//! | pax 1.0 | before the data: the count, then offsets and lengths, a line each, filled up to a block |

use super::header::{Block, number};
use super::pax::{Pax, decimal};

/// The file's own path: the member's tells which program made it.
pub const NAME: &[u8] = b"GNU.sparse.name";
pub const MAJOR: &[u8] = b"GNU.sparse.major";
pub const MINOR: &[u8] = b"GNU.sparse.minor";
pub const REAL_SIZE: &[u8] = b"GNU.sparse.realsize";
const SIZE: &[u8] = b"GNU.sparse.size";
const MAP: &[u8] = b"GNU.sparse.map";
const OFFSET: &[u8] = b"GNU.sparse.offset";
const LENGTH: &[u8] = b"GNU.sparse.numbytes";

/// Offsets and lengths of what is stored, in the order in which it is.
pub type Extents = Vec<(u64, u64)>;

/// The most entries of a map: a few pages of data in each megabyte of a terabyte.
pub const EXTENTS_MAX: usize = 4 << 20;

/// The entries in a block of a GNU header, from `at` on; the map ends with one of length 0.
pub fn gnu_entries(
    block: &Block,
    at: usize,
    count: usize,
    extents: &mut Extents,
) -> Result<(), &'static str> {
    for entry in block[at..at + count * 24].chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        let part = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok()).ok_or(BAD);
        extents.push((part(&entry[..12])?, part(&entry[12..])?));
    }
    Ok(())
}

const BAD: &str = "the map of a sparse file makes no sense";

/// The map that a pax header holds, if it holds one, and the file's length.
pub fn of_pax(pax: &Pax) -> Result<Option<(Extents, u64)>, &'static str> {
    let Some(size) = pax.number(REAL_SIZE)?.or(pax.number(SIZE)?) else { return Ok(None) };
    if let Some(map) = pax.get(MAP) {
        let numbers: Option<Vec<u64>> = map.split(|byte| *byte == b',').map(decimal).collect();
        return Ok(Some((pairs(&numbers.ok_or(BAD)?)?, size)));
    }
    let mut numbers = Vec::new();
    for (key, value) in pax.records.iter().filter(|(key, _)| key == OFFSET || key == LENGTH) {
        // An offset, then a length.
        if (numbers.len() % 2 == 0) != (key == OFFSET) {
            return Err(BAD);
        }
        numbers.push(decimal(value).ok_or(BAD)?);
    }
    Ok(Some((pairs(&numbers)?, size)))
}

/// Does the map stand before the data?
pub fn is_before_data(pax: &Pax) -> Result<bool, &'static str> {
    Ok(pax.number(MAJOR)? == Some(1))
}

/// Reads the map before the data, a byte at a time from `next`.
pub fn read_map<E: From<&'static str>>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Extents, E> {
    let mut number = || -> Result<u64, E> {
        let mut digits = Vec::new();
        loop {
            match next()? {
                b'\n' => return decimal(&digits).ok_or(BAD.into()),
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(BAD.into()),
            }
        }
    };
    let count = number()?;
    if count > EXTENTS_MAX as u64 {
        return Err("the map of a sparse file is too long".into());
    }
    (0..count).map(|_| Ok((number()?, number()?))).collect()
}

/// The map before the data, as it is written.
pub fn write_map(extents: &[(u64, u64)]) -> Vec<u8> {
    let mut out = format!("{}\n", extents.len());
    extents.iter().for_each(|(offset, len)| out += &format!("{offset}\n{len}\n"));
    out.into_bytes()
}

fn pairs(numbers: &[u64]) -> Result<Extents, &'static str> {
    match numbers.chunks_exact(2) {
        pairs if pairs.remainder().is_empty() => Ok(pairs.map(|pair| (pair[0], pair[1])).collect()),
        _ => Err(BAD),
    }
}

/// Refuses a map that is out of order or goes past the file's end, or holds other than `stored` bytes.
pub fn check(extents: &Extents, size: u64, stored: u64) -> Result<(), &'static str> {
    let mut at = 0u64;
    let mut sum = 0u64;
    for &(offset, len) in extents {
        let end = offset.checked_add(len).ok_or(BAD)?;
        if offset < at || end > size {
            return Err(BAD);
        }
        at = end;
        sum += len;
    }
    if sum == stored && extents.len() <= EXTENTS_MAX { Ok(()) } else { Err(BAD) }
}
