//! How far the running jobs are, for the figures.
//!
//! Lock: the list of running jobs, a leaf, taken when a job starts or ends and when somebody looks.

use super::{Job, Reason};
use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::stepping::Stepping;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A job that merges tables.
#[derive(Debug)]
pub(crate) struct Progress {
    pub reason: Reason,
    pub output_level: usize,
    /// Tables that go in, their bytes and their records.
    pub tables: usize,
    pub bytes: u64,
    pub records: u64,
    pub started: Instant,
    /// Records that were merged so far.
    merged: AtomicU64,
}

impl Progress {
    pub fn merged(&self) -> u64 {
        self.merged.load(Relaxed)
    }
}

/// The jobs that run.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Vec<Arc<Progress>>>);

impl Running {
    /// Lists a job until what is returned is dropped.
    pub fn start(&self, job: &Job) -> RunningJob<'_> {
        let inputs = job.inputs.iter().map(|(_, table)| table);
        let progress = Arc::new(Progress {
            reason: job.reason,
            output_level: job.output_level,
            tables: job.inputs.len(),
            bytes: job.input_bytes(),
            records: inputs.map(|table| table.entries).sum(),
            started: Instant::now(),
            merged: AtomicU64::new(0),
        });
        self.0.lock().push(progress.clone());
        RunningJob { list: self, progress }
    }

    pub fn jobs(&self) -> Vec<Arc<Progress>> {
        self.0.lock().clone()
    }
}

/// A job's place in the list.
#[derive(Debug)]
pub(crate) struct RunningJob<'a> {
    list: &'a Running,
    pub progress: Arc<Progress>,
}

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        self.list.0.lock().retain(|other| !Arc::ptr_eq(other, &self.progress));
    }
}

/// A job's source, which tells how far it is.
pub(crate) fn watched<I: InternalIterator>(source: I, progress: &Progress) -> impl InternalIterator {
    // Records passed. The job has one thread, so what others see is only ever set, never added to.
    let mut passed = 0;
    Stepping::new(source, move |source: &mut I| {
        passed += 1;
        progress.merged.store(passed, Relaxed);
        source.next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::Batch;
    use crate::lsm::memtable::Memtable;

    #[test]
    fn a_job_is_listed_with_how_far_it_is_until_it_ends() {
        let memtable = Arc::new(Memtable::new());
        for seq in 1..=3 {
            let mut batch = Batch::new();
            batch.put(b"k", b"v");
            memtable.insert_all(seq, batch);
        }
        let running = Running::default();
        let job = Job { inputs: Vec::new(), output_level: 6, reason: Reason::Size };
        let listed = running.start(&job);
        let mut source = watched(memtable.iter(), &listed.progress);
        source.seek_to_first().unwrap();
        for passed in 0..3 {
            assert!(source.valid());
            assert_eq!(running.jobs().iter().map(|job| job.merged()).collect::<Vec<_>>(), [passed]);
            source.next().unwrap();
        }
        drop(source);
        drop(listed);
        assert!(running.jobs().is_empty());
    }
}
