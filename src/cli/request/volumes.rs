//! Requests about volumes and snapshots. When they are answered, what they did is on the disk.

use crate::cli::error::Result;
use crate::cli::print::{escape, written};
use crate::cli::request::Job;
use crate::fs::restore_volume;
use crate::lsm::{self, Store};

/// Does `work` on the engine, and makes it durable.
fn change(job: &Job<'_>, work: impl FnOnce(&Store) -> lsm::Result<()>) -> Result<()> {
    let store = job.store.engine();
    job.engine(work(store).and_then(|()| store.sync()))
}

pub fn create(job: &Job<'_>, name: &str) -> Result<()> {
    change(job, |store| store.create_volume(name).map(drop))
}

pub fn rename(job: &Job<'_>, name: &str, new_name: &str) -> Result<()> {
    change(job, |store| store.rename_volume(name, new_name))
}

pub fn delete(job: &Job<'_>, name: &str) -> Result<()> {
    change(job, |store| store.delete_volume(name))
}

pub fn fork(job: &Job<'_>, from: &str, to: &str) -> Result<()> {
    let from = job.engine(job.store.host().volume(from))?;
    change(job, |store| store.fork(&from, to).map(drop))
}

pub fn create_snapshot(job: &Job<'_>, volume: &str, name: &str) -> Result<()> {
    change(job, |store| store.create_snapshot(&*store.volume(volume)?, name).map(drop))
}

pub fn delete_snapshot(job: &Job<'_>, volume: &str, name: &str) -> Result<()> {
    change(job, |store| store.delete_snapshot(&*store.volume(volume)?, name))
}

pub fn restore(job: &Job<'_>, volume: &str, snapshot: &str) -> Result<()> {
    change(job, |store| restore_volume(store, volume, snapshot).map(drop))
}

/// Prints the names of volumes, and after each those of its snapshots.
pub fn list(job: &mut Job<'_>) -> Result<()> {
    let names = job.engine(volumes_and_snapshots(job.store.engine()))?;
    print(job, &names)
}

fn volumes_and_snapshots(store: &Store) -> lsm::Result<Vec<String>> {
    let mut names = Vec::new();
    for volume in store.volumes()? {
        names.push(volume.name());
        let snapshots = store.snapshots(&volume)?;
        names.extend(snapshots.iter().map(|s| format!("{}@{}", volume.name(), s.name())));
    }
    Ok(names)
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
