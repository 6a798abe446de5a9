//! The real disk: a directory.

use crate::disk::Result;
use std::path::Path;

/// A store's directory on the operating system's file system, locked against other processes.
#[derive(Debug)]
pub struct RealDisk {}

impl RealDisk {
    /// Opens the directory, making it (mode 0700) if it is missing, and takes its lock.
    pub fn open_or_create(_dir: &Path) -> Result<RealDisk> {
        todo!()
    }
}
impl crate::disk::Disk for RealDisk {
    fn create(&self, _: &str) -> Result<Box<dyn crate::disk::ObjectWriter>> {
        todo!()
    }
    fn open(&self, _: &str) -> Result<std::sync::Arc<dyn crate::disk::Object>> {
        todo!()
    }
    fn create_log(&self, _: &str) -> Result<std::sync::Arc<dyn crate::disk::LogFile>> {
        todo!()
    }
    fn list(&self) -> Result<Vec<crate::disk::Listed>> {
        todo!()
    }
    fn delete(&self, _: &str) -> Result<()> {
        todo!()
    }
    fn move_to_lost(&self, _: &str) -> Result<()> {
        todo!()
    }
    fn sync_dir(&self) -> Result<()> {
        todo!()
    }
    fn space(&self) -> Result<crate::disk::Space> {
        todo!()
    }
}
