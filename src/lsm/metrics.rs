//! What the engine counts while it works; [`crate::lsm::stats`] shows it.
//!
//! Counting takes no lock and orders nothing: every counter is a relaxed atomic, and a reader of
//! several may see them at slightly different moments. What happens millions of times a second is
//! counted by each thread for itself ([`Thread`]): threads do not fight over a cache line, and an
//! addition is a load and a store, without the barrier that an atomic addition implies. All counts
//! are since the store was opened.
//!
//! Reading the clock twice costs about 50 ns: a tenth of a read from memory, a twentieth of a write.
//! So only one point read in [`GET_SAMPLE`] and one write in [`WRITE_SAMPLE`] are timed; syncs,
//! flushes, compactions and stalls always are.

mod disk;
mod histogram;

pub(crate) use disk::MeteredDisk;
use histogram::Histogram;
pub use histogram::Latency;

use crate::lsm::compaction::Reason;
use crate::lsm::table::reader::FilterAnswer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use thread_local::ThreadLocal;

/// One in so many point reads is timed.
pub const GET_SAMPLE: u64 = 32;

/// One in so many writes is timed, and one in so many writes of the log's file.
pub const WRITE_SAMPLE: u64 = 8;

/// A number that any thread adds to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that one thread at a time adds to, and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Own(AtomicU64);

impl Own {
    fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one thread counts, and after its end another one. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Thread {
    /// Point reads that found a value, and that found none.
    pub found: Own,
    pub absent: Own,
    pub scans: Own,
    /// Keys that scans yielded.
    pub scanned: Own,
    /// What tables' filters said to point reads.
    pub filter_excluded: Own,
    pub filter_passed: Own,
    /// Passed, but the key was not there.
    pub filter_wrong: Own,
    /// Tables without a filter that were searched.
    pub unfiltered: Own,
    pub prefix_excluded: Own,
    pub prefix_passed: Own,
    pub batches: Own,
    pub records: Own,
    /// Bytes of keys and values in batches.
    pub user_bytes: Own,
}

/// Compaction jobs by what made them worth doing.
#[derive(Debug, Default)]
pub(crate) struct JobCounters {
    pub runs: Counter,
    pub size: Counter,
    pub tombstones: Counter,
    pub garbage: Counter,
    pub manual: Counter,
}

impl JobCounters {
    fn of(&self, reason: Reason) -> &Counter {
        match reason {
            Reason::Runs => &self.runs,
            Reason::Size => &self.size,
            Reason::Tombstones => &self.tombstones,
            Reason::Garbage => &self.garbage,
            Reason::Manual => &self.manual,
        }
    }
}

/// All that a store counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub opened: Instant,
    threads: ThreadLocal<Thread>,
    pub get: Histogram,
    pub write: Histogram,
    /// Writes of the log's file.
    pub log: Histogram,
    /// Of the log.
    pub sync: Histogram,
    pub flush: Histogram,
    pub compaction: Histogram,
    pub flushed_bytes: Counter,
    pub jobs: JobCounters,
    /// Jobs that only moved tables: they are among `jobs` too.
    pub moves: Counter,
    pub compacted_read: Counter,
    pub compacted_written: Counter,
    /// Writes of the log's file.
    pub log_writes: Counter,
    /// Bytes written to files of each sort.
    pub log_written: Counter,
    pub tables_written: Counter,
    pub manifest_written: Counter,
    pub blobs_written: Counter,
    /// Reads of blob files that went to the operating system, and their bytes.
    pub blob_reads: Counter,
    pub blob_read_bytes: Counter,
    /// Values that were moved out of files that are to be emptied, and their bytes.
    pub blobs_moved: Counter,
    pub blob_bytes_moved: Counter,
    /// Reads of table files, and their bytes.
    pub table_reads: Counter,
    pub table_read_bytes: Counter,
}

impl Metrics {
    pub fn new() -> Arc<Metrics> {
        Arc::new(Metrics {
            opened: Instant::now(),
            threads: ThreadLocal::new(),
            get: Histogram::new(),
            write: Histogram::new(),
            log: Histogram::new(),
            sync: Histogram::new(),
            flush: Histogram::new(),
            compaction: Histogram::new(),
            flushed_bytes: Counter::default(),
            jobs: JobCounters::default(),
            moves: Counter::default(),
            compacted_read: Counter::default(),
            compacted_written: Counter::default(),
            log_writes: Counter::default(),
            log_written: Counter::default(),
            tables_written: Counter::default(),
            manifest_written: Counter::default(),
            blobs_written: Counter::default(),
            blob_reads: Counter::default(),
            blob_read_bytes: Counter::default(),
            blobs_moved: Counter::default(),
            blob_bytes_moved: Counter::default(),
            table_reads: Counter::default(),
            table_read_bytes: Counter::default(),
        })
    }

    /// This thread's counters.
    fn thread(&self) -> &Thread {
        self.threads.get_or(Thread::default)
    }

    /// The sum of what the threads counted.
    pub fn sum(&self, of: impl Fn(&Thread) -> &Own) -> u64 {
        self.threads.iter().map(|thread| of(thread).get()).sum()
    }

    /// A write begins; it is one that is timed if there is a time.
    pub fn write_started(&self) -> Option<Instant> {
        is_sample(self.thread().batches.get(), WRITE_SAMPLE).then(Instant::now)
    }

