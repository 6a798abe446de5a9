//! A store's figures, rendered: as text for people, as JSON for programs.

use crate::fs::readable_key;
use crate::lsm::stats::{
    CompactingStats, Latency, Reason, StallCause, StoreStats, TableStats, VolumeStats, VolumeUsage,
};
use serde::Serialize;
use std::fmt::Write as _;

/// Figures ([`StoreStats`], or more around it) as JSON, with a line feed at the end.
pub fn json(figures: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(figures).expect("figures have nothing that JSON lacks");
    text.push('\n');
    text
}

/// The figures as text: what the store has done, then what it is made of.
pub fn text(stats: &StoreStats) -> String {
    let mut text = activity(stats);
    text.push_str(&structure(stats));
    text
}

/// What the store has done since it was opened.
fn activity(stats: &StoreStats) -> String {
    let StoreStats { reads, writes, disk, stalls, flushes, compactions, cache, filters, .. } = stats;
    let mut text = String::new();
    let mut line = |words: String| line(&mut text, 1, &words);
    line(format!("writes so far {}, open for {}", stats.last_seq, time(stats.open_ns)));
    line(format!(
        "reads: {} gets, {} found, {} tables searched; {} scans, {} keys",
        reads.gets, reads.found, reads.tables_searched, reads.scans, reads.scanned
    ));
    line(format!(
        "writes: {} batches, {} records, {}",
        writes.batches,
        writes.records,
        size(writes.user_bytes)
    ));
    line(format!(
        "disk: {} of log, {} of tables, {} of blobs, {} of manifest written; {} log syncs; {} in {} reads of tables, \
         {} in {} of blobs",
        size(disk.log_bytes),
        size(disk.table_bytes),
        size(disk.blob_bytes),
        size(disk.manifest_bytes),
        disk.log_syncs,
        size(disk.table_read_bytes),
        disk.table_reads,
        size(disk.blob_read_bytes),
        disk.blob_reads
    ));
    let causes = [stalls.memtables, stalls.budget, stalls.log, stalls.garbage, stalls.l0];
    let [memtables, budget, log, garbage, l0] = causes.map(stall);
    line(format!(
        "stalls: memtables {memtables}; budget {budget}; log {log}; garbage {garbage}; level 0 {l0}; {} waiting",
        stalls.waiting
    ));
    line(format!("flushes: {}, {} in {}", flushes.count, size(flushes.bytes), time(flushes.total_ns)));
    let jobs = compactions.jobs;
    line(format!(
        "compactions: {} (runs {}, size {}, tombstones {}, garbage {}, manual {}), {} of them moves; {} merged to {} in {}",
        jobs.total(),
        jobs.runs,
        jobs.size,
        jobs.tombstones,
        jobs.garbage,
        jobs.manual,
        compactions.moves,
        size(compactions.read_bytes),
        size(compactions.written_bytes),
        time(compactions.total_ns)
    ));
    line(format!(
        "cache: {} hits, {} misses ({}); {} blocks, {} of {}",
        cache.hits,
        cache.misses,
        percent(cache.hits, cache.hits + cache.misses),
        cache.blocks,
        size(cache.bytes),
        size(cache.capacity)
    ));
    line(format!(
        "filters: {} asked, {} excluded, {} false positives; prefixes: {} asked, {} excluded",
        filters.asked,
        filters.excluded,
        filters.false_positives,
        filters.prefix_asked,
        filters.prefix_excluded
    ));
    let blobs = &stats.blobs;
    line(format!(
        "blobs: {} files, {}, {} of it garbage; {} values, {}, moved",
        blobs.files.len(),
        size(blobs.bytes),
        size(blobs.garbage_bytes),
        blobs.moved,
        size(blobs.moved_bytes)
    ));
    line(format!("open tables {}, snapshots {}", stats.open_tables, stats.snapshots));
    let amplification = stats.amplification;
    line(format!(
        "amplification: write {}, read {}, space {}",
        factor(amplification.write),
        factor(amplification.read),
        factor(amplification.space)
    ));
    text.push_str(&latencies(stats));
    text
}

/// A table of the latencies.
fn latencies(stats: &StoreStats) -> String {
    let mut text = String::new();
    let mut row = |name: &str, cells: [String; 7]| {
        let [count, mean, p50, p90, p99, p999, max] = cells;
        let cells = format!("{count:>9}  {mean:>9} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}");
        line(&mut text, 2, &format!("{name:<10} {cells}"));
    };
    row("latency", ["measured", "mean", "p50", "p90", "p99", "p99.9", "max"].map(str::to_string));
    let latency = &stats.latency;
    for (name, of) in [
        ("get", latency.get),
        ("write", latency.write),
        ("log", latency.log),
        ("sync", latency.sync),
        ("flush", latency.flush),
        ("compaction", latency.compaction),
    ] {
        let Latency { count, mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns } = of;
        let [mean, p50, p90, p99, p999, max] = [mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns].map(time);
        row(name, [count.to_string(), mean, p50, p90, p99, p999, max]);
    }
    text
}

