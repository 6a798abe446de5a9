//! The lines: what is done, with which values and threads, and how large everything is.
//!
//! Lines with the same values and threads form a group: its random fill leaves a store for each
//! engine, on which the lines that follow work, those that only read first. Memtables, tables and levels are
//! fractions of the data, so that the tree has the same shape at every scale.

use crate::data::KEY_LEN;
use crate::engine::{EngineKind, Settings};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The lengths of values, with the number of keys at scale 1.
const VALUES: [(usize, u64); 3] = [(100, 1_000_000), (1 << 10, 150_000), (64 << 10, 3_000)];
/// The one that the synced line uses.
const SYNC_VALUE_LEN: usize = 1 << 10;
/// How long a line that only reads, or mixes, is measured at scale 1.
const SECONDS: f64 = 0.8;
/// The data is this many times a memtable, …
const MEMTABLES_IN_DATA: u64 = 16;
/// … the level below L0 this many memtables …
const MEMTABLES_IN_BASE: u64 = 4;
/// … and a full memtable waits for its flush while there are this many.
const MEMTABLES: usize = 4;
/// An ample cache is this many times the data, …
const AMPLE: u64 = 2;
/// … and a scarce one this part of it.
const SCARCE: u64 = 8;
/// Blocks, tails and all, before compression.
const BLOCK: usize = 8 << 10;
/// Values from here on are large: engines keep them apart from the keys if they can.
const LARGE: usize = 4 << 10;

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Writes every key once, in order.
    FillInOrder,
    /// Writes every key once, in random order.
    FillRandom,
    /// Writes batches of keys in random order, each batch synced.
    FillSynced,
    /// Reads random keys that are there.
    GetPresent,
    /// Reads random keys that are not there, between those that are.
    GetAbsent,
    /// Reads 100 keys and values from a random key on.
    ScanShort,
    /// Reads all keys and values in order.
    ScanAll,
    /// Reads random keys while one more thread overwrites random keys at a fixed rate.
    GetWhileWriting,
    /// Each thread by turns reads a random key and overwrites one.
    Mixed,
    /// Writes every key once more, in another random order.
    Overwrite,
    /// Deletes every other key, in random order.
    Delete,
}

/// How much of the data the block cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cache {
    /// All of it.
    Ample,
    /// An eighth: most blocks come from the operating system, are checked and decompressed.
    Scarce,
}

impl Task {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Task::FillInOrder => "fill in order",
            Task::FillRandom => "fill random",
            Task::FillSynced => "fill, batches of 100 synced",
            Task::GetPresent => "get present",
            Task::GetAbsent => "get absent",
            Task::ScanShort => "scan 100",
            Task::ScanAll => "scan all",
            Task::GetWhileWriting => "get while writing",
            Task::Mixed => "get and overwrite",
            Task::Overwrite => "overwrite",
            Task::Delete => "delete every other",
        }
    }

    /// Does it start with an empty store, rather than with the group's?
    pub fn starts_empty(self) -> bool {
        matches!(self, Task::FillInOrder | Task::FillRandom | Task::FillSynced)
    }

    /// Does it write?
    pub fn writes(self) -> bool {
        !matches!(self, Task::GetPresent | Task::GetAbsent | Task::ScanShort | Task::ScanAll)
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What is done.
    pub task: Task,
    /// The length of the values.
    pub value_len: usize,
    /// Threads that do it.
    pub threads: usize,
    /// The block cache.
    pub cache: Cache,
}

impl Line {
    /// Its name in the table.
    pub fn name(&self) -> String {
        let cache = match (self.task.writes(), self.cache) {
            (true, _) => "",
            (false, Cache::Ample) => ", cached",
            (false, Cache::Scarce) => ", beyond the cache",
        };
        let threads = if self.threads == 1 { "" } else { ", 2 threads" };
        format!("{}: {}{cache}{threads}", bytes_name(self.value_len), self.task.name())
    }

    /// Do the two work on the same stores?
    pub fn same_group(&self, other: &Line) -> bool {
        (self.value_len, self.threads) == (other.value_len, other.threads)
    }
}

fn bytes_name(len: usize) -> String {
    match len {
        0..1024 => format!("{len} B"),
        _ => format!("{} KiB", len >> 10),
    }
}

/// All lines, in the order in which they are run.
pub fn lines() -> Vec<Line> {
    use Cache::{Ample, Scarce};
    let mut lines = Vec::new();
    for threads in [1, 2] {
        for (value_len, _) in VALUES {
            let mut add = |task, cache| lines.push(Line { task, value_len, threads, cache });
            if threads == 1 {
                add(Task::FillInOrder, Scarce);
            }
            if value_len == SYNC_VALUE_LEN {
                add(Task::FillSynced, Scarce);
            }
            add(Task::FillRandom, Scarce);
            add(Task::GetPresent, Ample);
            add(Task::GetPresent, Scarce);
            if threads == 1 {
                add(Task::GetAbsent, Ample);
                add(Task::GetAbsent, Scarce);
                add(Task::ScanShort, Ample);
                add(Task::ScanShort, Scarce);
                add(Task::ScanAll, Scarce);
            }
            add(Task::GetWhileWriting, Ample);
            add(Task::Mixed, Ample);
            add(Task::Overwrite, Scarce);
            if threads == 1 {
                add(Task::Delete, Scarce);
            }
        }
    }
    lines
}

/// One line for one engine, as its process gets it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The engine.
    pub engine: EngineKind,
    /// The line.
    pub line: Line,
    /// The store's directory.
    pub dir: PathBuf,
    /// The number of keys that the fill lines write.
    pub keys: u64,
    /// How long lines are measured that do not do a fixed number of operations.
    pub seconds: f64,
    /// The engine's settings.
    pub settings: Settings,
}

impl Job {
    /// `line` at `scale`.
    pub fn new(engine: EngineKind, line: Line, dir: PathBuf, scale: f64, blobs: bool) -> Job {
        let at_full_scale = VALUES.iter().find(|(len, _)| *len == line.value_len).map_or(0, |(_, n)| *n);
        let keys = ((at_full_scale as f64 * scale) as u64).max(200);
        let data = keys * (KEY_LEN + line.value_len) as u64;
        let memtable = (data / MEMTABLES_IN_DATA).max(64 << 10);
        let settings = Settings {
            cache: match line.cache {
                Cache::Ample => data * AMPLE,
                Cache::Scarce => data / SCARCE,
            },
            memtable: memtable as usize,
            memtables: MEMTABLES,
            block: BLOCK,
            table: memtable,
            level_base: memtable * MEMTABLES_IN_BASE,
            large_values: line.value_len >= LARGE,
            blobs: blobs,
        };
        Job { engine, line, dir, keys, seconds: SECONDS * scale.min(2.0), settings }
    }

    /// The bytes of a key and its value.
    pub fn entry_len(&self) -> u64 {
        (KEY_LEN + self.line.value_len) as u64
    }
}
