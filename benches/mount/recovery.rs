//! Mounts of stores whose daemon was killed: among writes of small files, right after a large one, and with a log
//! as full as it may get.

use crate::client::Client;
use crate::full_log;
use crate::life::{add, line};
use crate::report::Line;
use crate::target::{Place, Target};
use crate::work::{Step, WorkArgs};
use crate::{Bench, Result};
use std::fs::File;
use std::io::Write;

/// Measures the lines that are wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut small = line("mount after a kill among writes", 1000.0);
    let mut busy = line("unmount after writes", 1000.0);
    let mut large = line("mount after a kill behind a large file", 1000.0);
    let mut full = line("mount after a kill with a full log", 1000.0);
    for round in 0..bench.rounds {
        if bench.wants("life", &small.name) {
            bench.say(&format!("small files, a kill, round {round}"));
            let place = Place::start(Target::Lsmfs, bench.dir.join("killed"), 1)?;
            let files = bench.files.min(100_000);
            let args = WorkArgs { dir: place.dir(), files, dirs: 100, size: 1024, clients: 4, sync: false };
            Client::start(&args)?.step(Step::Create)?;
            place.kill_daemon()?;
            add(&mut small, place.mount_timed()?);
            let again = WorkArgs { dir: place.dir().join("again"), ..args };
            Client::start(&again)?.step(Step::Create)?;
            add(&mut busy, place.unmount()?);
        }
        if bench.wants("life", &large.name) {
            bench.say(&format!("a large file, a kill, round {round}"));
            let place = Place::start(Target::Lsmfs, bench.dir.join("killed"), 1)?;
            write_large(&place, bench.large_bytes)?;
            place.kill_daemon()?;
            add(&mut large, place.mount_timed()?);
        }
        if bench.wants("life", &full.name) {
            bench.say(&format!("a full log, a kill, round {round}"));
            let place = Place::start(Target::Lsmfs, bench.dir.join("killed"), 1)?;
            place.unmount()?;
            full_log::fill(&place.store(), bench.part)?;
            add(&mut full, place.mount_timed()?);
        }
    }
    Ok(vec![small, busy, large, full])
}

/// Writes a file of about so many bytes.
fn write_large(place: &Place, bytes: u64) -> Result<()> {
    let (mut file, piece) = (File::create(place.dir().join("large"))?, vec![7; 1 << 20]);
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    Ok(())
}
