//! The tables and blob files that an ingestion leaves.

use crate::lsm::Result;
use crate::lsm::SeqNo;
use crate::lsm::blob::{BlobOutput, LiveBlob};
use crate::lsm::key::{KeyRef, Kind};
use crate::lsm::store::Shared;
use crate::lsm::table::{TableBuilder, TableMeta, TableOptions};
use crate::lsm::volume::Volume;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Writes records, in the order of their keys, into tables; large tails into blob files.
pub(super) struct Output<'v> {
    shared: &'v Shared,
    options: TableOptions,
    seq: SeqNo,
    builder: Option<TableBuilder>,
    last: Vec<u8>,
    blobs: Option<BlobOutput<'v>>,
    tables: Vec<TableMeta>,
}

impl<'v> Output<'v> {
    pub fn new(volume: &'v Volume, seq: SeqNo) -> Output<'v> {
        let shared = volume.shared();
        let compression = shared.options.bottom_compression;
        Output {
            shared,
            options: TableOptions { compression, ..shared.table_options.clone() },
            seq,
            builder: None,
            last: Vec::new(),
            blobs: Some(BlobOutput::new(shared, BTreeSet::new())),
            tables: Vec::new(),
        }
    }

    /// Adds a record. `fences`: keys over which no table reaches, ascending.
    pub fn add(&mut self, fences: &[Bytes], key: &[u8], head: &[u8], tail: &[u8]) -> Result<()> {
        let full =
            self.builder.as_ref().is_some_and(|b| b.estimated_size() >= self.shared.options.table_size);
        if full || self.is_fenced(fences, key) {
            self.finish_table()?;
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        let Output { shared, options, seq, builder, blobs, .. } = self;
        let Some(blobs) = blobs else { return Ok(()) };
        blobs.add(KeyRef::new(key, *seq, Kind::FirstPut), head, tail, &mut |key, head, tail| {
            if builder.is_none() {
                *builder = Some(shared.new_table(options)?);
            }
            builder.as_mut().map_or(Ok(()), |builder| builder.add(key, head, tail))
        })
    }

    /// Is a fence behind the last record and not behind `key`?
    fn is_fenced(&self, fences: &[Bytes], key: &[u8]) -> bool {
        let next = fences.partition_point(|fence| fence.as_ref() <= self.last.as_slice());
        self.builder.is_some() && fences.get(next).is_some_and(|fence| fence.as_ref() <= key)
    }

    fn finish_table(&mut self) -> Result<()> {
        if let Some(builder) = self.builder.take() {
            self.tables.push(builder.finish()?);
        }
        Ok(())
    }

    /// Completes the files. The blob files live as long as somebody holds what is returned.
    pub fn finish(mut self) -> Result<(Vec<TableMeta>, Vec<Arc<LiveBlob>>)> {
        self.finish_table()?;
        let blobs = self.blobs.take().map(BlobOutput::finish).transpose()?;
        Ok((std::mem::take(&mut self.tables), blobs.unwrap_or_default()))
    }
}

impl Drop for Output<'_> {
    /// Deletes the tables that nobody has taken.
    fn drop(&mut self) {
        self.shared.discard_tables(self.tables.iter());
    }
}
