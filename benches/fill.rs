//! A long fill in random order: does the engine keep its promises while the store grows past memory?
//!
//! ```sh
//! cargo bench --bench fill -- DIR [KEYS [OVERWRITES]]
//! ```
//!
//! DIR is a directory that does not exist yet; it is removed in the end. KEYS (20 million) keys of 100
//! bytes with values of 100 bytes are written one by one, in random order; then OVERWRITES (none) of them
//! get new values. Keys and values are half random, so they compress to about half. Printed are the time,
//! what writers lost to stalls, the longest call, the most memory, and what the store takes at rest: when
//! no compaction is due any more, for each byte that a full compaction leaves. Exit status 1: a goal was
//! missed.

use lsmfs::disk::real::RealDisk;
use lsmfs::lsm::{Batch, Options, Store, Volume};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const KEYS: u64 = 20_000_000;
const LEN: usize = 100;
/// The longest that one write may take.
const GOAL_WRITE: Duration = Duration::from_secs(1);
/// Bytes at rest for each that is live.
const GOAL_SPACE: f64 = 1.2;
/// What the process may take beside memtables and cache: code, open tables, jobs.
const GOAL_BESIDE: u64 = 64 << 20;
/// A line of progress each time that so many keys are written.
const REPORT_KEYS: u64 = 2_000_000;
/// Keys that are read back in the end.
const CHECKS: u64 = 10_000;
/// The store is at rest when so many looks in a row find it so, this far apart.
const CALM_LOOKS: u32 = 15;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [dir, numbers @ ..] = args.as_slice() else {
        return Err("usage: cargo bench --bench fill -- DIR [KEYS [OVERWRITES]]".into());
    };
    let number = |n: usize, default| numbers.get(n).map_or(Ok(default), |text| text.parse());
    let (keys, overwrites) = (number(0, KEYS)?, number(1, 0)?);
    // Only what is made here is removed.
    fs::create_dir(dir)?;
    let met = run(Path::new(dir), keys, overwrites);
    fs::remove_dir_all(dir)?;
    if met? { Ok(()) } else { Err("a goal was missed".into()) }
}

fn run(dir: &Path, keys: u64, overwrites: u64) -> Result<bool> {
    let options = Options::default();
    let budget = options.memtable_stall_size as u64 + options.cache_size + GOAL_BESIDE;
    let disk = RealDisk::open_or_create(dir, Duration::ZERO)?;
    let store = Store::open(Arc::new(disk), options)?;
    let volume = store.volume("main")?;

    let longest = fill(&store, &volume, keys, overwrites)?;
    let stalls = store.stats().stalls;
    for (name, stall) in [("memtables", stalls.memtables), ("l0", stalls.l0)] {
        let [total, max] = [stall.total_ns, stall.max_ns].map(Duration::from_nanos);
        println!("stalls, {name}: {} of {total:.1?} in all, the longest {max:.1?}", stall.count);
    }
    println!("longest write: {longest:.1?}");

    store.flush()?;
    wait_for_rest(&store, dir)?;
    check(&volume, keys)?;
    let peak = peak_memory()?;
    println!("memory: {} MiB at most, of {} MiB", peak >> 20, budget >> 20);
    let write_amplification = store.stats().amplification.write.unwrap_or(0.0);
    let at_rest = bytes_in(dir)?;
    print_levels(&store);
    store.compact()?;
    let live: u64 = tables(&store).map(|(_, bytes)| bytes).sum();
    let space = at_rest as f64 / live as f64;
    println!("written for each byte: {write_amplification:.2}");
    println!("at rest: {} MiB for {} MiB that are live: {space:.3}", at_rest >> 20, live >> 20);
    store.close()?;
    Ok(longest < GOAL_WRITE && peak <= budget && space <= GOAL_SPACE)
}

