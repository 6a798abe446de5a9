//! A disk that counts: what is written to files of each sort, what is read of tables and blob files, and how
//! long the log's writes and syncs take. It passes everything on to the disk below.

use crate::disk::{Disk, Listed, LogFile, Object, ObjectWriter, Result, Space};
use crate::lsm::metrics::{Counter, Metrics};
use crate::lsm::{blob, log, table};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// A disk whose traffic is counted.
#[derive(Debug)]
pub(crate) struct MeteredDisk {
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
}

impl MeteredDisk {
    pub fn over(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> Arc<dyn Disk> {
        Arc::new(MeteredDisk { disk, metrics })
    }

    fn metered_log(&self, name: &str, file: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(MeteredLog { file, sort: Sort::of(name), metrics: self.metrics.clone() })
    }
}

impl Disk for MeteredDisk {
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        let writer = self.disk.create(name)?;
        Ok(Box::new(MeteredWriter { writer, sort: Sort::of(name), metrics: self.metrics.clone() }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Object>> {
        let object = self.disk.open(name)?;
        let metrics = self.metrics.clone();
        match Sort::of(name) {
            sort @ (Sort::Table | Sort::Blob) => Ok(Arc::new(MeteredObject { object, sort, metrics })),
            Sort::Log | Sort::Manifest => Ok(object),
        }
    }

    fn create_log(&self, name: &str) -> Result<Arc<dyn LogFile>> {
        let file = self.disk.create_log(name)?;
        Ok(self.metered_log(name, file))
    }

    fn reuse_log(&self, old: &str, name: &str) -> Result<Arc<dyn LogFile>> {
        let file = self.disk.reuse_log(old, name)?;
        Ok(self.metered_log(name, file))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        self.disk.list()
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.disk.delete(name)
    }

    fn move_to_lost(&self, name: &str) -> Result<()> {
        self.disk.move_to_lost(name)
    }

    fn rewrite_log(&self, name: &str, contents: &[u8]) -> Result<()> {
        self.disk.rewrite_log(name, contents)
    }

    fn sync_dir(&self) -> Result<()> {
        self.disk.sync_dir()
    }

    fn space(&self) -> Result<Space> {
        self.disk.space()
    }

    fn set_reserve(&self, bytes: u64) -> Result<()> {
        self.disk.set_reserve(bytes)
    }

    fn release(&self) {
        self.disk.release();
    }
}

/// The sorts of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Log,
    Table,
    Blob,
    /// A manifest, or its log of edits.
    Manifest,
}

impl Sort {
    fn of(name: &str) -> Sort {
        if log::parse_file_name(name).is_some() {
            Sort::Log
        } else if table::parse_name(name).is_some() {
            Sort::Table
        } else if blob::parse_file_name(name).is_some() {
            Sort::Blob
        } else {
            Sort::Manifest
        }
    }

    /// What counts the bytes that are written to such files.
    fn written(self, metrics: &Metrics) -> &Counter {
        match self {
            Sort::Log => &metrics.log_written,
            Sort::Table => &metrics.tables_written,
            Sort::Blob => &metrics.blobs_written,
            Sort::Manifest => &metrics.manifest_written,
        }
    }
}

/// An object that is being written.
struct MeteredWriter {
    writer: Box<dyn ObjectWriter>,
    sort: Sort,
    metrics: Arc<Metrics>,
}

impl ObjectWriter for MeteredWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write(bytes)?;
        self.sort.written(&self.metrics).add(bytes.len() as u64);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.writer.finish()
    }
}

/// A table or a blob file that is read.
#[derive(Debug)]
struct MeteredObject {
    object: Arc<dyn Object>,
    sort: Sort,
    metrics: Arc<Metrics>,
}

impl Object for MeteredObject {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let bytes = self.object.read_at(offset, len)?;
        let metrics = &*self.metrics;
        let (reads, read_bytes) = match self.sort {
            Sort::Blob => (&metrics.blob_reads, &metrics.blob_read_bytes),
            _ => (&metrics.table_reads, &metrics.table_read_bytes),
        };
        reads.add(1);
        read_bytes.add(bytes.len() as u64);
        Ok(bytes)
    }

    fn len(&self) -> Result<u64> {
        self.object.len()
    }
}

/// A log segment, a manifest's log of edits, or the current blob file.
#[derive(Debug)]
struct MeteredLog {
    file: Arc<dyn LogFile>,
    sort: Sort,
    metrics: Arc<Metrics>,
}

impl LogFile for MeteredLog {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let write = || self.file.write_at(offset, bytes);
        match self.sort {
            Sort::Log => self.metrics.writing_log(write)?,
            _ => write()?,
        }
        self.sort.written(&self.metrics).add(bytes.len() as u64);
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> Result<()> {
        let started = Instant::now();
        self.file.sync()?;
        if self.sort == Sort::Log {
            self.metrics.sync.record(started.elapsed());
        }
        Ok(())
    }
}
