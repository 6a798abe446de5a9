//! A disk that counts: what is written to files of each sort, what is read of tables, and how long the
//! log's syncs take. It passes everything on to the disk below.

use crate::disk::{Disk, Listed, LogFile, Object, ObjectWriter, Result, Space};
use crate::lsm::metrics::{Counter, Metrics};
use crate::lsm::{log, table};
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
        let is_log = log::parse_file_name(name).is_some();
        Arc::new(MeteredLog { file, is_log, metrics: self.metrics.clone() })
    }
}

impl Disk for MeteredDisk {
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        let writer = self.disk.create(name)?;
        Ok(Box::new(MeteredWriter { writer, is_table: is_table(name), metrics: self.metrics.clone() }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Object>> {
        let object = self.disk.open(name)?;
        match is_table(name) {
            true => Ok(Arc::new(MeteredTable { object, metrics: self.metrics.clone() })),
            false => Ok(object),
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

    fn release(&self) {
        self.disk.release();
    }
}

fn is_table(name: &str) -> bool {
    table::parse_file_name(name).is_some()
}

/// A table or a manifest that is being written.
struct MeteredWriter {
    writer: Box<dyn ObjectWriter>,
    is_table: bool,
    metrics: Arc<Metrics>,
}

impl ObjectWriter for MeteredWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write(bytes)?;
        let Metrics { tables_written, manifest_written, .. } = &*self.metrics;
        let written = if self.is_table { tables_written } else { manifest_written };
        written.add(bytes.len() as u64);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.writer.finish()
    }
}

/// A table that is read.
#[derive(Debug)]
struct MeteredTable {
    object: Arc<dyn Object>,
    metrics: Arc<Metrics>,
}

impl Object for MeteredTable {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let bytes = self.object.read_at(offset, len)?;
        self.metrics.table_reads.add(1);
        self.metrics.table_read_bytes.add(bytes.len() as u64);
        Ok(bytes)
    }

    fn len(&self) -> Result<u64> {
        self.object.len()
    }
}

/// A log segment, or a manifest's log of edits.
#[derive(Debug)]
struct MeteredLog {
    file: Arc<dyn LogFile>,
    is_log: bool,
    metrics: Arc<Metrics>,
}

impl LogFile for MeteredLog {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_at(offset, bytes)?;
        let Metrics { log_written, manifest_written, .. } = &*self.metrics;
        let written: &Counter = if self.is_log { log_written } else { manifest_written };
        written.add(bytes.len() as u64);
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> Result<()> {
        let started = Instant::now();
        self.file.sync()?;
        if self.is_log {
            self.metrics.sync.record(started.elapsed());
        }
        Ok(())
    }
}
