//! `lsmfs stats`.

use crate::cli::error::{CliError, Result};
use crate::cli::print::{escape, size};
use crate::cli::store::{self, OpenStore};
use crate::fs::readable_key;
use crate::lsm::stats::{TableStats, VolumeStats};
use clap::Args;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Show what a store is made of: volumes, files, levels, tables with their key ranges, log
///
/// Keys are shown as their kind and inode number, then a name or a chunk's number: e 1 "notes" is the
/// entry of notes in the root directory (inode 1), d 7 0 the first chunk of the contents of inode 7.
/// The store must not be mounted.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The store's directory
    store: PathBuf,
}

/// Prints what a store is made of.
pub fn run(args: &StatsArgs) -> Result<()> {
    OpenStore::open(store::lock(&args.store)?)?.finish_after(|store| {
        let text = describe(store)?;
        io::stdout().write_all(text.as_bytes()).map_err(|e| CliError::system("write to standard output", e))
    })
}

fn describe(store: &OpenStore) -> Result<String> {
    let stats = store.engine().stats();
    let mut text = format!("store {}\n", escape(store.path().as_os_str().as_encoded_bytes()));
    let log_bytes = stats.log_segments.iter().map(|segment| segment.bytes).sum();
    line(&mut text, 1, &format!("writes so far {}", stats.last_seq));
    line(&mut text, 1, &format!("log {} in {} segments", size(log_bytes), stats.log_segments.len()));
    for segment in &stats.log_segments {
        line(&mut text, 2, &format!("segment {}  {}", segment.number, size(segment.bytes)));
    }
    for volume in &stats.volumes {
        describe_volume(&mut text, volume);
    }
    let (files, directories, others) = store.tree().count()?;
    line(&mut text, 1, &format!("files {files}, directories {directories}, others {others}"));
    Ok(text)
}

fn describe_volume(text: &mut String, volume: &VolumeStats) {
    line(text, 0, &format!("volume {}", escape(volume.name.as_bytes())));
    let frozen: usize = volume.immutable_bytes.iter().sum();
    let (memtable, frozen) = (size(volume.memtable_bytes as u64), size(frozen as u64));
    line(text, 1, &format!("memtable {memtable}, {} frozen {frozen}", volume.immutable_bytes.len()));
    for (level, tables) in volume.levels.iter().enumerate() {
        let bytes = tables.iter().map(|table| table.bytes).sum();
        line(text, 1, &format!("level {level}: {} tables, {}", tables.len(), size(bytes)));
        for table in tables {
            line(text, 2, &describe_table(table));
        }
    }
}

fn describe_table(table: &TableStats) -> String {
    let TableStats { file, bytes, entries, tombstones, smallest, largest } = table;
    let (smallest, largest) = (readable_key(smallest), readable_key(largest));
    format!(
        "table {file}  {}  {entries} records, {tombstones} tombstones  keys {smallest} to {largest}",
        size(*bytes)
    )
}

fn line(text: &mut String, depth: usize, words: &str) {
    writeln!(text, "{:width$}{words}", "", width = depth * 2).expect("a string takes what is written");
}
