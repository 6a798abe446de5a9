//! The table cache: a bounded number of tables open at once.
//!
//! A table that is pushed out is closed when the last cursor on it is gone. Opening happens once
//! for all threads that ask meanwhile. Locks: the shards of `quick_cache`, never held during I/O.

use crate::disk::{Disk, Object};
use crate::lsm::Result;
use crate::lsm::cache::BlockCache;
use crate::lsm::table::pack::SectionObject;
use crate::lsm::table::{Table, TableMeta};
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Opens tables and keeps some open. May be used from any thread.
pub struct TableCache {
    disk: Arc<dyn Disk>,
    blocks: Arc<BlockCache>,
    tables: Cache<u64, Arc<Table>>,
}

impl TableCache {
    /// Keeps about `open_tables` tables open; their blocks go to `blocks`.
    pub fn new(disk: Arc<dyn Disk>, blocks: Arc<BlockCache>, open_tables: usize) -> TableCache {
        TableCache { disk, blocks, tables: Cache::new(open_tables) }
    }

    /// The open table.
    pub fn get(&self, meta: &TableMeta) -> Result<Arc<Table>> {
        self.tables.get_or_insert_with(&meta.number, || {
            let object = open_object(self.disk.as_ref(), meta)?;
            Ok(Arc::new(Table::open(object, meta.place(), meta.size, Arc::clone(&self.blocks))?))
        })
    }

    /// Lets the table of this number go: it is needed no more.
    pub fn evict(&self, number: u64) {
        self.tables.remove(&number);
    }

    /// Tables that are kept open.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Is no table kept open?
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The cache of the tables' blocks.
    pub fn blocks(&self) -> &Arc<BlockCache> {
        &self.blocks
    }
}

/// Opens a table's file, or its part of a pack.
pub(crate) fn open_object(disk: &dyn Disk, meta: &TableMeta) -> Result<Arc<dyn Object>> {
    let file = disk.open(&meta.file().name())?;
    Ok(match meta.section {
        None => file,
        Some(section) => Arc::new(SectionObject::new(file, section, meta.size)),
    })
}

impl std::fmt::Debug for TableCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableCache").field("open", &self.len()).field("blocks", &self.blocks).finish()
    }
}
