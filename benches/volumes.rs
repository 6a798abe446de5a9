//! Ten thousand volumes in one process: what they take together, and whether one that floods keeps others waiting.
//!
//! ```sh
//! cargo bench --bench volumes -- DIR [VOLUMES [WRITES]]
//! ```
//!
//! DIR is a directory that does not exist yet; it is removed in the end. VOLUMES (10,000) are made; then WRITES
//! (1 million) values of 1 KiB, half random, are written to them in turn, and as many to volumes at random,
//! under a budget of 256 MiB for memtables. After each part the store is closed, opened and read. Last, one
//! thread writes a little to many volumes, once alone and once while another floods a volume of its own.
//!
//! Printed are times, memory, stalls by cause, what stands on the disk, and latencies. Exit status 1: a goal was
//! missed.

use lsmfs::disk::Disk;
use lsmfs::disk::real::RealDisk;
use lsmfs::lsm::{Batch, Options, Store, Volume};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VOLUMES: usize = 10_000;
const WRITES: usize = 1_000_000;
const VALUE_LEN: usize = 1024;
const BUDGET: usize = 256 << 20;
/// The most memory that the process may take.
const GOAL_MEMORY: u64 = 1 << 30;
/// Volumes that are written a little, how often all together, and how long.
const LITTLE_VOLUMES: usize = 1000;
const LITTLE_INTERVAL: Duration = Duration::from_millis(1);
const LITTLE_TIME: Duration = Duration::from_secs(15);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [dir, numbers @ ..] = args.as_slice() else {
        return Err("usage: cargo bench --bench volumes -- DIR [VOLUMES [WRITES]]".into());
    };
    let number = |n: usize, default| numbers.get(n).map_or(Ok(default), |text| text.parse());
    let (volumes, writes) = (number(0, VOLUMES)?, number(1, WRITES)?);
    // Only what is made here is removed.
    fs::create_dir(dir)?;
    let met = run(Path::new(dir), volumes, writes);
    fs::remove_dir_all(dir)?;
    if met? { Ok(()) } else { Err("a goal was missed".into()) }
}

fn run(dir: &Path, count: usize, writes: usize) -> Result<bool> {
    create(dir, count)?;
    let mut random = Random(1);
    let mut met = fill(dir, "in turn", count, writes, |i| i % count)?;
    met &= fill(dir, "at random", count, writes, |_| (random.next() % count as u64) as usize)?;
    let (_, store) = open(dir, "")?;
    met &= flood(&store, count)?;
    close(store, "")?;
    Ok(met)
}

fn open(dir: &Path, what: &str) -> Result<(Arc<RealDisk>, Store)> {
    let options = Options { memtable_budget: BUDGET, ..Options::default() };
    let disk = Arc::new(RealDisk::open_or_create(dir, Duration::ZERO)?);
    let started = Instant::now();
    let store = Store::open(disk.clone(), options)?;
    if !what.is_empty() {
        println!("{what}: opened in {:.2?}", started.elapsed());
    }
    Ok((disk, store))
}

fn close(store: Store, what: &str) -> Result<()> {
    let started = Instant::now();
    store.close()?;
    if !what.is_empty() {
        println!("{what}: closed in {:.2?}", started.elapsed());
    }
    Ok(())
}

fn name(i: usize) -> String {
    format!("v{i}")
}

fn volumes(store: &Store, count: usize) -> Result<Vec<Arc<Volume>>> {
    (0..count).map(|i| Ok(store.volume(&name(i))?)).collect()
}

/// Makes the volumes, and looks what idle ones take.
fn create(dir: &Path, count: usize) -> Result<()> {
    let (_, store) = open(dir, "empty")?;
    let (before, started) = (memory("VmRSS:")?, Instant::now());
    (0..count).try_for_each(|i| store.create_volume(&name(i)).map(drop))?;
    let took = started.elapsed();
    let each = memory("VmRSS:")?.saturating_sub(before) / count as u64;
    println!("{count} volumes made in {took:.2?}, {each} bytes of memory each");
    close(store, "idle")?;
    let (_, store) = open(dir, "idle")?;
    close(store, "idle, once more")
}

/// Writes to the volumes in an order, and looks at what that takes.
fn fill(
    dir: &Path,
    what: &str,
    count: usize,
    writes: usize,
    mut order: impl FnMut(usize) -> usize,
) -> Result<bool> {
    let (disk, store) = open(dir, what)?;
    let all = volumes(&store, count)?;
    let (started, mut random, mut longest) = (Instant::now(), Random(writes as u64), Duration::ZERO);
    forget_peak()?;
    for i in 0..writes {
        let started = Instant::now();
        put(&all[order(i)], i as u64, &mut random)?;
        longest = longest.max(started.elapsed());
    }
    let rate = writes as f64 / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} writes/s of {VALUE_LEN} bytes, the longest {longest:.2?}");
    let met = print_state(&store, &disk, what)?;
    close(store, what)?;
    drop(all);
    let (_, store) = open(dir, what)?;
    check(&store, count)?;
    close(store, "")?;
    Ok(met)
}

