//! Two clients: one reads and lists small files while the other streams a large one through the same mount.
//! How long the slowest of the small operations take, in a hundred, beside how long they take alone.

use crate::client::Client;
use crate::report::{Goal, Line, Unit};
use crate::target::{Place, Target, sync};
use crate::work::{Step, WorkArgs, contents};
use crate::{Bench, Result};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// One small file is made for so many of the small-file lines.
const SPARSER: usize = 10;
/// How long the small operations are done alone.
const ALONE: Duration = Duration::from_secs(2);
/// So many files are read, then a directory is listed.
const READS: usize = 9;
const BLOCK_BYTES: usize = 1 << 20;

/// What the small client does.
const SMALL: [&str; 2] = ["reads", "lists"];
/// What the other does meanwhile.
const STREAMS: [(&str, Stream); 2] = [("written", write_stream), ("read", read_stream)];

type Stream = fn(&Path, u64) -> Result<()>;

/// Measures the lines, if any of them is wanted.
pub fn run(bench: &Bench) -> Result<Vec<Line>> {
    let alone =
        |small: &str| Line::new(format!("two clients: p99 of small {small}, alone"), Unit::MILLIS, &[]);
    let beside = |small: &str, stream: &str| {
        let name = format!("two clients: {small} beside a stream {stream}, p99 of alone");
        Line::new(name, Unit::TIMES, &[Goal::AtMost(3.0)])
    };
    let mut alone = SMALL.map(alone);
    let mut beside = STREAMS.map(|(stream, _)| SMALL.map(|small| beside(small, stream)));
    let all = || alone.iter().chain(beside.as_flattened());
    if !all().any(|line| bench.wants("beside", &line.name)) {
        return Ok(Vec::new());
    }
    for round in 0..bench.rounds {
        for target in bench.in_turn(round).filter(|target| *target != Target::Plain) {
            bench.say(&format!("two clients, round {round}: {}", target.name()));
            bench.try_out(target, || measure(bench, target, &mut alone, &mut beside))?;
        }
    }
    Ok(alone.into_iter().chain(beside.into_iter().flatten()).collect())
}

fn measure(bench: &Bench, target: Target, alone: &mut [Line], beside: &mut [[Line; 2]]) -> Result<()> {
    sync(&bench.dir)?;
    let place = Place::start(target, bench.dir.join("beside"), 2)?;
    let small = Small::new(bench, &place)?;
    let quiet = small.p99_while(&|| {
        thread::sleep(ALONE);
        Ok(())
    })?;
    alone.iter_mut().zip(quiet).for_each(|(line, p99)| line.add(target, p99 * 1e3));
    for (lines, (_, stream)) in beside.iter_mut().zip(STREAMS) {
        let large = place.dir().join("large");
        let busy = small.p99_while(&|| stream(&large, bench.large_bytes))?;
        for (line, (busy, quiet)) in lines.iter_mut().zip(busy.into_iter().zip(quiet)) {
            line.add(target, busy / quiet);
        }
    }
    Ok(())
}

/// Writes the file, and syncs it.
fn write_stream(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create(path)?;
    for block in 0..bytes.div_ceil(BLOCK_BYTES as u64) {
        file.write_all(&contents(block as usize, BLOCK_BYTES))?;
    }
    Ok(file.sync_all()?)
}

/// Reads the file, which the kernel is made to forget.
fn read_stream(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let (mut block, mut read) = (vec![0; BLOCK_BYTES], 0);
    while read < bytes {
        match file.read(&mut block)? {
            0 => return Err("the large file is too short".into()),
            some => read += some as u64,
        }
    }
    Ok(())
}

/// The small files, and who works with them.
struct Small(WorkArgs);

impl Small {
    fn new(bench: &Bench, place: &Place) -> Result<Small> {
        let files = (bench.files / SPARSER).max(100);
        let args = WorkArgs {
            dir: place.dir(),
            files,
            dirs: bench.dirs(files),
            size: 1024,
            clients: 1,
            sync: false,
        };
        Client::start(&args)?.step(Step::Create)?;
        Ok(Small(args))
    }

    /// The seconds that one operation of each sort in a hundred takes longer than, of those that are done until
    /// `other` has ended.
    fn p99_while(&self, other: &(dyn Fn() -> Result<()> + Sync)) -> Result<[f64; 2]> {
        let is_over = AtomicBool::new(false);
        let times = thread::scope(|scope| {
            let small = scope.spawn(|| self.times_until(&is_over));
            let other = other();
            is_over.store(true, Ordering::Relaxed);
            let times = small.join().unwrap_or_else(|_| Err("a client panicked".into()));
            other.and(times)
        })?;
        Ok(times.map(|mut times| {
            times.sort();
            times[times.len() * 99 / 100].as_secs_f64()
        }))
    }

    /// The times of the reads and of the lists; there is at least one of each.
    fn times_until(&self, is_over: &AtomicBool) -> Result<[Vec<Duration>; 2]> {
        let (mut reads, mut lists, mut random) = (Vec::new(), Vec::new(), 1u64);
        while lists.is_empty() || !is_over.load(Ordering::Relaxed) {
            for turn in 0..=READS {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let started = Instant::now();
                if turn < READS {
                    self.read((random >> 33) as usize)?;
                    reads.push(started.elapsed());
                } else {
                    self.list((random >> 33) as usize)?;
                    lists.push(started.elapsed());
                }
            }
        }
        Ok([reads, lists])
    }

    fn read(&self, random: usize) -> Result<()> {
        let i = random % self.0.files;
        if fs::read(self.0.path(i))?.len() != self.0.size {
            return Err("a small file has another size".into());
        }
        Ok(())
    }

    fn list(&self, random: usize) -> Result<()> {
        for entry in fs::read_dir(self.0.subdir(random))? {
            entry?.metadata()?;
        }
        Ok(())
    }
}
