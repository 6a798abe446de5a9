//! `lsmfs export`: a tree of files as a tar archive.

use crate::cli::access::{self};
use crate::cli::error::{CliError, Result};
use crate::cli::request::Request;
use crate::cli::store::VolumeArg;
use crate::fs::tree::TreePath;
use clap::Args;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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
    /// The directory whose contents are taken, or a file
    #[arg(default_value = "/", hide_default_value = true)]
    path: OsString,
    /// The archive; - is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// Exports.
pub fn run(args: &ExportArgs) -> Result<()> {
    let path = TreePath::parse(args.path.as_bytes())?;
    let request = Request::Export { volume: args.volume.name(), path };
    if args.file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            let what = "an archive is not for a terminal: give a file, or pipe it on".to_string();
            return Err(CliError::Refused(what));
        }
        return access::run(&args.store, &request);
    }
    let failed = |error| CliError::system(args.file.display().to_string(), error);
    let mut file = File::create(&args.file).map_err(failed)?;
    let done = access::run_to(&args.store, &request, &mut io::empty(), &mut file);
    let done = done.and_then(|()| file.sync_all().map_err(failed));
    if done.is_err() {
        // A part of an archive is of no use. What keeps it from being removed is no news after the error.
        let _ = fs::remove_file(&args.file);
    }
    done
}
