//! Many inodes that the kernel knows: what they take of the daemon's memory, and how long an unmount takes then.

use crate::life::{add, fill};
use crate::report::{Goal, Line, Unit};
use crate::target::{Place, Target};
use crate::{Bench, Result};
use lsmfs::fs::engine_options;
use std::fs;
use std::path::Path;

/// Files in each directory.
const IN_DIR: usize = 1000;

/// What the daemon may take beside its caches and memtables, in MiB.
const BESIDE: f64 = 200.0;

/// Measures the lines that are wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let (files, options) = (bench.known_files, engine_options());
    let configured = mib(options.cache_size + options.memtable_budget as u64);
    let goal = [Goal::AtMost(configured + BESIDE)];
    let mut all = Line::new(format!("memory, {files} inodes known"), Unit::MIB, &goal);
    let mut beside = Line::new("beside caches and memtables", Unit::MIB, &[Goal::AtMost(BESIDE)]);
    // Nearly all of it is the kernel's own work: it takes apart what it has of each file.
    let mut unmount = Line::new("unmount then", Unit::MILLIS, &[]);
    if !bench.wants("life", &all.name) {
        return Ok(Vec::new());
    }
    bench.say(&format!("making {files} files, to look at each"));
    let place = Place::start(Target::Lsmfs, bench.dir.join("known"), 1)?;
    place.unmount()?;
    fill(&place.store(), files, IN_DIR)?;
    for _ in 0..bench.rounds {
        place.mount_timed()?;
        let found = look(&place.dir())?;
        if found < files {
            return Err(format!("{found} files of {files}").into());
        }
        let peak = place.peak_memory()?;
        all.add(Target::Lsmfs, mib(peak));
        beside.add(Target::Lsmfs, mib(peak.saturating_sub(held(&place.stats()?)?)));
        add(&mut unmount, place.unmount()?);
    }
    Ok(vec![all, beside, unmount])
}

/// Asks for every file's attributes; returns how many files there are.
fn look(dir: &Path) -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        found += match entry.metadata()?.is_dir() {
            true => look(&entry.path())?,
            false => 1,
        };
    }
    Ok(found)
}

/// Bytes of the block cache and the memtables.
fn held(stats: &serde_json::Value) -> Result<u64> {
    let number = |value: &serde_json::Value| value.as_u64().ok_or("a figure is missing");
    let mut held = number(&stats["cache"]["bytes"])?;
    for volume in stats["volumes"].as_array().ok_or("no volumes in the figures")? {
        held += number(&volume["memtable_bytes"])?;
        for frozen in volume["immutable_bytes"].as_array().into_iter().flatten() {
            held += number(frozen)?;
        }
    }
    Ok(held)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
