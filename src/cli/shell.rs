//! `lsmfs shell`: looking into a store, and into the engine below it, command by command.
//!
//! At a terminal there is a prompt with line editing and a history, and changes are confirmed. From
//! a pipe or a file come plain lines: only what was asked for is printed, and errors name their line. After an
//! error the session goes on.
//!
//! Each command is a request, which the daemon executes if the store is mounted.

pub(super) mod command;
mod input;
pub(super) mod records;

use crate::cli::access::{Access, Reach, reach};
use crate::cli::error::{CliError, Result};
use crate::cli::print::{output, written};
use crate::cli::request::Request;
use crate::cli::store::{self, OpenStore, VolumeArg, compaction_parser};
use crate::lsm::options::CompactionMode;
use clap::Args;
use command::Command;
use input::Input;
use std::io::{self, Write};
use std::path::PathBuf;

/// Look into a store and into its engine, command by command
///
/// Paths and values are those of get and put: what is put here is a file in a mount. At a terminal
/// there is a prompt; from a pipe, commands are read line by line, errors name their line, and the exit
/// status is 1 if there was one. The store is made if it is missing.
#[derive(Debug, Args)]
#[command(after_help = command::HELP)]
pub struct ShellArgs {
    /// The store's directory; made if it is missing
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// How tables are merged: into levels (default), into few large runs, or not at all; not for a mounted store
    #[arg(long, value_name = "MODE", value_parser = compaction_parser())]
    compaction: Option<CompactionMode>,
}

/// Runs a session.
pub fn run(args: &ShellArgs) -> Result<()> {
    let access = match (reach(&args.store, true)?, args.compaction) {
        (Reach::Free(disk), mode) => Access::Own(OpenStore::open_with(disk, store::options(mode))?),
        (Reach::Daemon, None) => Access::Daemon(args.store.clone()),
        (Reach::Daemon, Some(_)) => {
            let store = args.store.display();
            let what = format!("{store} is mounted: how its tables are merged is its first mount's to say");
            return Err(CliError::Refused(what));
        }
    };
    access.finish_after(|access| {
        let input = Input::open()?;
        Session { access, volume: args.volume.name(), is_terminal: input.is_terminal() }.run(input)
    })
}

/// What comes after a command.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

struct Session<'a> {
    access: &'a mut Access,
    volume: String,
    is_terminal: bool,
}

impl Session<'_> {
    fn run(mut self, mut input: Input) -> Result<()> {
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
        self.access.run(&Request::Sync, &mut io::empty(), &mut io::sink())?;
        // Who sits at a terminal has seen what went wrong.
        if failed && !self.is_terminal { Err(CliError::Told(1)) } else { Ok(()) }
    }

    fn complain(&self, number: u64, error: &CliError) {
        match self.is_terminal {
            true => error.say(),
            false => CliError::Refused(format!("line {number}: {error}")).say(),
        }
    }

    fn obey(&mut self, line: &[u8]) -> Result<Next> {
        let Some(command) = Command::parse(line)? else { return Ok(Next::Go) };
        let mut out = output();
        match command {
            Command::Quit => return Ok(Next::Quit),
            Command::Help => written(out.write_all(command::HELP.as_bytes()))?,
            command => {
                let request =
                    Request::Shell { volume: self.volume.clone(), command, confirm: self.is_terminal };
                self.access.run(&request, &mut io::empty(), &mut out)?;
            }
        }
        written(out.flush())?;
        Ok(Next::Go)
    }
}
