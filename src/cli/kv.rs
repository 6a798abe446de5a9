//! The commands that take a path for a key: get, put, rm, ls, scan.

use crate::cli::access::{self, Access};
use crate::cli::error::{CliError, Result};
use crate::cli::request::Request;
use crate::cli::store::VolumeArg;
use crate::fs::tree::TreePath;
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Print the value of a path: the contents of the file
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The file's path in the store, with or without a slash before it; .. is not taken, and
    /// symbolic links are not followed
    path: OsString,
    /// Print the path's version instead: a number that changes with every change of the file
    #[arg(long)]
    version: bool,
}

/// Store a value under a path; makes missing directories, and the store if there is none
///
/// The value is read from standard input, or from FILE, or is TEXT. It replaces the file's contents
/// when it is complete: until then, and after a failure, the old value stays. When this returns, the
/// value is on the disk.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The store's directory; made if it is missing
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The file's path in the store
    path: OsString,
    /// Where the value is read from; - is standard input
    #[arg(default_value = "-", conflicts_with = "value")]
    file: PathBuf,
    /// The value itself
    #[arg(long, value_name = "TEXT")]
    value: Option<OsString>,
}

/// Remove files, or with -r whole directories
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The paths to remove
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Remove directories and all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Say nothing about paths that do not exist
    #[arg(short, long)]
    force: bool,
}

/// List a directory in the store, in byte order
///
/// Directories end in a slash. What would break a line (control characters, backslashes, bytes that
/// are not UTF-8) is escaped: \n, \t, \\, \xff.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The path in the store
    #[arg(default_value = "/", hide_default_value = true)]
    path: OsString,
    /// Show mode, links, owner, group, size and time of change (UTC) too
    #[arg(short)]
    long: bool,
}

/// Print the paths and values of a range of files, in order
///
/// A line is a path, a tab and the value; what would break it (control characters, backslashes, bytes
/// that are not UTF-8) is escaped: \n, \t, \\, \xff. The order is that of the names from the root on,
/// each as bytes: what is in a directory comes where the directory stands, before its next sibling.
/// Only regular files are printed.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The first path of the range; the start if it is left out
    from: Option<OsString>,
    /// The last path of the range: it is included, and so is all below it
    to: Option<OsString>,
    /// Print paths only
    #[arg(long)]
    keys: bool,
}

/// Prints a value.
pub fn get(args: &GetArgs) -> Result<()> {
    let (volume, path) = (args.volume.name(), parse(&args.path)?);
    let request = match args.version {
        true => Request::Version { volume, path },
        false => Request::Get { volume, path },
    };
    access::run(&args.store, &request)
}

/// Stores a value.
pub fn put(args: &PutArgs) -> Result<()> {
    let request = Request::Put { volume: args.volume.name(), path: parse(&args.path)? };
    let mut source: Box<dyn Read> = match &args.value {
        Some(value) => Box::new(io::Cursor::new(value.as_bytes().to_vec())),
        None if args.file.as_os_str() == "-" => Box::new(io::stdin().lock()),
        None => Box::new(open_file(&args.file)?),
    };
    access::run_fed(&args.store, &request, &mut source)
}

fn open_file(path: &PathBuf) -> Result<File> {
    let failed = |error| CliError::system(path.display().to_string(), error);
    let file = File::open(path).map_err(failed)?;
    match file.metadata().map_err(failed)?.is_dir() {
        true => Err(failed(io::ErrorKind::IsADirectory.into())),
        false => Ok(file),
    }
}

/// Removes files.
pub fn rm(args: &RmArgs) -> Result<()> {
    let RmArgs { recursive, force, .. } = *args;
    let request =
        |path| Ok(Request::Remove { volume: args.volume.name(), path: parse(path)?, recursive, force });
    let requests = args.paths.iter().map(request).collect::<Result<Vec<Request>>>()?;
    Access::open(&args.store, false)?.finish_after(|store| {
        let mut done = Ok(());
        for request in &requests {
            if let Err(error) = store.run(request, &mut io::empty(), &mut io::sink()) {
                error.say();
                done = Err(CliError::Told(1));
            }
        }
        store.run(&Request::Sync, &mut io::empty(), &mut io::sink()).and(done)
    })
}

/// Lists a directory, or shows one file.
pub fn ls(args: &LsArgs) -> Result<()> {
    let (volume, path) = (args.volume.name(), parse(&args.path)?);
    access::run(&args.store, &Request::List { volume, path, long: args.long })
}

/// Prints a range of keys.
pub fn scan(args: &ScanArgs) -> Result<()> {
    let from = args.from.as_ref().map(parse).transpose()?;
    let to = args.to.as_ref().map(parse).transpose()?;
    let request = Request::Scan { volume: args.volume.name(), from, to, values: !args.keys };
    access::run(&args.store, &request)
}

fn parse(path: &OsString) -> Result<TreePath> {
    Ok(TreePath::parse(path.as_bytes())?)
}
