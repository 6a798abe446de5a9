//! One large file, by `fio`: written and read in sequence, read and overwritten at random. And how many bytes
//! lsmfs writes to the disk for each that it is given.

use crate::report::{Goal, Line, Unit};
use crate::requests;
use crate::target::{Place, Target, sync};
use crate::{Bench, Result};
use std::path::Path;
use std::process::{Command, Stdio};

const GOAL: [Goal; 1] = [Goal::Times(0.8, Target::Floor)];

/// What fio does with the file.
#[derive(Debug, Clone, Copy)]
struct Job {
    name: &'static str,
    mode: &'static str,
    block_bytes: u64,
    unit: Unit,
    goals: &'static [Goal],
    /// This part of the file's bytes is read or written.
    part: u64,
    /// The name of the line that tells how many bytes were written for each, and its goals.
    amplification: Option<(&'static str, &'static [Goal])>,
}

const JOBS: [Job; 4] = [
    Job {
        name: "large: sequential write",
        mode: "write",
        block_bytes: 1 << 20,
        unit: Unit::MIB_PER_SECOND,
        goals: &GOAL,
        part: 1,
        amplification: Some(("large: written for each byte, sequential", &[Goal::AtMost(1.5)])),
    },
    Job {
        name: "large: sequential read",
        mode: "read",
        block_bytes: 1 << 20,
        unit: Unit::MIB_PER_SECOND,
        goals: &GOAL,
        part: 1,
        amplification: None,
    },
    Job {
        name: "large: random reads of 4 KiB",
        mode: "randread",
        block_bytes: 4096,
        unit: Unit::PER_SECOND,
        goals: &GOAL,
        part: 8,
        amplification: None,
    },
    Job {
        name: "large: random overwrites of 4 KiB",
        mode: "randwrite",
        block_bytes: 4096,
        unit: Unit::PER_SECOND,
        goals: &GOAL,
        part: 8,
        amplification: Some(("large: written for each byte, random", &[])),
    },
];

/// Measures the lines, if they are wanted and there is fio.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    if !JOBS.iter().any(|job| bench.wants("large", job.name)) {
        return Ok(Vec::new());
    }
    if Command::new("fio").arg("--version").stdout(Stdio::null()).status().is_err() {
        bench.say("fio is not installed: leaving out the large file");
        return Ok(Vec::new());
    }
    let mut lines = JOBS.map(|job| Line::new(job.name, job.unit, job.goals));
    let mut amplified =
        JOBS.map(|job| job.amplification.map(|(name, goals)| Line::new(name, Unit::TIMES, goals)));
    for target in requests::targets(false) {
        bench.say(&format!("large, counting requests: {}", target.name()));
        count(&bench.counting(), target, &mut lines)?;
    }
    for round in 0..bench.rounds {
        for target in bench.in_turn(round).filter(|target| *target != Target::Plain) {
            bench.say(&format!("large, round {round}: {}", target.name()));
            bench.try_out(target, || measure(bench, target, &mut lines, &mut amplified))?;
        }
    }
    Ok(lines.into_iter().chain(amplified.into_iter().flatten()).collect())
}

/// Counts the requests, for each block that a job reads or writes.
fn count(bench: &Bench, target: Target, lines: &mut [Line]) -> Result<()> {
    let place = Place::start(target, bench.dir.join("large"), 1)?;
    for (job, line) in JOBS.iter().zip(lines) {
        let blocks = bench.large_bytes / job.part / job.block_bytes;
        requests::count(line, &place, blocks as usize, || fio(job, &place.dir(), bench.large_bytes))?;
    }
    Ok(())
}

fn measure(bench: &Bench, target: Target, lines: &mut [Line], amplified: &mut [Option<Line>]) -> Result<()> {
    sync(&bench.dir)?;
    let place = Place::start(target, bench.dir.join("large"), 1)?;
    for (at, job) in JOBS.iter().enumerate() {
        let before = written(&place, target)?;
        lines[at].add(target, fio(job, &place.dir(), bench.large_bytes)?);
        if let (Some(line), Some(before)) = (&mut amplified[at], before) {
            let after = settled(&place, target)?;
            line.add(target, (after - before) / (bench.large_bytes / job.part) as f64);
        }
    }
    Ok(())
}

/// MiB or operations a second.
fn fio(job: &Job, dir: &Path, bytes: u64) -> Result<f64> {
    let output = Command::new("fio")
        .args(["--name=large", "--ioengine=psync", "--output-format=json"])
        .args([
            "--randrepeat=1",
            "--refill_buffers",
            "--buffer_compress_percentage=50",
            "--buffer_compress_chunk=4k",
        ])
        .arg(format!("--filename={}", dir.join("large").display()))
        .arg(format!("--rw={}", job.mode))
        .arg(format!("--bs={}", job.block_bytes))
        .arg(format!("--size={bytes}"))
        .arg(format!("--io_size={}", bytes / job.part))
        .output()?;
    if !output.status.success() {
        return Err(format!("fio: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let side = &said["jobs"][0][if job.mode.contains("read") { "read" } else { "write" }];
    let figure = match job.unit {
        Unit::PER_SECOND => side["iops"].as_f64(),
        _ => side["bw_bytes"].as_f64().map(|bytes| bytes / f64::from(1 << 20)),
    };
    Ok(figure.ok_or("fio gave no figure")?)
}

/// The bytes that the store has written to the disk.
fn written(place: &Place, target: Target) -> Result<Option<f64>> {
    if target != Target::Lsmfs {
        return Ok(None);
    }
    let stats = place.stats()?;
    let sorts = ["log_bytes", "table_bytes", "blob_bytes", "manifest_bytes"];
    Ok(Some(sorts.iter().filter_map(|sort| stats["disk"][sort].as_f64()).sum()))
}

/// The same when flushes and compactions have calmed down.
fn settled(place: &Place, target: Target) -> Result<f64> {
    let (mut last, mut calm) = (0.0, 0);
    while calm < 10 {
        let now = written(place, target)?.unwrap_or_default();
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(last)
}
