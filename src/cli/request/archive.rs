//! Requests that bring whole trees of files in or out.

use crate::cli::error::Result;
use crate::cli::print::written;
use crate::cli::request::Job;
use crate::fs::import::ImportOptions;
use crate::fs::tree::TreePath;

/// Imports the tar archive that is fed, and makes it durable. Owners are kept if root asks.
pub fn import(job: &mut Job<'_>, volume: &str, at: &TreePath) -> Result<()> {
    let files = job.files(volume)?;
    let options = ImportOptions::new(job.caller, job.caller.uid == 0);
    let imported = files.import(&mut *job.input, at, &options)?;
    job.store.sync()?;
    written(writeln!(job.output, "{} files, {} directories", imported.files, imported.directories))
}

/// Prints a tar archive of a directory, or of a file.
pub fn export(job: &mut Job<'_>, volume: &str, path: &TreePath) -> Result<()> {
    let files = job.files(volume)?;
    let exported = files.export(path, &mut *job.output)?;
    if exported.sockets > 0 {
        tracing::warn!("{} sockets were left out of an archive", exported.sockets);
    }
    Ok(())
}
