//! The real disk's open files: objects being written, files being read, logs.

use super::Directory;
use crate::disk::{DiskError, LogFile, Object, ObjectWriter, Result};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// How much of an object is gathered before it is written.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// A read longer than this is held against the file's length before memory is taken for it: its
/// length may come from a damaged file.
const UNCHECKED_READ_BYTES: usize = 1 << 20;

/// An object that is being written.
pub(super) struct Writer {
    store: Arc<Directory>,
    file: File,
    name: String,
    /// What `Drop` removes: the unfinished file, the object whose directory could not be synced,
    /// nothing.
    leftover: Option<String>,
    /// How many bytes the file has.
    written: u64,
    /// The bytes after them.
    buffer: Vec<u8>,
}

impl Writer {
    /// A writer of the object `name` whose empty file is called `unfinished`.
    pub(super) fn new(store: Arc<Directory>, file: File, name: &str, unfinished: String) -> Writer {
        let name = name.to_owned();
        Writer { store, file, name, leftover: Some(unfinished), written: 0, buffer: Vec::new() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() < WRITE_BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes the rest and makes the contents durable.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        // A longer write that failed may have left bytes behind the end.
        self.file.set_len(self.written)?;
        self.file.sync_data()
    }

    fn publish(&mut self) -> io::Result<()> {
        let unfinished = self.leftover.as_deref().unwrap_or_default();
        self.store.rename_if_absent(unfinished, &self.store.dir, &self.name)?;
        self.leftover = Some(self.name.clone());
        self.store.dir.sync_all()?;
        self.leftover = None;
        Ok(())
    }
}

impl ObjectWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.append(bytes).map_err(|e| DiskError::new("write", &self.name, e))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.sync().map_err(|e| DiskError::new("sync", &self.name, e))?;
        self.publish().map_err(|e| DiskError::new("finish", &self.name, e))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(name) = &self.leftover {
            // What cannot be removed now is removed at the next open.
            let _ = self.store.remove(name);
        }
    }
}

/// A file open for reading.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    name: String,
}

impl Reader {
    pub(super) fn new(file: File, name: &str) -> Reader {
        Reader { file, name: name.to_owned() }
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = offset.checked_add(len as u64).filter(|end| i64::try_from(*end).is_ok()).ok_or_else(eof)?;
        if len > UNCHECKED_READ_BYTES && end > self.file.metadata()?.len() {
            return Err(eof());
        }
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let from = offset + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), from) {
                Ok(0) => return Err(eof()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        // The allocator may have given, and the read then filled, more than was asked for.
        buffer.truncate(len);
        Ok(Bytes::from(buffer))
    }
}

impl Object for Reader {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.read(offset, len).map_err(|e| DiskError::new("read", &self.name, e))
    }

    fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(|e| DiskError::new("stat", &self.name, e))?;
        Ok(metadata.len())
    }
}

/// A log open for writing.
#[derive(Debug)]
pub(super) struct Log {
    /// Keeps the store locked while it can be written to, and knows when it no longer is.
    store: Arc<Directory>,
    file: File,
    name: String,
}

impl Log {
    pub(super) fn new(store: Arc<Directory>, file: File, name: &str) -> Log {
        Log { store, file, name: name.to_owned() }
    }

    fn change(&self, op: &'static str, change: impl FnOnce() -> io::Result<()>) -> Result<()> {
        self.store.check_held().and_then(|()| change()).map_err(|e| DiskError::new(op, &self.name, e))
    }
}

impl LogFile for Log {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.change("write", || self.file.write_all_at(bytes, offset))
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.change("truncate", || self.file.set_len(len))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| DiskError::new("sync", &self.name, e))
    }
}
