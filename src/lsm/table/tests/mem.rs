//! A disk in memory that remembers what was read, and helpers to build tables on it.

use crate::disk::{self, Disk, DiskError, Listed, LogFile, Object, ObjectWriter, Space};
use crate::lsm::cache::BlockCache;
use crate::lsm::key::{KeyRef, Kind};
use crate::lsm::table::{Place, Table, TableBuilder, TableMeta, TableOptions, file_name};
use crate::lsm::{Result, Value};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::sync::Arc;

/// A record as tests list them: user key, sequence number, kind, value.
pub type Record = (Vec<u8>, u64, Kind, Value);

pub fn key((user, seq, kind, _): &Record) -> KeyRef<'_> {
    KeyRef::new(user, *seq, *kind)
}

/// A put of a value without tail.
pub fn put(user: impl AsRef<[u8]>, seq: u64, head: impl AsRef<[u8]>) -> Record {
    let head = Bytes::copy_from_slice(head.as_ref());
    (user.as_ref().to_vec(), seq, Kind::Put, Value { head, tail: Bytes::new() })
}

#[derive(Debug, Default)]
pub struct MemDisk {
    files: Mutex<BTreeMap<String, Bytes>>,
    /// The reads since the last [`MemDisk::take_reads`]: offset and length.
    reads: Arc<Mutex<Vec<(u64, usize)>>>,
}

#[derive(Debug)]
struct MemObject {
    name: String,
    contents: Bytes,
    reads: Arc<Mutex<Vec<(u64, usize)>>>,
}

struct MemWriter {
    disk: Arc<MemDisk>,
    name: String,
    contents: Vec<u8>,
}

impl MemDisk {
    /// Builds the table `number` of these records.
    pub fn build(self: &Arc<Self>, number: u64, options: &TableOptions, records: &[Record]) -> TableMeta {
        let mut builder = TableBuilder::new(self.create_object(number), number, options).unwrap();
        for record in records {
            builder.add(key(record), &record.3.head, &record.3.tail).unwrap();
        }
        let meta = builder.finish().unwrap();
        assert_eq!(meta.size, self.contents(number).len() as u64);
        meta
    }

    pub fn create_object(self: &Arc<Self>, number: u64) -> Box<dyn ObjectWriter> {
        Box::new(MemWriter { disk: Arc::clone(self), name: file_name(number), contents: Vec::new() })
    }

    /// Opens the table `number` on a cache of its own.
    pub fn open_table(&self, number: u64, cache_size: u64) -> Result<Arc<Table>> {
        let size = self.contents(number).len() as u64;
        let object = self.open(&file_name(number))?;
        Table::open(object, Place::single(number), size, Arc::new(BlockCache::new(cache_size))).map(Arc::new)
    }

    pub fn contents(&self, number: u64) -> Bytes {
        self.files.lock()[&file_name(number)].clone()
    }

    pub fn set_contents(&self, number: u64, contents: Bytes) {
        self.files.lock().insert(file_name(number), contents);
    }

    pub fn take_reads(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.reads.lock())
    }
}

impl Object for MemObject {
    fn read_at(&self, offset: u64, len: usize) -> disk::Result<Bytes> {
        self.reads.lock().push((offset, len));
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.contents.len() as u64);
        let end =
            end.ok_or_else(|| DiskError::new("read", &self.name, Error::from(ErrorKind::UnexpectedEof)))?;
        Ok(self.contents.slice(offset as usize..end as usize))
    }

    fn len(&self) -> disk::Result<u64> {
        Ok(self.contents.len() as u64)
    }
}

impl ObjectWriter for MemWriter {
    fn write(&mut self, bytes: &[u8]) -> disk::Result<()> {
        self.contents.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> disk::Result<()> {
        self.disk.files.lock().insert(self.name, self.contents.into());
        Ok(())
    }
}

impl Disk for MemDisk {
    fn open(&self, name: &str) -> disk::Result<Arc<dyn Object>> {
        let Some(contents) = self.files.lock().get(name).cloned() else {
            return Err(DiskError::new("open", name, Error::from(ErrorKind::NotFound)));
        };
        Ok(Arc::new(MemObject { name: name.to_owned(), contents, reads: Arc::clone(&self.reads) }))
    }

    fn create(&self, _: &str) -> disk::Result<Box<dyn ObjectWriter>> {
        unimplemented!()
    }

    fn create_log(&self, _: &str) -> disk::Result<Arc<dyn LogFile>> {
        unimplemented!()
    }

    fn reuse_log(&self, _: &str, _: &str) -> disk::Result<Arc<dyn LogFile>> {
        unimplemented!()
    }

    fn list(&self) -> disk::Result<Vec<Listed>> {
        unimplemented!()
    }

    fn delete(&self, _: &str) -> disk::Result<()> {
        unimplemented!()
    }

    fn move_to_lost(&self, _: &str) -> disk::Result<()> {
        unimplemented!()
    }

    fn rewrite_log(&self, _: &str, _: &[u8]) -> disk::Result<()> {
        unimplemented!()
    }

    fn sync_dir(&self) -> disk::Result<()> {
        unimplemented!()
    }

    fn release(&self) {}

    fn space(&self) -> disk::Result<Space> {
        unimplemented!()
    }
}
