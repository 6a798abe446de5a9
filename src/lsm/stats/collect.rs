//! Collecting the figures.

use super::sharing::{Held, held};
use super::*;
use crate::lsm::blob;
use crate::lsm::blob::gc::BlobUsage;
use crate::lsm::compaction::Progress;
use crate::lsm::levels::LiveTable;
use crate::lsm::log::Segment;
use crate::lsm::manifest::VolumeId;
use crate::lsm::metrics::Metrics;
use crate::lsm::stall::CauseCounters;
use crate::lsm::store::{Shared, Store};
use crate::lsm::table::TableMeta;
use crate::lsm::volume::{Tree, Volume};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Store {
    /// What each volume holds now, snapshots among them, in the order in which they were made.
    pub fn usage(&self) -> Vec<VolumeUsage> {
        each_volume(self.shared(), |_, _, usage| usage)
    }

    /// The store's figures now.
    pub fn stats(&self) -> StoreStats {
        let shared = self.shared();
        let metrics = &*shared.metrics;
        let volumes = each_volume(shared, |volume, tree, usage| volume.stats(tree, usage));
        let (reads, writes, disk) = (reads(metrics), writes(metrics), disk(metrics));
        let blobs = blobs(shared);
        StoreStats {
            open_ns: nanos(metrics.opened.elapsed()),
            last_seq: shared.commits.visible(),
            snapshots: shared.snapshots.len(),
            reads,
            writes,
            disk,
            stalls: volumes.iter().map(|volume| volume.stalls).fold(StallStats::default(), StallStats::plus),
            flushes: FlushStats {
                count: metrics.flush.summary().count,
                bytes: metrics.flushed_bytes.get(),
                total_ns: metrics.flush.total_nanos(),
            },
            compactions: compactions(metrics),
            cache: shared.tables.blocks().stats(),
            filters: filters(metrics),
            open_tables: shared.tables.len(),
            amplification: Amplification {
                write: ratio(disk.written(), writes.user_bytes),
                read: ratio(reads.tables_searched, reads.gets),
                space: space(shared, &blobs),
            },
            blobs,
            latency: latencies(metrics),
            log_segments: shared.log.segments().into_iter().map(LogSegmentStats::from).collect(),
            volumes,
        }
    }
}

/// Asks each volume for something, snapshots among them, with what it holds of this moment.
fn each_volume<T>(shared: &Shared, ask: impl Fn(&Volume, &Tree, VolumeUsage) -> T) -> Vec<T> {
    let all = shared.volumes();
    // The lineages last: a fork that is made meanwhile counts, and takes nothing for a volume's own that is not.
    let trees: Vec<Arc<Tree>> = all.iter().map(|volume| volume.tree()).collect();
    let lineages: Vec<_> = all.iter().map(|volume| (volume.id(), volume.lineage())).collect();
    let held = held(&trees, &lineages);
    let names: HashMap<VolumeId, String> = all.iter().map(|volume| (volume.id(), volume.name())).collect();
    let answer = |((volume, tree), held): ((&Arc<Volume>, &Arc<Tree>), Held)| {
        let owner = volume.owner().and_then(|owner| names.get(&owner)).cloned();
        ask(volume, tree, volume.usage(tree, held, owner))
    };
    all.iter().zip(&trees).zip(held).map(answer).collect()
}

fn reads(metrics: &Metrics) -> ReadStats {
    let found = metrics.sum(|thread| &thread.found);
    ReadStats {
        gets: found + metrics.sum(|thread| &thread.absent),
        found,
        tables_searched: metrics.sum(|thread| &thread.filter_passed)
            + metrics.sum(|thread| &thread.unfiltered),
        scans: metrics.sum(|thread| &thread.scans),
        scanned: metrics.sum(|thread| &thread.scanned),
    }
}

fn writes(metrics: &Metrics) -> WriteStats {
    WriteStats {
        batches: metrics.sum(|thread| &thread.batches),
        records: metrics.sum(|thread| &thread.records),
        user_bytes: metrics.sum(|thread| &thread.user_bytes),
    }
}

fn disk(metrics: &Metrics) -> DiskStats {
    DiskStats {
        log_bytes: metrics.log_written.get(),
        log_writes: metrics.log_writes.get(),
        log_syncs: metrics.sync.summary().count,
        table_bytes: metrics.tables_written.get(),
        blob_bytes: metrics.blobs_written.get(),
        manifest_bytes: metrics.manifest_written.get(),
        table_reads: metrics.table_reads.get(),
        table_read_bytes: metrics.table_read_bytes.get(),
        blob_reads: metrics.blob_reads.get(),
        blob_read_bytes: metrics.blob_read_bytes.get(),
    }
}

fn compactions(metrics: &Metrics) -> CompactionStats {
    let jobs = &metrics.jobs;
    CompactionStats {
        jobs: JobStats {
            runs: jobs.runs.get(),
            size: jobs.size.get(),
            tombstones: jobs.tombstones.get(),
            garbage: jobs.garbage.get(),
            manual: jobs.manual.get(),
        },
        moves: metrics.moves.get(),
        read_bytes: metrics.compacted_read.get(),
        written_bytes: metrics.compacted_written.get(),
        total_ns: metrics.compaction.total_nanos(),
    }
}

fn filters(metrics: &Metrics) -> FilterStats {
    let excluded = metrics.sum(|thread| &thread.filter_excluded);
    let prefix_excluded = metrics.sum(|thread| &thread.prefix_excluded);
    FilterStats {
        asked: excluded + metrics.sum(|thread| &thread.filter_passed),
        excluded,
        false_positives: metrics.sum(|thread| &thread.filter_wrong),
        prefix_asked: prefix_excluded + metrics.sum(|thread| &thread.prefix_passed),
        prefix_excluded,
    }
}

