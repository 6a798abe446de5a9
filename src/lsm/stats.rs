//! A store's figures: what it is made of at one moment, and what it has done since it was opened.
//!
//! [`StoreStats`] serializes, and its JSON is what other programs read: fields are only ever added, and
//! keep their names and units. Sizes are in bytes, times (`…_ns`) in nanoseconds.

mod collect;
mod sharing;
#[cfg(test)]
mod sharing_tests;
mod space;

pub use crate::lsm::cache::CacheStats;
pub use crate::lsm::compaction::Reason;
pub use crate::lsm::metrics::{GET_SAMPLE, Latency, WRITE_SAMPLE};

use bytes::Bytes;
use serde::{Serialize, Serializer};

/// A store's figures. Counts are since it was opened.
#[derive(Debug, Clone, Serialize)]
pub struct StoreStats {
    /// How long the store has been open.
    pub open_ns: u64,
    /// The newest visible sequence number: the number of writes in the store's life.
    pub last_seq: u64,
    /// Snapshots that are kept readable.
    pub snapshots: usize,
    /// Reads.
    pub reads: ReadStats,
    /// Writes.
    pub writes: WriteStats,
    /// What the disk was asked for.
    pub disk: DiskStats,
    /// What held writers back, in all volumes together.
    pub stalls: StallStats,
    /// Flushes of memtables to tables.
    pub flushes: FlushStats,
    /// Compactions.
    pub compactions: CompactionStats,
    /// The block cache.
    pub cache: CacheStats,
    /// Tables' filters.
    pub filters: FilterStats,
    /// Tables that are kept open.
    pub open_tables: usize,
    /// Blob files.
    pub blobs: BlobStats,
    /// What the work costs in proportion.
    pub amplification: Amplification,
    /// How long things take.
    pub latency: Latencies,
    /// Live log segments, oldest first.
    pub log_segments: Vec<LogSegmentStats>,
    /// The volumes.
    pub volumes: Vec<VolumeStats>,
}

/// Reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReadStats {
    /// Keys that were asked for one by one and answered.
    pub gets: u64,
    /// Those that were there.
    pub found: u64,
    /// Tables that were searched for them: past their key range and their filter.
    pub tables_searched: u64,
    /// Scans that are over.
    pub scans: u64,
    /// Keys that they yielded.
    pub scanned: u64,
}

/// Writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WriteStats {
    /// Batches.
    pub batches: u64,
    /// Records in them: puts, deletes, patches.
    pub records: u64,
    /// Bytes of their keys and values.
    pub user_bytes: u64,
}

/// What the disk was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskStats {
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Writes of its file that took them there.
    pub log_writes: u64,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Bytes written to tables, by flushes and compactions.
    pub table_bytes: u64,
    /// Bytes written to blob files, by writes, flushes and compactions.
    pub blob_bytes: u64,
    /// Bytes written to the manifest.
    pub manifest_bytes: u64,
    /// Reads of tables that went to the operating system.
    pub table_reads: u64,
    /// Bytes that they read.
    pub table_read_bytes: u64,
    /// Reads of blob files that went to the operating system.
    pub blob_reads: u64,
    /// Bytes that they read.
    pub blob_read_bytes: u64,
}

impl DiskStats {
    /// All bytes written.
    pub fn written(&self) -> u64 {
        self.log_bytes + self.table_bytes + self.blob_bytes + self.manifest_bytes
    }
}

/// What held writers back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StallStats {
    /// A volume's memtables that wait for their flush.
    pub memtables: StallCause,
    /// The memtables of all volumes, which use up the budget.
    pub budget: StallCause,
    /// The log, which memtables keep long.
    pub log: StallCause,
    /// Garbage in blob files, which compactions have yet to collect.
    pub garbage: StallCause,
    /// Tables in L0 that wait for compaction.
    pub l0: StallCause,
    /// Writers that wait now.
    pub waiting: usize,
}

/// One cause of stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StallCause {
    /// Writes that were slowed or waited.
    pub count: u64,
    /// The time that they lost.
    pub total_ns: u64,
    /// The most that one lost.
    pub max_ns: u64,
}

/// Flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlushStats {
    /// Flushes: of a memtable, or of many small ones together.
    pub count: u64,
    /// Bytes of the tables they became.
    pub bytes: u64,
    /// The time it took.
    pub total_ns: u64,
}

/// Compactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CompactionStats {
    /// Jobs that are done, moves among them.
    pub jobs: JobStats,
    /// Jobs that moved tables to a deeper level without reading them.
    pub moves: u64,
    /// Bytes of the tables that the other jobs merged.
    pub read_bytes: u64,
    /// Bytes of the tables that these became.
    pub written_bytes: u64,
    /// The time it took.
    pub total_ns: u64,
}

