//! A store's beginning and end: how long it takes to mount one of many files, and to unmount it; the same after a
//! kill (`recovery.rs`), and when the kernel knows many of the files (`known.rs`); and what it costs in between, when
//! nobody uses it (`idle.rs`).

use crate::report::{Goal, Line, Unit};
use crate::target::{Place, Target};
use crate::{Bench, Result, idle, known, recovery};
use lsmfs::disk::real::RealDisk;
use lsmfs::fs::attr::{Caller, ROOT};
use lsmfs::fs::{FileSystem, FsOptions, engine_options};
use lsmfs::lsm::Store;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Files in each directory.
const IN_DIR: usize = 10_000;

/// Measures the lines that are wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = many(bench)?;
    lines.extend(recovery::run(bench)?);
    lines.extend(known::run(bench)?);
    lines.extend(idle::run(bench)?);
    Ok(lines.into_iter().filter(|line| line.figure(Target::Lsmfs).is_some()).collect())
}

fn many(bench: &Bench) -> Result<Vec<Line>> {
    let files = bench.many_files;
    let mut mount = line(format!("mount a store of {files} files"), 50.0);
    let mut unmount = line("unmount it", 1000.0);
    if bench.wants("life", &mount.name) {
        bench.say(&format!("making {files} files"));
        let place = Place::start(Target::Lsmfs, bench.dir.join("life"), 1)?;
        place.unmount()?;
        fill(&place.store(), files, IN_DIR)?;
        for _ in 0..bench.rounds {
            add(&mut mount, place.mount_timed()?);
            add(&mut unmount, place.unmount()?);
        }
    }
    Ok(vec![mount, unmount])
}

/// A line of times, of so many milliseconds at most.
pub fn line(name: impl Into<String>, most: f64) -> Line {
    Line::new(name, Unit::MILLIS, &[Goal::AtMost(most)])
}

/// Adds a time to a line.
pub fn add(line: &mut Line, time: Duration) {
    line.add(Target::Lsmfs, time.as_secs_f64() * 1e3);
}

/// Makes empty files in a store, without a mount, `in_dir` in each directory.
pub fn fill(store: &Path, files: usize, in_dir: usize) -> Result<()> {
    let disk = Arc::new(RealDisk::open_or_create(store, Duration::ZERO)?);
    let store = Arc::new(Store::open(disk, engine_options())?);
    let fs = FileSystem::open(store.clone(), "main", FsOptions::default())?;
    let caller = Caller::new(0, 0);
    for dir in 0..files.div_ceil(in_dir) {
        let made = fs.mkdir(ROOT, format!("d{dir:06}").as_bytes(), 0o755, caller)?;
        for file in dir * in_dir..files.min((dir + 1) * in_dir) {
            let attr = fs.create(made.ino, format!("file-{file:08}").as_bytes(), 0o644, caller)?;
            fs.forget(attr.ino, 1);
        }
        fs.forget(made.ino, 1);
    }
    fs.close()?;
    Ok(store.close()?)
}
