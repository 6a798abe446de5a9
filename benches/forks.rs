//! Forks of a large volume: what one costs, and whether a thousand keep apart and give their room back.
//!
//! ```sh
//! cargo bench --bench forks -- DIR [KEYS [files]]
//! ```
//!
//! DIR is a directory that does not exist yet; it is removed in the end. KEYS (1 million) values of 1 KiB, half
//! random, are written; with `files` they are files, a thousand in each directory, made, written and read as the
//! file system does. Then the volume is forked 100 times at rest, 100 times while it is written to as fast
//! as it goes, and 800 times more. Each fork gets a change of its own; all are read back, before and after
//! the store is opened again, and deleted in random order. Printed are the times of forks, what they
//! wrote (under load: beside as much writing without forks), and the store's size before and after. Exit status 1: a goal was missed.

use lsmfs::disk::Disk;
use lsmfs::disk::real::RealDisk;
use lsmfs::fs::{Caller, FileSystem, FsOptions, Ino, ROOT, engine_options};
use lsmfs::lsm::{Batch, Options, Store, Volume};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KEYS: u64 = 1_000_000;
const VALUE_LEN: usize = 1024;
const MEASURED: usize = 100;
const FORKS: usize = 1000;
/// The longest that a fork may take.
const GOAL_TIME: Duration = Duration::from_millis(10);
/// The most that one may write.
const GOAL_BYTES: u64 = 64 << 10;
/// What may be left over when all forks are gone.
const GOAL_LEFT: f64 = 1.1;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [dir, numbers @ ..] = args.as_slice() else {
        return Err("usage: cargo bench --bench forks -- DIR [KEYS [files]]".into());
    };
    let keys = numbers.first().map_or(Ok(KEYS), |text| text.parse())?;
    let kind = if numbers.get(1).is_some_and(|word| word == "files") { Kind::Files } else { Kind::Values };
    // Only what is made here is removed.
    fs::create_dir(dir)?;
    let met = run(Path::new(dir), keys, kind);
    fs::remove_dir_all(dir)?;
    if met? { Ok(()) } else { Err("a goal was missed".into()) }
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Values,
    Files,
}

fn open(dir: &Path, kind: Kind) -> Result<(Arc<RealDisk>, Arc<Store>)> {
    let disk = Arc::new(RealDisk::open_or_create(dir, Duration::ZERO)?);
    let options = if kind == Kind::Files { engine_options() } else { Options::default() };
    let store = Store::open(disk.clone(), options)?;
    Ok((disk, Arc::new(store)))
}

/// Values in a volume, or files of one.
enum Contents {
    Values(Arc<Volume>),
    Files { fs: Box<FileSystem>, dirs: Vec<Ino> },
}

impl Contents {
    fn of(store: &Arc<Store>, name: &str, kind: Kind) -> Result<Contents> {
        Ok(match kind {
            Kind::Values => Contents::Values(store.volume(name)?),
            Kind::Files => {
                let fs = FileSystem::open(store.clone(), name, FsOptions::default())?;
                Contents::Files { fs: Box::new(fs), dirs: Vec::new() }
            }
        })
    }

    fn fill(&mut self, keys: u64, random: &mut Random) -> Result<()> {
        match self {
            Contents::Values(volume) => (0..keys).try_for_each(|key| put(volume, key, random)),
            Contents::Files { fs, dirs } => {
                for key in 0..keys {
                    if key % FILES_IN_DIR == 0 {
                        let name = format!("dir{}", key / FILES_IN_DIR);
                        dirs.push(fs.mkdir(ROOT, name.as_bytes(), 0o755, CALLER)?.ino);
                    }
                    let dir = dirs[dirs.len() - 1];
                    let made = fs.create(dir, &file_name(key), 0o644, CALLER)?;
                    fs.write(made.ino, 0, &value(random))?;
                    fs.forget(made.ino, 1);
                }
                Ok(())
            }
        }
    }

    fn overwrite(&self, key: u64, random: &mut Random) -> Result<()> {
        match self {
            Contents::Values(volume) => put(volume, key, random),
            Contents::Files { fs, dirs } => {
                let dir = dirs[(key / FILES_IN_DIR) as usize];
                let found = fs.lookup(dir, &file_name(key))?.ok_or("a file is gone")?;
                fs.write(found.ino, 0, &value(random))?;
                fs.forget(found.ino, 1);
                Ok(())
            }
        }
    }

    fn put_own(&self, number: u64) -> Result<()> {
        match self {
            Contents::Values(volume) => {
                let mut batch = Batch::new();
                batch.put(b"own", &number.to_be_bytes());
                volume.write(batch)?;
            }
            Contents::Files { fs, .. } => {
                fs.create_whole(ROOT, b"own", 0o644, &number.to_be_bytes(), CALLER)?;
                fs.close()?;
            }
        }
        Ok(())
    }

