//! Contents of a file that is imported: they become chunks as they come.

use crate::fs::attr::Ino;
use crate::fs::chunk::Pages;
use crate::fs::entry::{CHUNK_SIZE, INLINE_MAX, PAGE_SIZE, encode_page_map};
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::lsm::ingest::Ingest;

/// A file's contents, in ascending order of offsets. What is not added are zeros.
pub(super) struct Contents {
    ino: Ino,
    size: u64,
    /// The chunk at hand: its bytes up to the last that was added.
    number: u32,
    chunk: Vec<u8>,
    /// Pages that are stored.
    pages: u64,
}

/// What a file's record says of its contents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Small contents.
    pub inline: Vec<u8>,
    /// Pages in chunks.
    pub pages: u64,
}

impl Contents {
    pub fn new(ino: Ino, size: u64) -> Contents {
        Contents { ino, size, number: 0, chunk: Vec::new(), pages: 0 }
    }

    /// Do all of them stand in the record?
    fn are_small(&self) -> bool {
        self.size <= INLINE_MAX as u64
    }

    /// Adds bytes at an offset, behind all that were added.
    pub fn add(&mut self, ingest: &mut Ingest<'_>, mut offset: u64, mut bytes: &[u8]) -> Outcome<()> {
        while !bytes.is_empty() {
            let number = (offset / CHUNK_SIZE) as u32;
            if number != self.number {
                self.end_chunk(ingest)?;
                self.number = number;
            }
            let within = (offset % CHUNK_SIZE) as usize;
            let take = bytes.len().min(CHUNK_SIZE as usize - within);
            self.chunk.resize(within.max(self.chunk.len()), 0);
            self.chunk.extend_from_slice(&bytes[..take]);
            offset += take as u64;
            bytes = &bytes[take..];
        }
        Ok(())
    }

    fn end_chunk(&mut self, ingest: &mut Ingest<'_>) -> Outcome<()> {
        let mut pages = Pages::NONE;
        for (page, bytes) in self.chunk.chunks(PAGE_SIZE as usize).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                pages.add(page);
            }
        }
        if !pages.is_empty() {
            // Holes at the end are not written.
            let stored = &self.chunk[..self.chunk.len().min(pages.end())];
            ingest.append(&keys::chunk(self.ino, self.number), b"", stored)?;
            if pages != Pages::of_chunk(self.size, self.number) {
                ingest.append(&keys::page_map(self.ino, self.number), &encode_page_map(pages.bits()), b"")?;
            }
            self.pages += pages.count();
        }
        self.chunk.clear();
        Ok(())
    }

    /// Ends the contents.
    pub fn finish(mut self, ingest: &mut Ingest<'_>) -> Outcome<Held> {
        if self.are_small() {
            return Ok(Held { inline: self.chunk, pages: 0 });
        }
        self.end_chunk(ingest)?;
        Ok(Held { inline: Vec::new(), pages: self.pages })
    }
}
