//! Giving back what removed files held.
//!
//! When a file with chunks loses its last name, the same batch writes an orphan record (`o inode`); its
//! chunks are removed when nobody can reach them any more, in batches of [`WINDOW`], the record in the
//! last. A process that ends before that leaves the record, and the next open goes on.
//!
//! Few chunks are removed by whoever asks, many by a thread, so that no request waits for a large file.
//! A failure is logged and leaves the rest to the next open.
//!
//! The queue's lock is a leaf: see lock.rs.

use crate::fs::attr::Ino;
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::fs::truncate::{WINDOW, scan_chunks};
use crate::lsm::{Batch, Snapshot, Volume};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// With more chunks than this, 4 MiB, a file is left to the thread.
const HERE_MAX: u64 = 64;

/// Files that wait for the thread; with more, whoever asks removes the chunks himself.
const QUEUE_MAX: usize = 1 << 16;

/// Orphan records read at a time.
const ORPHANS_AT_ONCE: usize = 1024;

/// Removes chunks that belong to nobody.
#[derive(Debug)]
pub(super) struct Reclaimer {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Work {
    volume: Arc<Volume>,
    stop: AtomicBool,
    queue: Mutex<Queue>,
    /// Signals more work, or the stop.
    more: Condvar,
    /// Signals that nothing is left to do.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    files: VecDeque<Ino>,
    busy: bool,
}

impl Reclaimer {
    /// Starts the thread. With `leftovers` it first removes what earlier processes left.
    pub fn start(volume: Arc<Volume>, leftovers: bool) -> Outcome<Reclaimer> {
        // Taken before anything is unlinked: later orphan records are of files that may be open.
        let leftovers = leftovers.then(|| volume.snapshot());
        let work = Arc::new(Work {
            volume,
            stop: AtomicBool::new(false),
            queue: Mutex::new(Queue { files: VecDeque::new(), busy: true }),
            more: Condvar::new(),
            idle: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("lsmfs-reclaim".into()).spawn({
            let work = work.clone();
            move || work.run(leftovers)
        });
        let failed = |e: std::io::Error| Cause::System {
            what: "start a thread",
            errno: rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::AGAIN),
        };
        Ok(Reclaimer { work, thread: Mutex::new(Some(thread.map_err(failed)?)) })
    }

    /// Removes an orphan's chunks, now or soon.
    pub fn reclaim(&self, ino: Ino, chunks: u64) {
        if chunks > HERE_MAX {
            let mut queue = self.work.queue.lock();
            if queue.files.len() < QUEUE_MAX {
                queue.files.push_back(ino);
                self.work.more.notify_one();
                return;
            }
        }
        self.work.remove_or_log(ino);
    }

    /// Waits until the thread has nothing to do.
    pub fn wait_idle(&self) {
        let mut queue = self.work.queue.lock();
        while queue.busy || !queue.files.is_empty() {
            if self.work.stop.load(Ordering::Acquire) {
                return;
            }
            self.work.idle.wait(&mut queue);
        }
    }

    /// Ends the thread, after the batch that it is at.
    pub fn stop(&self) {
        self.work.stop.store(true, Ordering::Release);
        // Under the lock, or the signals could fall between a thread's look at `stop` and its wait.
        drop(self.work.queue.lock());
        self.work.more.notify_all();
        self.work.idle.notify_all();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that gives back removed files' space panicked");
        }
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    fn run(&self, leftovers: Option<Snapshot>) {
        let removed = leftovers.map_or(Ok(()), |snapshot| self.remove_leftovers(&snapshot));
        if let Err(e) = removed {
            tracing::error!("space of removed files is not given back before the next mount: {e}");
        }
        while let Some(ino) = self.next() {
            self.remove_or_log(ino);
        }
    }

    /// The next file to remove; `None` at the end.
    fn next(&self) -> Option<Ino> {
        let mut queue = self.queue.lock();
        loop {
            queue.busy = false;
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if let Some(ino) = queue.files.pop_front() {
                queue.busy = true;
                return Some(ino);
            }
            self.idle.notify_all();
            self.more.wait(&mut queue);
        }
    }

    /// Removes the orphans that a snapshot shows.
    fn remove_leftovers(&self, snapshot: &Snapshot) -> Outcome<()> {
        let (mut from, to) = (Bound::Included(keys::orphans().0.to_vec()), keys::orphans().1);
        loop {
            let mut scan = snapshot.scan(from.as_ref().map(Vec::as_slice), Bound::Excluded(&to))?;
            let mut inos = Vec::new();
            while inos.len() < ORPHANS_AT_ONCE && scan.next()? {
                let ino = keys::orphan_ino(scan.key());
                inos.push(ino.ok_or_else(|| Cause::bad_record(scan.key(), "not an orphan's key"))?);
            }
            let Some(last) = inos.last() else { return Ok(()) };
            from = Bound::Excluded(keys::orphan(*last).to_vec());
            for ino in inos {
                if self.stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.remove_or_log(ino);
            }
        }
    }

    fn remove_or_log(&self, ino: Ino) {
        if let Err(e) = self.remove(ino) {
            tracing::error!("space of removed inode {ino} is not given back before the next mount: {e}");
        }
    }

    /// Removes a file's chunks and its orphan record.
    fn remove(&self, ino: Ino) -> Outcome<()> {
        let mut scan = scan_chunks(&self.volume, ino, 0)?;
        loop {
            let mut batch = Batch::new();
            while batch.len() < WINDOW && scan.next()? {
                batch.delete(scan.key());
            }
            let last = batch.len() < WINDOW;
            if last {
                batch.delete(&keys::orphan(ino));
            }
            self.volume.write(batch)?;
            if last || self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
        }
    }
}
