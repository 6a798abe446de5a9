//! `lsmfs import`: whole trees of files at once.

use crate::cli::access;
use crate::cli::error::{CliError, Result};
use crate::cli::request::Request;
use crate::cli::store::VolumeArg;
use crate::fs::archive::unpacked;
use crate::fs::pack::{PackError, Packed, pack};
use crate::fs::tree::TreePath;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, PipeReader, PipeWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// What the packing thread writes at once.
const BUFFER: usize = 256 << 10;

/// Load a directory, or a tar archive, as a whole
///
/// The files become sorted tables directly, which is several times as fast as copying them into a mount, and appear
/// all at once: after a failure or a crash there are none. Modes, owners (if root imports), times, links, extended
/// attributes, access control lists, devices and holes come along. A name that exists in the target directory already
/// is refused. When this returns, everything is on the disk.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The store's directory; made if it is missing
    store: PathBuf,
    /// A directory, whose contents are taken; or a tar archive, plain or compressed with gzip or zstd; - is an
    /// archive from standard input
    source: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The directory in the store to import into; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    at: OsString,
}

/// Imports.
pub fn run(args: &ImportArgs) -> Result<()> {
    let at = TreePath::parse(args.at.as_bytes())?;
    let request = Request::Import { volume: args.volume.name(), at };
    let failed = |error| CliError::system(args.source.display().to_string(), error);
    let bar = ProgressBar::no_length();
    if args.source.as_os_str() == "-" {
        let input = Watched { input: io::stdin(), bar: &bar };
        return feed(args, &request, input, &bar);
    }
    let file = File::open(&args.source).map_err(failed)?;
    let stat = file.metadata().map_err(failed)?;
    if !stat.is_dir() {
        bar.set_length(stat.len());
        return feed(args, &request, Watched { input: file, bar: &bar }, &bar);
    }
    let packing = Packing::start(&args.source).map_err(failed)?;
    show(&bar);
    let mut input = Watched { input: packing, bar: &bar };
    let done = access::run_fed(&args.store, &request, &mut input);
    bar.finish_and_clear();
    match input.input.end() {
        // It was not read to its end, for whatever the import says.
        Err(_) if done.is_err() => done,
        Err(error) => Err(error),
        Ok(packed) => done.inspect(|()| packed.iter().for_each(say_sockets)),
    }
}

/// Imports an archive.
fn feed(args: &ImportArgs, request: &Request, input: impl Read + Send, bar: &ProgressBar) -> Result<()> {
    let failed = |error| CliError::Refused(format!("{}: {error}", args.source.display()));
    let mut input = unpacked(input).map_err(failed)?;
    show(bar);
    let done = access::run_fed(&args.store, request, &mut input);
    bar.finish_and_clear();
    done
}

fn say_sockets(packed: &Packed) {
    if packed.sockets > 0 {
        eprintln!("lsmfs: {} sockets were left out", packed.sockets);
    }
}

/// Shows how far the import is; where nobody looks, nothing.
fn show(bar: &ProgressBar) {
    let template = match bar.length() {
        Some(_) => "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}",
        None => "{spinner} {bytes}, {bytes_per_sec}",
    };
    bar.set_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
}

/// Counts what passes through.
struct Watched<'a, R> {
    input: R,
    bar: &'a ProgressBar,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buf)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

/// A directory that is packed by a thread of its own.
struct Packing {
    archive: PipeReader,
    thread: Option<JoinHandle<std::result::Result<Packed, PackError>>>,
    /// What the thread came to, once it is known.
    ended: Option<std::result::Result<Packed, String>>,
}

impl Packing {
    fn start(dir: &Path) -> io::Result<Packing> {
        // A directory of each level is open. Should more not be allowed, what there is may do.
        let files = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
        let (archive, out) = io::pipe()?;
        let dir = dir.to_path_buf();
        let run = move || pack(&dir, BufWriter::with_capacity(BUFFER, out as PipeWriter));
        let thread = thread::Builder::new().name("pack".to_string()).spawn(run)?;
        Ok(Packing { archive, thread: Some(thread), ended: None })
    }

    fn join(&mut self) -> std::result::Result<Option<Packed>, String> {
        if let Some(thread) = self.thread.take() {
            let done = thread.join().map_err(|_| "the packing thread panicked".to_string());
            self.ended = Some(done.and_then(|done| done.map_err(|error| error.to_string())));
        }
        self.ended.clone().transpose()
    }

    /// Waits for the thread; what it came to.
    fn end(mut self) -> Result<Option<Packed>> {
        // Should it still write, it fails now.
        self.archive = io::pipe().map_err(|e| CliError::system("make a pipe", e))?.0;
        self.join().map_err(CliError::Refused)
    }
}

impl Read for Packing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.archive.read(buf)? {
            // The end, or the thread failed.
            0 if !buf.is_empty() => self.join().map(|_| 0).map_err(io::Error::other),
            read => Ok(read),
        }
    }
}
