//! What memtables say they hold is what they take from the allocator: their limit is a limit.

mod engine_common;

use engine_common::disk::OddDisk;
use engine_common::stepped;
use lsmfs::lsm::{Batch, Options, Store};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with a count of what is taken: in the pieces that it hands out.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

fn piece(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(piece(layout), Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(piece(layout), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the memtable says of `batches`, over what the allocator says.
fn honesty(batches: impl Fn(u64) -> Batch) -> f64 {
    let options = Options { memtable_size: 1 << 30, memtable_stall_size: 1 << 31, ..stepped() };
    let options = Options { log_segment_size: 1 << 40, ..options };
    let store = Store::open(Arc::new(OddDisk { keeps_logs: false, ..OddDisk::new() }), options).unwrap();
    let volume = store.volume("main").unwrap();
    let before = TAKEN.load(Relaxed);
    (0..5_000).for_each(|i| _ = volume.write(batches(i)).unwrap());
    let taken = TAKEN.load(Relaxed) - before;
    store.stats().volumes[0].memtable_bytes as f64 / taken as f64
}

#[test]
fn memtables_say_what_they_take() {
    let key = |i: u64| [&[b'k'; 12][..], &i.to_be_bytes()].concat();
    let of = |write: &dyn Fn(&mut Batch, u64)| {
        honesty(|i| {
            let mut batch = Batch::new();
            write(&mut batch, i);
            batch
        })
    };
    let honesties = [
        ("delete", of(&|batch, i| batch.delete(&key(i)))),
        ("put 0", of(&|batch, i| batch.put(&key(i), b""))),
        ("put 100", of(&|batch, i| batch.put(&key(i), &[0; 100]))),
        ("put 300", of(&|batch, i| batch.put(&key(i), &[0; 300]))),
        ("put 4096", of(&|batch, i| batch.put(&key(i), &[0; 4096]))),
        ("10 puts 100", of(&|batch, i| (0..10).for_each(|j| batch.put(&key(10 * i + j), &[0; 100])))),
        ("delete ranges one in another", of(&|batch, i| batch.delete_range(&key(i % 1000), &[0xff]))),
        ("delete range", of(&|batch, i| batch.delete_range(&key(2 * i), &key(2 * i + 1)))),
    ];
    let dishonest = honesties.iter().any(|(_, honesty)| !(0.85..1.15).contains(honesty));
    assert!(!dishonest, "said of what is taken: {honesties:.2?}");
}
