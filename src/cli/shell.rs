//! `lsmfs shell`: looking into a store, and into the engine below it, command by command.
//!
//! At a terminal there is a prompt with line editing and a history, and changes are confirmed. From
//! a pipe or a file come plain lines: only what was asked for is printed, and errors name their line. After an
//! error the session goes on.

pub(super) mod command;
mod input;
mod records;

use crate::cli::error::{CliError, Result};
use crate::cli::print::{Escaper, output, written};
use crate::cli::request::files::{print_directory, print_range};
use crate::cli::store::{self, OpenStore, VolumeArg, compaction_parser};
use crate::fs::Files;
use crate::fs::figures::{self, size, time};
use crate::fs::tree::{Tree, TreePath};
use crate::lsm::options::CompactionMode;
use clap::Args;
use command::Command;
use input::Input;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Look into a store and into its engine, command by command
///
/// Paths and values are those of get and put: what is put here is a file in a later mount. At a terminal
/// there is a prompt; from a pipe, commands are read line by line, errors name their line, and the exit
/// status is 1 if there was one. The store is made if it is missing. It must not be mounted.
#[derive(Debug, Args)]
#[command(after_help = command::HELP)]
pub struct ShellArgs {
    /// The store's directory; made if it is missing
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// How tables are merged: into levels (default), into few large runs, or not at all
    #[arg(long, value_name = "MODE", value_parser = compaction_parser())]
    compaction: Option<CompactionMode>,
}

/// Runs a session.
pub fn run(args: &ShellArgs) -> Result<()> {
    let options = store::options(args.compaction);
    OpenStore::open_with(store::lock_or_create(&args.store)?, options)?.finish_after(|store| {
        let (input, files) = (Input::open()?, store.files(&args.volume.name())?);
        Session { store, files, is_terminal: input.is_terminal() }.run(input)
    })
}

/// What comes after a command.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

struct Session<'a> {
    store: &'a OpenStore,
    files: Files,
    is_terminal: bool,
}

impl Session<'_> {
    fn run(&self, mut input: Input) -> Result<()> {
        let mut failed = false;
        let mut number = 0;
        while let Some(line) = input.next_line()? {
            number += 1;
            match self.obey(&line) {
                Ok(Next::Go) => (),
                Ok(Next::Quit) => break,
                Err(error) if error.is_broken_pipe() => return Err(error),
                Err(error) => {
                    failed = true;
                    self.complain(number, &error);
                }
            }
        }
        // Who sits at a terminal has seen what went wrong.
        if failed && !self.is_terminal { Err(CliError::Told(1)) } else { Ok(()) }
    }

    fn complain(&self, number: u64, error: &CliError) {
        match self.is_terminal {
            true => error.say(),
            false => CliError::Refused(format!("line {number}: {error}")).say(),
        }
    }

    fn obey(&self, line: &[u8]) -> Result<Next> {
        let Some(command) = Command::parse(line)? else { return Ok(Next::Go) };
        if command == Command::Quit {
            return Ok(Next::Quit);
        }
        let mut out = output();
        self.execute(command, &mut out)?;
        written(out.flush())?;
        Ok(Next::Go)
    }

    fn execute(&self, command: Command, out: &mut impl Write) -> Result<()> {
        let tree = self.tree();
        let engine = self.store.engine();
        match command {
            Command::Fill { from, to } => self.fill(from, to, out)?,
            Command::Put { path, value } => self.put(&path, &value)?,
            Command::Get { path } => {
                let mut value = Escaper::new(&mut *out);
                tree.read(&path, |piece| written(value.write_all(piece)))?;
                written(value.finish().and_then(|()| out.write_all(b"\n")))?;
            }
            Command::Del { path } => tree.remove(&path, false)?,
            Command::Scan { from, to } => print_range(&tree, from.as_ref(), to.as_ref(), true, out)?,
            Command::Ls { path } => print_directory(&tree, &path, false, out)?,
            Command::Flush => {
                engine.flush().map_err(|error| self.engine_error(error))?;
                self.confirm(out, &self.levels())?;
            }
            Command::Compact => {
                engine.compact().map_err(|error| self.engine_error(error))?;
                self.confirm(out, &self.levels())?;
            }
            Command::Dump { keys: false } => print(out, &figures::structure(&engine.stats()))?,
            Command::Dump { keys: true } => records::print(self.store, &self.files, out)?,
            Command::Stats { json: false } => print(out, &figures::text(&engine.stats()))?,
            Command::Stats { json: true } => print(out, &figures::json(&engine.stats()))?,
            Command::Help => print(out, command::HELP)?,
            Command::Quit => (),
        }
        Ok(())
    }

    fn tree(&self) -> Tree<'_> {
        Tree::new(&self.files)
    }

    /// Puts the values of a range of numbers.
    fn fill(&self, from: u64, to: u64, out: &mut impl Write) -> Result<()> {
        let started = Instant::now();
        for number in from..=to {
            let path = TreePath::parse(number.to_string().as_bytes())?;
            self.put(&path, format!("value{number}").as_bytes())?;
        }
        let took = time(started.elapsed().as_nanos() as u64);
        self.confirm(out, &format!("{} values in {took}", u128::from(to - from) + 1))
    }

    fn put(&self, path: &TreePath, mut value: &[u8]) -> Result<()> {
        self.tree().write(path, |piece| {
            let (now, later) = value.split_at(value.len().min(piece.len()));
            piece[..now.len()].copy_from_slice(now);
            value = later;
            Ok::<_, CliError>(now.len())
        })
    }

    /// The levels that hold tables, in a line.
    fn levels(&self) -> String {
        let stats = self.store.engine().stats();
        let levels = stats.volumes.iter().flat_map(|volume| volume.levels.iter().enumerate());
        let filled = levels.filter(|(_, tables)| !tables.is_empty()).map(|(level, tables)| {
            let bytes = tables.iter().map(|table| table.bytes).sum();
            format!("level {level}: {} tables, {}", tables.len(), size(bytes))
        });
        let filled: Vec<String> = filled.collect();
        if filled.is_empty() { "no tables".to_string() } else { filled.join("; ") }
    }

    /// Tells whoever sits at the terminal what was done.
    fn confirm(&self, out: &mut impl Write, words: &str) -> Result<()> {
        if self.is_terminal { written(writeln!(out, "{words}")) } else { Ok(()) }
    }

    fn engine_error(&self, error: crate::lsm::Error) -> CliError {
        CliError::engine(self.store.path(), error)
    }
}

fn print(out: &mut impl Write, text: &str) -> Result<()> {
    written(out.write_all(text.as_bytes()))
}
