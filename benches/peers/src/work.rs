//! One line with one engine: what the process does that was started for it.
//!
//! Open, warm up, measure, check. After a line that wrote, the memtables are flushed and the
//! background work is awaited, so that the next line finds a calm store; then what the engine wrote is
//! counted. Every value that is read is checked, and samples of the store after lines that wrote.

use crate::Result;
use crate::data::{Key, Random, Shuffle, Values, absent, number_of, present};
use crate::engine::{Engine, EngineKind};
use crate::engines::{fjall::Fjall, lsmfs::Lsmfs, rocksdb::Rocksdb};
use crate::plan::{Cache, Job, Task};
use crate::usage::{disk_bytes, moved, peak_memory, processor_time, wait_for_calm};
use serde::{Deserialize, Serialize};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Operations between two looks at the clock.
const CHUNK: u64 = 32;
/// Keys and values of a short scan.
const SCAN_LEN: usize = 100;
/// Keys of a synced batch.
const BATCH_LEN: u64 = 100;
/// What the writer of [`Task::GetWhileWriting`] writes in a second.
const WRITER_RATE: f64 = 4e6;
/// Keys that are checked after a line that wrote.
const SAMPLES: u64 = 2000;

/// Which line wrote a value.
mod version {
    pub const FILL: u64 = 0;
    pub const OVERWRITE: u64 = 1;
    pub const MIXED: u64 = 2;
}

/// What a line gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations: keys written, read or deleted; a scan counts its keys.
    pub ops: u64,
    /// The time they took.
    pub seconds: f64,
    /// The longest that 32 operations of one thread took, in seconds.
    pub longest_pause: f64,
    /// The processor time that they took, on all threads; of lines that write, up to the calm afterwards.
    pub processor_seconds: f64,
    /// Bytes of keys and values in them.
    pub user_bytes: u64,
    /// Bytes that the engine read meanwhile, from the page cache or the disk.
    pub read_bytes: u64,
    /// Bytes that it wrote, up to the time when it was calm again.
    pub written_bytes: u64,
    /// How long it still worked in the background.
    pub calm_seconds: f64,
    /// Bytes of the store on the disk after it was closed, and of the keys and values in it.
    pub disk_bytes: u64,
    pub live_bytes: u64,
    /// The most memory that the process had.
    pub peak_memory: u64,
}

impl Outcome {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.ops as f64 / self.seconds
    }

    /// Operations a second of processor time, all threads together: what a busy machine blurs least.
    pub fn processor_rate(&self) -> f64 {
        self.ops as f64 / self.processor_seconds
    }
}

