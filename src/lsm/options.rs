//! The engine's settings.

use crate::lsm::compaction::leveled;
use crate::lsm::table::PrefixRule;
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

/// How tables are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactionMode {
    /// Sorted levels, each a multiple of the one above: fast reads, little space.
    #[default]
    Leveled,
    /// Few large sorted runs: fewer writes, more space.
    Tiered,
    /// Never: flushed tables stay as they are.
    None,
}

impl CompactionMode {
    /// Every mode, by the name that users give it.
    pub const NAMES: [(&'static str, CompactionMode); 3] = [
        ("leveled", CompactionMode::Leveled),
        ("tiered", CompactionMode::Tiered),
        ("none", CompactionMode::None),
    ];

    /// The mode of a name.
    pub fn from_name(name: &str) -> Option<CompactionMode> {
        CompactionMode::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, mode)| mode)
    }

    /// The mode's name.
    pub fn name(self) -> &'static str {
        match self {
            CompactionMode::Leveled => "leveled",
            CompactionMode::Tiered => "tiered",
            CompactionMode::None => "none",
        }
    }
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
    /// The memtables of all volumes together hold about this much at most.
    pub memtable_budget: usize,
    /// A volume whose writes keep the log longer than this is flushed.
    pub log_limit: u64,
    /// A log segment of this size is followed by a new one.
    pub log_segment_size: u64,
    /// Files of log segments that are no longer needed, kept to become the next ones: a sync is faster
    /// in a file that has its blocks already. Unless it is 0, new files too get blocks ahead of the records.
    pub spare_log_segments: usize,
    /// The log is synced in the background when its oldest unsynced record is this old.
    pub sync_interval: Duration,
    /// Data blocks are cut at about this size, before compression.
    pub block_size: usize,
    /// The block cache's size: blocks, indexes and filters.
    pub cache_size: u64,
    /// Files kept open at once for reading, about: tables may be half of them, and blob files the other half.
    pub open_files: usize,
    /// How tables' blocks are compressed.
    pub compression: Compression,
    /// How the blocks of the deepest level are compressed.
    pub bottom_compression: Compression,
    /// How tables are compacted.
    pub compaction: CompactionMode,
    /// L0 is compacted when it has this many tables.
    pub l0_compaction_trigger: usize,
    /// Writers are slowed when L0 has this many tables (unless nothing compacts it).
    pub l0_slowdown: usize,
    /// Writers wait while L0 has this many tables, and at least as many as the trigger (unless nothing
    /// compacts it).
    pub l0_stop: usize,
    /// Compaction cuts its output into tables of about this size.
    pub table_size: u64,
    /// The shallowest level below L0 holds about this much.
    pub level_base_size: u64,
    /// Each level holds this many times as much as the one above.
    pub level_multiplier: u64,
    /// Values whose tail has this many bytes or more go to blob files when they are written; 0: none do.
    pub blob_min: usize,
    /// A blob file of this size is followed by a new one. A memtable that refers to as much, or that deletes
    /// as much, is frozen.
    pub blob_file_size: u64,
    /// How keys fall into groups that scans ask for: the tables' filters answer for them too.
    pub prefix: Option<PrefixRule>,
    /// Run the background threads. Without them, tests step the work: [`crate::lsm::Store::step`].
    pub background: bool,
}

/// However small the disk is, memtables, tables and other pieces have this size.
const SMALLEST_PIECE: u64 = 8 << 10;

impl Options {
    /// The room, in bytes, that a full disk must still give, so that what is deleted gives room back: the tables of
    /// all memtables of a volume, and the outputs of a leveled compaction's largest step, while its inputs are
    /// there.
    pub(crate) fn working_room(&self) -> u64 {
        let memtables = self.memtable_stall_size.saturating_add(self.memtable_size) as u64;
        let l0 = (self.memtable_size as u64).saturating_mul(self.l0_compaction_trigger as u64);
        let below = self.level_base_size.saturating_mul(leveled::SINGLE_LEVEL_BASES);
        memtables.saturating_add(l0).saturating_add(below)
    }

    /// The settings for a disk that can set `room` bytes aside: memtables, tables and all other pieces are made
    /// smaller in proportion, so that their [`Options::working_room`] is no more than that.
    pub(crate) fn within(mut self, room: u64) -> Options {
        let wanted = self.working_room();
        if wanted <= room {
            return self;
        }
        let scale = |size: u64| {
            let scaled = u128::from(size) * u128::from(room) / u128::from(wanted.max(1));
            u64::try_from(scaled).unwrap_or(size).max(size.min(SMALLEST_PIECE))
        };
        for size in [&mut self.memtable_size, &mut self.memtable_stall_size, &mut self.memtable_budget] {
            *size = usize::try_from(scale(*size as u64)).unwrap_or(*size);
        }
        let sizes = [
            &mut self.log_limit,
            &mut self.log_segment_size,
            &mut self.table_size,
            &mut self.level_base_size,
            &mut self.blob_file_size,
        ];
        sizes.into_iter().for_each(|size| *size = scale(*size));
        self
    }

    /// Does a tail of this length go to a blob file?
    pub(crate) fn separates(&self, tail_len: usize) -> bool {
        self.blob_min > 0 && tail_len >= self.blob_min
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            memtable_size: 32 << 20,
            num_memtable_limit: 2,
            memtable_stall_size: 128 << 20,
            memtable_budget: 256 << 20,
            log_limit: 512 << 20,
            log_segment_size: 64 << 20,
            spare_log_segments: 2,
            sync_interval: Duration::from_secs(1),
            block_size: 8 << 10,
            cache_size: 128 << 20,
            // With the log's, and what the program around the store has open, below the usual limit of 1024.
            open_files: 768,
            compression: Compression::Lz4,
            bottom_compression: Compression::Zstd,
            compaction: CompactionMode::Leveled,
            l0_compaction_trigger: 4,
            l0_slowdown: 12,
            l0_stop: 24,
            table_size: 32 << 20,
            level_base_size: 128 << 20,
            level_multiplier: 10,
            blob_min: 0,
            blob_file_size: 64 << 20,
            prefix: None,
            background: true,
        }
    }
}
