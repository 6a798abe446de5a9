//! A mount that nobody uses: how much of a processor its daemon takes.

use crate::report::{Goal, Line, Unit};
use crate::target::{Place, Target};
use crate::{Bench, Result};
use std::fs::{self, File};
use std::thread::sleep;
use std::time::Duration;

/// Files that were made, and listed, before.
const FILES: usize = 10_000;

/// Until then what was written may be flushed and merged.
const SETTLED_AFTER: Duration = Duration::from_secs(15);

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(60);

/// Measures the line if it is wanted: once, which takes long enough.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let (settled_after, watched) = (SETTLED_AFTER / bench.part as u32, WATCHED / bench.part as u32);
    let name = format!("idle: processor time in {} s", watched.as_secs());
    let mut line = Line::new(name, Unit::MILLIS, &[Goal::AtMost(1.0)]);
    if !bench.wants("life", &line.name) {
        return Ok(Vec::new());
    }
    let place = Place::start(Target::Lsmfs, bench.dir.join("idle"), 1)?;
    (0..FILES).try_for_each(|n| fs::write(place.dir().join(format!("{n}")), "contents"))?;
    // One that is used keeps a directory open.
    let open = File::open(place.dir())?;
    fs::read_dir(place.dir())?.count();
    bench.say("watching an idle mount");
    sleep(settled_after);
    let before = place.processor_time()?;
    sleep(watched);
    let took = place.processor_time()? - before;
    line.add(Target::Lsmfs, took.as_secs_f64() * 1e3);
    drop(open);
    Ok(vec![line])
}
