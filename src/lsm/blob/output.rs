//! The blob files that a flush or compaction writes: objects, complete before the manifest hears of them.
//!
//! Of each record that is kept it decides where the tail goes: a large one that stands inline goes to
//! a blob file; one in a file that is to be emptied moves to a new one, as it is stored.

use super::format::{HEADER_LEN, file_header};
use super::reader::pointer_in;
use super::stored::Framed;
use super::{LiveBlob, Pointer, file_name};
use crate::disk::ObjectWriter;
use crate::lsm::Result;
use crate::lsm::iter::stripes::Emit;
use crate::lsm::key::{KeyRef, Kind, KindOrBound};
use crate::lsm::store::Shared;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A job's blob files.
pub(crate) struct BlobOutput<'a> {
    shared: &'a Shared,
    /// The files that are to be emptied.
    emptied: BTreeSet<u64>,
    writing: Option<Writing>,
    finished: Vec<Arc<LiveBlob>>,
    framed: Framed,
}

struct Writing {
    number: u64,
    writer: Box<dyn ObjectWriter>,
    len: u64,
}

impl<'a> BlobOutput<'a> {
    /// For a job that empties these files, as far as it meets pointers to them.
    pub fn new(shared: &'a Shared, emptied: BTreeSet<u64>) -> BlobOutput<'a> {
        BlobOutput { shared, emptied, writing: None, finished: Vec::new(), framed: Framed::default() }
    }

    /// Hands a record on to `emit`, with its tail where it belongs.
    pub fn add(&mut self, key: KeyRef<'_>, head: &[u8], tail: &[u8], emit: &mut Emit<'_>) -> Result<()> {
        let KindOrBound::Kind(kind) = key.kind else { unreachable!("records have a kind") };
        match self.place(kind, tail)? {
            Some((kind, tail)) => emit(KeyRef::new(key.user, key.seq, kind), head, &tail),
            None => emit(key, head, tail),
        }
    }

    /// Where a record's tail goes: `None` if it stays as it is, else the record's new kind and tail.
    fn place(&mut self, kind: Kind, tail: &[u8]) -> Result<Option<(Kind, Vec<u8>)>> {
        let options = &self.shared.options;
        self.framed.clear();
        if kind.is_blob() {
            let pointer = pointer_in(tail)?;
            if !self.emptied.contains(&pointer.file) {
                return Ok(None);
            }
            let stored = match self.shared.blobs.stored(&pointer) {
                Err(e) if e.is_unreadable() => {
                    // The value stays where it is, for whoever reads it to learn; no other is lost.
                    tracing::error!("a blob file cannot be emptied: {e}");
                    self.emptied.remove(&pointer.file);
                    self.shared.live_blobs.get(pointer.file).iter().for_each(|blob| blob.note_damage());
                    return Ok(None);
                }
                stored => stored?,
            };
            self.framed.add_stored(stored.codec, &stored.bytes);
            self.shared.metrics.moved_blob(stored.bytes.len());
        } else if kind.blob().is_some() && options.separates(tail.len()) {
            self.framed.add(tail, options.compression);
        } else {
            return Ok(None);
        }
        let mut encoded = Vec::with_capacity(32);
        self.write()?.encode(&mut encoded);
        Ok(Some((kind.blob().unwrap_or(kind), encoded)))
    }

    /// Writes the one value in `framed`.
    fn write(&mut self) -> Result<Pointer> {
        if self.writing.as_ref().is_some_and(|writing| writing.len >= self.shared.options.blob_file_size) {
            self.finish_file()?;
        }
        let writing = match &mut self.writing {
            Some(writing) => writing,
            none => none.insert(Writing::start(self.shared)?),
        };
        let (bytes, pointers) = self.framed.place(writing.number, writing.len);
        writing.writer.write(bytes)?;
        writing.len += bytes.len() as u64;
        Ok(pointers[0])
    }

    fn finish_file(&mut self) -> Result<()> {
        if let Some(Writing { number, writer, len }) = self.writing.take() {
            writer.finish()?;
            self.finished.push(self.shared.live_blobs.add(number, len, true));
        }
        Ok(())
    }

    /// Completes the last file. What is returned keeps all of them alive until the tables that point to them do.
    pub fn finish(mut self) -> Result<Vec<Arc<LiveBlob>>> {
        self.finish_file()?;
        Ok(self.finished)
    }
}

impl Writing {
    fn start(shared: &Shared) -> Result<Writing> {
        let (number, store) = {
            let mut manifest = shared.manifest.lock();
            (manifest.next_file_number()?, manifest.state().store)
        };
        let mut writer = shared.disk.create(&file_name(number))?;
        writer.write(&file_header(number, store))?;
        Ok(Writing { number, writer, len: HEADER_LEN as u64 })
    }
}
