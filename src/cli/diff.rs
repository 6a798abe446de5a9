//! `lsmfs diff`.

use crate::cli::access;
use crate::cli::error::Result;
use crate::cli::request::Request;
use clap::Args;
use std::path::PathBuf;

/// List the paths that differ between two volumes or snapshots
///
/// A line is A and a path that only the second has, D and one that only the first has, or M and one that is not
/// the same in both: its kind, permissions, owner, contents or extended attributes, or the time of its last change.
/// (The times of a directory do not count, nor do numbers of links.) What is below a directory that was renamed is
/// listed under both names. Lines are in the order of paths, as scan prints them. Of what the two share nothing is
/// read.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// The store's directory
    store: PathBuf,
    /// The one, or VOLUME@SNAPSHOT
    from: String,
    /// The other
    to: String,
}

/// Prints what differs.
pub fn run(args: &DiffArgs) -> Result<()> {
    let DiffArgs { store, from, to } = args.clone();
    access::run(&store, &Request::Diff { from, to })
}
