//! The small-file lines: create, stat, list, read, append, rename, unlink of files of 1 KiB.
//!
//! Each twice: daemon and client *pinned* to one processor, where what the daemon does shows, and *free*, as
//! a user starts them, where it shows how they wake each other. And for one client and several.

use crate::client::Client;
use crate::pin::pinned;
use crate::report::{Goal, Line, Unit};
use crate::requests;
use crate::target::{Place, Target, sync};
use crate::work::{Step, WorkArgs};
use crate::{Bench, Result};

/// How client and daemon run.
#[derive(Debug, Clone, Copy)]
struct Setting {
    pinned: bool,
    clients: usize,
}

const SETTINGS: [Setting; 4] = [
    Setting { pinned: true, clients: 1 },
    Setting { pinned: true, clients: 4 },
    Setting { pinned: false, clients: 1 },
    Setting { pinned: false, clients: 4 },
];

impl Setting {
    fn name(self) -> String {
        let clients =
            if self.clients == 1 { "1 client".to_string() } else { format!("{} clients", self.clients) };
        format!("{clients}, {}", if self.pinned { "pinned" } else { "free" })
    }

    fn goals(self, step: Step) -> Vec<Goal> {
        let goal = |times, than| vec![Goal::Times(times, than)];
        match (self, step) {
            (Setting { pinned: true, clients: 1 }, step) => {
                goal(if step.writes() { 0.75 } else { 0.9 }, Target::Floor)
            }
            (Setting { pinned: true, .. }, _) => Vec::new(),
            (Setting { clients: 1, .. }, Step::List) => goal(1.0, Target::Plain),
            (Setting { clients: 1, .. }, _) => goal(2.0, Target::Plain),
            (_, Step::Read) => goal(2.0, Target::Plain),
            (_, Step::Append) => goal(1.8, Target::Plain),
            (_, _) => goal(1.1, Target::Plain),
        }
    }

    /// Threads of the tuned floor: one for each client, where they can run.
    fn floor_threads(self) -> usize {
        if self.pinned { 1 } else { self.clients.min(2) }
    }
}

/// Measures those of the lines that are wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut counted = None;
    for setting in SETTINGS {
        let name = |step: Step| format!("{}, {}", step.name(), setting.name());
        let wanted: Vec<Step> =
            Step::ALL.into_iter().filter(|step| bench.wants("small", &name(*step))).collect();
        if wanted.is_empty() {
            continue;
        }
        let counts = match &counted {
            Some(counts) => counts,
            None => counted.insert(count(&bench.counting())?),
        };
        let line = |step: &Step| {
            let mut line = Line::new(name(*step), Unit::PER_SECOND, &setting.goals(*step));
            let of_step = counts.iter().filter(|(_, counted, _)| counted == step);
            of_step.for_each(|(target, _, requests)| line.set_requests(*target, *requests));
            line
        };
        let mut measured: Vec<Line> = wanted.iter().map(line).collect();
        for round in 0..bench.rounds {
            for target in bench.in_turn(round) {
                bench.say(&format!("{}, round {round}: {}", setting.name(), target.name()));
                bench.try_out(target, || measure(bench, setting, target, &wanted, &mut measured))?;
            }
        }
        lines.extend(measured);
    }
    Ok(lines)
}

/// The steps that have to be done for those that are wanted.
fn needed(wanted: &[Step]) -> impl Iterator<Item = Step> {
    let wanted = wanted.to_vec();
    Step::ALL.into_iter().filter(move |step| *step == Step::Create || wanted.contains(step))
}

fn args(bench: &Bench, place: &Place, files: usize, clients: usize) -> WorkArgs {
    WorkArgs { dir: place.dir(), files, dirs: bench.dirs(files), size: 1024, clients, sync: false }
}

fn measure(
    bench: &Bench,
    setting: Setting,
    target: Target,
    wanted: &[Step],
    lines: &mut [Line],
) -> Result<()> {
    sync(&bench.dir)?;
    let (place, mut client) = pinned(setting.pinned, || -> Result<_> {
        let place = Place::start(target, bench.dir.join("small"), setting.floor_threads())?;
        let client = Client::start(&args(bench, &place, bench.files, setting.clients))?;
        Ok((place, client))
    })??;
    let log_time = || if target == Target::Lsmfs { place.log_seconds() } else { Ok(0.0) };
    for step in needed(wanted) {
        let before = log_time()?;
        let seconds = client.step(step)?;
        let logged = log_time()? - before;
        let Some(at) = wanted.iter().position(|of| *of == step) else { continue };
        lines[at].add(target, bench.files as f64 / seconds);
        if target == Target::Lsmfs && step.writes() {
            lines[at].add_log_share(logged / seconds);
        }
    }
    Ok(())
}

/// The requests of each step, for each operation. Empty where they can't be counted.
fn count(bench: &Bench) -> Result<Vec<(Target, Step, f64)>> {
    let mut counts = Vec::new();
    for target in requests::targets(true) {
        let place = Place::start(target, bench.dir.join("small"), 1)?;
        let mut client = Client::start(&args(bench, &place, bench.files, 1))?;
        for step in Step::ALL {
            let sent = requests::during(&place, || client.step(step))?;
            counts.extend(sent.map(|sent| (target, step, sent as f64 / bench.files as f64)));
        }
    }
    Ok(counts)
}
