//! `lsmfs stats`.

use crate::cli::access;
use crate::cli::error::Result;
use crate::cli::request::Request;
use crate::cli::store::VolumeArg;
use clap::Args;
use std::path::PathBuf;

/// Show a store's figures: volumes, files, levels, tables with their key ranges, log, space
///
/// Keys are shown as their kind and inode number, then a name or a chunk's number: e 1 "notes" is the
/// entry of notes in the root directory (inode 1), d 7 0 the first chunk of the contents of inode 7.
/// Counts and latencies are since the store was opened: by the daemon if it is mounted, else just now.
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

/// Prints a store's figures.
pub fn run(args: &StatsArgs) -> Result<()> {
    access::run(&args.store, &Request::Stats { volume: args.volume.name(), json: args.json })
}