/// What the store is made of: the log, and of each volume memtables, levels and tables.
pub fn structure(stats: &StoreStats) -> String {
    let mut text = String::new();
    let log_bytes = stats.log_segments.iter().map(|segment| segment.bytes).sum();
    line(&mut text, 1, &format!("log {} in {} segments", size(log_bytes), stats.log_segments.len()));
    for segment in &stats.log_segments {
        line(&mut text, 2, &format!("segment {}  {}", segment.number, size(segment.bytes)));
    }
    stats.volumes.iter().for_each(|volume| describe_volume(&mut text, volume));
    text
}

fn describe_volume(text: &mut String, volume: &VolumeStats) {
    line(text, 0, &format!("volume {}", volume.usage.name.escape_debug()));
    let frozen: usize = volume.immutable_bytes.iter().sum();
    let (memtable, frozen) = (size(volume.memtable_bytes as u64), size(frozen as u64));
    line(text, 1, &format!("memtable {memtable}, {} frozen {frozen}", volume.immutable_bytes.len()));
    line(text, 1, &holdings(&volume.usage));
    volume.compacting.iter().for_each(|job| line(text, 1, &describe_job(job)));
    for (level, tables) in volume.levels.iter().enumerate() {
        let bytes = tables.iter().map(|table| table.bytes).sum();
        line(text, 1, &format!("level {level}: {} tables, {}", tables.len(), size(bytes)));
        tables.iter().for_each(|table| line(text, 2, &describe_table(table)));
    }
}

fn holdings(usage: &VolumeUsage) -> String {
    let number = |number: Option<u64>| number.map_or("-".to_string(), |number| number.to_string());
    let bytes = |number: Option<u64>| number.map_or("-".to_string(), size);
    let limit = match (usage.quota_files, usage.quota_bytes) {
        (None, None) => "no quota".to_string(),
        (files, quota) => format!("quota {} files, {}", number(files), bytes(quota)),
    };
    format!(
        "holds {} files, {}; {limit}; on the disk {} of its own, {} shared",
        number(usage.files),
        bytes(usage.logical_bytes),
        size(usage.own_bytes),
        size(usage.shared_bytes)
    )
}

fn describe_job(job: &CompactingStats) -> String {
    let reason = match job.reason {
        Reason::Runs => "runs",
        Reason::Size => "size",
        Reason::Tombstones => "tombstones",
        Reason::Garbage => "garbage",
        Reason::Manual => "manual",
    };
    format!(
        "compacting {} tables, {}, to level {} ({reason}): {} after {}",
        job.tables,
        size(job.bytes),
        job.output_level,
        percent(job.merged, job.records),
        time(job.running_ns)
    )
}

fn describe_table(table: &TableStats) -> String {
    let TableStats { file, bytes, entries, tombstones, smallest, largest } = table;
    let (smallest, largest) = (readable_key(smallest), readable_key(largest));
    format!(
        "table {file}  {}  {entries} records, {tombstones} tombstones  keys {smallest} to {largest}",
        size(*bytes)
    )
}

fn line(text: &mut String, depth: usize, words: &str) {
    writeln!(text, "{:width$}{words}", "", width = depth * 2).expect("a string takes what is written");
}

fn stall(cause: StallCause) -> String {
    match cause.count {
        0 => "none".to_string(),
        count => format!("{count}, {}, at most {}", time(cause.total_ns), time(cause.max_ns)),
    }
}

fn percent(part: u64, of: u64) -> String {
    match of {
        0 => "-".to_string(),
        of => format!("{:.1} %", part as f64 * 100.0 / of as f64),
    }
}

fn factor(factor: Option<f64>) -> String {
    factor.map_or_else(|| "-".to_string(), |factor| format!("{factor:.2}"))
}

/// A number of bytes, for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    scaled(bytes, 1024.0, "B", &UNITS)
}

/// A number of nanoseconds, for people.
pub fn time(nanos: u64) -> String {
    match nanos {
        0..60_000_000_000 => scaled(nanos, 1000.0, "ns", &["µs", "ms", "s"]),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            if hours > 0 { format!("{hours} h {minutes} min") } else { format!("{minutes} min {seconds} s") }
        }
    }
}

/// A number in the largest of the units that it fills, each `step` times the one before.
fn scaled(number: u64, step: f64, smallest: &str, larger: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = smallest;
    for larger in larger {
        if value < step {
            break;
        }
        value /= step;
        unit = larger;
    }
    if unit == smallest { format!("{number} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Options, Store};
    use std::sync::Arc;

    #[test]
    fn sizes_and_times_are_for_people() {
        let sizes = [0, 1023, 1024, 1536, 5 << 40].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 TiB"]);
        assert_eq!(size(u64::MAX), "16.0 EiB");
        let times = [0, 999, 1000, 1_500_000, 59_900_000_000, 61_000_000_000, 3_660_000_000_000].map(time);
        assert_eq!(times, ["0 ns", "999 ns", "1.0 µs", "1.5 ms", "59.9 s", "1 min 1 s", "1 h 1 min"]);
        time(u64::MAX);
    }

    #[test]
    fn a_store_that_did_nothing_has_figures_too() {
        let options = Options { background: false, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let stats = store.stats();
        let text = text(&stats);
        for words in ["volume main", "amplification: write -, read -, space -", "level 0: 0 tables", "p99.9"]
        {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&json(&stats)).unwrap();
        assert_eq!(json["volumes"][0]["name"], "main");
        assert_eq!(json["amplification"]["write"], serde_json::Value::Null);
    }
}
