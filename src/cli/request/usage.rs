//! Requests about what volumes hold, and may hold.

use crate::cli::error::Result;
use crate::cli::print::{escape, written};
use crate::cli::request::{Job, Limit};
use crate::fs::figures;
use crate::fs::host::SNAPSHOT_MARK;
use crate::lsm::stats::VolumeUsage;
use crate::lsm::{Error, Quota};
use std::collections::HashMap;

impl Limit {
    fn or(limit: Option<Limit>, before: Option<u64>) -> Option<u64> {
        match limit {
            Some(Limit::AtMost(limit)) => Some(limit),
            Some(Limit::None) => None,
            None => before,
        }
    }
}

/// Sets a volume's limits; what is `None` stays.
pub fn set_quota(job: &Job<'_>, volume: &str, files: Option<Limit>, bytes: Option<Limit>) -> Result<()> {
    let store = job.store.engine();
    let volume = job.engine(store.volume(volume))?;
    let before = volume.quota();
    let quota = Quota { files: Limit::or(files, before.files), bytes: Limit::or(bytes, before.bytes) };
    job.engine(store.set_quota(&volume, quota).and_then(|()| store.sync()))
}

/// Prints what volumes and snapshots hold; with `quotas` what they hold and may hold, without snapshots. With a
/// name only that one.
pub fn show(job: &mut Job<'_>, volume: Option<&str>, quotas: bool, json: bool) -> Result<()> {
    let mut found = by_volume(job.store.engine().usage());
    if let Some(name) = volume {
        found.retain(|usage| full_name(usage) == name);
        if found.is_empty() {
            return job.engine(Err(Error::NoVolume(name.to_string())));
        }
    } else if quotas {
        found.retain(|usage| usage.snapshot_of.is_none());
    }
    let text = match (json, quotas) {
        (true, _) => figures::json(&found),
        (false, true) => table(["NAME", "FILES", "QUOTA", "BYTES", "QUOTA"], &found, quota_row),
        (false, false) => table(["NAME", "FILES", "BYTES", "OWN", "SHARED"], &found, holdings_row),
    };
    written(job.output.write_all(text.as_bytes()))
}

/// Each volume's snapshots behind it.
fn by_volume(usage: Vec<VolumeUsage>) -> Vec<VolumeUsage> {
    let (volumes, snapshots): (Vec<_>, Vec<_>) = usage.into_iter().partition(|v| v.snapshot_of.is_none());
    let mut of: HashMap<String, Vec<VolumeUsage>> = HashMap::new();
    for snapshot in snapshots {
        of.entry(snapshot.snapshot_of.clone().unwrap_or_default()).or_default().push(snapshot);
    }
    let with_snapshots = |volume: VolumeUsage| {
        let snapshots = of.remove(&volume.name).unwrap_or_default();
        std::iter::once(volume).chain(snapshots)
    };
    volumes.into_iter().flat_map(with_snapshots).collect()
}

/// A volume's name, or a volume's and a snapshot's.
fn full_name(usage: &VolumeUsage) -> String {
    match &usage.snapshot_of {
        Some(volume) => format!("{volume}{SNAPSHOT_MARK}{}", usage.name),
        None => usage.name.clone(),
    }
}

fn holdings_row(usage: &VolumeUsage) -> [String; 4] {
    let [files, bytes] = held(usage);
    [files, bytes, figures::size(usage.own_bytes), figures::size(usage.shared_bytes)]
}

fn quota_row(usage: &VolumeUsage) -> [String; 4] {
    let [files, bytes] = held(usage);
    let none = || "none".to_string();
    let most_files = usage.quota_files.map_or_else(none, |files| files.to_string());
    [files, most_files, bytes, usage.quota_bytes.map_or_else(none, figures::size)]
}

/// What was not counted yet has no number.
fn held(usage: &VolumeUsage) -> [String; 2] {
    let unknown = || "-".to_string();
    let files = usage.files.map_or_else(unknown, |files| files.to_string());
    [files, usage.logical_bytes.map_or_else(unknown, figures::size)]
}

/// A line for each volume: the name, then numbers to the right.
fn table(head: [&str; 5], volumes: &[VolumeUsage], numbers: impl Fn(&VolumeUsage) -> [String; 4]) -> String {
    let mut rows = vec![head.map(str::to_string).to_vec()];
    for volume in volumes {
        let name = escape(full_name(volume).as_bytes());
        rows.push(std::iter::once(name).chain(numbers(volume)).collect());
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        text += &format!("{:width$}", row[0], width = widths[0]);
        row.iter().zip(&widths).skip(1).for_each(|(cell, width)| text += &format!("  {cell:>width$}"));
        text.push('\n');
    }
    text
}
