//! A disk with a quirk.

use lsmfs::disk::sim::SimDisk;
use lsmfs::disk::{Disk, Listed, LogFile, Object, ObjectWriter, Result, Space};
use std::sync::Arc;

/// A simulated disk, but for what its fields say.
#[derive(Debug)]
pub struct OddDisk {
    pub sim: SimDisk,
    /// Called with the name before an object is started.
    pub before_create: fn(&str),
    /// If not, what is written to logs is forgotten: it would be in memory too.
    pub keeps_logs: bool,
}

impl OddDisk {
    pub fn new() -> OddDisk {
        OddDisk { sim: SimDisk::new(1), before_create: |_| (), keeps_logs: true }
    }
}

#[derive(Debug)]
struct NoLog;

impl LogFile for NoLog {
    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl Disk for OddDisk {
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        (self.before_create)(name);
        self.sim.create(name)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Object>> {
        self.sim.open(name)
    }

    fn create_log(&self, name: &str) -> Result<Arc<dyn LogFile>> {
        if self.keeps_logs { self.sim.create_log(name) } else { Ok(Arc::new(NoLog)) }
    }

    fn reuse_log(&self, old: &str, name: &str) -> Result<Arc<dyn LogFile>> {
        if self.keeps_logs { self.sim.reuse_log(old, name) } else { Ok(Arc::new(NoLog)) }
    }

    fn list(&self) -> Result<Vec<Listed>> {
        self.sim.list()
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.sim.delete(name)
    }

    fn move_to_lost(&self, name: &str) -> Result<()> {
        self.sim.move_to_lost(name)
    }

    fn rewrite_log(&self, name: &str, contents: &[u8]) -> Result<()> {
        self.sim.rewrite_log(name, contents)
    }

    fn sync_dir(&self) -> Result<()> {
        self.sim.sync_dir()
    }

    fn release(&self) {}

    fn space(&self) -> Result<Space> {
        self.sim.space()
    }
}
