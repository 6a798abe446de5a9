//! fjall.

use crate::Result;
use crate::engine::{BACKGROUND_THREADS, Engine, FILTER_BITS_PER_KEY, L0_TABLES, LEVEL_MULTIPLIER, Settings};
use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;
use std::sync::Arc;

/// An open database and its one keyspace.
pub struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

fn keyspace_options(settings: &Settings) -> KeyspaceCreateOptions {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(FILTER_BITS_PER_KEY as f32));
    // It makes writers wait when it has 4 full memtables, and its L1 holds as many tables as start a
    // compaction of L0: neither can be set. 20 tables in L0 slow writers, 30 stop them.
    let compaction = Leveled::default()
        .with_l0_threshold(L0_TABLES[0] as u8)
        .with_table_target_size(settings.table)
        .with_level_ratio_policy(vec![LEVEL_MULTIPLIER as f32]);
    let blobs = settings.large_values && settings.blobs;
    let large = KvSeparationOptions::default().file_target_size(settings.table * 4);
    KeyspaceCreateOptions::default()
        .max_memtable_size(settings.memtable as u64)
        .data_block_size_policy(BlockSizePolicy::all(settings.block as u32))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        .filter_policy(FilterPolicy::all(filter))
        .compaction_strategy(Arc::new(compaction))
        .with_kv_separation(blobs.then_some(large))
}

impl Engine for Fjall {
    fn open(dir: &Path, settings: &Settings) -> Result<Fjall> {
        let database = Database::builder(dir)
            .cache_size(settings.cache)
            .worker_threads(BACKGROUND_THREADS)
            // Else it keeps up to 512 MiB of logs that it no longer needs. This is the least.
            .max_journaling_size(64 << 20)
            // The others' logs are not compressed either.
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = database.keyspace("main", || keyspace_options(settings))?;
        Ok(Fjall { database, keyspace })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.keyspace.insert(key, value)?)
    }

    fn put_all_synced(&self, entries: &[([u8; 16], Vec<u8>)]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        entries.iter().for_each(|(key, value)| batch.insert(&self.keyspace, &key[..], &value[..]));
        Ok(batch.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.keyspace.remove(key)?)
    }

    fn get(&self, key: &[u8], mut look: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let Some(value) = self.keyspace.get(key)? else { return Ok(false) };
        look(&value)?;
        Ok(true)
    }

    fn scan(
        &self,
        from: &[u8],
        limit: usize,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut seen = 0;
        for guard in self.keyspace.range(from..).take(limit) {
            let (key, value) = guard.into_inner()?;
            look(&key, &value)?;
            seen += 1;
        }
        Ok(seen)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.keyspace.rotate_memtable_and_wait()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
