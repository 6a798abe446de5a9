use super::*;
use std::sync::mpsc;
use std::thread::{scope, yield_now};

/// Of the threads: those that read, and those that are parked.
fn standing(readers: &Readers) -> (usize, usize) {
    let state = readers.state.lock();
    (state.reading, state.parked)
}

/// Does a parked thread read, and go on, when one of these requests is handled, each a caller and a length, and the others
/// came since the last tick, before the ones ahead of them were answered?
fn another_reads_after(threads: usize, requests: &[(u32, usize)]) -> bool {
    let (device, _writer) = rustix::pipe::pipe().unwrap();
    let mut readers = Readers::new(device, threads, Duration::from_secs(60), Duration::ZERO);
    // However many processors there are.
    let nearby = Nearby::new(Duration::ZERO, threads > 2);
    Arc::get_mut(&mut readers).unwrap().nearby = nearby;
    let readers = &readers;
    scope(|scope| {
        let (let_go, gone) = mpsc::channel::<()>();
        // A thread serves one mount, to its end.
        let serving = scope.spawn(move || {
            readers.leave(readers.enter(None), false);
            scope.spawn(move || {
                readers.leave(readers.enter(None), false);
                // It reads. To end it would end all.
                let _ = gone.recv();
            });
            while standing(readers) != (1, 1) {
                yield_now();
            }
            for (caller, len) in requests {
                readers.nearby.note(*caller, *len);
                readers.nearby.note_wait();
            }
            readers.nearby.tick(&mut Tick::default());
            let turn = readers.enter(None);
            let another_reads = standing(readers) == (1, 0);
            readers.leave(turn, false);
            assert_eq!(standing(readers), if another_reads { (2, 0) } else { (1, 1) });
            drop(let_go);
            another_reads
        });
        serving.join().unwrap()
    })
}

#[test]
fn another_thread_reads_in_a_crowd_and_while_a_stream_goes_on_in_company() {
    let (large, small) = (1 << 20, 100);
    assert!(!another_reads_after(3, &[(1, large)]), "a stream alone");
    assert!(another_reads_after(3, &[(1, large), (2, small)]));
    assert!(!another_reads_after(3, &[(1, small); 40]), "one alone");
    let turns = [(1, small), (2, small)].repeat(20);
    assert!(another_reads_after(3, &turns));
    assert!(!another_reads_after(2, &turns), "the last thread handles nothing");
}