fn put(volume: &Volume, key: u64, random: &mut Random) -> Result<()> {
    let mut value = [0; VALUE_LEN];
    value[..VALUE_LEN / 2].chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&random.next().to_be_bytes()));
    let mut batch = Batch::with_capacity(VALUE_LEN + 64);
    batch.put(&key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &value);
    volume.write(batch)?;
    Ok(())
}

fn print_state(store: &Store, disk: &RealDisk, what: &str) -> Result<bool> {
    let started = Instant::now();
    let stats = store.stats();
    println!("{what}: figures in {:.2?}", started.elapsed());
    print_stalls(store, what);
    let files = disk.list()?;
    let tables: usize = stats.volumes.iter().flat_map(|v| &v.levels).map(Vec::len).sum();
    let bytes: u64 = files.iter().map(|file| file.len).sum();
    let (files, amplification) = (files.len(), stats.amplification.write.unwrap_or(0.0));
    println!(
        "{what}: {tables} tables, {files} files of {} MiB, {amplification:.2} written for each byte",
        bytes >> 20
    );
    let peak = memory("VmHWM:")?;
    println!("{what}: {} MiB of memory at most", peak >> 20);
    Ok(peak <= GOAL_MEMORY)
}

fn print_stalls(store: &Store, what: &str) {
    let stalls = store.stats().stalls;
    let causes =
        [("memtables", stalls.memtables), ("budget", stalls.budget), ("log", stalls.log), ("l0", stalls.l0)];
    for (name, stall) in causes {
        let [total, max] = [stall.total_ns, stall.max_ns].map(Duration::from_nanos);
        println!("{what}: stalls, {name}: {} of {total:.1?} in all, the longest {max:.1?}", stall.count);
    }
}

/// Every volume can be read.
fn check(store: &Store, count: usize) -> Result<()> {
    let started = Instant::now();
    for i in 0..count {
        let volume = store.volume(&name(i))?;
        let mut scan = volume.scan(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)?;
        scan.next()?;
    }
    println!("the first key of each volume read in {:.2?}", started.elapsed());
    Ok(())
}

/// Writes a little to many volumes, alone and while another volume is flooded.
fn flood(store: &Store, count: usize) -> Result<bool> {
    let little = volumes(store, count.min(LITTLE_VOLUMES))?;
    let flooded = store.create_volume("flooded")?;
    println!("quiet: {}", write_a_little(&little)?);
    let stop = AtomicBool::new(false);
    let (latencies, flood) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| -> std::result::Result<u64, String> {
            let (mut random, mut writes) = (Random(7), 0);
            while !stop.load(Ordering::Relaxed) {
                put(&flooded, random.next(), &mut random).map_err(|e| e.to_string())?;
                writes += 1;
            }
            Ok(writes)
        });
        let latencies = write_a_little(&little);
        stop.store(true, Ordering::Relaxed);
        (latencies, flooding.join().expect("the flood ends"))
    });
    println!("beside a flood: {}", latencies?);
    println!("the flood: {:.0} writes/s", flood? as f64 / LITTLE_TIME.as_secs_f64());
    print_stalls(store, "the flood");
    let stalls = store.stats().volumes;
    let held_up = stalls.iter().filter(|v| v.usage.name != "flooded");
    let held_up: u64 =
        held_up.map(|v| v.stalls.memtables.count + v.stalls.budget.count + v.stalls.l0.count).sum();
    println!("the flood: {held_up} stalls of others");
    Ok(held_up == 0)
}

fn write_a_little(volumes: &[Arc<Volume>]) -> Result<String> {
    let (mut random, mut times) = (Random(9), Vec::new());
    let end = Instant::now() + LITTLE_TIME;
    while Instant::now() < end {
        std::thread::sleep(LITTLE_INTERVAL);
        let volume = &volumes[(random.next() % volumes.len() as u64) as usize];
        let started = Instant::now();
        put(volume, random.next(), &mut random)?;
        times.push(started.elapsed());
    }
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let (p50, p99, p999, longest) = (at(0.5), at(0.99), at(0.999), at(1.0));
    Ok(format!(
        "{} writes, p50 {p50:.1?}, p99 {p99:.1?}, p999 {p999:.1?}, longest {longest:.1?}",
        times.len()
    ))
}

/// A figure of the process's memory, in bytes.
fn memory(line: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|l| l.strip_prefix(line)).ok_or("no such figure")?;
    Ok(value.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// Starts the measurement of the most memory anew.
fn forget_peak() -> Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
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
