use super::*;
use std::thread::{available_parallelism, scope, yield_now};

/// Of the threads: those that read, and those that are parked.
fn standing(readers: &Readers) -> (usize, usize) {
    let state = readers.state.lock();
    (state.reading, state.parked)
}

/// Does a parked thread read when one of these requests is handled, each a caller and a length, and the others came since
/// the last tick?
fn another_reads_after(requests: &[(u32, usize)]) -> bool {
    let (device, _writer) = rustix::pipe::pipe().unwrap();
    let readers = Readers::new(device, 3, Duration::from_secs(60), Duration::ZERO);
    let until = |reading, parked| {
        while standing(&readers) != (reading, parked) {
            yield_now();
        }
    };
    scope(|scope| {
        // A thread serves one mount, to its end.
        let serving = scope.spawn(|| {
            readers.leave(readers.enter(None), false);
            scope.spawn(|| readers.leave(readers.enter(None), false));
            until(1, 1);
            requests.iter().for_each(|(caller, len)| readers.nearby.note(*caller, *len));
            readers.nearby.tick(&mut Tick::default());
            let turn = readers.enter(None);
            let another_reads = standing(&readers) == (1, 0);
            assert!(another_reads || standing(&readers) == (0, 1));
            readers.leave(turn, false);
            another_reads
        });
        serving.join().unwrap()
    })
}

#[test]
fn another_thread_reads_while_several_take_turns_or_a_stream_goes_on_in_company() {
    let (large, small) = (1 << 20, 100);
    assert!(!another_reads_after(&[(1, large)]), "a stream alone");
    assert!(another_reads_after(&[(1, large), (2, small)]));
    assert!(!another_reads_after(&[(1, small); 40]), "one alone");
    let are_several = available_parallelism().unwrap().get() > 1;
    assert_eq!(another_reads_after(&[(1, small), (2, small)].repeat(20)), are_several);
}
