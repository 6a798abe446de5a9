//! RocksDB.

use crate::Result;
use crate::engine::{BACKGROUND_THREADS, Engine, FILTER_BITS_PER_KEY, L0_TABLES, LEVEL_MULTIPLIER, Settings};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::path::Path;

/// An open database.
pub struct Rocksdb {
    db: DB,
    write: WriteOptions,
    write_synced: WriteOptions,
    read: ReadOptions,
}

fn options(settings: &Settings) -> Options {
    let cache = Cache::new_hyper_clock_cache(settings.cache as usize, 0);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_block_size(settings.block);
    blocks.set_bloom_filter(FILTER_BITS_PER_KEY as f64, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let [l0_trigger, l0_slowdown, l0_stop] = L0_TABLES.map(|n| n as i32);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(settings.memtable);
    options.set_max_write_buffer_number(settings.memtables as i32);
    options.set_allow_concurrent_memtable_write(true);
    options.set_enable_pipelined_write(true);
    options.set_max_background_jobs(BACKGROUND_THREADS as i32);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    // lsmfs's level; the rest are RocksDB's defaults.
    options.set_bottommost_compression_options(-14, 1, 0, 0, true);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_level_zero_file_num_compaction_trigger(l0_trigger);
    options.set_level_zero_slowdown_writes_trigger(l0_slowdown);
    options.set_level_zero_stop_writes_trigger(l0_stop);
    options.set_target_file_size_base(settings.table);
    options.set_max_bytes_for_level_base(settings.level_base);
    options.set_max_bytes_for_level_multiplier(LEVEL_MULTIPLIER as f64);
    options.set_stats_dump_period_sec(0);
    if settings.large_values && settings.blobs {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(1 << 10);
        options.set_blob_file_size(settings.table * 4);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_enable_blob_gc(true);
        options.set_blob_cache(&cache);
    }
    options
}

impl Engine for Rocksdb {
    fn open(dir: &Path, settings: &Settings) -> Result<Rocksdb> {
        let db = DB::open(&options(settings), dir)?;
        let mut write_synced = WriteOptions::default();
        write_synced.set_sync(true);
        Ok(Rocksdb { db, write: WriteOptions::default(), write_synced, read: ReadOptions::default() })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn put_all_synced(&self, entries: &[([u8; 16], Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        entries.iter().for_each(|(key, value)| batch.put(key, value));
        Ok(self.db.write_opt(batch, &self.write_synced)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn get(&self, key: &[u8], mut look: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let Some(value) = self.db.get_pinned_opt(key, &self.read)? else { return Ok(false) };
        look(&value)?;
        Ok(true)
    }

    fn scan(
        &self,
        from: &[u8],
        limit: usize,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut iter = self.db.raw_iterator();
        iter.seek(from);
        let mut seen = 0;
        while seen < limit {
            let Some((key, value)) = iter.item() else { break };
            look(key, value)?;
            seen += 1;
            if seen < limit {
                iter.next();
            }
        }
        iter.status()?;
        Ok(seen)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