/// Does the job and prints its outcome as JSON.
pub fn run(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    let outcome = match job.engine {
        EngineKind::Lsmfs => run_with::<Lsmfs>(&job)?,
        EngineKind::Rocksdb => run_with::<Rocksdb>(&job)?,
        EngineKind::Fjall => run_with::<Fjall>(&job)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn run_with<E: Engine>(job: &Job) -> Result<Outcome> {
    let work =
        Work { engine: E::open(&job.dir, &job.settings)?, values: Values::new(job.line.value_len), job };
    work.warm_up()?;
    let (before, processor_before) = (moved()?, processor_time());
    let timed = work.measure()?;
    let after = moved()?;
    let (mut calm, mut settled) = (Duration::ZERO, after);
    if job.line.task.writes() {
        work.engine.flush()?;
        calm = wait_for_calm()?;
        settled = moved()?;
    }
    let processor = processor_time() - processor_before;
    if job.line.task.writes() {
        work.check_samples()?;
    }
    work.engine.close()?;
    let live_keys = match job.line.task {
        Task::FillSynced => timed.ops.min(job.keys),
        Task::Delete => job.keys - job.keys / 2,
        _ => job.keys,
    };
    Ok(Outcome {
        ops: timed.ops,
        seconds: timed.time.as_secs_f64(),
        longest_pause: timed.longest_pause.as_secs_f64(),
        processor_seconds: processor.as_secs_f64(),
        user_bytes: timed.ops * job.entry_len(),
        read_bytes: after.read - before.read,
        written_bytes: settled.written - before.written,
        calm_seconds: calm.as_secs_f64(),
        disk_bytes: disk_bytes(&job.dir)?,
        live_bytes: live_keys * job.entry_len(),
        peak_memory: peak_memory()?,
    })
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
struct Timed {
    ops: u64,
    time: Duration,
    longest_pause: Duration,
}

/// How many operations a thread does.
#[derive(Debug, Clone, Copy)]
enum Until {
    Ops(u64),
    Time(Duration),
}

struct Work<'a, E> {
    engine: E,
    values: Values,
    job: &'a Job,
}

impl<E: Engine> Work<'_, E> {
    fn keys(&self) -> u64 {
        self.job.keys
    }

    fn order(&self) -> Shuffle {
        Shuffle::new(self.keys(), 1)
    }

    fn other_order(&self) -> Shuffle {
        Shuffle::new(self.keys(), 2)
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs_f64(self.job.seconds)
    }

    /// Fills the cache as far as it goes: with a whole scan if it holds all, and with gets.
    fn warm_up(&self) -> Result<()> {
        let task = self.job.line.task;
        if task.starts_empty() || matches!(task, Task::ScanAll | Task::Overwrite | Task::Delete) {
            return Ok(());
        }
        if self.job.line.cache == Cache::Ample {
            self.scan_all()?;
        }
        let mut random = Random::new(99);
        let end = Instant::now() + self.seconds() / 2;
        while Instant::now() < end {
            for _ in 0..CHUNK {
                match task {
                    Task::GetAbsent => self.get_absent(random.below(self.keys()))?,
                    _ => self.get(random.below(self.keys()))?,
                }
            }
        }
        Ok(())
    }

    fn measure(&self) -> Result<Timed> {
        let (threads, keys) = (self.job.line.threads as u64, self.keys());
        // Thread `t` does every `threads`th operation of the order.
        let share = |t: u64| Until::Ops((keys - t).div_ceil(threads));
        let timed = |_| Until::Time(self.seconds());
        match self.job.line.task {
            Task::FillInOrder => self.threads(share, |w, i| w.put(i, version::FILL)),
            Task::FillRandom => {
                let order = self.order();
                self.threads(share, |w, i| w.put(order.at(i), version::FILL))
            }
            Task::FillSynced => self.fill_synced(),
            Task::GetPresent => self.threads(timed, |w, _| self.get(w.random.below(keys))),
            Task::GetAbsent => self.threads(timed, |w, _| self.get_absent(w.random.below(keys))),
            Task::ScanShort => {
                let scanned = self.threads(timed, |w, _| self.scan_short(w.random.below(keys)))?;
                Ok(Timed { ops: scanned.ops * (SCAN_LEN as u64).min(keys / 2), ..scanned })
            }
            Task::ScanAll => {
                let start = Instant::now();
                let ops = self.scan_all()?;
                Ok(Timed { ops, time: start.elapsed(), longest_pause: Duration::ZERO })
            }
            Task::GetWhileWriting => self.get_while_writing(),
            Task::Mixed => self.threads(timed, |w, i| match i / threads % 2 {
                0 => self.get(w.random.below(keys)),
                _ => {
                    let number = w.random.below(keys);
                    w.put(number, version::MIXED)
                }
            }),
            Task::Overwrite => {
                let order = self.other_order();
                self.threads(share, |w, i| w.put(order.at(i), version::OVERWRITE))
            }
            Task::Delete => {
                let order = self.order();
                let half = |t: u64| Until::Ops((keys / 2).saturating_sub(t).div_ceil(threads));
                self.threads(half, |_, i| self.engine.delete(&present(order.at(i))))
            }
        }
    }

    /// Runs `step` on every thread with the numbers of its operations, until it has done its share.
    fn threads(
        &self,
        until: impl Fn(u64) -> Until + Sync,
        step: impl Fn(&mut Worker<'_, E>, u64) -> Result<()> + Sync,
    ) -> Result<Timed> {
        let threads = self.job.line.threads as u64;
        let barrier = Barrier::new(threads as usize);
        let one = |t: u64| -> Result<Timed> {
            let mut worker = Worker::new(self, t);
            barrier.wait();
            let start = Instant::now();
            let (mut ops, mut before, mut longest_pause) = (0, start, Duration::ZERO);
            let left = |ops: u64, now: Instant| match until(t) {
                Until::Ops(all) => all - ops,
                Until::Time(time) if now - start < time => CHUNK,
                Until::Time(_) => 0,
            };
            while let chunk @ 1.. = left(ops, before).min(CHUNK) {
                for _ in 0..chunk {
                    step(&mut worker, t + ops * threads)?;
                    ops += 1;
                }
                let now = Instant::now();
                longest_pause = longest_pause.max(now - before);
                before = now;
            }
            Ok(Timed { ops, time: before - start, longest_pause })
        };
        let timed: Vec<Result<Timed>> = thread::scope(|scope| {
            let one = &one;
            // Named, so that a profile can leave out everything else that the process does.
            let start =
                |t| thread::Builder::new().name("measured".to_string()).spawn_scoped(scope, move || one(t));
            let running: Vec<_> = (0..threads).map(start).collect();
            running.into_iter().map(|thread| join(thread?)).collect()
        });
        timed.into_iter().try_fold(Timed::default(), |all, one| {
            let one = one?;
            Ok(Timed {
                ops: all.ops + one.ops,
                time: all.time.max(one.time),
                longest_pause: all.longest_pause.max(one.longest_pause),
            })
        })
    }

    fn fill_synced(&self) -> Result<Timed> {
        let order = self.order();
        let batches = self.keys() / BATCH_LEN;
        let batch = |w: &mut Worker<'_, E>, i: u64| {
            let first = i % batches.max(1) * BATCH_LEN;
            for (n, (key, value)) in (first..).zip(&mut w.batch) {
                let number = order.at(n);
                *key = present(number);
                self.values.fill(value, number, version::FILL);
            }
            self.engine.put_all_synced(&w.batch)
        };
        let timed = self.threads(|_| Until::Time(self.seconds()), batch)?;
        Ok(Timed { ops: timed.ops * BATCH_LEN, ..timed })
    }

    fn get_while_writing(&self) -> Result<Timed> {
        let keys = self.keys();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let writer = scope.spawn(|| self.write_steadily(&stop));
            let read = self.threads(|_| Until::Time(self.seconds()), |w, _| self.get(w.random.below(keys)));
            stop.store(true, Ordering::Relaxed);
            join(writer)?;
            read
        })
    }

    /// Overwrites at [`WRITER_RATE`] until `stop`; an error if the engine does not keep up.
    fn write_steadily(&self, stop: &AtomicBool) -> Result<()> {
        let mut worker = Worker::new(self, 1000);
        let start = Instant::now();
        let mut written = 0.0;
        while !stop.load(Ordering::Relaxed) {
            let due = WRITER_RATE * start.elapsed().as_secs_f64();
            if written >= due {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let number = worker.random.below(self.keys());
            worker.put(number, version::MIXED)?;
            written += self.job.entry_len() as f64;
        }
        let due = WRITER_RATE * start.elapsed().as_secs_f64();
        if written < due * 0.5 - self.job.entry_len() as f64 {
            return Err(format!("the writer reached {:.0} % of its rate", written / due * 100.0).into());
        }
        Ok(())
    }

    fn get(&self, number: u64) -> Result<()> {
        let found = self.engine.get(&present(number), |value| self.values.check(number, value).map(drop))?;
        if found { Ok(()) } else { Err(format!("wrong answer: key {number} is missing").into()) }
    }

    fn get_absent(&self, number: u64) -> Result<()> {
        match self.engine.get(&absent(number), |_| Ok(()))? {
            true => Err(format!("wrong answer: a key beside {number} is there").into()),
            false => Ok(()),
        }
    }

    /// Scans from a key that has enough keys behind it.
    fn scan_short(&self, number: u64) -> Result<()> {
        let len = (SCAN_LEN as u64).min(self.keys() / 2);
        let mut expected = number.min(self.keys() - len);
        let from = present(expected);
        let seen = self.engine.scan(&from, len as usize, |key, value| {
            self.check_entry(key, value, expected)?;
            expected += 1;
            Ok(())
        })?;
        if seen as u64 == len { Ok(()) } else { Err(format!("wrong answer: a scan saw {seen} keys").into()) }
    }

    /// Scans everything; gives the number of keys.
    fn scan_all(&self) -> Result<u64> {
        let mut expected = 0;
        self.engine.scan(b"", usize::MAX, |key, value| {
            self.check_entry(key, value, expected)?;
            expected += 1;
            Ok(())
        })?;
        if expected == self.keys() {
            return Ok(expected);
        }
        Err(format!("wrong answer: a scan saw {expected} of {} keys", self.keys()).into())
    }

    fn check_entry(&self, key: &[u8], value: &[u8], expected: u64) -> Result<()> {
        if key != present(expected) {
            return Err(format!("wrong answer: a scan skipped or repeated key {expected}").into());
        }
        self.values.check(expected, value).map(drop)
    }

    /// Are the newest values there, and only they?
    fn check_samples(&self) -> Result<()> {
        let task = self.job.line.task;
        let deleted = if task == Task::Delete { self.keys() / 2 } else { 0 };
        let order = self.order();
        let mut random = Random::new(7);
        for _ in 0..SAMPLES {
            let i = random.below(self.keys());
            let number = order.at(i);
            let mut version = None;
            let found = self.engine.get(&present(number), |value| {
                version = Some(self.values.check(number, value)?);
                Ok(())
            })?;
            let right = match task {
                Task::FillInOrder | Task::FillRandom => version == Some(version::FILL),
                Task::Overwrite => version == Some(version::OVERWRITE),
                Task::Delete => found == (i >= deleted),
                // What a timed line got to is not known here.
                _ => !found || version.is_some(),
            };
            if !right {
                return Err(format!("wrong answer: key {number} has version {version:?}").into());
            }
        }
        if task == Task::Delete {
            self.check_count(self.keys() - deleted)?;
        }
        Ok(())
    }

    fn check_count(&self, expected: u64) -> Result<()> {
        let seen = self
            .engine
            .scan(b"", usize::MAX, |key, value| self.values.check(number_of(key)?, value).map(drop))?;
        match seen as u64 == expected {
            true => Ok(()),
            false => Err(format!("wrong answer: a scan saw {seen} keys instead of {expected}").into()),
        }
    }
}

/// A thread's own things.
struct Worker<'a, E> {
    engine: &'a E,
    values: &'a Values,
    random: Random,
    value: Vec<u8>,
    batch: Vec<(Key, Vec<u8>)>,
}

impl<'a, E: Engine> Worker<'a, E> {
    fn new(work: &'a Work<'_, E>, seed: u64) -> Worker<'a, E> {
        let batch = match work.job.line.task {
            Task::FillSynced => vec![(present(0), work.values.buffer()); BATCH_LEN as usize],
            _ => Vec::new(),
        };
        Worker {
            engine: &work.engine,
            values: &work.values,
            random: Random::new(seed),
            value: work.values.buffer(),
            batch,
        }
    }

    fn put(&mut self, number: u64, version: u64) -> Result<()> {
        self.values.fill(&mut self.value, number, version);
        self.engine.put(&present(number), &self.value)
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
}
