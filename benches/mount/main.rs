//! lsmfs as a mount, at the work that people give a file system, beside what bounds it from either side: the
//! *floor*, a FUSE file system that keeps everything in memory, and the *disk*, the file system that the
//! bench's directory lies on. And beside *peers* (`peer.rs`), if any are named.
//!
//! ```sh
//! cargo bench --bench mount -- [OPTIONS] DIR
//! ```
//!
//! All of them take turns within one run. Everything that is made lies in DIR, which must not exist
//! yet and is removed in the end. The table is printed; with `--out` it is written as JSON and as a chart.
//! `--help` lists the options. Emptying the kernel's caches needs root.

mod beside;
mod chart;
mod client;
mod cold;
mod floor;
mod fsync;
mod full_log;
mod idle;
mod known;
mod large;
mod life;
mod peer;
mod pin;
mod real;
mod recovery;
mod report;
mod requests;
mod small;
mod target;
mod work;

use clap::{Parser, Subcommand};
use peer::Peer;
use report::{Line, Report};
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use target::Target;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures lsmfs as a mount beside a FUSE file system in memory and the disk below
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Where to work: a directory that does not exist yet, on the disk to compare with
    #[arg(required = true)]
    dir: Option<PathBuf>,
    /// Only these groups (small, fsync, cold, space, large, beside, real, life) or lines (any part of their names), separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Files in the small-file lines
    #[arg(long, default_value_t = 100_000)]
    files: usize,
    /// Files in the cold tree, and in the one whose room is measured
    #[arg(long, default_value_t = 500_000)]
    cold_files: usize,
    /// Files in the store that is mounted
    #[arg(long, default_value_t = 10_000_000)]
    many_files: usize,
    /// Files that the kernel gets to know
    #[arg(long, default_value_t = 1_000_000)]
    known_files: usize,
    /// MiB in the large file
    #[arg(long, default_value_t = 1024)]
    large: u64,
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A fiftieth of everything, once: to see whether it works
    #[arg(long)]
    quick: bool,
    /// Measure a peer too, which this script starts and stops (see benches/mount/peer.rs); any number
    #[arg(long, value_name = "SCRIPT")]
    peer: Vec<PathBuf>,
    /// Write mount.json and mount.svg into this directory
    #[arg(long)]
    out: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// The processes that the bench starts.
#[derive(Debug, Subcommand)]
enum Part {
    /// Serves a floor
    #[command(hide = true)]
    ServeFloor(floor::FloorArgs),
    /// Does the small-file work
    #[command(hide = true)]
    Work(work::WorkArgs),
    /// Fills a store's log and dies
    #[command(hide = true)]
    FillLog(full_log::FillLogArgs),
}

/// The groups of lines.
const GROUPS: [&str; 8] = ["small", "fsync", "cold", "space", "large", "beside", "real", "life"];

/// What all lines need to know.
pub struct Bench {
    dir: PathBuf,
    only: Vec<String>,
    files: usize,
    cold_files: usize,
    many_files: usize,
    known_files: usize,
    large_bytes: u64,
    rounds: usize,
    /// In the order of the table's columns.
    targets: Vec<Target>,
    /// How much is done of everything: one of so many parts.
    part: usize,
}

impl Bench {
    /// Is a line wanted? A group's name means the group, other words a part of lines' names.
    fn wants(&self, group: &str, line: &str) -> bool {
        let means = |only: &String| match GROUPS.contains(&only.as_str()) {
            true => only == group,
            false => line.contains(only.as_str()),
        };
        self.only.is_empty() || self.only.iter().any(means)
    }

    /// All targets, another one first each round.
    fn in_turn(&self, round: usize) -> impl Iterator<Item = Target> {
        let all = &self.targets;
        (0..all.len()).map(move |at| all[(at + round) % all.len()])
    }

    /// Does the work that measures a target. A peer may fail at it: that leaves its cells empty.
    fn try_out(&self, target: Target, work: impl FnOnce() -> Result<()>) -> Result<()> {
        match (target, work()) {
            (Target::Peer(peer), Err(e)) => {
                eprintln!("{} failed: {e}", peer.name);
                Ok(())
            }
            (_, done) => done,
        }
    }

    /// The same with no more than is needed to count requests.
    fn counting(&self) -> Bench {
        Bench {
            dir: self.dir.clone(),
            only: self.only.clone(),
            files: self.files.min(requests::FILES_MAX),
            cold_files: self.cold_files.min(requests::FILES_MAX),
            large_bytes: self.large_bytes.min(requests::LARGE_MAX),
            targets: self.targets.clone(),
            ..*self
        }
    }

    /// Directories for so many files.
    fn dirs(&self, files: usize) -> usize {
        (files / 200).clamp(1, 100)
    }

    /// Says what is being done.
    fn say(&self, words: &str) {
        eprintln!("{words} ...");
    }
}

/// This program, to be started anew as one of its parts.
fn own_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn main() -> Result<()> {
    let args = Args::parse();
    match &args.part {
        Some(Part::ServeFloor(args)) => floor::serve(args),
        Some(Part::Work(args)) => work::run(args),
        Some(Part::FillLog(args)) => full_log::run(args),
        None => measure(&args),
    }
}

fn measure(args: &Args) -> Result<()> {
    let dir = args.dir.clone().ok_or("no directory")?;
    let part = if args.quick { 50 } else { 1 };
    let targets = Target::ALWAYS.into_iter().chain(Peer::targets(&args.peer)?).collect();
    // Only what is made here is removed.
    fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let bench = Bench {
        dir: fs::canonicalize(&dir)?,
        only: args.only.clone(),
        files: args.files / part,
        cold_files: args.cold_files / part,
        many_files: args.many_files / part,
        known_files: args.known_files / part,
        large_bytes: (args.large << 20) / part as u64,
        rounds: if args.quick { 1 } else { args.rounds },
        targets,
        part,
    };
    let lines = lines(&bench);
    let removed = fs::remove_dir_all(&dir);
    let report = Report::new(&bench, lines?);
    print!("{report}");
    if let Some(out) = &args.out {
        fs::create_dir_all(out)?;
        fs::write(out.join("mount.json"), serde_json::to_string_pretty(&report)?)?;
        fs::write(out.join("mount.svg"), chart::svg(&report))?;
    }
    // At last: what a peer has left there must not cost the report.
    Ok(removed.map_err(|e| format!("{}: {e}", dir.display()))?)
}

fn lines(bench: &Bench) -> Result<Vec<Line>> {
    let groups =
        [small::run, fsync::run, cold::run_lines, large::run, beside::run, real::run_lines, life::run];
    let mut lines = Vec::new();
    for group in groups {
        lines.extend(group(bench)?);
    }
    Ok(lines)
}
