//! Batches: several writes to one volume that happen together or not at all.
//!
//! A batch is encoded once, while it is built. Its bytes are the log record, written as they are,
//! and what the memtable keeps, its keys and values read in place:
//!
//! ```text
//! offset  size
//! 0       40   room for the log record's header (see lsm/log/record.rs)
//! 40      4    volume id, big-endian
//! 44      4    number of writes, big-endian
//! 48      …    the writes, each:
//!              kind (1) | key length | [head length | tail length] | key | head | tail
//!              lengths are varints; a tombstone has no head and no tail, nor their lengths;
//!              a blob pointer's tail says where its tail is (see lsm/blob)
//! after them       the change of the volume's tally, unless it is none (see lsm/tally.rs)
//! ```
//!
//! The writes take consecutive sequence numbers, in order.

pub(crate) mod buffer;
mod writes;

pub(crate) use writes::{Write, Writes};

use crate::lsm::blob::Pointer;
use crate::lsm::key::Kind;
use crate::lsm::log::record::{HEADER_LEN, MAX_PAYLOAD_LEN};
use crate::lsm::table::builder::MAX_VALUE_PART_LEN;
use crate::lsm::tally::Tally;
use crate::lsm::value::{self, MAX_PATCHED_LEN};
use crate::lsm::{Error, Result, varint};
use bytes::BufMut;

/// The longest key.
pub const MAX_KEY_LEN: usize = 64 << 10;
/// The largest batch, encoded.
pub const MAX_BATCH_LEN: usize = 1 << 30;

// What a batch may hold, everything below it takes: else it could be logged, but never flushed.
const _: () = assert!(MAX_BATCH_LEN + Tally::MAX_LEN - HEADER_LEN <= MAX_PAYLOAD_LEN);
const _: () = assert!(MAX_BATCH_LEN <= MAX_VALUE_PART_LEN && MAX_PATCHED_LEN <= MAX_VALUE_PART_LEN);
const _: () = assert!(MAX_BATCH_LEN <= u32::MAX as usize);

/// More than an encoded pointer mostly takes, with its length.
const POINTER_ROOM: usize = 24;

/// Where the writes begin in an encoded batch.
const WRITES_AT: usize = HEADER_LEN + 8;

/// Writes that are applied in order and atomically.
#[derive(Debug, Clone)]
pub struct Batch {
    buf: Vec<u8>,
    len: usize,
    data_len: usize,
    longest_key: usize,
    /// The longest tail of a put.
    longest_tail: usize,
    /// Bytes of values that it deletes, as far as the caller told.
    deleted: u64,
    frees_room: bool,
    tally: Tally,
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
        let mut buf = buffer::take(WRITES_AT + bytes);
        buf.put_bytes(0, WRITES_AT);
        Batch {
            buf,
            len: 0,
            data_len: 0,
            longest_key: 0,
            longest_tail: 0,
            deleted: 0,
            frees_room: false,
            tally: Tally::default(),
            refused: None,
        }
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

    /// Gives a key's value another head; its tail stays.
    pub fn put_head(&mut self, key: &[u8], head: &[u8]) {
        self.push(Kind::HeadPatch, key, head, &[]);
    }

