//! A log as full as it may get: many small files in several volumes, as many as their memtables hold before the
//! store flushes them. (One volume alone fills half of the budget at most.) A daemon gets there where its disk is
//! too slow to flush; here nothing is flushed, in a process of its own, which ends as one that is killed.

use crate::{Result, own_program};
use clap::Args;
use lsmfs::disk::real::RealDisk;
use lsmfs::fs::attr::{Caller, ROOT};
use lsmfs::fs::{FileSystem, FsOptions, engine_options};
use lsmfs::lsm::{Options, Store};
use rustix::process::{Signal, getpid, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Volumes that are written to in turn.
const VOLUMES: usize = 8;

/// Files that each gets in its turn.
const TURN: usize = 500;

/// Bytes in each file.
const SIZE: usize = 200;

/// How old a record may become before it is synced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The process that fills a log.
#[derive(Debug, Clone, Args)]
pub struct FillLogArgs {
    /// The store's directory
    pub store: PathBuf,
    /// A part of all that would fit
    #[arg(long, default_value_t = 1)]
    pub part: usize,
}

/// Fills the log of a store that nobody has open, and leaves it as a killed process does.
pub fn fill(store: &Path, part: usize) -> Result<()> {
    let status = own_program()?.arg("fill-log").arg(store).arg(format!("--part={part}")).status()?;
    match status.signal() == Some(Signal::KILL.as_raw()) {
        true => Ok(()),
        false => Err(format!("the process that fills a log ended early: {status}").into()),
    }
}

/// Fills and ends.
pub fn run(args: &FillLogArgs) -> Result<()> {
    let options = Options { background: false, ..engine_options() };
    // Flushes begin at three quarters; what is beyond comes while they run.
    let full = options.memtable_budget / args.part / 16 * 13;
    let disk = Arc::new(RealDisk::open_or_create(&args.store, Duration::ZERO)?);
    let store = Arc::new(Store::open(disk, options)?);
    let caller = Caller::new(0, 0);
    let mut volumes = Vec::new();
    for number in 0..VOLUMES {
        let name = format!("volume-{number}");
        store.create_volume(&name)?;
        let fs = FileSystem::open(store.clone(), &name, FsOptions::default())?;
        let dir = fs.mkdir(ROOT, b"files", 0o755, caller)?.ino;
        volumes.push((fs, dir));
    }
    let (mut made, mut synced) = (0, Instant::now());
    while in_memory(&store) < full {
        for (fs, dir) in &volumes {
            for _ in 0..TURN {
                let file = fs.create(*dir, format!("file-{made:08}").as_bytes(), 0o644, caller)?.ino;
                fs.write(file, 0, &[7; SIZE])?;
                fs.forget(file, 1);
                made += 1;
            }
        }
        if synced.elapsed() >= SYNC_INTERVAL {
            store.sync()?;
            synced = Instant::now();
        }
    }
    let log: u64 = store.stats().log_segments.iter().map(|segment| segment.bytes).sum();
    eprintln!("{made} files, {} MiB of memtables, {} MiB of log", in_memory(&store) >> 20, log >> 20);
    kill_process(getpid(), Signal::KILL)?;
    Err("still alive".into())
}

/// Bytes of memtables.
fn in_memory(store: &Store) -> usize {
    let of_volume = |volume: &lsmfs::lsm::stats::VolumeStats| {
        volume.memtable_bytes + volume.immutable_bytes.iter().sum::<usize>()
    };
    store.stats().volumes.iter().map(of_volume).sum()
}
