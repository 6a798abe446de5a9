//! The engine's settings.

use std::time::Duration;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// lz4: fast.
    #[default]
    Lz4,
    /// zstd: small.
    Zstd,
}

/// A store's settings. All sizes are in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// A memtable of this size is frozen.
    pub memtable_size: usize,
    /// Memtables, mutable and immutable, that a volume keeps in memory; more start a flush.
    pub num_memtable_limit: usize,
    /// Writers wait while a volume's memtables hold more than this.
    pub memtable_stall_size: usize,
    /// A log segment of this size is followed by a new one.
    pub log_segment_size: u64,
    /// The log is synced in the background when its oldest unsynced record is this old.
    pub sync_interval: Duration,
    /// Data blocks are cut at about this size, before compression.
    pub block_size: usize,
    /// The block cache's size: blocks, indexes and filters.
    pub cache_size: u64,
    /// Tables kept open at once.
    pub open_tables: usize,
    /// How tables' blocks are compressed.
    pub compression: Compression,
    /// Run the background threads. Without them, tests step the work: [`crate::lsm::Store::step`].
    pub background: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            memtable_size: 32 << 20,
            num_memtable_limit: 2,
            memtable_stall_size: 128 << 20,
            log_segment_size: 64 << 20,
            sync_interval: Duration::from_secs(1),
            block_size: 8 << 10,
            cache_size: 128 << 20,
            open_tables: 512,
            compression: Compression::Lz4,
            background: true,
        }
    }
}
