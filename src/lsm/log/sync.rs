//! Making the log durable.
//!
//! # Invariants
//! - A sync makes every segment before the current one, and the directory, durable before it
//!   answers: a record is durable only if all before it are.
//! - If a sync fails the store is read-only, and it is never tried again: every later one answers its error.
//!
//! # Locks
//! `sync_turn` lets one sync run at a time; those who waited for it mostly find their work done. Inside it
//! `segments`, briefly.

use super::Log;
use crate::disk::LogFile;
use crate::lsm::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Log {
    /// Makes every record whose append returned before this call durable.
    pub fn sync(&self) -> Result<()> {
        let target = self.written.load(Ordering::Acquire);
        if self.synced.load(Ordering::Acquire) >= target {
            return self.check_synced();
        }
        self.prepare();
        let _turn = self.sync_turn.lock();
        self.check_synced()?;
        if self.synced.load(Ordering::Acquire) >= target {
            return Ok(());
        }
        // What was written while this sync waited for its turn is covered as well.
        let target = self.written.load(Ordering::Acquire);
        self.sync_segments().map_err(|e| self.sync_failed(e))?;
        self.synced.fetch_max(target, Ordering::AcqRel);
        Ok(())
    }

    /// Syncs what the records point to, every segment that has an open file, oldest first, and the directory
    /// that names it.
    fn sync_segments(&self) -> Result<()> {
        if let Some(blobs) = &self.blobs {
            blobs.sync()?;
        }
        let unsynced: Vec<(u64, Arc<dyn LogFile>)> = self
            .segments
            .lock()
            .iter()
            .filter_map(|segment| Some((segment.number, segment.file.clone()?)))
            .collect();
        let Some(&(last, _)) = unsynced.last() else { return Ok(()) };
        for (_, file) in &unsynced {
            file.sync()?;
        }
        if self.named_up_to.load(Ordering::Acquire) < last {
            self.disk.sync_dir()?;
            self.named_up_to.store(last, Ordering::Release);
        }
        // Older segments than the current one are never written again: done with.
        for segment in self.segments.lock().iter_mut().filter(|s| s.number < last) {
            segment.file = None;
        }
        Ok(())
    }

    /// The position up to which records are durable.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn sync_failed(&self, error: Error) -> Error {
        let _ = self.failed_sync.set(error.clone());
        self.read_only.set(error)
    }

    /// The error of an earlier sync.
    fn check_synced(&self) -> Result<()> {
        self.failed_sync.get().map_or(Ok(()), |e| Err(Error::ReadOnly(Arc::new(e.clone()))))
    }
}
