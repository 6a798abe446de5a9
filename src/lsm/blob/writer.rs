//! The current blob file, to which writes append their large values.
//!
//! A write reserves a range under a short lock and writes it without one, with one system call, before
//! it takes its place in the log's queue: writers do not wait for one another's bytes. A file that has
//! reached its size is followed by a new one and never written again; so it is at each open.
//!
//! # Invariants
//! - A file is in `dirty` from when a write to it has returned until a sync takes it. A write's log record
//!   comes after that, so a sync of the log that covers the record syncs the bytes before it.
//! - A write that failed, here or in the log, leaves bytes that nothing points to. Where it and all behind it
//!   failed the file is cut off: on a full disk that is the room that the rest of the store goes on with.
//!
//! # Locks
//! `rotation` lets one writer start a file, over its I/O; `state` is a leaf, held to look and to change, and
//! to cut a file.
//! Order: `rotation` → the manifest (for the number) and `state`.

use super::format::{HEADER_LEN, file_header};
use super::stored::Framed;
use super::{LiveBlob, LiveBlobs, Pointer, file_name};
use crate::disk::{Disk, LogFile};
use crate::lsm::Result;
use crate::lsm::options::Compression;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More room than this is not kept by a writing thread.
const ROOM_KEPT: usize = 4 << 20;

/// Appends values to the store's current blob file. May be used from any thread.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    disk: Arc<dyn Disk>,
    live: Arc<LiveBlobs>,
    store: u64,
    file_size: u64,
    compression: Compression,
    rotation: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// Ranges that failed while others had ranges behind them: file and end, and the start.
    failed: BTreeMap<(u64, u64), u64>,
    /// Files with bytes that no sync has taken.
    dirty: BTreeMap<u64, Arc<dyn LogFile>>,
    /// Is there a file whose directory entry no sync has taken?
    unnamed: bool,
}

#[derive(Debug, Clone)]
struct Current {
    blob: Arc<LiveBlob>,
    file: Arc<dyn LogFile>,
}

/// Values that are in the operating system's hands: keeps their file alive until a memtable does.
#[derive(Debug)]
pub(crate) struct Appended {
    pub blob: Arc<LiveBlob>,
    file: Arc<dyn LogFile>,
    offset: u64,
    /// The bytes that they take.
    pub bytes: u64,
}

thread_local! {
    static FRAMED: RefCell<Framed> = RefCell::default();
}

impl BlobWriter {
    /// Writes files of about `file_size` bytes for the store of this id.
    pub fn new(
        disk: Arc<dyn Disk>,
        live: Arc<LiveBlobs>,
        store: u64,
        file_size: u64,
        compression: Compression,
    ) -> BlobWriter {
        let (rotation, state) = (Mutex::default(), Mutex::default());
        BlobWriter { disk, live, store, file_size, compression, rotation, state }
    }

    /// Hands values to the operating system, in one file, and says where they are; `new_number` gives the
    /// number of a new file.
    ///
    /// # Errors
    /// Nothing points to what was written of them: nothing is lost.
    pub fn append(
        &self,
        values: &[&[u8]],
        new_number: impl FnOnce() -> Result<u64>,
    ) -> Result<(Vec<Pointer>, Appended)> {
        FRAMED.with_borrow_mut(|framed| {
            framed.clear();
            values.iter().for_each(|value| framed.add(value, self.compression));
            let appended = self.write(framed, new_number);
            framed.shrink_to(ROOM_KEPT);
            appended
        })
    }

    fn write(
        &self,
        framed: &mut Framed,
        new_number: impl FnOnce() -> Result<u64>,
    ) -> Result<(Vec<Pointer>, Appended)> {
        let len = framed.len() as u64;
        let (Current { blob, file }, offset) = self.reserve(len, new_number)?;
        let (bytes, pointers) = framed.place(blob.number, offset);
        if let Err(e) = file.write_at(offset, bytes) {
            self.give_back(&Current { blob, file }, offset, len);
            return Err(e.into());
        }
        self.state.lock().dirty.insert(blob.number, file.clone());
        Ok((pointers, Appended { blob, file, offset, bytes: len }))
    }

    /// Takes values back to which no log record points, nor ever will.
    pub fn take_back(&self, Appended { blob, file, offset, bytes }: Appended) {
        self.give_back(&Current { blob, file }, offset, bytes);
    }

    /// A range of `len` bytes that is the caller's alone.
    fn reserve(&self, len: u64, new_number: impl FnOnce() -> Result<u64>) -> Result<(Current, u64)> {
        if let Some(range) = self.take_room(len) {
            return Ok(range);
        }
        let _turn = self.rotation.lock();
        if let Some(range) = self.take_room(len) {
            return Ok(range);
        }
        self.start_file(new_number()?, len)
    }

    fn take_room(&self, len: u64) -> Option<(Current, u64)> {
        let state = self.state.lock();
        let current = state.current.as_ref().filter(|current| current.blob.len() < self.file_size)?;
        let offset = current.blob.len();
        current.blob.set_len(offset + len);
        Some((current.clone(), offset))
    }

    /// Starts the next file with a range of `len` bytes.
    fn start_file(&self, number: u64, len: u64) -> Result<(Current, u64)> {
        let name = file_name(number);
        let file = self.disk.create_log(&name)?;
        if let Err(e) = file.write_at(0, &file_header(number, self.store)) {
            if let Err(left) = self.disk.delete(&name) {
                tracing::warn!("a blob file that is not needed stays until the next open: {left}");
            }
            return Err(e.into());
        }
        let offset = HEADER_LEN as u64;
        let current = Current { blob: self.live.add(number, offset + len, false), file };
        let mut state = self.state.lock();
        state.unnamed = true;
        state.failed.retain(|(file, _), _| *file == number);
        if let Some(last) = state.current.replace(current.clone()) {
            last.blob.seal();
        }
        Ok((current, offset))
    }

    /// Takes a range back that failed. Cuts it off, and those before it that had failed already, if nobody has
    /// one behind it.
    fn give_back(&self, Current { blob, file }: &Current, offset: u64, len: u64) {
        // Held over the cut: nobody may be given a range there meanwhile.
        let mut state = self.state.lock();
        state.failed.insert((blob.number, offset + len), offset);
        let mut end = blob.len();
        while let Some(start) = state.failed.remove(&(blob.number, end)) {
            end = start;
        }
        if end < blob.len() {
            blob.set_len(end);
            if let Err(e) = file.truncate(end) {
                tracing::warn!("what was written of a value in vain keeps its room: {e}");
            }
        }
    }

    /// Makes everything that [`BlobWriter::append`] answered before this call durable. One call at a time: what
    /// one has taken, another does not wait for.
    pub fn sync(&self) -> Result<()> {
        let (dirty, unnamed) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.dirty), std::mem::take(&mut state.unnamed))
        };
        for file in dirty.values() {
            file.sync()?;
        }
        if unnamed {
            self.disk.sync_dir()?;
        }
        Ok(())
    }

    /// Ends the current file if nobody refers to it any more: then its room can be given back.
    pub fn end_unreferenced_file(&self) {
        let mut state = self.state.lock();
        // Held by the list of all and here; who is about to write to it has taken it under this lock.
        if let Some(last) = state.current.take_if(|current| Arc::strong_count(&current.blob) == 2) {
            last.blob.seal();
        }
    }

    /// Ends the current file: the next write starts another.
    pub fn end_file(&self) {
        if let Some(last) = self.state.lock().current.take() {
            last.blob.seal();
        }
    }
}
