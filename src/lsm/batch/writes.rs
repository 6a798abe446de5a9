//! Reading an encoded batch.

use crate::lsm::key::Kind;
use crate::lsm::tally::Tally;
use crate::lsm::varint;

/// One write of an encoded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Write<'a> {
    pub kind: Kind,
    /// Key, head and tail, end to end.
    pub whole: &'a [u8],
    pub key_len: usize,
    pub head_len: usize,
}

impl<'a> Write<'a> {
    pub fn key(&self) -> &'a [u8] {
        &self.whole[..self.key_len]
    }

    pub fn head(&self) -> &'a [u8] {
        &self.whole[self.key_len..][..self.head_len]
    }

    pub fn tail(&self) -> &'a [u8] {
        &self.whole[self.key_len + self.head_len..]
    }
}

/// Reads the writes of an encoded batch.
#[derive(Debug)]
pub(crate) struct Writes<'a> {
    rest: &'a [u8],
    pub volume: u32,
    left: u32,
}

impl<'a> Writes<'a> {
    /// Over a log record's payload (what follows the header); `None` if it is too short.
    pub fn new(payload: &'a [u8]) -> Option<Writes<'a>> {
        let (volume, rest) = payload.split_first_chunk()?;
        let (left, rest) = rest.split_first_chunk()?;
        Some(Writes { rest, volume: u32::from_be_bytes(*volume), left: u32::from_be_bytes(*left) })
    }

    /// Over `count` encoded writes.
    pub fn of(count: u32, rest: &'a [u8]) -> Writes<'a> {
        Writes { rest, volume: 0, left: count }
    }

    /// The number of writes not yet read.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// After the last write: the change of the tally. `None` if it is malformed.
    pub fn tally(&self) -> Option<Tally> {
        let mut rest = self.rest;
        if rest.is_empty() {
            return Some(Tally::default());
        }
        Tally::take(&mut rest).filter(|_| rest.is_empty())
    }

    fn decode(&mut self) -> Option<Write<'a>> {
        let kind = Kind::from_u8(*varint::take_bytes(&mut self.rest, 1)?.first()?)?;
        let key_len = varint::take_usize(&mut self.rest)?;
        let (head_len, tail_len) = match kind {
            Kind::Tombstone => (0, 0),
            _ => (varint::take_usize(&mut self.rest)?, varint::take_usize(&mut self.rest)?),
        };
        let len = key_len.checked_add(head_len)?.checked_add(tail_len)?;
        let whole = varint::take_bytes(&mut self.rest, len)?;
        Some(Write { kind, whole, key_len, head_len })
    }
}

impl<'a> Iterator for Writes<'a> {
    /// `Err` if the payload is malformed.
    type Item = std::result::Result<Write<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        match self.decode() {
            Some(write) => {
                self.left -= 1;
                Some(Ok(write))
            }
            None => {
                self.left = 0;
                Some(Err(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_does_not_panic(bytes: Vec<u8>) {
            if let Some(writes) = Writes::new(&bytes) {
                writes.for_each(drop);
            }
        }
    }
}