    /// A batch was written: so many records, so many bytes of keys and values.
    pub fn wrote(&self, records: usize, bytes: usize, started: Option<Instant>) {
        let thread = self.thread();
        thread.batches.add(1);
        thread.records.add(records as u64);
        thread.user_bytes.add(bytes as u64);
        if let Some(started) = started {
            self.write.record(started.elapsed());
        }
    }

    /// Writes the log's file.
    fn writing_log<T>(&self, write: impl FnOnce() -> T) -> T {
        let started = is_sample(self.log_writes.get(), WRITE_SAMPLE).then(Instant::now);
        let written = write();
        self.log_writes.add(1);
        if let Some(started) = started {
            self.log.record(started.elapsed());
        }
        written
    }

    /// A memtable became a table of so many bytes.
    pub fn flushed(&self, bytes: u64, started: Instant) {
        self.flushed_bytes.add(bytes);
        self.flush.record(started.elapsed());
    }

    /// A value of so many stored bytes was moved out of a blob file that is to be emptied.
    pub fn moved_blob(&self, bytes: usize) {
        self.blobs_moved.add(1);
        self.blob_bytes_moved.add(bytes as u64);
    }

    /// A compaction job moved its tables down as they are.
    pub fn moved(&self, reason: Reason) {
        self.jobs.of(reason).add(1);
        self.moves.add(1);
    }

    /// A compaction job merged tables of `read` bytes into tables of `written` bytes.
    pub fn compacted(&self, reason: Reason, read: u64, written: u64, started: Instant) {
        self.jobs.of(reason).add(1);
        self.compacted_read.add(read);
        self.compacted_written.add(written);
        self.compaction.record(started.elapsed());
    }

    /// A table's filter was asked for a prefix.
    pub fn asked_prefix(&self, excluded: bool) {
        let thread = self.thread();
        if excluded { &thread.prefix_excluded } else { &thread.prefix_passed }.add(1);
    }
}

/// A point read under way; counted when it is answered.
pub(crate) struct Get<'a> {
    metrics: &'a Metrics,
    thread: &'a Thread,
    /// Of a read that is timed.
    started: Option<Instant>,
}

impl<'a> Get<'a> {
    pub fn start(metrics: &'a Metrics) -> Get<'a> {
        let thread = metrics.thread();
        let started = is_sample(thread.found.get() + thread.absent.get(), GET_SAMPLE).then(Instant::now);
        Get { metrics, thread, started }
    }

    /// A table was asked for the key.
    pub fn asked_table(&self, filter: FilterAnswer, found: bool) {
        match filter {
            FilterAnswer::Excluded => self.thread.filter_excluded.add(1),
            FilterAnswer::None => self.thread.unfiltered.add(1),
            FilterAnswer::Passed => {
                self.thread.filter_passed.add(1);
                if !found {
                    self.thread.filter_wrong.add(1);
                }
            }
        }
    }

    pub fn answered(self, found: bool) {
        if found { &self.thread.found } else { &self.thread.absent }.add(1);
        if let Some(started) = self.started {
            self.metrics.get.record(started.elapsed());
        }
    }
}

/// Is the `n`th the one in `of` that is timed? They are spread by the golden ratio, so that no rhythm
/// of the requests falls in with theirs. The first always is.
fn is_sample(n: u64, of: u64) -> bool {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) < u64::MAX / of
}

/// Counts a scan when it is over.
#[derive(Debug)]
pub(crate) struct ScanCount {
    metrics: Arc<Metrics>,
    /// Keys that it yielded.
    pub keys: u64,
}

impl ScanCount {
    pub fn start(metrics: &Arc<Metrics>) -> ScanCount {
        ScanCount { metrics: metrics.clone(), keys: 0 }
    }
}

impl Drop for ScanCount {
    fn drop(&mut self) {
        let thread = self.metrics.thread();
        thread.scans.add(1);
        thread.scanned.add(self.keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        const THREADS: u64 = 40;
        let metrics = Metrics::new();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..100).for_each(|i| Get::start(&metrics).answered(i % 4 == 0)));
            }
        });
        assert_eq!(metrics.sum(|thread| &thread.found), 25 * THREADS);
        assert_eq!(metrics.sum(|thread| &thread.absent), 75 * THREADS);
    }

    #[test]
    fn samples_are_spread_over_every_rhythm() {
        let count =
            |of: &dyn Fn(u64) -> bool| (0..1 << 16).filter(|n| of(*n) && is_sample(*n, GET_SAMPLE)).count();
        let all = (1 << 16) / GET_SAMPLE as usize;
        assert!(count(&|_| true).abs_diff(all) < all / 20);
        for rhythm in [2, 3, 8, 32] {
            let share = count(&|n| n % rhythm == 0) * rhythm as usize;
            assert!(share.abs_diff(all) < all / 4, "every {rhythm}: {share} of {all}");
        }
    }

    #[test]
    fn filters_are_counted_by_their_answers() {
        let metrics = Metrics::new();
        let get = Get::start(&metrics);
        get.asked_table(FilterAnswer::Excluded, false);
        get.asked_table(FilterAnswer::Passed, false);
        get.asked_table(FilterAnswer::Passed, true);
        get.asked_table(FilterAnswer::None, false);
        get.answered(true);
        let asked = [metrics.sum(|s| &s.filter_excluded), metrics.sum(|s| &s.filter_passed)];
        assert_eq!(asked, [1, 2]);
        assert_eq!([metrics.sum(|s| &s.filter_wrong), metrics.sum(|s| &s.unfiltered)], [1, 1]);
    }
}
