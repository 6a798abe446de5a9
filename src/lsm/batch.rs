//! Batches: several writes to one volume that happen together or not at all.
//!
//! A batch is encoded once, while it is built. Its bytes are the log record, written as they are,
//! and what the memtable's keys and values are slices of:
//!
//! ```text
//! offset  size
//! 0       40   room for the log record's header (see lsm/log/record.rs)
//! 40      4    volume id, big-endian
//! 44      4    number of writes, big-endian
//! 48      …    the writes, each:
//!              kind (1) | key length | [head length | tail length] | key | head | tail
//!              lengths are varints; a tombstone has no head and no tail, nor their lengths
//! ```
//!
//! The writes take consecutive sequence numbers, in order.

use crate::lsm::key::Kind;
use crate::lsm::log::record::{HEADER_LEN, MAX_PAYLOAD_LEN};
use crate::lsm::table::builder::MAX_VALUE_PART_LEN;
use crate::lsm::value::{self, MAX_PATCHED_LEN};
use crate::lsm::{Error, Result, varint};
use bytes::{BufMut, Bytes};

/// The longest key.
pub const MAX_KEY_LEN: usize = 64 << 10;
/// The largest batch, encoded.
pub const MAX_BATCH_LEN: usize = 1 << 30;

// What a batch may hold, everything below it takes: else it could be logged, but never flushed.
const _: () = assert!(MAX_BATCH_LEN - HEADER_LEN <= MAX_PAYLOAD_LEN);
const _: () = assert!(MAX_BATCH_LEN <= MAX_VALUE_PART_LEN && MAX_PATCHED_LEN <= MAX_VALUE_PART_LEN);
const _: () = assert!(MAX_BATCH_LEN <= u32::MAX as usize);

/// An encoded batch has no more room than this to spare: less than moving it would cost.
const MAX_SPARE_LEN: usize = 32;

/// Where the writes begin in an encoded batch.
const WRITES_AT: usize = HEADER_LEN + 8;

/// Writes that are applied in order and atomically.
#[derive(Debug)]
pub struct Batch {
    buf: Vec<u8>,
    len: usize,
    data_len: usize,
    longest_key: usize,
    /// What is wrong with the first write that cannot be.
    refused: Option<Error>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::with_capacity(256)
    }

    /// An empty batch with room for `bytes` bytes of keys and values.
    pub fn with_capacity(bytes: usize) -> Batch {
        let mut buf = Vec::with_capacity(WRITES_AT + bytes);
        buf.put_bytes(0, WRITES_AT);
        Batch { buf, len: 0, data_len: 0, longest_key: 0, refused: None }
    }

    /// Sets a key to a plain value (all head).
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.push(Kind::Put, key, value, &[&[]]);
    }

    /// Sets a key to a value of two parts.
    pub fn put_split(&mut self, key: &[u8], head: &[u8], tail: &[u8]) {
        self.push(Kind::Put, key, head, &[tail]);
    }

    /// Like [`Batch::put_split`], for a key that the caller knows to be absent.
    pub fn first_put(&mut self, key: &[u8], head: &[u8], tail: &[u8]) {
        self.push(Kind::FirstPut, key, head, &[tail]);
    }

    /// Changes bytes of a value's tail: the parts `(offset, bytes)` are laid over it, then it is cut or
    /// extended (with zeros) to `new_len`. Over an absent key it changes an empty value.
    ///
    /// A part that ends past `new_len`, or a `new_len` over [`MAX_PATCHED_LEN`], makes the whole batch one
    /// that [`crate::lsm::Volume::write`] refuses.
    pub fn patch(&mut self, key: &[u8], new_len: u32, parts: &[(u32, &[u8])]) {
        if let Err(e) = value::check_patch(key, new_len, parts) {
            self.refused.get_or_insert(e);
        }
        let mut head = Vec::with_capacity(16);
        value::encode_patch_head(&mut head, new_len, parts);
        let bytes: Vec<&[u8]> = parts.iter().map(|(_, bytes)| *bytes).collect();
        self.push(Kind::Patch, key, &head, &bytes);
    }

    /// Deletes a key; deleting what is not there is fine.
    pub fn delete(&mut self, key: &[u8]) {
        self.longest_key = self.longest_key.max(key.len());
        self.buf.put_u8(Kind::Tombstone as u8);
        varint::put(&mut self.buf, key.len() as u64);
        self.buf.extend_from_slice(key);
        self.data_len += key.len();
        self.len += 1;
    }

    /// Deletes every key from `from` up to, not including, `to`, in one record.
    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        if from < to {
            self.longest_key = self.longest_key.max(to.len());
            self.push(Kind::RangeTombstone, from, to, &[]);
        }
    }

    /// The number of writes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the keys and values, without what encoding adds.
    pub fn data_len(&self) -> usize {
        self.data_len
    }

    /// Has the batch no writes?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, kind: Kind, key: &[u8], head: &[u8], tail: &[&[u8]]) {
        self.longest_key = self.longest_key.max(key.len());
        let tail_len: usize = tail.iter().map(|part| part.len()).sum();
        self.data_len += key.len() + head.len() + tail_len;
        let lengths = [key.len(), head.len(), tail_len].map(|n| varint::len(n as u64)).iter().sum::<usize>();
        self.buf.reserve(1 + lengths + key.len() + head.len() + tail_len);
        self.buf.put_u8(kind as u8);
        varint::put(&mut self.buf, key.len() as u64);
        varint::put(&mut self.buf, head.len() as u64);
        varint::put(&mut self.buf, tail_len as u64);
        self.buf.extend_from_slice(key);
        self.buf.extend_from_slice(head);
        tail.iter().for_each(|part| self.buf.extend_from_slice(part));
        self.len += 1;
    }

    /// The batch as a log record without its header filled in, for the volume `id`. It takes hardly
    /// more room than it has bytes: memtables keep it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a key or the whole is larger than the formats hold, [`Error::BadPatch`].
    pub(crate) fn into_record(mut self, id: u32) -> Result<Vec<u8>> {
        if let Some(e) = self.refused {
            return Err(e);
        }
        if self.longest_key > MAX_KEY_LEN {
            return Err(Error::TooLarge { what: "key", len: self.longest_key, limit: MAX_KEY_LEN });
        }
        if self.buf.len() > MAX_BATCH_LEN {
            return Err(Error::TooLarge { what: "batch", len: self.buf.len(), limit: MAX_BATCH_LEN });
        }
        self.buf[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&id.to_be_bytes());
        self.buf[HEADER_LEN + 4..WRITES_AT].copy_from_slice(&(self.len as u32).to_be_bytes());
        if self.buf.capacity() - self.buf.len() > MAX_SPARE_LEN {
            self.buf.shrink_to_fit();
        }
        Ok(self.buf)
    }
}

