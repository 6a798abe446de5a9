//! Loading values from blob files.
//!
//! A value that a reader asks for goes through the block cache, under its file's number and its offset (no
//! table has that number); what a flush or compaction loads does not, nor what a reader says it reads once. A bounded number of files is kept open.

use super::format::{Stored, check_file_header, read_stored};
use super::{Pointer, file_name};
use crate::disk::{Disk, Object};
use crate::lsm::cache::{BlockCache, BlockKey};
use crate::lsm::key::Kind;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::value::put_tail;
use crate::lsm::{Error, Result, Value};
use bytes::Bytes;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Loads values. May be used from any thread.
pub(crate) struct BlobReader {
    disk: Arc<dyn Disk>,
    cache: Arc<BlockCache>,
    store: u64,
    open: Cache<u64, Arc<dyn Object>>,
}

/// The pointer in a record's tail.
pub(crate) fn pointer_in(tail: &[u8]) -> Result<Pointer> {
    Pointer::decode(tail).ok_or_else(|| Error::Internal("a record's blob pointer is malformed".to_string()))
}

impl BlobReader {
    /// For the store of this id; keeps about `open_files` files open.
    pub fn new(disk: Arc<dyn Disk>, cache: Arc<BlockCache>, store: u64, open_files: usize) -> BlobReader {
        BlobReader { disk, cache, store, open: Cache::new(open_files) }
    }

    /// The value of a record: as it stands there, or with the tail that it points to.
    pub fn resolve(&self, kind: Kind, value: Value, cache_use: CacheUse) -> Result<Value> {
        if !kind.is_blob() {
            return Ok(value);
        }
        Ok(Value { tail: self.load(&value.tail, cache_use)?, head: value.head })
    }

    /// The tail that a record's tail points to.
    pub fn load(&self, tail: &[u8], cache_use: CacheUse) -> Result<Bytes> {
        let pointer = pointer_in(tail)?;
        let key = BlockKey { file: pointer.file, offset: pointer.offset };
        let read = || self.stored(&pointer)?.contents();
        match cache_use {
            CacheUse::Fill => self.cache.get_or_load(key, read),
            CacheUse::Bypass => self.cache.peek(key).map_or_else(read, Ok),
        }
    }

    /// As [`BlobReader::load`], which bypasses the cache, and then as [`put_tail`].
    pub fn load_to(&self, tail: &[u8], out: &mut [u8]) -> Result<usize> {
        let pointer = pointer_in(tail)?;
        match self.cache.peek(BlockKey { file: pointer.file, offset: pointer.offset }) {
            Some(contents) => Ok(put_tail(&contents, out)),
            None => self.stored(&pointer)?.put(out),
        }
    }

    /// As [`BlobReader::load`], for a job that reads everything once.
    pub fn load_uncached(&self, tail: &[u8]) -> Result<Bytes> {
        self.stored(&pointer_in(tail)?)?.contents()
    }

    pub(super) fn stored(&self, pointer: &Pointer) -> Result<Stored> {
        let object = self.open.get_or_insert_with(&pointer.file, || {
            let object = self.disk.open(&file_name(pointer.file))?;
            check_file_header(&*object, pointer.file, self.store)?;
            Ok::<_, Error>(object)
        })?;
        read_stored(&*object, pointer)
    }

    /// Does what `pointer` points to check out? `Err` if the disk cannot tell.
    pub fn checks_out(&self, pointer: &Pointer) -> Result<bool> {
        match self.stored(pointer) {
            Ok(_) => Ok(true),
            Err(Error::Corruption { .. }) => Ok(false),
            Err(Error::Disk(e)) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Lets the file of this number go: it is about to be deleted.
    pub fn evict(&self, number: u64) {
        self.open.remove(&number);
    }
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("open", &self.open.len()).finish_non_exhaustive()
    }
}
