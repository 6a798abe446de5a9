//! Every byte of a small store's files flipped, every file cut at every length: an error that names the file
//! and the offset, or the right answer. Never a panic, a wrong byte or a huge allocation. `LSMFS_DAMAGE_BITS` says how
//! many bits of each byte, one after the other.

mod engine_common;

use engine_common::open;
use lsmfs::disk::Disk;
use lsmfs::disk::sim::SimDisk;
use lsmfs::lsm::options::{CompactionMode, Compression};
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Notes the largest allocation.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with its own arguments.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// The stores here have a few kilobytes. (What is allocated once, whatever the files say, is less.)
const ALLOCATION_MAX: usize = 4 << 20;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    Options {
        memtable_size: 64 << 10,
        memtable_stall_size: 128 << 10,
        // Blocks that are made ahead of the records are as many bytes to flip.
        log_segment_size: 2 << 10,
        block_size: 256,
        cache_size: 64 << 10,
        open_files: 8,
        blob_min: 300,
        compression: Compression::Lz4,
        bottom_compression: Compression::None,
        compaction: CompactionMode::None,
        background: false,
        ..Options::default()
    }
}

fn batch_of(round: u8) -> Batch {
    let mut batch = Batch::new();
    for i in 0..12u8 {
        let len = if i % 6 == 0 { 320 } else { 30 };
        batch.put_split(format!("{round}key{i:02}").as_bytes(), b"head", &vec![i ^ round; len]);
    }
    batch.patch(format!("{round}key03").as_bytes(), 40, &[(1, b"patch")]);
    batch.patch_split(format!("{round}key04").as_bytes(), b"other", 30, 50, &[(2, b"patch")]);
    batch.delete(format!("{round}key05").as_bytes());
    batch.delete_range(format!("{round}key07").as_bytes(), format!("{round}key09").as_bytes());
    batch
}

/// A killed store with three tables, blob files, edits, and batches in its log; and what it holds after each of
/// those.
fn filled() -> (SimDisk, Vec<Contents>) {
    let sim = Arc::new(SimDisk::new(1));
    let (store, volume) = open(&sim, options());
    for round in 0..3 {
        volume.write(batch_of(round)).unwrap();
        store.flush().unwrap();
    }
    let mut histories = vec![contents(&volume).unwrap()];
    for i in 3..6 {
        volume.write(batch_of(i)).unwrap();
        histories.push(contents(&volume).unwrap());
        if i == 4 {
            store.sync().unwrap();
        }
    }
    (sim.crash_keep_all(), histories)
}

/// All of a volume, scanned both ways and got key by key; these must agree.
fn contents(volume: &Arc<Volume>) -> Result<Contents, Error> {
    let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded)?;
    let mut contents = Contents::new();
    while scan.next()? {
        contents.insert(scan.key().to_vec(), [scan.head(), &scan.tail()?].concat());
    }
    let mut back = volume.scan_back(Bound::Unbounded, Bound::Unbounded)?;
    let mut left = contents.iter().rev();
    while back.next()? {
        assert_eq!(Some(back.key()), left.next().map(|(key, _)| key.as_slice()));
    }
    assert_eq!(left.next(), None);
    for (key, value) in &contents {
        let got = volume.get(key)?.expect("the scan found it");
        assert_eq!([&got.head[..], &got.tail].concat(), *value);
    }
    Ok(contents)
}

fn read(sim: &Arc<SimDisk>) -> Result<Contents, Error> {
    let disk: Arc<dyn Disk> = sim.clone();
    let store = Store::open(disk, options())?;
    contents(&store.volume("main")?)
}

/// A store with one file changed.
fn with(files: &[(String, Vec<u8>)], name: &str, changed: &[u8]) -> Arc<SimDisk> {
    let sim = SimDisk::new(2);
    for (other, bytes) in files {
        sim.write_file(other, if other == name { changed } else { bytes }).unwrap();
    }
    Arc::new(sim)
}

fn files(sim: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = sim.list().unwrap().into_iter().map(|file| file.name);
    names.map(|name| (name.clone(), sim.read_file(&name).unwrap())).collect()
}

/// Damage in the manifest's last record of edits looks like a torn one, in the log like the log's end: older
/// states of the store are right answers then, and no others.
fn judge(result: Result<Contents, Error>, name: &str, histories: &[Contents], what: &str) -> bool {
    match result {
        Ok(found) => {
            let log_may_end = name.ends_with(".log") || name.ends_with(".blob");
            let right = found == *histories.last().unwrap() || (log_may_end && histories.contains(&found));
            assert!(right, "{what}: a wrong answer");
            false
        }
        Err(Error::Corruption { file, .. }) => {
            // A missing piece of one file may show in who refers to it.
            let named =
                file == name || (name.starts_with("edits-") && !file.is_empty()) || name.ends_with(".log");
            assert!(named, "{what}: blames {file}");
            true
        }
        Err(Error::NewerFormat { file, .. }) if file == name => true,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_an_error_or_no_loss() {
    let (sim, histories) = filled();
    let files = files(&sim);
    let before = LARGEST.swap(0, Ordering::Relaxed);
    assert_eq!(read(&with(&files, "", b"")).unwrap(), *histories.last().unwrap());
    let bits = std::env::var("LSMFS_DAMAGE_BITS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (mut flipped, mut cut, mut errors) = (0, 0, 0);
    for (name, sound) in &files {
        for (at, bit) in (0..sound.len()).flat_map(|at| (0..bits).map(move |n| (at, (at + n) % 8))) {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at} of {name}");
            errors += u32::from(judge(read(&with(&files, name, &damaged)), name, &histories, &what));
            flipped += 1;
        }
        for len in 0..sound.len() {
            let what = format!("{name} cut to {len}");
            errors += u32::from(judge(read(&with(&files, name, &sound[..len])), name, &histories, &what));
            cut += 1;
        }
    }
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest < ALLOCATION_MAX, "{largest} bytes at once (before: {before})");
    assert!(errors > flipped, "{errors} errors");
    println!("{flipped} bits flipped, {cut} cuts, {errors} errors; at most {largest} bytes at once");
}

#[test]
fn one_damaged_table_makes_unreadable_only_the_keys_in_it() {
    let (sim, histories) = filled();
    let files = files(&sim);
    let tables: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".sst")).collect();
    assert_eq!(tables.len(), 3);
    for (number, (name, sound)) in tables.into_iter().enumerate() {
        let mut hurt = 0;
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            let disk: Arc<dyn Disk> = with(&files, name, &damaged);
            let store = Store::open(disk, options()).unwrap();
            let volume = store.volume("main").unwrap();
            for (key, value) in histories.last().unwrap() {
                match volume.get(key) {
                    Ok(Some(got)) => assert_eq!([&got.head[..], &got.tail].concat(), *value),
                    Err(Error::Corruption { file, .. }) if file == *name => {
                        assert_eq!(usize::from(key[0] - b'0'), number, "byte {at}: a key of another table");
                        hurt += 1;
                    }
                    other => panic!("byte {at} of {name}: {other:?}"),
                }
            }
        }
        assert!(hurt > 0);
    }
}
