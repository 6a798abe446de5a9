//! Files that nothing needs any more: how they become obsolete, and when they are deleted.
//!
//! A blob file is obsolete when no table, memtable, scan or job refers to it ([`crate::lsm::blob::live`]).
//! A log segment is obsolete when the manifest's log start has passed it; a table when edits have
//! removed it from every volume and the last tree, scan or compaction that used it is gone. Each is deleted
//! only after *one more* manifest commit: should the newest edit prove unreadable at the next open, what it
//! made obsolete still stands, and the store is what it was before that edit. When nothing else is to be
//! done an empty commit makes the room free. Some segments' files are not deleted then but written over
//! (`log/recycle.rs`).
//!
//! # Locks
//! `Obsolete::files` is taken under the manifest's lock and held over the deletions, which take the spare
//! segments' lock and those of the caches.

use crate::lsm::Result;
use crate::lsm::blob::{self, LiveBlobs};
use crate::lsm::levels::LiveTable;
use crate::lsm::log;
use crate::lsm::manifest::{Edit, Manifest};
use crate::lsm::store::Shared;
use crate::lsm::table::pack::PackBuilder;
use crate::lsm::table::{self, TableBuilder, TableFile, TableMeta, TableOptions};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The files to delete.
#[derive(Debug, Default)]
pub(crate) struct Obsolete {
    /// Names, with the number of the commit that must be followed by another.
    files: Mutex<Vec<(u64, String)>>,
}

impl Obsolete {
    fn add(&self, manifest: &Manifest, names: impl IntoIterator<Item = String>) {
        self.files.lock().extend(names.into_iter().map(|name| (manifest.commits(), name)));
    }

    fn add_dead_tables(&self, manifest: &Manifest, shared: &Shared) {
        // Its file may go, and would keep its room while it is open.
        shared.graveyard.take_tables().into_iter().for_each(|number| shared.tables.evict(number));
        let dead = shared.graveyard.take_unlisted(manifest.state());
        self.add(manifest, dead.into_iter().map(TableFile::name));
    }

    fn add_dead_blobs(&self, manifest: &Manifest, blobs: &LiveBlobs) {
        self.add(manifest, blobs.take_unreferenced().into_iter().map(blob::file_name));
    }
}

impl Shared {
    /// Starts a table file.
    pub(crate) fn new_table(&self, options: &TableOptions) -> Result<TableBuilder> {
        let number = self.new_table_number()?;
        let writer = self.disk.create(&table::file_name(number))?;
        TableBuilder::new(writer, number, options)
    }

    /// Starts a pack of tables.
    pub(crate) fn new_pack(&self) -> Result<PackBuilder> {
        let number = self.new_table_number()?;
        Ok(PackBuilder::new(self.disk.create(&table::pack_name(number))?, number))
    }

    /// A number for a table or a pack.
    pub(crate) fn new_table_number(&self) -> Result<u64> {
        self.manifest.lock().next_file_number()
    }

    /// A table that trees may refer to. Its blob files are held already.
    pub(crate) fn live_table(&self, meta: TableMeta) -> Arc<LiveTable> {
        LiveTable::new(Arc::new(meta), &self.graveyard, &self.live_blobs)
    }

    /// Deletes tables whose edit failed, unless the next open may yet see that edit.
    pub(crate) fn discard_tables<'a>(&self, tables: impl Iterator<Item = &'a TableMeta>) {
        let manifest = self.manifest.lock();
        let files: BTreeSet<TableFile> = tables.map(TableMeta::file).collect();
        for file in files.into_iter().filter(|_| !manifest.has_failed()) {
            if let Err(e) = self.disk.delete(&file.name()) {
                tracing::warn!("tables that are not needed stay until the next open: {e}");
            }
        }
    }

    /// Moves the log's start up to what memtables still need.
    pub(crate) fn retire_log(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        // Before the memtables are asked: a batch that none of them knows of yet goes to this segment
        // or a later one.
        let current = self.log.current();
        // What a volume that is gone had in its memtables is not needed once the manifest knows of it; if one went
        // during the look, it is made again.
        let look = || self.volumes().iter().filter_map(|v| v.tree().first_unflushed()).min();
        let (before, first_needed) = (self.told.lock().seq(), look());
        let (told, first_needed) = {
            let _structure = self.structure.lock();
            let told = self.told();
            let first_needed = if told.seq() == before { first_needed } else { look() };
            (told, first_needed)
        };
        let (number, base) = self.log.oldest_needed(current, first_needed);
        let passes = number > manifest.state().log_start.0;
        if passes || !told.is_empty() {
            let start = passes.then_some(Edit::LogStart { number, base });
            self.commit(&mut manifest, told, start.into_iter().collect())?;
        }
        if passes {
            self.obsolete.add(&manifest, self.log.retire_below(number).into_iter().map(log::file_name));
        }
        self.delete_obsolete(&manifest)
    }

    /// Deletes the files that a commit before the last made obsolete.
    fn delete_obsolete(&self, manifest: &Manifest) -> Result<()> {
        self.obsolete.add_dead_tables(manifest, self);
        self.blob_writer.end_unreferenced_file();
        {
            // What a volume that is gone pointed to is needed until the manifest knows that it is: before
            // that a power cut may bring it back. (Its tables the manifest still lists.)
            let _structure = self.structure.lock();
            if !self.told.lock().tells_of_deletes() {
                self.obsolete.add_dead_blobs(manifest, &self.live_blobs);
            }
        }
        let mut files = self.obsolete.files.lock();
        let mut failed = None;
        files.retain(|(commit, name)| {
            if *commit >= manifest.commits() || failed.is_some() {
                return true;
            }
            if let Some(number) = blob::parse_file_name(name) {
                self.blobs.evict(number);
            }
            if log::parse_file_name(name).is_some_and(|number| self.log.keep_spare(number)) {
                return false;
            }
            // What is gone already is done with.
            failed = self.disk.delete(name).err().filter(|e| !e.is_not_found());
            failed.is_some()
        });
        failed.map_or(Ok(()), |e| Err(e.into()))
    }

    /// Deletes the files that a commit before the last made obsolete.
    pub(crate) fn reclaim_passed(&self) -> Result<()> {
        let manifest = self.manifest.lock();
        self.delete_obsolete(&manifest)
    }

    /// Deletes every obsolete file now, at the price of an empty commit if it takes one.
    pub(crate) fn reclaim(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let told = self.told();
        if told.tells_of_deletes() {
            self.commit(&mut manifest, told, Vec::new())?;
        }
        self.delete_obsolete(&manifest)?;
        if !self.obsolete.files.lock().is_empty() {
            manifest.commit(Vec::new())?;
            self.delete_obsolete(&manifest)?;
        }
        Ok(())
    }

    /// Starts a generation of the manifest, after which nothing needs the obsolete files. The end: no more
    /// is written.
    pub(crate) fn settle(&self) -> Result<()> {
        self.log.delete_spares(true);
        let mut manifest = self.manifest.lock();
        let told = self.told();
        if !told.is_empty() {
            self.commit(&mut manifest, told, Vec::new())?;
        }
        manifest.rotate()?;
        self.delete_obsolete(&manifest)
    }
}