    fn own(&self) -> Result<Option<Vec<u8>>> {
        Ok(match self {
            Contents::Values(volume) => volume.get(b"own")?.map(|value| value.head.to_vec()),
            Contents::Files { fs, .. } => match fs.lookup(ROOT, b"own")? {
                Some(found) => Some(fs.read(found.ino, 0, 8)?.to_vec()),
                None => None,
            },
        })
    }
}

const FILES_IN_DIR: u64 = 1000;
const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0 };

fn file_name(key: u64) -> Vec<u8> {
    format!("file{key}").into_bytes()
}

fn run(dir: &Path, keys: u64, kind: Kind) -> Result<bool> {
    let (disk, store) = open(dir, kind)?;
    let main = store.volume("main")?;
    let mut contents = Contents::of(&store, "main", kind)?;
    let mut random = Random(1);
    let started = Instant::now();
    contents.fill(keys, &mut random)?;
    println!("{keys} keys written in {:.1} s", started.elapsed().as_secs_f64());
    let mut met = at_rest(&store, &main)?;
    met &= under_load(&store, &main, &contents, keys)?;
    drop(contents);
    let before = settled_size(&store, &disk)?;
    for i in 2 * MEASURED..FORKS {
        store.fork(&main, &name(i))?;
    }
    let started = Instant::now();
    (0..FORKS).try_for_each(|i| Contents::of(&store, &name(i), kind)?.put_own(i as u64))?;
    println!("{FORKS} forks written to in {:.2} s", started.elapsed().as_secs_f64());
    check(&store, &(0..FORKS).collect::<Vec<_>>(), kind)?;
    let started = Instant::now();
    store.close()?;
    println!("closed with {FORKS} forks in {:.2} s", started.elapsed().as_secs_f64());
    drop((store, disk, main));
    let started = Instant::now();
    let (disk, store) = open(dir, kind)?;
    println!("opened with {FORKS} forks in {:.2} s", started.elapsed().as_secs_f64());
    check(&store, &(0..FORKS).collect::<Vec<_>>(), kind)?;
    delete_all(&store, &mut random, kind)?;
    let after = settled_size(&store, &disk)?;
    println!("{} MiB without the forks, {} MiB after their deletion", before >> 20, after >> 20);
    met &= after as f64 <= before as f64 * GOAL_LEFT;
    store.close()?;
    drop((store, disk));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_or_create(dir, Duration::ZERO)?);
    let checked = lsmfs::lsm::check::check(&disk, &mut Problems)?;
    println!("checked: {} records, {} problems", checked.records, checked.problems);
    Ok(met && checked.problems == 0)
}

/// Prints what a check finds.
struct Problems;

impl lsmfs::lsm::check::Watch for Problems {
    fn problem(&mut self, problem: lsmfs::lsm::check::Problem) {
        println!("{}", problem.error);
    }
}

fn name(i: usize) -> String {
    format!("fork{i}")
}

fn value(random: &mut Random) -> [u8; VALUE_LEN] {
    let mut value = [0; VALUE_LEN];
    value[..VALUE_LEN / 2].chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&random.next().to_be_bytes()));
    value
}

fn put(volume: &Volume, key: u64, random: &mut Random) -> Result<()> {
    let mut batch = Batch::with_capacity(VALUE_LEN + 64);
    batch.put(&key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &value(random));
    volume.write(batch)?;
    Ok(())
}

/// Forks while nothing else happens, and prints what it took.
fn at_rest(store: &Store, main: &Volume) -> Result<bool> {
    while store.stats().volumes[0].immutable_bytes.len() > 1 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_secs(2));
    let (mut times, mut most) = (Vec::new(), 0);
    for i in 0..MEASURED {
        let before = written(store);
        let started = Instant::now();
        store.fork(main, &name(i))?;
        times.push(started.elapsed());
        most = most.max(written(store) - before);
    }
    println!("at rest: {}; at most {most} bytes written", quantiles(&mut times));
    Ok(times.last().is_some_and(|longest| *longest <= GOAL_TIME) && most <= GOAL_BYTES)
}

fn written(store: &Store) -> u64 {
    let disk = store.stats().disk;
    disk.log_bytes + disk.manifest_bytes
}

