//! Files that are synced one by one, as a mail server or a build cache does it.

use crate::client::Client;
use crate::report::{Goal, Line, Unit};
use crate::requests;
use crate::target::{Place, Target, sync};
use crate::work::{Step, WorkArgs};
use crate::{Bench, Result};

const CLIENTS: [usize; 2] = [1, 16];

/// One file is synced for so many of the small-file lines.
const SPARSER: usize = 40;

/// Measures those of the lines that are wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for clients in CLIENTS {
        let name = format!("create and fsync, {clients} client{}", if clients == 1 { "" } else { "s" });
        let mut line = Line::new(name, Unit::PER_SECOND, &[Goal::Times(3.0, Target::Disk)]);
        if !bench.wants("fsync", &line.name) {
            continue;
        }
        for target in requests::targets(false) {
            bench.say(&format!("{}, counting requests: {}", line.name, target.name()));
            let (place, mut client, files) = start(&bench.counting(), target, clients)?;
            requests::count(&mut line, &place, files, || client.step(Step::Create))?;
        }
        for round in 0..bench.rounds {
            for target in bench.in_turn(round).filter(|target| *target != Target::Plain) {
                bench.say(&format!("{}, round {round}: {}", line.name, target.name()));
                bench.try_out(target, || {
                    let (_place, mut client, files) = start(bench, target, clients)?;
                    line.add(target, files as f64 / client.step(Step::Create)?);
                    Ok(())
                })?;
            }
        }
        lines.push(line);
    }
    Ok(lines)
}

/// A target, its clients, and how many files they are to make.
fn start(bench: &Bench, target: Target, clients: usize) -> Result<(Place, Client, usize)> {
    let files = (bench.files / SPARSER).max(10) * clients.min(4);
    sync(&bench.dir)?;
    let place = Place::start(target, bench.dir.join("fsync"), clients.min(2))?;
    let args = WorkArgs { dir: place.dir(), files, dirs: 10, size: 1024, clients, sync: true };
    let client = Client::start(&args)?;
    Ok((place, client, files))
}
