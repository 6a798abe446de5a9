//! Closing a store while it works.

mod engine_common;

use engine_common::{open, sim, stepped, try_put};
use lsmfs::disk::sim::Op;
use lsmfs::lsm::{Error, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

fn tables_in_l0(store: &Store) -> usize {
    store.stats().volumes[0].levels[0].len()
}

/// An unmount waits for no more than a record of it: with large tables all of it takes seconds.
#[test]
fn a_compaction_that_runs_is_given_up() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    for round in 0..4 {
        for i in 0..50 {
            try_put(&volume, format!("key{i:02}").as_bytes(), &[round; 100]).unwrap();
        }
        store.flush().unwrap();
    }
    assert_eq!(tables_in_l0(&store), 4);
    let store = Arc::new(store);
    let (weak, closed): (Weak<Store>, _) = (Arc::downgrade(&store), AtomicBool::new(false));
    disk.before(Op::Read, move || {
        let Some(store) = weak.upgrade().filter(|_| !closed.swap(true, Ordering::SeqCst)) else { return };
        store.close().unwrap();
    });
    assert!(matches!(store.step(), Err(Error::Closed)));
    drop((store, volume));

    let (store, volume) = open(&disk, stepped());
    assert_eq!(tables_in_l0(&store), 4, "the inputs are in their places");
    assert_eq!(volume.get(b"key07").unwrap().unwrap().head, [3; 100][..]);
    while store.step().unwrap() {}
    assert_eq!(tables_in_l0(&store), 0, "it is done by whoever opens the store next");
    assert_eq!(volume.get(b"key07").unwrap().unwrap().head, [3; 100][..]);
}
