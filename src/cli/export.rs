//! `lsmfs export`: a tree of files as a tar archive.

use crate::cli::access;
use crate::cli::error::{CliError, Result};
use crate::cli::request::Request;
use crate::cli::store::VolumeArg;
use crate::fs::tree::TreePath;
use clap::Args;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::Builder;

/// Write a tar archive of a volume or snapshot, or a part of it
///
/// The archive shows one moment, even while files are written to. It is of the pax format, which GNU tar reads:
/// owners, times to the nanosecond, hard links, extended attributes, access control lists, devices and holes come
/// along. lsmfs import reads it back.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The archive, which takes the place of an older one once it is whole; - is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The directory in the store whose contents are taken, or a file
    #[arg(long, value_name = "PATH", default_value = "/", hide_default_value = true)]
    at: OsString,
}

/// Exports.
pub fn run(args: &ExportArgs) -> Result<()> {
    let path = TreePath::parse(args.at.as_bytes())?;
    let request = Request::Export { volume: args.volume.name(), path };
    if args.file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            let what = "an archive is not for a terminal: give a file, or pipe it on".to_string();
            return Err(CliError::Refused(what));
        }
        return access::run(&args.store, &request);
    }
    to_file(args, &request)
}

/// Puts the archive in the file's place once it is whole. What is no file, but a pipe or a device, is written to.
fn to_file(args: &ExportArgs, request: &Request) -> Result<()> {
    let failed = |error| CliError::system(args.file.display().to_string(), error);
    // Where links lead, as for a shell's redirection.
    let path = fs::canonicalize(&args.file).unwrap_or_else(|_| args.file.clone());
    let there = fs::metadata(&path).ok();
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        let mut out = File::options().write(true).open(&path).map_err(failed)?;
        return access::run_to(&args.store, request, &mut io::empty(), &mut out);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = there.map_or_else(|| Permissions::from_mode(0o666), |there| there.permissions());
    let unfinished = Builder::new().prefix(".lsmfs-export.").permissions(permissions).tempfile_in(dir);
    let mut unfinished = unfinished.map_err(failed)?;
    access::run_to(&args.store, request, &mut io::empty(), &mut unfinished)?;
    unfinished.as_file().sync_all().map_err(failed)?;
    unfinished.persist(&path).map_err(|error| failed(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
