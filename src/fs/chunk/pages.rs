//! Sets of a chunk's pages, and the page maps that keep them.

use crate::fs::entry::{CHUNK_SIZE, PAGE_SIZE, decode_page_map, pages_of};
use crate::fs::error::Cause;
use crate::fs::node::Outcome;

/// A page's size within a chunk.
pub(super) const PAGE: usize = PAGE_SIZE as usize;

const _: () = assert!(CHUNK_SIZE / PAGE_SIZE == u16::BITS as u64);

/// A set of a chunk's pages: bit n stands for page n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Pages(u16);

impl Pages {
    pub const NONE: Pages = Pages(0);

    /// The pages that chunk `number` of a file of `size` bytes has.
    pub fn of_chunk(size: u64, number: u32) -> Pages {
        let len = size.saturating_sub(u64::from(number) * CHUNK_SIZE).min(CHUNK_SIZE);
        match pages_of(len) {
            16 => Pages(u16::MAX),
            pages => Pages((1 << pages) - 1),
        }
    }

    pub fn is_empty(self) -> bool {
        self == Pages::NONE
    }

    pub fn has(self, page: usize) -> bool {
        self.0 & (1 << page) != 0
    }

    pub fn add(&mut self, page: usize) {
        self.0 |= 1 << page;
    }

    pub fn remove(&mut self, page: usize) {
        self.0 &= !(1 << page);
    }

    pub fn count(self) -> u64 {
        self.0.count_ones().into()
    }

    /// As a page map has them.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Those that both have.
    pub fn both(self, other: Pages) -> Pages {
        Pages(self.0 & other.0)
    }

    /// The end of the last page, in bytes.
    pub fn end(self) -> usize {
        (u16::BITS - self.0.leading_zeros()) as usize * PAGE
    }
}

/// The pages that a page map says are stored, of a chunk that has the pages `all`.
pub(in crate::fs) fn mapped_pages(key: &[u8], head: &[u8], all: Pages) -> Outcome<Pages> {
    let pages = Pages(decode_page_map(head).map_err(|what| Cause::bad_record(key, what))?);
    match pages.both(all) == pages && pages != all && !pages.is_empty() {
        true => Ok(pages),
        false => Err(Cause::bad_record(key, "a page map of no chunk that is stored in part")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::entry::{MAX_FILE_SIZE, encode_page_map};

    #[test]
    fn a_chunk_has_pages_up_to_the_files_end() {
        let of = |size, number| Pages::of_chunk(size, number).count();
        assert_eq!((of(0, 0), of(1, 0), of(4096, 0), of(4097, 0)), (0, 1, 1, 2));
        assert_eq!((of(CHUNK_SIZE, 0), of(CHUNK_SIZE, 1), of(CHUNK_SIZE + 1, 1)), (16, 0, 1));
        assert_eq!(of(MAX_FILE_SIZE, u32::MAX), 16);
    }

    #[test]
    fn a_page_map_that_no_writer_writes_is_refused() {
        let all = Pages::of_chunk(3 * PAGE_SIZE, 0);
        let read = |bits| mapped_pages(b"k", &encode_page_map(bits), all);
        assert_eq!(read(0b101).unwrap(), Pages(0b101));
        for bad in [0, 0b111, 0b1000, 0b1001] {
            assert!(matches!(read(bad), Err(Cause::BadRecord { .. })), "{bad:b}");
        }
        assert!(mapped_pages(b"k", b"\x02\x00\x01", all).is_err());
        assert!(mapped_pages(b"k", b"\x01\x00", all).is_err());
    }
}
