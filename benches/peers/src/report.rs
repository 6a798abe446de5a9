//! The table, and the same as JSON.
//!
//! A line's figure is the median of its rounds. Its ratio is lsmfs's against the faster peer's *of the
//! same round*, and of these the median: what else the machine did in a round met all engines.

use crate::engine::EngineKind;
use crate::plan::{Cache, Line, Task};
use crate::work::Outcome;
use crate::{Options, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

/// A line and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    name: String,
    line: Line,
    /// By engine, a round after the other.
    outcomes: BTreeMap<&'static str, Vec<Outcome>>,
}

/// Least, median, most.
type Spread = [f64; 3];

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (first, last) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    };
    Some([first, median, last])
}

impl Measured {
    /// Nothing yet.
    pub fn new(line: Line) -> Measured {
        Measured { name: line.name(), line, outcomes: BTreeMap::new() }
    }

    /// Adds a round of one engine.
    pub fn add(&mut self, engine: EngineKind, outcome: Outcome) {
        self.outcomes.entry(engine.name()).or_default().push(outcome);
    }

    fn spread(&self, engine: EngineKind, figure: impl Fn(&Outcome) -> f64) -> Option<Spread> {
        spread(self.outcomes.get(engine.name())?.iter().map(figure).collect())
    }

    /// lsmfs's rate by that of the faster peer, round by round.
    fn ratios(&self, rate: Rate) -> Vec<f64> {
        let rates = |engine: EngineKind| self.outcomes.get(engine.name()).map_or(&[][..], Vec::as_slice);
        let peers = [rates(EngineKind::Rocksdb), rates(EngineKind::Fjall)];
        let faster = |round: usize| peers.iter().filter_map(|p| p.get(round).map(rate)).reduce(f64::max);
        let ours = rates(EngineKind::Lsmfs).iter().enumerate();
        ours.filter_map(|(round, outcome)| Some(rate(outcome) / faster(round)?)).collect()
    }
}

/// What is compared: more is better.
type Rate = fn(&Outcome) -> f64;

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    scale: f64,
    rounds: usize,
    blobs: bool,
    /// Were the checksums' instructions compiled in?
    sse42: bool,
    processors: usize,
    /// The machine's load when the run ended: other work than this makes the figures doubtful.
    load: String,
    engines: Vec<EngineKind>,
    lines: Vec<Measured>,
}

impl Report {
    /// Puts the figures together.
    pub fn new(options: &Options, rounds: usize, lines: Vec<Measured>) -> Report {
        Report {
            scale: options.scale,
            rounds,
            blobs: !options.no_blobs,
            sse42: cfg!(target_feature = "sse4.2"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            load: std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_string(),
            engines: options.engines.clone(),
            lines,
        }
    }

    /// Everything, round by round.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn write_rates(&self, f: &mut Formatter<'_>, title: &str, rate: Rate) -> std::fmt::Result {
        write!(f, "\n{title:<46}")?;
        self.engines.iter().try_for_each(|engine| write!(f, "{:>24}", engine.name()))?;
        writeln!(f, "{:>22}", "lsmfs / better peer")?;
        let mut medians = Vec::new();
        for measured in &self.lines {
            write!(f, "{:<46}", measured.name)?;
            for engine in &self.engines {
                let thousands = measured.spread(*engine, |outcome| rate(outcome) / 1e3);
                write!(f, "{:>24}", thousands.map_or_else(|| "-".to_string(), spread_text))?;
            }
            let ratio = spread(measured.ratios(rate));
            medians.extend(ratio.map(|[_, median, _]| median));
            writeln!(f, "{:>22}", ratio.map_or_else(|| "-".to_string(), spread_text))?;
        }
        let at_least = |limit: f64| medians.iter().filter(|ratio| **ratio >= limit).count();
        let (ahead, well_ahead) = (at_least(1.0), at_least(1.2));
        writeln!(f, "lines: {}; at 1.0 or more: {ahead}; at 1.2 or more: {well_ahead}", medians.len())
    }

    /// Bytes that the engine moved, or keeps, for each byte that the user did; memory and pauses.
    fn write_costs(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{:<70}", "costs, medians")?;
        self.engines.iter().try_for_each(|engine| write!(f, "{:>12}", engine.name()))?;
        writeln!(f)?;
        for measured in &self.lines {
            for (name, figure) in figures(&measured.line) {
                write!(f, "{:<70}", format!("{}: {name}", measured.name))?;
                for engine in &self.engines {
                    let median = measured.spread(*engine, figure).map(|[_, median, _]| number(median));
                    write!(f, "{:>12}", median.unwrap_or_else(|| "-".to_string()))?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

type Figure = (&'static str, fn(&Outcome) -> f64);

/// What else is worth knowing of a line.
fn figures(line: &Line) -> Vec<Figure> {
    let write: Figure = ("write amplification", |o| o.written_bytes as f64 / o.user_bytes as f64);
    let read: Figure = ("read amplification", |o| o.read_bytes as f64 / o.user_bytes as f64);
    let space: Figure = ("space at rest", |o| o.disk_bytes as f64 / o.live_bytes as f64);
    let pause: Figure = ("longest pause, ms", |o| o.longest_pause * 1e3);
    let calm: Figure = ("seconds until calm", |o| o.calm_seconds);
    let memory: Figure = ("peak memory, MiB", |o| o.peak_memory as f64 / f64::from(1 << 20));
    if line.threads > 1 {
        return Vec::new();
    }
    match (line.task, line.cache) {
        (Task::FillInOrder | Task::FillRandom | Task::Overwrite, _) => {
            vec![write, space, pause, calm, memory]
        }
        (Task::Delete, _) => vec![write, space, pause],
        (Task::GetPresent, Cache::Scarce) => vec![read, memory],
        (Task::GetAbsent | Task::ScanShort | Task::ScanAll, Cache::Scarce) => vec![read],
        _ => Vec::new(),
    }
}

fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.01.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn spread_text([least, median, most]: Spread) -> String {
    format!("{} ({}–{})", number(median), number(least), number(most))
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (scale, rounds, processors) = (self.scale, self.rounds, self.processors);
        writeln!(
            f,
            "scale {scale}, {rounds} rounds, {processors} processors, load at the end {}",
            self.load
        )?;
        if !self.sse42 {
            writeln!(f, "built without SSE 4.2: RocksDB's checksums are slow (see .cargo/config.toml)")?;
        }
        writeln!(f, "median (least–most)")?;
        self.write_rates(f, "thousand operations a second", Outcome::rate)?;
        self.write_rates(f, "… a second of processor time", Outcome::processor_rate)?;
        self.write_costs(f)
    }
}