/// One write of an encoded batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub kind: Kind,
    pub key: Bytes,
    /// Head and tail, end to end.
    pub value: Bytes,
    pub head_len: u32,
}

/// Reads the writes of an encoded batch.
#[derive(Debug)]
pub(crate) struct Writes {
    rest: Bytes,
    pub volume: u32,
    left: u32,
}

impl Writes {
    /// Over a log record's payload (what follows the header); `None` if it is too short.
    pub fn new(mut payload: Bytes) -> Option<Writes> {
        let volume = u32::from_be_bytes(*payload.first_chunk()?);
        let left = u32::from_be_bytes(*payload.get(4..)?.first_chunk()?);
        let rest = payload.split_off(8);
        Some(Writes { rest, volume, left })
    }

    /// The number of writes not yet read.
    pub fn left(&self) -> u32 {
        self.left
    }

    fn decode(&mut self) -> Option<Write> {
        let mut input = self.rest.as_ref();
        let kind = Kind::from_u8(*varint::take_bytes(&mut input, 1)?.first()?)?;
        let key_len = varint::take_usize(&mut input)?;
        let (head_len, tail_len) = match kind {
            Kind::Tombstone => (0, 0),
            _ => (varint::take_usize(&mut input)?, varint::take_usize(&mut input)?),
        };
        let value_len = head_len.checked_add(tail_len)?;
        if key_len.checked_add(value_len)? > input.len() {
            return None;
        }
        let lengths_len = self.rest.len() - input.len();
        let _ = self.rest.split_to(lengths_len);
        let key = self.rest.split_to(key_len);
        let value = self.rest.split_to(value_len);
        Some(Write { kind, key, value, head_len: head_len.try_into().ok()? })
    }
}

impl Iterator for Writes {
    /// `Err` if the payload is malformed.
    type Item = std::result::Result<Write, ()>;

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

    #[test]
    fn writes_read_back_in_order() {
        let mut batch = Batch::new();
        batch.put(b"a", b"1");
        batch.delete(b"b");
        batch.put_split(b"c", b"head", b"tail");
        batch.first_put(b"", b"", b"");
        batch.patch(b"d", 9, &[(0, b"xx"), (4, b"y")]);
        assert_eq!(batch.len(), 5);
        let record = Bytes::from(batch.into_record(7).unwrap());
        let writes = Writes::new(record.slice(HEADER_LEN..)).unwrap();
        assert_eq!((writes.volume, writes.left()), (7, 5));
        let got: Vec<Write> = writes.map(|w| w.unwrap()).collect();
        let kinds: Vec<Kind> = got.iter().map(|w| w.kind).collect();
        assert_eq!(kinds, [Kind::Put, Kind::Tombstone, Kind::Put, Kind::FirstPut, Kind::Patch]);
        assert_eq!((&got[2].value[..], got[2].head_len), (&b"headtail"[..], 4));
        assert_eq!(&got[4].value[got[4].head_len as usize..], b"xxy");
    }

    #[test]
    fn keys_and_batches_over_the_limit_are_refused() {
        let mut batch = Batch::new();
        batch.put(&vec![0; MAX_KEY_LEN + 1], b"");
        assert!(matches!(batch.into_record(0), Err(Error::TooLarge { what: "key", .. })));
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(bytes: Vec<u8>) {
            if let Some(writes) = Writes::new(bytes.into()) {
                writes.for_each(drop);
            }
        }
    }
}
