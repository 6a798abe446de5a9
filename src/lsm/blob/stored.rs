//! Turning values into what is stored of them, end to end in one buffer.

use super::{Pointer, VALUE_HEADER_LEN, format};
use crate::lsm::options::Compression;
use crate::lsm::table::compress::{Codec, Compressor};
use std::cell::RefCell;

/// A value is compressed only if this much of its start shrinks: what does not shrink is mostly found out at
/// a fraction of the price.
const SAMPLE_LEN: usize = 16 << 10;

/// Values as they will stand in a file, end to end, at a place that is not known yet.
#[derive(Debug, Default)]
pub(super) struct Framed {
    bytes: Vec<u8>,
    /// Where in `bytes` each value's header begins, the length of its stored bytes, and how it is stored.
    values: Vec<(usize, u32, Codec)>,
}

thread_local! {
    /// The codecs' tables are large: each writing thread keeps one set.
    static COMPRESSOR: RefCell<Option<(Compression, Compressor)>> = const { RefCell::new(None) };
}

impl Framed {
    /// Adds a value, compressed if that pays.
    pub fn add(&mut self, value: &[u8], compression: Compression) {
        COMPRESSOR.with_borrow_mut(|kept| {
            let compressor = match kept {
                Some((of, compressor)) if *of == compression => compressor,
                other => &mut other.insert((compression, Compressor::new(compression))).1,
            };
            let hopeless =
                value.len() >= 2 * SAMPLE_LEN && compressor.compress(&value[..SAMPLE_LEN]).0 == Codec::Raw;
            let (codec, stored) = if hopeless { (Codec::Raw, value) } else { compressor.compress(value) };
            self.add_stored(codec, stored);
        });
    }

    /// Adds what is stored of a value already.
    pub fn add_stored(&mut self, codec: Codec, stored: &[u8]) {
        self.values.push((self.bytes.len(), stored.len() as u32, codec));
        self.bytes.resize(self.bytes.len() + VALUE_HEADER_LEN, 0);
        self.bytes.extend_from_slice(stored);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to write at `offset` of `file`, and where each value will be.
    pub fn place(&mut self, file: u64, offset: u64) -> (&[u8], Vec<Pointer>) {
        let mut pointers = Vec::with_capacity(self.values.len());
        for &(at, len, codec) in &self.values {
            let mut pointer = Pointer { file, offset: offset + at as u64, len, checksum: 0 };
            format::seal(&mut pointer, codec, &mut self.bytes[at..at + VALUE_HEADER_LEN + len as usize]);
            pointers.push(pointer);
        }
        (&self.bytes, pointers)
    }

    /// Forgets the values, keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.values.clear();
    }

    /// Keeps no more room than this.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.bytes.shrink_to(bytes);
    }
}
