//! The commands that ask the engine for its background work at once: flush, compact.

use crate::cli::access;
use crate::cli::error::Result;
use crate::cli::request::Request;
use clap::Args;
use std::path::PathBuf;

/// Write all that is in memory out as tables
#[derive(Debug, Args)]
pub struct FlushArgs {
    /// The store's directory
    store: PathBuf,
}

/// Merge all tables down to the deepest level
///
/// What was overwritten or deleted, and no snapshot or fork holds, gives its room back.
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// The store's directory
    store: PathBuf,
}

/// Flushes.
pub fn flush(args: &FlushArgs) -> Result<()> {
    access::run(&args.store, &Request::Flush)
}

/// Compacts.
pub fn compact(args: &CompactArgs) -> Result<()> {
    access::run(&args.store, &Request::Compact)
}