fn latencies(metrics: &Metrics) -> Latencies {
    Latencies {
        get: metrics.get.summary(),
        write: metrics.write.summary(),
        log: metrics.log.summary(),
        sync: metrics.sync.summary(),
        flush: metrics.flush.summary(),
        compaction: metrics.compaction.summary(),
    }
}

fn blobs(shared: &Shared) -> BlobStats {
    let usage = shared.blob_usage();
    let file = |usage: &BlobUsage| BlobFileStats {
        file: blob::file_name(usage.file),
        bytes: usage.len,
        garbage_bytes: usage.garbage(),
    };
    BlobStats {
        bytes: usage.iter().map(|usage| usage.len).sum(),
        garbage_bytes: usage.iter().map(|usage| usage.garbage()).sum(),
        moved: shared.metrics.blobs_moved.get(),
        moved_bytes: shared.metrics.blob_bytes_moved.get(),
        files: usage.iter().map(file).collect(),
    }
}

/// The tables' and blob files' bytes for each that is live.
fn space(shared: &Shared, blobs: &BlobStats) -> Option<f64> {
    // Forks that have not changed count once.
    let trees: Vec<Arc<Tree>> = shared.volumes().iter().map(|volume| volume.tree()).collect();
    let mut seen = HashSet::new();
    let shape = |tree: &Tree| tree.levels.iter().map(|level| level.as_ptr()).collect::<Vec<_>>();
    let distinct = trees.iter().filter(|tree| seen.insert(shape(tree)));
    let spaces = distinct.map(|tree| space::measure(&tree.levels));
    let (all, live) = spaces.fold((0, 0), |sum, of| (sum.0 + of.bytes, sum.1 + of.live));
    ratio(all + blobs.bytes, live + blobs.bytes - blobs.garbage_bytes)
}

fn ratio(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

fn nanos(time: std::time::Duration) -> u64 {
    time.as_nanos() as u64
}

impl StallStats {
    fn plus(self, other: StallStats) -> StallStats {
        StallStats {
            memtables: self.memtables.plus(other.memtables),
            budget: self.budget.plus(other.budget),
            log: self.log.plus(other.log),
            garbage: self.garbage.plus(other.garbage),
            l0: self.l0.plus(other.l0),
            waiting: self.waiting + other.waiting,
        }
    }
}

impl StallCause {
    fn plus(self, other: StallCause) -> StallCause {
        StallCause {
            count: self.count + other.count,
            total_ns: self.total_ns + other.total_ns,
            max_ns: self.max_ns.max(other.max_ns),
        }
    }
}

impl From<&CauseCounters> for StallCause {
    fn from(counters: &CauseCounters) -> StallCause {
        StallCause {
            count: counters.count.load(Relaxed),
            total_ns: counters.nanos.load(Relaxed),
            max_ns: counters.max_nanos.load(Relaxed),
        }
    }
}

impl From<Segment> for LogSegmentStats {
    fn from(segment: Segment) -> LogSegmentStats {
        LogSegmentStats { number: segment.number, bytes: segment.len }
    }
}

impl Volume {
    fn usage(&self, tree: &Tree, held: Held, snapshot_of: Option<String>) -> VolumeUsage {
        let tally = (!tree.uncounted).then(|| tree.tally());
        // Below zero it is only where a check has something to say.
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let quota = self.quota();
        VolumeUsage {
            name: self.name(),
            snapshot_of,
            files: tally.map(|tally| count(tally.files)),
            logical_bytes: tally.map(|tally| count(tally.bytes)),
            quota_files: quota.files,
            quota_bytes: quota.bytes,
            bytes: held.own + held.shared,
            own_bytes: held.own,
            shared_bytes: held.shared,
        }
    }

    fn stats(&self, tree: &Tree, usage: VolumeUsage) -> VolumeStats {
        let tables =
            |level: &[Arc<LiveTable>]| level.iter().map(|table| TableStats::from(&***table)).collect();
        VolumeStats {
            usage,
            memtable_bytes: tree.memtable.size(),
            immutable_bytes: tree.immutable.iter().map(|memtable| memtable.size()).collect(),
            stalls: StallStats {
                memtables: StallCause::from(&self.stall.memtables),
                budget: StallCause::from(&self.stall.budget),
                log: StallCause::from(&self.stall.log),
                garbage: StallCause::from(&self.stall.garbage),
                l0: StallCause::from(&self.stall.l0),
                waiting: self.stall.waiting(),
            },
            compacting: self
                .compacting
                .running
                .jobs()
                .iter()
                .map(|job| CompactingStats::from(&**job))
                .collect(),
            levels: tree.levels.iter().map(tables).collect(),
        }
    }
}

impl From<&Progress> for CompactingStats {
    fn from(job: &Progress) -> CompactingStats {
        CompactingStats {
            reason: job.reason,
            output_level: job.output_level,
            tables: job.tables,
            bytes: job.bytes,
            records: job.records,
            merged: job.merged(),
            running_ns: nanos(job.started.elapsed()),
        }
    }
}

impl From<&TableMeta> for TableStats {
    fn from(meta: &TableMeta) -> TableStats {
        TableStats {
            file: meta.file().name(),
            bytes: meta.size,
            entries: meta.entries,
            tombstones: meta.tombstones,
            smallest: meta.smallest.clone(),
            largest: meta.largest.clone(),
        }
    }
}
