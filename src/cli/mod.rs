//! The command line: one file a command. Each parses, calls the floors below and prints.
//!
//! Exit status: 0 success, 1 failure (one line on standard error says what failed, on what, and
//! what to do), 2 wrong usage.

mod access;
mod background;
mod batch;
mod check;
pub mod control;
mod daemon;
mod diff;
mod engine;
mod error;
mod export;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod import;
mod kv;
mod log;
mod memory;
mod mount;
mod print;
mod quantity;
mod quota;
mod repair;
pub mod request;
mod shell;
mod stats;
mod store;
mod umount;
mod volume;
mod words;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A key-value store that is a directory: a path is a key, a file's contents are its value.
///
/// A store is a directory that lsmfs keeps its own files in. Mount it on another directory and
/// work there with the programs you have; get, put, rm, ls and scan work on it too, mounted or not.
#[derive(Debug, Parser)]
#[command(name = "lsmfs", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it:
  lsmfs mount ./notes.store ./notes    makes both directories, then mounts
  echo hello > ./notes/first           any program works in ./notes
  lsmfs umount ./notes
  lsmfs get ./notes.store first        prints: hello

Exit status: 0 success, 1 failure, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Get(kv::GetArgs),
    Put(kv::PutArgs),
    Rm(kv::RmArgs),
    Ls(kv::LsArgs),
    Scan(kv::ScanArgs),
    Batch(batch::BatchArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Volume(volume::VolumeArgs),
    Fork(volume::ForkArgs),
    Snapshot(volume::SnapshotArgs),
    Restore(volume::RestoreArgs),
    Diff(diff::DiffArgs),
    Quota(quota::QuotaArgs),
    Stats(stats::StatsArgs),
    Flush(engine::FlushArgs),
    Compact(engine::CompactArgs),
    Check(check::CheckArgs),
    Repair(repair::RepairArgs),
    Shell(shell::ShellArgs),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Mount(args) => mount::run(&args),
        Command::Umount(args) => umount::run(&args),
        Command::Get(args) => kv::get(&args),
        Command::Put(args) => kv::put(&args),
        Command::Rm(args) => kv::rm(&args),
        Command::Ls(args) => kv::ls(&args),
        Command::Scan(args) => kv::scan(&args),
        Command::Batch(args) => batch::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Volume(args) => volume::volume(&args),
        Command::Fork(args) => volume::fork(&args),
        Command::Snapshot(args) => volume::snapshot(&args),
        Command::Restore(args) => volume::restore(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Quota(args) => quota::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Flush(args) => engine::flush(&args),
        Command::Compact(args) => engine::compact(&args),
        Command::Check(args) => check::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Shell(args) => shell::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }
}
