//! The daemon in the background.
//!
//! `lsmfs mount` starts itself once more, as the daemon, and waits. Nothing is forked that already
//! has threads. The two talk through what a process has anyway:
//!
//! - The daemon's standard output is a pipe to the one that waits: a byte on it means that the
//!   mount answers, its end without one that the daemon failed.
//! - Its standard error is the user's until then, so it prints its own error, and the one that
//!   waits passes on its exit status. Afterwards it is the store's log.

use crate::cli::error::{CliError, Result};
use crate::cli::mount::MountArgs;
use rustix::stdio::{dup2_stderr, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

/// Starts the daemon and waits until its mount answers.
pub fn start(args: &MountArgs) -> Result<()> {
    let failed = |error| CliError::system("start the daemon", error);
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["mount", "--daemon"]);
    for list in &args.options {
        command.arg("-o").arg(list);
    }
    if let Some(mode) = args.compaction {
        command.args(["--compaction", mode.name()]);
    }
    if let Some(volume) = &args.volume {
        command.args(["--volume", volume]);
    }
    if args.all {
        command.arg("--all");
    }
    if args.verbose {
        command.arg("--verbose");
    }
    // The daemon works in another directory.
    let absolute = |path| std::path::absolute(path).map_err(failed);
    command.arg("--").arg(absolute(&args.store)?).arg(absolute(&args.dir)?);
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut ready = Vec::new();
    if let Some(mut pipe) = daemon.stdout.take() {
        // The daemon closes its end when it has reported.
        pipe.read_to_end(&mut ready).map_err(failed)?;
    }
    if !ready.is_empty() {
        return Ok(());
    }
    let status = daemon.wait().map_err(failed)?;
    match status.code().map(u8::try_from) {
        Some(Ok(code @ 1..)) => Err(CliError::Told(code)),
        _ => Err(CliError::Refused(format!("the daemon ended before the mount answered ({status})"))),
    }
}

/// In the daemon: leaves the terminal's session, so that neither its end nor a Ctrl-C there
/// reaches us, and the directory it was started in, so that this can be unmounted.
pub fn detach() -> Result<()> {
    rustix::process::setsid().map_err(|error| CliError::system("leave the terminal", error))?;
    std::env::set_current_dir("/").map_err(|error| CliError::system("change to /", error))
}

/// In the daemon: lets the one that waits go.
pub fn report_ready() -> io::Result<()> {
    io::stdout().write_all(b"+")?;
    io::stdout().flush()?;
    Ok(dup2_stdout(null()?)?)
}

/// In the daemon: gives the user's standard error back where there is no log to put in its place.
pub fn silence_stderr() -> io::Result<()> {
    Ok(dup2_stderr(null()?)?)
}

fn null() -> io::Result<File> {
    OpenOptions::new().write(true).open("/dev/null")
}
