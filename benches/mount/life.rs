//! A store's beginning and end: how long it takes to mount one of many files, to mount one whose daemon was
//! killed among writes, and to unmount.

use crate::client::Client;
use crate::report::{Goal, Line, Unit};
use crate::target::{Place, Target};
use crate::work::{Step, WorkArgs};
use crate::{Bench, Result};
use lsmfs::disk::real::RealDisk;
use lsmfs::fs::attr::{Caller, ROOT};
use lsmfs::fs::{FileSystem, FsOptions, engine_options};
use lsmfs::lsm::Store;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Files in each directory.
const IN_DIR: usize = 10_000;

/// Measures the lines that are wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let within = |most| [Goal::AtMost(most)];
    let files = bench.many_files;
    let mut mount = Line::new(format!("mount a store of {files} files"), Unit::MILLIS, &within(50.0));
    let mut unmount = Line::new("unmount it", Unit::MILLIS, &within(1000.0));
    let mut recover = Line::new("mount after a kill among writes", Unit::MILLIS, &within(1000.0));
    let mut busy = Line::new("unmount after writes", Unit::MILLIS, &within(1000.0));
    if bench.wants("life", &mount.name) {
        bench.say(&format!("making {files} files"));
        let place = Place::start(Target::Lsmfs, bench.dir.join("life"), 1)?;
        place.unmount()?;
        fill(&place.store(), files)?;
        for _ in 0..bench.rounds {
            add(&mut mount, place.mount_timed()?);
            add(&mut unmount, place.unmount()?);
        }
    }
    if bench.wants("life", &recover.name) {
        for round in 0..bench.rounds {
            bench.say(&format!("kill and recover, round {round}"));
            let place = Place::start(Target::Lsmfs, bench.dir.join("killed"), 1)?;
            let files = bench.files.min(100_000);
            let args = WorkArgs { dir: place.dir(), files, dirs: 100, size: 1024, clients: 4, sync: false };
            Client::start(&args)?.step(Step::Create)?;
            place.kill_daemon()?;
            add(&mut recover, place.mount_timed()?);
            let again = WorkArgs { dir: place.dir().join("again"), ..args };
            Client::start(&again)?.step(Step::Create)?;
            add(&mut busy, place.unmount()?);
        }
    }
    let lines = [mount, unmount, recover, busy];
    Ok(lines.into_iter().filter(|line| line.figure(Target::Lsmfs).is_some()).collect())
}

fn add(line: &mut Line, time: Duration) {
    line.add(Target::Lsmfs, time.as_secs_f64() * 1e3);
}

/// Makes empty files in a store, without a mount.
fn fill(store: &Path, files: usize) -> Result<()> {
    let disk = Arc::new(RealDisk::open_or_create(store, Duration::ZERO)?);
    let store = Arc::new(Store::open(disk, engine_options())?);
    let fs = FileSystem::open(store.clone(), "main", FsOptions::default())?;
    let caller = Caller::new(0, 0);
    for dir in 0..files.div_ceil(IN_DIR) {
        let made = fs.mkdir(ROOT, format!("d{dir:06}").as_bytes(), 0o755, caller)?;
        for file in dir * IN_DIR..files.min((dir + 1) * IN_DIR) {
            let attr = fs.create(made.ino, format!("file-{file:08}").as_bytes(), 0o644, caller)?;
            fs.forget(attr.ino, 1);
        }
        fs.forget(made.ino, 1);
    }
    fs.close()?;
    Ok(store.close()?)
}
