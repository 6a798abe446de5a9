//! Requests about volumes and snapshots. When they are answered, what they did is on the disk.

use crate::cli::error::Result;
use crate::cli::print::{escape, written};
use crate::cli::request::Job;
use crate::fs;
use crate::fs::host::volumes_and_snapshots;

/// Makes a change durable.
fn keep<T>(job: &Job<'_>, changed: fs::Result<T>) -> Result<()> {
    changed?;
    job.store.sync()
}

pub fn create(job: &Job<'_>, name: &str) -> Result<()> {
    keep(job, job.store.host().create_volume(name))
}

pub fn rename(job: &Job<'_>, name: &str, new_name: &str) -> Result<()> {
    keep(job, job.store.host().rename_volume(name, new_name))
}

pub fn delete(job: &Job<'_>, name: &str) -> Result<()> {
    keep(job, job.store.host().delete_volume(name))
}

pub fn fork(job: &Job<'_>, from: &str, to: &str) -> Result<()> {
    keep(job, job.store.host().fork(from, to))
}

pub fn create_snapshot(job: &Job<'_>, volume: &str, name: &str) -> Result<()> {
    keep(job, job.store.host().create_snapshot(volume, name))
}

pub fn delete_snapshot(job: &Job<'_>, volume: &str, name: &str) -> Result<()> {
    keep(job, job.store.host().delete_snapshot(volume, name))
}

pub fn restore(job: &Job<'_>, volume: &str, snapshot: &str) -> Result<()> {
    keep(job, job.store.host().restore(volume, snapshot))
}

/// Prints the names of volumes, and after each those of its snapshots.
pub fn list(job: &mut Job<'_>) -> Result<()> {
    let all = job.engine(volumes_and_snapshots(job.store.engine()))?;
    let names: Vec<String> = all.into_iter().map(|(name, _)| name).collect();
    print(job, &names)
}

/// Prints the names of a volume's snapshots.
pub fn list_snapshots(job: &mut Job<'_>, volume: &str) -> Result<()> {
    let store = job.store.engine();
    let snapshots = job.engine(store.volume(volume).and_then(|volume| store.snapshots(&volume)))?;
    let names: Vec<String> = snapshots.iter().map(|snapshot| snapshot.name()).collect();
    print(job, &names)
}

fn print(job: &mut Job<'_>, names: &[String]) -> Result<()> {
    let lines: String = names.iter().map(|name| escape(name.as_bytes()) + "\n").collect();
    written(job.output.write_all(lines.as_bytes()))
}