/// Compaction jobs by what made them worth doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct JobStats {
    /// Too many tables in L0, or too many runs.
    pub runs: u64,
    /// A level larger than it should be.
    pub size: u64,
    /// Tables that were mostly tombstones, or whose tombstones nothing needed any more.
    pub tombstones: u64,
    /// Blob files kept dead values.
    pub garbage: u64,
    /// Somebody asked.
    pub manual: u64,
}

impl JobStats {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.runs + self.size + self.tombstones + self.garbage + self.manual
    }
}

/// Blob files: where large values stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlobStats {
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that nothing points to any more.
    pub garbage_bytes: u64,
    /// Values that compactions moved out of files with much garbage.
    pub moved: u64,
    /// The bytes of those values.
    pub moved_bytes: u64,
    /// The files, oldest first.
    pub files: Vec<BlobFileStats>,
}

/// A blob file's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlobFileStats {
    /// Its name.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes of values in it that nothing points to any more.
    pub garbage_bytes: u64,
}

/// Tables' filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FilterStats {
    /// Times that a filter was asked for a key.
    pub asked: u64,
    /// Times that it excluded the key, which spared a search.
    pub excluded: u64,
    /// Times that it let the key pass and the table did not have it.
    pub false_positives: u64,
    /// Times that a filter was asked for a scan's prefix.
    pub prefix_asked: u64,
    /// Times that it excluded the prefix.
    pub prefix_excluded: u64,
}

/// What the work costs in proportion; `None` while there is nothing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Amplification {
    /// Bytes written to the disk for each byte of keys and values.
    pub write: Option<f64>,
    /// Tables searched for each get.
    pub read: Option<f64>,
    /// Bytes of tables for each byte of them that is estimated to be live. Where tables overlap, the
    /// deeper one's keys count as live and the upper one's as newer versions of them: so this is the most
    /// that it may be.
    pub space: Option<f64>,
}

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// Gets, measured for one in [`GET_SAMPLE`].
    pub get: Latency,
    /// Writes of batches, stalls included, measured for one in [`WRITE_SAMPLE`].
    pub write: Latency,
    /// Writes of the log's file, measured for one in [`WRITE_SAMPLE`].
    pub log: Latency,
    /// Syncs of the log.
    pub sync: Latency,
    /// Flushes.
    pub flush: Latency,
    /// Compaction jobs that merged tables.
    pub compaction: Latency,
}

/// A log segment's shape.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LogSegmentStats {
    /// Its number.
    pub number: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What a volume holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// The volume that it is a snapshot of, if it is one.
    pub snapshot_of: Option<String>,
    /// Files in it, as the file system counts them; `None` if they were not counted yet.
    pub files: Option<u64>,
    /// Bytes of their contents, as the file system counts them.
    pub logical_bytes: Option<u64>,
    /// The most files that it may hold.
    pub quota_files: Option<u64>,
    /// The most bytes of contents that it may hold.
    pub quota_bytes: Option<u64>,
    /// Bytes of its tables, and of the values in blob files that they and memtables point to: compressed, and
    /// with what compactions have yet to drop.
    pub bytes: u64,
    /// Those tables and values that no other volume or snapshot has, as far as that is known: at least so much its
    /// deletion would free, at once or with the next garbage collection.
    pub own_bytes: u64,
    /// The others.
    pub shared_bytes: u64,
}

/// A volume's shape. In JSON what it holds stands among the other members.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeStats {
    /// What it holds.
    #[serde(flatten)]
    pub usage: VolumeUsage,
    /// Bytes in the mutable memtable.
    pub memtable_bytes: usize,
    /// Bytes in each immutable memtable, newest first.
    pub immutable_bytes: Vec<usize>,
    /// What held its writers back.
    pub stalls: StallStats,
    /// Compaction jobs that are merging tables.
    pub compacting: Vec<CompactingStats>,
    /// The levels, L0 first (its newest table first).
    pub levels: Vec<Vec<TableStats>>,
}

/// A compaction job that is merging tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CompactingStats {
    /// What made it worth doing.
    pub reason: Reason,
    /// The level that its output goes to.
    pub output_level: usize,
    /// Tables that go in.
    pub tables: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their records.
    pub records: u64,
    /// Those that were merged so far.
    pub merged: u64,
    /// The time since it started.
    pub running_ns: u64,
}

/// A table's shape.
#[derive(Debug, Clone, Serialize)]
pub struct TableStats {
    /// The name of its file, or of the pack that it stands in with others.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Records in it.
    pub entries: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// The smallest user key. In JSON, what is not printable ASCII is escaped as in Rust (`\x00`).
    #[serde(serialize_with = "escaped")]
    pub smallest: Bytes,
    /// The largest user key.
    #[serde(serialize_with = "escaped")]
    pub largest: Bytes,
}

fn escaped<S: Serializer>(key: &Bytes, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&key.escape_ascii())
}
