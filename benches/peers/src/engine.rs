//! What an engine must do to take part, and the settings that all of them get alike.

use crate::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// `lsmfs::lsm` on the real disk.
    Lsmfs,
    /// RocksDB.
    Rocksdb,
    /// fjall.
    Fjall,
}

impl EngineKind {
    /// All of them, lsmfs first.
    pub const ALL: [EngineKind; 3] = [EngineKind::Lsmfs, EngineKind::Rocksdb, EngineKind::Fjall];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Lsmfs => "lsmfs",
            EngineKind::Rocksdb => "rocksdb",
            EngineKind::Fjall => "fjall",
        }
    }
}

/// The settings that every engine gets, in its own words. Sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The block cache: data, index and filter blocks.
    pub cache: u64,
    /// A memtable is flushed at this size …
    pub memtable: usize,
    /// … and writers wait when this many are full.
    pub memtables: usize,
    /// Data blocks, before compression.
    pub block: usize,
    /// Tables that compaction writes.
    pub table: u64,
    /// The shallowest level below L0.
    pub level_base: u64,
    /// Values are large: lsmfs gets them as tails, which stand apart from the keys.
    pub large_values: bool,
    /// Large values stand in blob files.
    pub blobs: bool,
}

/// Tables of L0 that start a compaction, slow writers, and make them wait.
pub const L0_TABLES: [usize; 3] = [4, 20, 30];
/// Each level holds this many times as much as the one above.
pub const LEVEL_MULTIPLIER: u64 = 10;
/// The filters' size: about 1 % false positives.
pub const FILTER_BITS_PER_KEY: usize = 10;
/// Threads that flush and compact.
pub const BACKGROUND_THREADS: usize = 2;

/// An open engine. Every method may be called from several threads at once.
pub trait Engine: Sync + Sized {
    /// Opens the store in `dir`, which may be empty.
    fn open(dir: &Path, settings: &Settings) -> Result<Self>;

    /// Sets a key; its log record is in the operating system's hands then.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Sets keys in one batch, which is durable then.
    fn put_all_synced(&self, entries: &[([u8; 16], Vec<u8>)]) -> Result<()>;

    /// Deletes a key, as safe as [`Engine::put`].
    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Shows the key's value to `look`, copied only if the engine must; says whether there is one.
    fn get(&self, key: &[u8], look: impl FnMut(&[u8]) -> Result<()>) -> Result<bool>;

    /// Shows up to `limit` keys and values from `from` on to `look`; gives their number.
    fn scan(&self, from: &[u8], limit: usize, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<usize>;

    /// Writes the memtables to tables.
    fn flush(&self) -> Result<()>;

    /// Closes the store.
    fn close(self) -> Result<()>;
}
