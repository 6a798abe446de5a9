//! Quotas of volumes: what would pass one is refused whole, whoever writes beside it.

mod engine_common;

use engine_common::{contents_of, kill, sim, stepped};
use lsmfs::disk::sim::{Fault, Op as DiskOp};
use lsmfs::lsm::{Batch, Error, Options, Quota, Store, Tally, Volume};

/// A batch that counts.
fn counted(key: u32, change: Tally) -> Batch {
    let mut batch = Batch::new();
    batch.put(&key.to_be_bytes(), b"value");
    batch.count(change);
    batch
}

#[test]
fn a_batch_that_would_pass_the_quota_is_refused_whole() {
    let disk = sim();
    let store = Store::open(disk.clone(), Options { blob_min: 100, ..stepped() }).unwrap();
    let main = store.volume("main").unwrap();
    let quota = Quota { files: Some(3), bytes: Some(1000) };
    store.set_quota(&main, quota).unwrap();
    let write = |volume: &Volume, key, files, bytes| volume.write(counted(key, Tally { files, bytes }));
    write(&main, 1, 1, 600).unwrap();
    let refused = write(&main, 2, 1, 401).unwrap_err();
    assert_eq!(refused.to_string(), "the volume main is at its quota of 1000 bytes");
    assert_eq!(main.get(&2u32.to_be_bytes()).unwrap(), None);
    assert_eq!(main.tally(), Some(Tally { files: 1, bytes: 600 }));
    // Nor are its large values.
    let mut large = counted(2, Tally { files: 0, bytes: 5000 });
    large.put_split(b"large", b"", &[7; 5000]);
    assert!(matches!(main.write(large), Err(Error::OverQuota { what: "bytes", .. })));
    assert_eq!(store.stats().disk.blob_bytes, 0);
    write(&main, 2, 2, 400).unwrap();
    assert!(matches!(write(&main, 3, 1, 0), Err(Error::OverQuota { what: "files", limit: 3, .. })));
    write(&main, 2, 0, 0).unwrap();
    // A fork has the quota, which is its own from then on.
    let fork = store.fork(&main, "fork").unwrap();
    assert_eq!(fork.quota(), quota);
    store.set_quota(&fork, Quota::default()).unwrap();
    write(&fork, 3, 5, 5000).unwrap();
    // A quota that is lowered: what is there stays, and may shrink.
    store.create_snapshot(&main, "s").unwrap();
    store.set_quota(&main, Quota { files: Some(1), bytes: None }).unwrap();
    assert!(write(&main, 3, 1, -5).is_err());
    write(&main, 1, -1, 7000).unwrap();
    // A restore sets back what is held, not how much that may be.
    let snapshot = store.snapshot(&main, "s").unwrap();
    assert!(matches!(store.set_quota(&snapshot, quota), Err(Error::IsSnapshot(_))));
    let main = store.restore("main", "s", |_, _| Ok(())).unwrap();
    let check = |store: &Store, main: &Volume| {
        assert_eq!(main.quota(), Quota { files: Some(1), bytes: None });
        assert_eq!(main.tally(), Some(Tally { files: 3, bytes: 1000 }));
        let fork = store.volume("fork").unwrap();
        assert_eq!((fork.quota(), fork.tally()), (Quota::default(), Some(Tally { files: 8, bytes: 6000 })));
    };
    check(&store, &main);
    let disk = kill(&disk);
    let store = Store::open(disk.clone(), stepped()).unwrap();
    check(&store, &store.volume("main").unwrap());
    store.close().unwrap();
    let store = Store::open(disk, stepped()).unwrap();
    check(&store, &store.volume("main").unwrap());
}

#[test]
fn a_write_that_fails_counts_nothing() {
    let disk = sim();
    let store = Store::open(disk.clone(), stepped()).unwrap();
    let main = store.volume("main").unwrap();
    store.set_quota(&main, Quota { files: Some(2), bytes: None }).unwrap();
    main.write(counted(1, Tally { files: 1, bytes: 1 })).unwrap();
    disk.fail(Fault::new(DiskOp::Write, libc::ENOSPC).times(3));
    for _ in 0..3 {
        assert!(main.write(counted(2, Tally { files: 1, bytes: 1 })).unwrap_err().is_full());
    }
    assert_eq!(main.tally(), Some(Tally { files: 1, bytes: 1 }));
    main.write(counted(2, Tally { files: 1, bytes: 1 })).unwrap();
    store.flush().unwrap();
    assert_eq!(main.tally(), Some(Tally { files: 2, bytes: 2 }));
    let store = Store::open(kill(&disk), stepped()).unwrap();
    assert_eq!(store.volume("main").unwrap().tally(), Some(Tally { files: 2, bytes: 2 }));
}

#[test]
fn writers_at_once_never_pass_the_quota() {
    let options = Options { memtable_size: 4 << 10, background: true, ..stepped() };
    let store = Store::open(sim(), options).unwrap();
    let main = store.volume("main").unwrap();
    store.set_quota(&main, Quota { files: Some(500), bytes: Some(10_000) }).unwrap();
    let written = std::thread::scope(|scope| {
        let writer = |at: u32| {
            let (main, count) = (&main, move |n| at * 1000 + n);
            move || {
                (0..400)
                    .filter(|n| main.write(counted(count(*n), Tally { files: 1, bytes: 7 })).is_ok())
                    .count()
            }
        };
        let writers: Vec<_> = (0..4).map(|at| scope.spawn(writer(at))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
    });
    assert_eq!(written, 500);
    assert_eq!(contents_of(&main).len(), 500);
    assert_eq!(main.tally(), Some(Tally { files: 500, bytes: 3500 }));
}
