//! Files that a store keeps open, on a real disk. In a program of its own: it counts what the process has open.

use lsmfs::disk::real::RealDisk;
use lsmfs::lsm::options::CompactionMode;
use lsmfs::lsm::{Batch, Options, Store};
use std::sync::Arc;
use std::time::Duration;

/// With the defaults, they stay below what a process may usually have open (1024).
#[test]
fn open_files_stay_below_the_usual_limit() {
    let dir = std::env::temp_dir().join(format!("lsmfs-open-files-{}", std::process::id()));
    let disk = RealDisk::open_or_create(&dir, Duration::from_secs(5)).unwrap();
    // A table and a blob file for each flush.
    let options = Options {
        compaction: CompactionMode::None,
        blob_min: 100,
        blob_file_size: 1,
        background: false,
        ..Options::default()
    };
    let store = Store::open(Arc::new(disk), options).unwrap();
    let volume = store.volume("main").unwrap();
    for n in 0..600u32 {
        let mut batch = Batch::new();
        batch.put_split(&n.to_be_bytes(), b"", &[n as u8; 150]);
        volume.write(batch).unwrap();
        store.flush().unwrap();
    }
    for n in 0..600u32 {
        volume.get(&n.to_be_bytes()).unwrap().unwrap();
    }
    let open_files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    store.close().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!((600..900).contains(&open_files), "{open_files} files are open");
}