/// Writes all keys; the longest that a write took.
fn fill(store: &Store, volume: &Volume, keys: u64, overwrites: u64) -> Result<Duration> {
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut longest_since = Duration::ZERO;
    for i in 0..keys + overwrites {
        let mut batch = Batch::new();
        batch.put(&key(number(i, keys)), &value(i));
        let called = Instant::now();
        volume.write(batch)?;
        longest_since = longest_since.max(called.elapsed());
        if (i + 1) % REPORT_KEYS == 0 {
            longest = longest.max(longest_since);
            let l0 = tables(store).filter(|(level, _)| *level == 0).count();
            println!(
                "{:>9} keys, {:>6.1?}, longest write {longest_since:.1?}, {l0} tables in L0",
                i + 1,
                start.elapsed()
            );
            longest_since = Duration::ZERO;
        }
    }
    println!("{} writes in {:.1?}", keys + overwrites, start.elapsed());
    Ok(longest.max(longest_since))
}

/// The number of the key that the `i`th write is to.
fn number(i: u64, keys: u64) -> u64 {
    if i < keys { i } else { mix(i) % keys }
}

/// Keys are in random order: a number's digits are mixed. Each has one of its own.
fn key(number: u64) -> [u8; LEN] {
    let mut out = [0; LEN];
    for (at, piece) in out.chunks_mut(16).enumerate() {
        let digits = format!("{:016x}", mix(number + ((at as u64) << 40)));
        piece.copy_from_slice(&digits.as_bytes()[..piece.len()]);
    }
    out
}

/// The value of the `i`th write: half random, half a copy.
fn value(i: u64) -> [u8; LEN] {
    let mut out = [0; LEN];
    for (at, piece) in out[..LEN / 2].chunks_mut(8).enumerate() {
        let bytes = mix(!i + ((at as u64) << 40)).to_le_bytes();
        piece.copy_from_slice(&bytes[..piece.len()]);
    }
    out.copy_within(..LEN / 2, LEN / 2);
    out
}

/// A bijection without a pattern (splitmix64's).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Reads some of the keys, and some that nobody wrote.
fn check(volume: &Volume, keys: u64) -> Result<()> {
    for i in (0..keys).step_by((keys / CHECKS).max(1) as usize) {
        if volume.get(&key(i))?.is_none_or(|value| value.head.len() != LEN) {
            return Err(format!("key {i} is not what was written").into());
        }
        if volume.get(&key(keys + i))?.is_some() {
            return Err(format!("key {} was never written", keys + i).into());
        }
    }
    Ok(())
}

/// Waits until no compaction runs or becomes due, and what the last one read is deleted.
fn wait_for_rest(store: &Store, dir: &Path) -> Result<()> {
    let start = Instant::now();
    let (mut calm, mut before) = (0, (0, 0));
    while calm < CALM_LOOKS {
        std::thread::sleep(LOOK_INTERVAL);
        let stats = store.stats();
        let running = stats.volumes.iter().any(|volume| !volume.compacting.is_empty());
        let now = (stats.compactions.jobs.total(), bytes_in(dir)?);
        calm = if running || now != before { 0 } else { calm + 1 };
        before = now;
    }
    println!("at rest after {:.1?}", start.elapsed());
    Ok(())
}

/// Each table's level and bytes.
fn tables(store: &Store) -> impl Iterator<Item = (usize, u64)> {
    let volumes = store.stats().volumes;
    volumes
        .into_iter()
        .flat_map(|volume| volume.levels.into_iter().enumerate())
        .flat_map(|(n, level)| level.into_iter().map(move |table| (n, table.bytes)))
}

fn print_levels(store: &Store) {
    for n in 0..=6 {
        let sizes: Vec<u64> =
            tables(store).filter(|(level, _)| *level == n).map(|(_, bytes)| bytes).collect();
        if !sizes.is_empty() {
            println!("level {n}: {} tables, {} MiB", sizes.len(), sizes.iter().sum::<u64>() >> 20);
        }
    }
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        // What is deleted meanwhile is not there.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
