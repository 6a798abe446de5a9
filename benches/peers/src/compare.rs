//! The main process: runs every line with every engine, several rounds, each in a process of its own.
//!
//! Within a line the engines take turns, and another one begins each time, so that what else the machine
//! does meets all of them. Before each turn what the one before wrote is on the disk.

use crate::engine::EngineKind;
use crate::plan::{Job, Line, Task, lines};
use crate::report::{Measured, Report};
use crate::work::Outcome;
use crate::{Options, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Below this scale one round is enough: it is a smoke run.
const SMOKE_SCALE: f64 = 0.2;

/// Runs what the options choose and prints the report.
pub fn run(options: &Options) -> Result<()> {
    let wanted = |line: &Line| {
        options.only.is_empty() || options.only.iter().any(|part| line.name().contains(part.as_str()))
    };
    let lines: Vec<Line> = lines();
    if options.list {
        lines.iter().filter(|line| wanted(line)).for_each(|line| println!("{}", line.name()));
        return Ok(());
    }
    let planned: Vec<(Line, bool)> = lines
        .iter()
        .filter(|line| wanted(line) || line.task == Task::FillRandom && is_needed(line, &lines, &wanted))
        .map(|line| (*line, wanted(line)))
        .collect();
    if planned.is_empty() {
        return Err("no line has such a name (--list shows them)".into());
    }
    let rounds = options.rounds.unwrap_or(if options.scale < SMOKE_SCALE { 1 } else { 3 }).max(1);
    let stores = Stores::create(options.dir.as_deref())?;
    let bar = ProgressBar::new((planned.len() * rounds * options.engines.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{pos}/{len} [{elapsed} of {duration}] {msg}")?);
    let mut measured: Vec<Measured> = planned.iter().map(|(line, _)| Measured::new(*line)).collect();
    for round in 0..rounds {
        for (n, (line, _)) in planned.iter().enumerate() {
            let mut engines = options.engines.clone();
            engines.rotate_left((round + n) % options.engines.len());
            for engine in engines {
                bar.set_message(format!("round {} · {} · {}", round + 1, line.name(), engine.name()));
                let outcome = run_line(options, &stores, *line, engine)?;
                measured[n].add(engine, outcome);
                bar.inc(1);
            }
            if planned.get(n + 1).is_none_or(|(next, _)| !next.same_group(line)) {
                stores.clear()?;
            }
        }
    }
    bar.finish_and_clear();
    let shown = measured.into_iter().zip(&planned).filter(|(_, (_, wanted))| *wanted).map(|(m, _)| m);
    let report = Report::new(options, rounds, shown.collect());
    print!("{report}");
    if let Some(path) = &options.json {
        fs::write(path, report.to_json()?)?;
    }
    Ok(())
}

/// Does a line that is wanted work on the stores that `fill` leaves?
fn is_needed(fill: &Line, lines: &[Line], wanted: impl Fn(&Line) -> bool) -> bool {
    lines.iter().any(|line| line.same_group(fill) && !line.task.starts_empty() && wanted(line))
}

fn run_line(options: &Options, stores: &Stores, line: Line, engine: EngineKind) -> Result<Outcome> {
    let dir = stores.dir(engine, line.task)?;
    let job = Job::new(engine, line, dir.clone(), options.scale, !options.no_blobs);
    let failed =
        |e: Box<dyn std::error::Error + Send + Sync>| format!("{}: {}: {e}", line.name(), engine.name());
    let outcome = run_process(options, &job).map_err(failed)?;
    if line.task.starts_empty() && line.task != Task::FillRandom {
        fs::remove_dir_all(dir)?;
    }
    stores.sync()?;
    Ok(outcome)
}

/// Starts this program again for one job.
fn run_process(options: &Options, job: &Job) -> Result<Outcome> {
    let program = std::env::current_exe()?;
    let mut words: Vec<String> = Vec::new();
    if let Some(wrap) = &options.wrap {
        let line = job.line.name().replace([' ', ':', ','], "_");
        let filled = wrap.replace("{engine}", job.engine.name()).replace("{line}", &line);
        words.extend(filled.split_whitespace().map(String::from));
    }
    words.push(program.display().to_string());
    words.extend(["work".to_string(), serde_json::to_string(job)?]);
    let output = Command::new(&words[0]).args(&words[1..]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("its process ended with {}", output.status).into());
    }
    let stdout = String::from_utf8(output.stdout)?;
    let last = stdout.lines().rfind(|line| line.starts_with('{')).ok_or("its process said nothing")?;
    Ok(serde_json::from_str(last)?)
}

/// The directory of the engines' stores. Removed at the end.
struct Stores {
    root: PathBuf,
}

impl Stores {
    fn create(parent: Option<&Path>) -> Result<Stores> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let root = parent.join(format!("lsmfs-peers-{}", std::process::id()));
        fs::create_dir_all(&root)?;
        Ok(Stores { root })
    }

    /// The store that a line works on; a line that starts empty finds an empty directory.
    fn dir(&self, engine: EngineKind, task: Task) -> Result<PathBuf> {
        let own = task.starts_empty() && task != Task::FillRandom;
        let name = if own { format!("{}-own", engine.name()) } else { engine.name().to_string() };
        let dir = self.root.join(name);
        if task.starts_empty() && dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    }

    /// Waits until what was written is on the disk, so that nobody pays for another's writing.
    fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.root)?)?)
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.root) {
            eprintln!("peers: {} stays: {e}", self.root.display());
        }
    }
}
