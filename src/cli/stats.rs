//! `lsmfs stats`.

use crate::cli::error::{CliError, Result};
use crate::cli::print::escape;
use crate::cli::store::{self, OpenStore, VolumeArg};
use crate::fs::figures;
use crate::lsm::stats::StoreStats;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Show a store's figures: volumes, files, levels, tables with their key ranges, log, space
///
/// Keys are shown as their kind and inode number, then a name or a chunk's number: e 1 "notes" is the
/// entry of notes in the root directory (inode 1), d 7 0 the first chunk of the contents of inode 7.
/// Counts and latencies are since the store was opened, which here is just now; those of a mounted
/// store are in the files .lsmfs/stats and .lsmfs/stats.json of the mount. The store must not be
/// mounted.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// Print JSON: for the fields see the README
    #[arg(long)]
    json: bool,
}

/// The figures as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// The store's directory, escaped.
    store: &'a str,
    /// Regular files.
    files: u64,
    /// Directories, without the root.
    directories: u64,
    /// Other files: symbolic links, devices …
    others: u64,
    #[serde(flatten)]
    stats: &'a StoreStats,
}

/// Prints a store's figures.
pub fn run(args: &StatsArgs) -> Result<()> {
    OpenStore::open(store::lock(&args.store)?, &args.volume)?.finish_after(|store| {
        let text = if args.json { json(store)? } else { text(store)? };
        io::stdout().write_all(text.as_bytes()).map_err(|e| CliError::system("write to standard output", e))
    })
}

fn text(store: &OpenStore) -> Result<String> {
    let path = escape(store.path().as_os_str().as_encoded_bytes());
    let figures = figures::text(&store.engine().stats());
    let (files, directories, others) = store.tree().count()?;
    Ok(format!("store {path}\n{figures}  files {files}, directories {directories}, others {others}\n"))
}

fn json(store: &OpenStore) -> Result<String> {
    let path = escape(store.path().as_os_str().as_encoded_bytes());
    let stats = store.engine().stats();
    let (files, directories, others) = store.tree().count()?;
    Ok(figures::json(&Report { store: &path, files, directories, others, stats: &stats }))
}
