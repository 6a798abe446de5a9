use super::*;
use std::sync::mpsc;

/// Of the threads: those that read, and those that are parked.
fn standing(readers: &Readers) -> (usize, usize) {
    let state = readers.state.lock();
    (state.reading, state.parked)
}

#[test]
fn somebody_reads_while_a_large_request_is_handled_in_company() {
    let (device, _writer) = rustix::pipe::pipe().unwrap();
    let readers = Readers::new(device, 3, Duration::from_secs(60), Duration::ZERO);
    let (reads, promoted) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        readers.leave(readers.enter(None), false);
        let other = readers.clone();
        scope.spawn(move || {
            other.leave(other.enter(None), false);
            reads.send(()).unwrap();
            // To end it would end all.
            let _ = ended.recv();
        });
        while standing(&readers) != (1, 1) {
            std::thread::yield_now();
        }
        let mut tick = Tick::default();
        readers.nearby.note(1, 1 << 20);
        readers.nearby.tick(&mut tick);
        let turn = readers.enter(None);
        assert_eq!(standing(&readers), (0, 1), "a stream alone");
        readers.leave(turn, false);

        readers.nearby.note(2, 0);
        readers.nearby.tick(&mut tick);
        let turn = readers.enter(None);
        assert_eq!(standing(&readers), (1, 0));
        promoted.recv().unwrap();
        readers.leave(turn, false);
        assert_eq!(standing(&readers), (2, 0), "both go on reading");
        drop(end);
    });
}
