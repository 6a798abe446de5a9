//! The table, and the same as JSON.
//!
//! A figure is the median of its rounds. A ratio is lsmfs's figure by another's *of the same round*, and of
//! these the median: what else the machine did in a round met all of them. It says how many times as good
//! lsmfs is, whether more is better or less. Who has no figure of every round (a peer that failed) has none.

use crate::Bench;
use crate::target::Target;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

/// What a line's figures count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Unit {
    /// Behind the figure.
    pub name: &'static str,
    /// Or less is.
    pub more_is_better: bool,
}

impl Unit {
    /// Operations, or files, a second.
    pub const PER_SECOND: Unit = Unit { name: "/s", more_is_better: true };
    /// Throughput.
    pub const MIB_PER_SECOND: Unit = Unit { name: "MiB/s", more_is_better: true };
    /// A time.
    pub const SECONDS: Unit = Unit { name: "s", more_is_better: false };
    /// A short time.
    pub const MILLIS: Unit = Unit { name: "ms", more_is_better: false };
    /// Room.
    pub const MIB: Unit = Unit { name: "MiB", more_is_better: false };
    /// A proportion.
    pub const TIMES: Unit = Unit { name: "times", more_is_better: false };
}

/// What a line is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Goal {
    /// So many times as good as another.
    Times(f64, Target),
    /// No more than so many of its unit.
    AtMost(f64),
}

/// A line and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// What is done, and how.
    pub name: String,
    pub unit: Unit,
    pub goals: Vec<Goal>,
    /// A round after the other.
    figures: BTreeMap<Target, Vec<f64>>,
    /// Requests that the kernel sent for each operation.
    requests: BTreeMap<Target, f64>,
    /// The part of the time that lsmfs spent in writing its log's file.
    log_share: Vec<f64>,
}

impl Line {
    /// Nothing yet.
    pub fn new(name: impl Into<String>, unit: Unit, goals: &[Goal]) -> Line {
        Line {
            name: name.into(),
            unit,
            goals: goals.to_vec(),
            figures: BTreeMap::new(),
            requests: BTreeMap::new(),
            log_share: Vec::new(),
        }
    }

    /// Adds a round.
    pub fn add(&mut self, target: Target, figure: f64) {
        self.figures.entry(target).or_default().push(figure);
    }

    /// How many requests the kernel sent for each operation.
    pub fn set_requests(&mut self, target: Target, requests: f64) {
        self.requests.insert(target, requests);
    }

    /// Adds a round's share of the log.
    pub fn add_log_share(&mut self, share: f64) {
        self.log_share.push(share);
    }

    /// A target's figures, if there is one of every round.
    fn rounds(&self, target: Target) -> Option<&[f64]> {
        let rounds = self.figures.values().map(Vec::len).max()?;
        self.figures.get(&target).filter(|figures| figures.len() == rounds).map(Vec::as_slice)
    }

    /// The median of its rounds.
    pub fn figure(&self, target: Target) -> Option<f64> {
        median(self.rounds(target)?.to_vec())
    }

    /// How many times as good as `other` lsmfs is.
    pub fn ratio(&self, other: Target) -> Option<f64> {
        let (ours, theirs) = (self.rounds(Target::Lsmfs)?, self.rounds(other)?);
        let ratio = |(ours, theirs): (&f64, &f64)| match self.unit.more_is_better {
            true => ours / theirs,
            false => theirs / ours,
        };
        median(ours.iter().zip(theirs).map(ratio).collect())
    }

    fn meets(&self, goal: Goal) -> Option<bool> {
        match goal {
            Goal::Times(times, other) => Some(self.ratio(other)? >= times),
            Goal::AtMost(most) => Some(self.figure(Target::Lsmfs)? <= most),
        }
    }

    fn goals_text(&self) -> String {
        let words = |goal: &Goal| {
            let met = match self.meets(*goal) {
                Some(true) => "met",
                Some(false) => "missed",
                None => "not measured",
            };
            match goal {
                Goal::Times(times, other) => format!("{} of {}: {met}", number(*times), other.name()),
                Goal::AtMost(most) => format!("at most {most} {}: {met}", self.unit.name),
            }
        };
        self.goals.iter().map(words).collect::<Vec<_>>().join("; ")
    }
}

/// The middle one; of two in the middle their mean.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((lower + upper) / 2.0)
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub files: usize,
    pub rounds: usize,
    pub processors: usize,
    /// The machine's load when the run ended: other work than this makes the figures doubtful.
    pub load: String,
    /// In the order of the table's columns.
    pub targets: Vec<Target>,
    pub lines: Vec<Line>,
}

impl Report {
    /// Puts the lines together.
    pub fn new(bench: &Bench, lines: Vec<Line>) -> Report {
        Report {
            files: bench.files,
            rounds: bench.rounds,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            load: std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_string(),
            targets: bench.targets.clone(),
            lines,
        }
    }

    /// What lsmfs is compared with.
    pub fn others(&self) -> impl Iterator<Item = Target> {
        self.targets.iter().copied().filter(|target| *target != Target::Lsmfs)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Report { files, rounds, processors, load, .. } = self;
        writeln!(f, "{files} files, medians of {rounds} rounds, {processors} processors, load {load}")?;
        let wide = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        write!(f, "{:<wide$} {:>6}", "", "")?;
        let column = |target: Target| target.name().chars().count().max(11);
        for target in &self.targets {
            write!(f, " {:>1$}", target.name(), column(*target))?;
        }
        for other in self.others() {
            write!(f, " {:>1$}", format!("/ {}", other.name()), column(other) + 2)?;
        }
        writeln!(f, "  {:<15} {:>5}  goals", "requests", "log")?;
        for line in &self.lines {
            write!(f, "{:<wide$} {:>6}", line.name, line.unit.name)?;
            for target in &self.targets {
                write!(f, " {:>1$}", text(line.figure(*target), number), column(*target))?;
            }
            for other in self.others() {
                let ratio = text(line.ratio(other), |ratio| format!("{ratio:.2}"));
                write!(f, " {ratio:>0$}", column(other) + 2)?;
            }
            let requests = |target| line.requests.get(target).map(|requests| number(*requests));
            let requests: Vec<_> = self.targets.iter().filter_map(requests).collect();
            let log = text(median(line.log_share.clone()), |share| format!("{:.0} %", share * 100.0));
            writeln!(f, "  {:<15} {log:>5}  {}", requests.join(" "), line.goals_text())?;
        }
        writeln!(
            f,
            "requests: that the kernel sends for each operation (real work: for all of it), to lsmfs, floor, plain floor"
        )?;
        writeln!(f, "log: the part of the time in which lsmfs writes its log's file")
    }
}

fn text(value: Option<f64>, words: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_string(), words)
}

/// A figure with three digits or more.
pub fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
