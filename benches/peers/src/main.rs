//! Runs lsmfs's engine, RocksDB and fjall side by side and prints what each does a second.
//!
//! The main process plans the lines ([`plan`]), runs each of them for each engine in a process of its own
//! ([`compare`] starts it, [`work`] is what it does) and puts the outcomes together ([`report`]). So no
//! engine's memory, cache or threads are around while another is measured, and what `/proc` counts for
//! a process is what its engine did.

mod compare;
mod data;
mod engine;
mod engines;
mod plan;
mod report;
mod usage;
mod work;

use crate::engine::EngineKind;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// What any step can fail with: it ends the run.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Compares lsmfs's engine with RocksDB and fjall.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Does one line with one engine; the main process starts it.
    #[command(hide = true)]
    Work {
        /// A [`plan::Job`] as JSON.
        job: String,
    },
}

/// What to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Scales data, caches and times: 1 is the full run, 0.05 a smoke run
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// Times that every line is run with every engine [default: 3, and 1 below a scale of 0.2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Only lines whose name contains this, for example "get present" or "64 KiB"
    #[arg(long)]
    only: Vec<String>,
    /// The engines
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = EngineKind::ALL)]
    engines: Vec<EngineKind>,
    /// Where the stores are put; needs about a gigabyte at scale 1 [default: the temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep large values in the trees, not in blob files
    #[arg(long)]
    no_blobs: bool,
    /// Write everything that was measured to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Run each line under this command, for example "perf record -g -o {engine}.perf";
    /// {engine} and {line} are filled in
    #[arg(long)]
    wrap: Option<String>,
    /// List the lines and end
    #[arg(long)]
    list: bool,
}

fn parse_scale(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(scale) if (0.001..=100.0).contains(&scale) => Ok(scale),
        _ => Err("a number from 0.001 to 100".to_string()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Work { job }) => work::run(&job),
        None => compare::run(&cli.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("peers: {e}");
            ExitCode::FAILURE
        }
    }
}
