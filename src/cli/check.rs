//! `lsmfs check`.

use crate::cli::error::{CliError, Result};
use crate::cli::print::escape;
use crate::cli::store;
use crate::disk::Disk;
use crate::disk::real::RealDisk;
use crate::fs::check::Report;
use crate::fs::host::volumes_and_snapshots;
use crate::fs::{self, engine_options, readable_key};
use crate::lsm::check::{self, Checked, Problem, Watch};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;

/// Look for damage in a store: every checksum, and whether everything fits together
///
/// First the files of the store: manifest, tables, blob files, log. Then, if they are sound, what is in them:
/// the tree of directories, link counts, contents, attributes. Says what is wrong and where, a line each.
/// Changes nothing. The store must not be mounted. Exit status: 0 if all is sound, 1 if not; lsmfs repair
/// then brings back what can be read.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The store's directory
    store: PathBuf,
}

/// Checks a store.
pub fn run(args: &CheckArgs) -> Result<()> {
    let disk: Arc<RealDisk> = Arc::new(store::lock(&args.store)?);
    let (checked, problems) = check(&disk, true)?;
    println!("{checked}");
    match problems {
        0 => {
            println!("sound");
            Ok(())
        }
        _ => {
            println!("{problems} problems; lsmfs repair brings back what can be read");
            Err(CliError::Told(1))
        }
    }
}

/// Checks the store's files, then what is in them. What was looked at, in words, and the number of problems,
/// which are printed as they are found if `tell`.
pub fn check(disk: &Arc<RealDisk>, tell: bool) -> Result<(String, u64)> {
    let failed = |error| CliError::engine(disk.path(), error);
    let locked: Arc<dyn Disk> = disk.clone();
    let mut watch = Shown::new(tell);
    let checked = check::check(&locked, &mut watch).map_err(failed)?;
    watch.bar.finish_and_clear();
    let Checked { tables, records, blob_values, mut problems } = checked;
    let mut words = format!("{tables} tables, {records} records, {blob_values} values in blob files");
    if problems > 0 {
        words += "; the files in them were not looked at";
        return Ok((words, problems));
    }
    let opened = check::open_to_look(locked, engine_options()).map_err(failed)?;
    for (name, volume) in volumes_and_snapshots(&opened).map_err(failed)? {
        let name = escape(name.as_bytes());
        let bar = spinner();
        let Report { files, directories, orphans, findings, more } =
            fs::check::check(&volume, &mut || bar.inc(1))?;
        bar.finish_and_clear();
        problems += findings.len() as u64 + more;
        if tell {
            findings.iter().for_each(|finding| println!("{name}: {finding}"));
        }
        words += &format!("; {name}: {files} files, {directories} directories");
        if orphans > 0 {
            words += &format!(", {orphans} removed files whose room the next mount gives back");
        }
    }
    Ok((words, problems))
}

/// A problem in one line.
pub fn problem_line(problem: &Problem) -> String {
    let mut line = escape(problem.error.to_string().as_bytes());
    if let Some((from, to)) = &problem.keys {
        line += &match to {
            Some(to) if to == from => format!(" (key {})", escape(readable_key(from).as_bytes())),
            to => {
                let to = to.as_ref().map_or("the end".to_string(), |to| readable_key(to));
                format!(" (keys {} to {})", escape(readable_key(from).as_bytes()), escape(to.as_bytes()))
            }
        };
    }
    line
}

/// Shows how a check goes: a bar on a terminal, and a line for each problem.
struct Shown {
    bar: ProgressBar,
    tell: bool,
}

impl Shown {
    fn new(tell: bool) -> Shown {
        Shown { bar: ProgressBar::no_length(), tell }
    }
}

impl Watch for Shown {
    fn total(&mut self, bytes: u64) {
        self.bar.set_length(bytes);
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    fn read(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn problem(&mut self, problem: Problem) {
        if self.tell {
            self.bar.suspend(|| println!("{}", problem_line(&problem)));
        }
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} records");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
