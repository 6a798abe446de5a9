//! lsmfs's engine.

use crate::Result;
use crate::engine::{Engine, L0_TABLES, LEVEL_MULTIPLIER, Settings};
use lsmfs::disk::real::RealDisk;
use lsmfs::lsm::options::{CompactionMode, Compression};
use lsmfs::lsm::{Batch, Options, Store, Volume};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An entry's lengths in a batch take no more than this.
const ENTRY_OVERHEAD: usize = 16;

/// An open store and its one volume.
#[derive(Debug)]
pub struct Lsmfs {
    store: Store,
    volume: Arc<Volume>,
    large_values: bool,
}

impl Lsmfs {
    fn add(&self, batch: &mut Batch, key: &[u8], value: &[u8]) {
        match self.large_values {
            // Tails stand apart from the keys.
            true => batch.put_split(key, b"", value),
            false => batch.put(key, value),
        }
    }
}

impl Engine for Lsmfs {
    fn open(dir: &Path, settings: &Settings) -> Result<Lsmfs> {
        let [l0_compaction_trigger, l0_slowdown, l0_stop] = L0_TABLES;
        let options = Options {
            memtable_size: settings.memtable,
            // A full memtable is flushed at once, as the others do it.
            num_memtable_limit: 1,
            memtable_stall_size: settings.memtable * settings.memtables,
            // The others never sync their log unasked.
            sync_interval: Duration::from_secs(24 * 60 * 60),
            block_size: settings.block,
            cache_size: settings.cache,
            compression: Compression::Lz4,
            bottom_compression: Compression::Zstd,
            compaction: CompactionMode::Leveled,
            l0_compaction_trigger,
            l0_slowdown,
            l0_stop,
            table_size: settings.table,
            level_base_size: settings.level_base,
            level_multiplier: LEVEL_MULTIPLIER,
            blob_min: if settings.large_values && settings.blobs { 1 << 10 } else { 0 },
            blob_file_size: settings.table as u64 * 4,
            ..Options::default()
        };
        let disk = RealDisk::open_or_create(dir, Duration::from_secs(5))?;
        let store = Store::open(Arc::new(disk), options)?;
        let volume = store.volume("main")?;
        Ok(Lsmfs { store, volume, large_values: settings.large_values })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut batch = Batch::with_capacity(key.len() + value.len() + ENTRY_OVERHEAD);
        self.add(&mut batch, key, value);
        self.volume.write(batch)?;
        Ok(())
    }

    fn put_all_synced(&self, entries: &[([u8; 16], Vec<u8>)]) -> Result<()> {
        let len = entries.iter().map(|(key, value)| key.len() + value.len() + ENTRY_OVERHEAD).sum();
        let mut batch = Batch::with_capacity(len);
        entries.iter().for_each(|(key, value)| self.add(&mut batch, key, value));
        self.volume.write(batch)?;
        self.store.sync()?;
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let mut batch = Batch::with_capacity(key.len() + ENTRY_OVERHEAD);
        batch.delete(key);
        self.volume.write(batch)?;
        Ok(())
    }

    fn get(&self, key: &[u8], mut look: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let Some(value) = self.volume.get(key)? else { return Ok(false) };
        look(if self.large_values { &value.tail } else { &value.head })?;
        Ok(true)
    }

    fn scan(
        &self,
        from: &[u8],
        limit: usize,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut scan = self.volume.scan(Bound::Included(from), Bound::Unbounded)?;
        let mut seen = 0;
        while seen < limit && scan.next()? {
            match self.large_values {
                true => look(scan.key(), &scan.tail()?)?,
                false => look(scan.key(), scan.head())?,
            }
            seen += 1;
        }
        Ok(seen)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.store.flush()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.store.close()?)
    }
}
