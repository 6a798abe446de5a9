//! The cold lines: a tree of many small files that nothing has in memory, neither the kernel nor the daemon
//! (which is started anew): searched, archived, read at random, removed. And the room that small files take.

use crate::client::Client;
use crate::report::{Goal, Line, Unit};
use crate::requests;
use crate::target::{Place, Target, run, sync};
use crate::work::{Step, WorkArgs, sample_len};
use crate::{Bench, Result};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Files in each directory of the tree.
const IN_DIR: usize = 1000;

/// The length of the files whose room is measured.
const TINY: usize = 200;

const TWICE: [Goal; 1] = [Goal::Times(2.0, Target::Disk)];

/// What is done with the cold tree, each time from cold on.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Every file is looked at.
    Find,
    /// Every file is read, in the order of the directories.
    Tar,
    /// A fifth of the files is read, in random order.
    Read,
    /// The tree is removed.
    Remove,
}

impl Work {
    const ALL: [Work; 4] = [Work::Find, Work::Tar, Work::Read, Work::Remove];

    fn line(self, files: usize) -> Line {
        match self {
            Work::Find => Line::new(format!("cold tree of {files}: find -size"), Unit::PER_SECOND, &TWICE),
            Work::Tar => Line::new(format!("cold tree of {files}: tar c"), Unit::PER_SECOND, &TWICE),
            Work::Read => Line::new(
                format!("cold tree of {files}: random reads"),
                Unit::PER_SECOND,
                &[Goal::Times(1.0, Target::Disk)],
            ),
            Work::Remove => Line::new(format!("cold tree of {files}: rm -rf"), Unit::PER_SECOND, &TWICE),
        }
    }

    /// Of a tree's files these are worked on.
    fn files(self, tree: &WorkArgs) -> usize {
        if matches!(self, Work::Read) { sample_len(tree.files) } else { tree.files }
    }

    /// Does it; returns the files a second.
    fn measure(self, args: &WorkArgs, archive: &Path) -> Result<f64> {
        let tree = &args.dir.join("files");
        let mut find = Command::new("find");
        find.arg(tree).args(["-size", "+100k"]);
        // Into a file: tar reads no contents if it writes to /dev/null.
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(archive).arg("-C").arg(tree).arg(".");
        let mut remove = Command::new("rm");
        remove.arg("-rf").arg(tree);
        let started = Instant::now();
        match self {
            Work::Find => run(&mut find)?,
            Work::Tar => run(&mut tar)?,
            Work::Read => return Ok(self.files(args) as f64 / Client::start(args)?.step(Step::Sample)?),
            Work::Remove => run(&mut remove)?,
        }
        Ok(self.files(args) as f64 / started.elapsed().as_secs_f64())
    }
}

/// Measures those of the lines that are wanted.
pub fn run_lines(bench: &Bench) -> Result<Vec<Line>> {
    let mut measured: Vec<(Work, Line)> = Work::ALL.map(|work| (work, work.line(bench.cold_files))).into();
    measured.retain(|(_, line)| bench.wants("cold", &line.name));
    if !measured.is_empty() {
        for target in requests::targets(true) {
            bench.say(&format!("cold, counting requests: {}", target.name()));
            each(&bench.counting(), target, &mut measured, |work, place, tree, archive, line| {
                requests::count(line, place, work.files(tree), || work.measure(tree, archive))
            })?;
        }
        for round in 0..bench.rounds {
            for target in bench.in_turn(round) {
                bench.say(&format!("cold, round {round}: {}", target.name()));
                bench.try_out(target, || {
                    each(bench, target, &mut measured, |work, _, tree, archive, line| {
                        line.add(target, work.measure(tree, archive)?);
                        Ok(())
                    })
                })?;
            }
        }
    }
    let mut lines: Vec<Line> = measured.into_iter().map(|(_, line)| line).collect();
    lines.extend(room(bench)?);
    Ok(lines)
}

fn tree(bench: &Bench, place: &Place, size: usize) -> WorkArgs {
    let files = bench.cold_files;
    let dirs = files.div_ceil(IN_DIR);
    WorkArgs { dir: place.dir(), files, dirs, size, clients: 1, sync: false }
}

/// Calls `measure` for each work, all in the same tree and each when that is cold: with the tree and where an archive of it
/// is to be.
fn each(
    bench: &Bench,
    target: Target,
    lines: &mut [(Work, Line)],
    mut measure: impl FnMut(Work, &Place, &WorkArgs, &Path, &mut Line) -> Result<()>,
) -> Result<()> {
    let place = Place::start(target, bench.dir.join("cold"), 1)?;
    let tree = tree(bench, &place, 1024);
    let archive = bench.dir.join("archive.tar");
    fs::write(&archive, "")?;
    Client::start(&tree)?.step(Step::Create)?;
    for (work, line) in lines {
        place.chill()?;
        measure(*work, &place, &tree, &archive, line)?;
    }
    Ok(fs::remove_file(&archive)?)
}

/// The room that tiny files take on the disk.
fn room(bench: &Bench) -> Result<Option<Line>> {
    let goals = [Goal::Times(10.0, Target::Disk)];
    let mut line =
        Line::new(format!("space of {} files of {TINY} bytes", bench.cold_files), Unit::MIB, &goals);
    if !bench.wants("space", &line.name) {
        return Ok(None);
    }
    for target in [Target::Lsmfs, Target::Disk] {
        bench.say(&format!("space: {}", target.name()));
        let place = Place::start(target, bench.dir.join("space"), 1)?;
        Client::start(&tree(bench, &place, TINY))?.step(Step::Create)?;
        let dir = match target {
            Target::Lsmfs => {
                place.unmount()?;
                place.store()
            }
            _ => place.dir(),
        };
        sync(&bench.dir)?;
        let output = Command::new("du").arg("-sk").arg(dir).output()?;
        let said = String::from_utf8(output.stdout)?;
        let kib: f64 = said.split_whitespace().next().ok_or("du said nothing")?.parse()?;
        line.add(target, kib / 1024.0);
    }
    Ok(Some(line))
}