    /// Gives a key's value another head and changes bytes of its tail, as [`Batch::patch`] does. The tail has the
    /// length `old_len` now (0 if the key is absent); over one of another length the value is an error
    /// ([`Error::BadPatch`]) for whoever reads it.
    pub fn patch_split(
        &mut self,
        key: &[u8],
        head: &[u8],
        old_len: u32,
        new_len: u32,
        parts: &[(u32, &[u8])],
    ) {
        if let Err(e) = value::check_patch(key, new_len, parts) {
            self.refused.get_or_insert(e);
        }
        let mut tail = Vec::with_capacity(16 + parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>());
        value::encode_patch_tail(&mut tail, old_len, new_len, parts);
        self.push(Kind::HeadPatch, key, head, &[&tail]);
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

    /// Tells that the batch deletes or overwrites values of about this many bytes: the sooner their room is
    /// given back. Changes nothing else.
    pub fn note_deleted(&mut self, bytes: u64) {
        self.deleted = self.deleted.saturating_add(bytes);
    }

    /// Says that the batch deletes more than it writes: it is taken on a full disk too.
    pub fn frees_room(&mut self) {
        self.frees_room = true;
    }

    /// Adds to what the batch changes the volume's tally by ([`crate::lsm::tally`]). A batch without
    /// writes counts nothing.
    pub fn count(&mut self, change: Tally) {
        self.tally += change;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn is_freeing(&self) -> bool {
        self.frees_room
    }

    /// Adds the writes of another batch behind its own.
    pub fn append(&mut self, other: &Batch) {
        self.frees_room = other.frees_room && (self.frees_room || self.is_empty());
        self.buf.extend_from_slice(&other.buf[WRITES_AT..]);
        self.len += other.len;
        self.data_len += other.data_len;
        self.longest_key = self.longest_key.max(other.longest_key);
        self.longest_tail = self.longest_tail.max(other.longest_tail);
        self.deleted = self.deleted.saturating_add(other.deleted);
        self.tally += other.tally;
        self.refused = self.refused.take().or_else(|| other.refused.clone());
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
        if kind.blob().is_some() {
            self.longest_tail = self.longest_tail.max(tail_len);
        }
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

    /// Its writes, in order.
    pub(crate) fn writes(&self) -> impl Iterator<Item = Write<'_>> {
        let own = |write: std::result::Result<_, ()>| write.expect("a batch encodes its own writes");
        Writes::of(self.len as u32, &self.buf[WRITES_AT..]).map(own)
    }

    pub(crate) fn longest_tail(&self) -> usize {
        self.longest_tail
    }

    pub(crate) fn deleted(&self) -> u64 {
        self.deleted
    }

    /// Its length, encoded.
    pub(crate) fn encoded_len(&self) -> usize {
        self.buf.len()
    }

    /// May it be written?
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a key or the whole is larger than the formats hold, [`Error::BadPatch`].
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(e) = &self.refused {
            return Err(e.clone());
        }
        if self.longest_key > MAX_KEY_LEN {
            return Err(Error::TooLarge { what: "key", len: self.longest_key, limit: MAX_KEY_LEN });
        }
        if self.buf.len() > MAX_BATCH_LEN {
            return Err(Error::TooLarge { what: "batch", len: self.buf.len(), limit: MAX_BATCH_LEN });
        }
        Ok(())
    }

    /// The batch with pointers in the place of tails that have `min` bytes or more, which `append` puts
    /// elsewhere, all at once.
    pub(crate) fn separate(
        self,
        min: usize,
        append: impl FnOnce(&[&[u8]]) -> Result<Vec<Pointer>>,
    ) -> Result<Batch> {
        let rest = &self.buf[WRITES_AT..];
        let writes = || self.writes();
        let is_large = |write: &Write<'_>| write.kind.blob().is_some() && write.tail().len() >= min;
        let large: Vec<Write<'_>> = writes().filter(is_large).collect();
        let tails: Vec<&[u8]> = large.iter().map(Write::tail).collect();
        let mut pointers = append(&tails)?.into_iter();
        let inline = rest.len() - tails.iter().map(|tail| tail.len()).sum::<usize>();
        let mut next = Batch::with_capacity(inline + tails.len() * POINTER_ROOM);
        (next.frees_room, next.tally) = (self.frees_room, self.tally);
        for write in writes() {
            match write.kind.blob().filter(|_| is_large(&write)) {
                Some(kind) => {
                    let mut pointer = Vec::with_capacity(POINTER_ROOM);
                    pointers.next().expect("one for each tail").encode(&mut pointer);
                    next.push(kind, write.key(), write.head(), &[&pointer]);
                }
                None if write.kind == Kind::Tombstone => next.delete(write.key()),
                None => next.push(write.kind, write.key(), write.head(), &[write.tail()]),
            }
        }
        Ok(next)
    }

    /// The batch as a log record without its header filled in, for the volume `id`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a key or the whole is larger than the formats hold, [`Error::BadPatch`].
    pub(crate) fn into_record(mut self, id: u32) -> Result<Vec<u8>> {
        self.check()?;
        self.buf[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&id.to_be_bytes());
        self.buf[HEADER_LEN + 4..WRITES_AT].copy_from_slice(&(self.len as u32).to_be_bytes());
        if !self.tally.is_zero() {
            self.buf.reserve_exact(Tally::MAX_LEN);
            self.tally.put(&mut self.buf);
        }
        Ok(self.buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_read_back_in_order() {
        let mut batch = Batch::new();
        batch.put(b"a", b"1");
        batch.delete(b"b");
        batch.put_split(b"c", b"head", b"tail");
        batch.first_put(b"", b"", b"");
        batch.patch(b"d", 9, &[(0, b"xx"), (4, b"y")]);
        batch.count(Tally { files: 1, bytes: 3000 });
        batch.count(Tally { files: -2, bytes: 0 });
        assert_eq!(batch.len(), 5);
        let record = batch.into_record(7).unwrap();
        let writes = Writes::new(&record[HEADER_LEN..]).unwrap();
        assert_eq!((writes.volume, writes.left()), (7, 5));
        let mut writes = writes;
        let got: Vec<Write<'_>> = writes.by_ref().map(|w| w.unwrap()).collect();
        assert_eq!(writes.tally(), Some(Tally { files: -1, bytes: 3000 }));
        let kinds: Vec<Kind> = got.iter().map(|w| w.kind).collect();
        assert_eq!(kinds, [Kind::Put, Kind::Tombstone, Kind::Put, Kind::FirstPut, Kind::Patch]);
        assert_eq!((got[2].head(), got[2].tail()), (&b"head"[..], &b"tail"[..]));
        assert_eq!(got[4].tail(), b"xxy");
    }

    #[test]
    fn keys_and_batches_over_the_limit_are_refused() {
        let mut batch = Batch::new();
        batch.put(&vec![0; MAX_KEY_LEN + 1], b"");
        assert!(matches!(batch.into_record(0), Err(Error::TooLarge { what: "key", .. })));
    }
}
