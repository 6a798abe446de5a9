//! Operations of the simulated disk that hang until a test lets them go on.

use lsmfs::disk::sim::{Op, SimDisk};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything in a test takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something comes about that is on its way.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A gate that operations of the disk wait at while it is shut.
#[derive(Default)]
pub struct Gate {
    /// Is it shut, and how many wait?
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    /// A gate that is shut: from now on these operations of the disk hang until it is opened.
    pub fn shut_at(sim: &SimDisk, op: Op) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.set(true);
        let hung = gate.clone();
        sim.before(op, move || hung.pass());
        gate
    }

    /// Waits while it is shut.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        state = self.changed.wait_while(state, |(shut, _)| *shut).unwrap();
        state.1 -= 1;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().unwrap().1
    }

    /// Shuts it, or opens it.
    pub fn set(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }
}