/// Forks while a thread writes as fast as it goes, and prints how long it took and what it wrote: the fork's own records
/// in the log and the manifest, and what flushes and compactions write more than for as many writes without forks.
fn under_load(store: &Store, main: &Volume, contents: &Contents, keys: u64) -> Result<bool> {
    let pause = || std::thread::sleep(Duration::from_millis(100));
    let quiet = load(store, contents, keys, || {
        (0..MEASURED).for_each(|_| pause());
        Ok(())
    })?;
    println!("writing without forks: {quiet}");
    let mut times = Vec::new();
    let forked = load(store, contents, keys, || {
        (MEASURED..2 * MEASURED).try_for_each(|i| {
            pause();
            let started = Instant::now();
            store.fork(main, &name(i))?;
            times.push(started.elapsed());
            Ok(())
        })
    })?;
    println!("writing with {MEASURED} forks: {forked}");
    println!("under load: {}", quantiles(&mut times));
    // What a fork adds to what the writes cost anyway; compactions come in steps, and are told apart above.
    let more = |bytes: fn(&Load) -> u64| {
        let expected = bytes(&quiet) as f64 * forked.writes as f64 / quiet.writes as f64;
        (bytes(&forked) as f64 - expected) / MEASURED as f64
    };
    let (records, flushed) = (more(|load| load.records), more(|load| load.flushed));
    println!("a fork adds {records:.0} bytes to log and manifest, {flushed:.0} bytes to flushed tables");
    let met = records + flushed <= GOAL_BYTES as f64;
    Ok(met && times.last().is_some_and(|longest| *longest <= GOAL_TIME))
}

/// What a time of writing cost.
struct Load {
    writes: u64,
    seconds: f64,
    latencies: Vec<Duration>,
    /// Bytes written to the log and the manifest, by flushes and by compactions.
    records: u64,
    flushed: u64,
    compacted: u64,
    flushes: u64,
    /// Tables in L0 at the end.
    l0: usize,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Load { writes, seconds, latencies, flushes, l0, .. } = self;
        let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.0} writes/s, p50 {:?}, p99 {:?}, p99.9 {:?}; log and manifest {:.1} MiB, {flushes} flushes {:.1} MiB, \
             compactions {:.1} MiB; {l0} tables in L0",
            *writes as f64 / seconds,
            at(0.5),
            at(0.99),
            at(0.999),
            mib(self.records),
            mib(self.flushed),
            mib(self.compacted),
        )
    }
}

/// Writes as long as `during` takes, then flushes.
fn load(store: &Store, contents: &Contents, keys: u64, during: impl FnOnce() -> Result<()>) -> Result<Load> {
    let figures = || {
        let stats = store.stats();
        (written(store), stats.flushes.bytes, stats.compactions.written_bytes, stats.flushes.count)
    };
    let (before, started) = (figures(), Instant::now());
    let stop = AtomicBool::new(false);
    let mut latencies = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        let writer = scope.spawn(|| {
            let (mut random, mut latencies) = (Random(2), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                let key = random.next() % keys;
                contents.overwrite(key, &mut random).expect("the store takes writes");
                latencies.push(started.elapsed());
            }
            latencies
        });
        let done = during();
        stop.store(true, Ordering::Relaxed);
        let latencies = writer.join().map_err(|_| "the writer failed")?;
        done.map(|()| latencies)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    store.flush()?;
    let after = figures();
    latencies.sort();
    Ok(Load {
        writes: latencies.len() as u64,
        seconds,
        latencies,
        records: after.0 - before.0,
        flushed: after.1 - before.1,
        compacted: after.2 - before.2,
        flushes: after.3 - before.3,
        l0: store.stats().volumes.iter().find(|v| v.usage.name == "main").map_or(0, |v| v.levels[0].len()),
    })
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    format!("{} forks, p50 {:?}, p99 {:?}, longest {:?}", times.len(), at(0.5), at(0.99), at(1.0))
}

/// The bytes on the disk when no work is left.
fn settled_size(store: &Store, disk: &RealDisk) -> Result<u64> {
    store.flush()?;
    let size = || -> Result<u64> { Ok(disk.list()?.iter().map(|listed| listed.len).sum()) };
    let (mut last, mut calm) = (size()?, 0);
    while calm < 10 {
        std::thread::sleep(Duration::from_millis(200));
        let now = size()?;
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

/// Each of the forks has its own value, and the volume none.
fn check(store: &Arc<Store>, forks: &[usize], kind: Kind) -> Result<()> {
    for &i in forks {
        let value = Contents::of(store, &name(i), kind)?.own()?;
        if value.is_none_or(|value| value != (i as u64).to_be_bytes()) {
            return Err(format!("{} has another's value", name(i)).into());
        }
    }
    match Contents::of(store, "main", kind)?.own()? {
        None => Ok(()),
        Some(_) => Err("the volume has a fork's value".into()),
    }
}

fn delete_all(store: &Arc<Store>, random: &mut Random, kind: Kind) -> Result<()> {
    let mut left: Vec<usize> = (0..FORKS).collect();
    let mut times = Vec::new();
    while !left.is_empty() {
        let gone = left.swap_remove((random.next() % left.len() as u64) as usize);
        let started = Instant::now();
        store.delete_volume(&name(gone))?;
        times.push(started.elapsed());
        if left.len().is_multiple_of(100) {
            check(store, &left, kind)?;
        }
    }
    println!("deleting: {}", quantiles(&mut times).replace("forks", "deletions"));
    Ok(())
}

/// A small generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
