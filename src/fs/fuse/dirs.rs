//! The directories that the kernel has open.
//!
//! Each keeps a snapshot of its names, and what a snapshot shows takes room in the store as long as it lives, also
//! after it was removed or overwritten. Some programs keep a directory open for days and do not list it. So
//! whichever was not used for a while is told to let go of what it keeps; it takes another snapshot when it is used.
//!
//! A thread of its own does that. It sleeps until something is due, and for ever where there is nothing to let go.
//!
//! # Locks
//! One mutex, held to look and to change; a leaf.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a directory may go unused and keep its snapshot. Who reads a large one and works on each file
/// meanwhile is done with some by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// The open directories, by their handles.
#[derive(Debug)]
pub(super) struct Dirs<D> {
    patience: Duration,
    table: Mutex<Table<D>>,
    wake: Condvar,
}

#[derive(Debug)]
struct Table<D> {
    open: HashMap<u64, Open<D>>,
    next: u64,
    /// Does the thread wait for something to let go?
    waits: bool,
    ended: bool,
}

#[derive(Debug)]
struct Open<D> {
    dir: Arc<D>,
    used_at: Instant,
    /// May it keep a snapshot?
    keeps: bool,
}

impl<D> Dirs<D> {
    /// None are open. What is not used for `patience` lets go.
    pub fn new(patience: Duration) -> Dirs<D> {
        let table = Table { open: HashMap::new(), next: 1, waits: false, ended: false };
        Dirs { patience, table: Mutex::new(table), wake: Condvar::new() }
    }

    /// A directory was opened. Returns its handle.
    pub fn add(&self, dir: D) -> u64 {
        let mut table = self.table.lock();
        let handle = table.next;
        table.next += 1;
        table.open.insert(handle, Open { dir: Arc::new(dir), used_at: Instant::now(), keeps: true });
        self.look_after(&mut table);
        handle
    }

    /// The directory of a handle, to be used.
    pub fn get(&self, handle: u64) -> Option<Arc<D>> {
        let mut table = self.table.lock();
        let open = table.open.get_mut(&handle)?;
        (open.used_at, open.keeps) = (Instant::now(), true);
        let dir = open.dir.clone();
        self.look_after(&mut table);
        Some(dir)
    }

    /// A directory was closed.
    pub fn remove(&self, handle: u64) {
        let dir = self.table.lock().open.remove(&handle);
        drop(dir);
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.table.lock().ended = true;
        self.wake.notify_one();
    }

    /// The thread, until the mount is gone: calls `let_go` with each directory that was not used for so long.
    pub fn run(&self, let_go: impl Fn(&D)) {
        let mut table = self.table.lock();
        while !table.ended {
            let due = table.open.values().filter(|open| open.keeps).map(|open| open.used_at).min();
            match due.map(|used_at| used_at + self.patience) {
                None => {
                    table.waits = true;
                    self.wake.wait(&mut table);
                    table.waits = false;
                }
                Some(due) if due > Instant::now() => _ = self.wake.wait_until(&mut table, due),
                Some(_) => {
                    let unused = table.take_unused(self.patience);
                    MutexGuard::unlocked(&mut table, || unused.iter().for_each(|dir| let_go(dir)));
                }
            }
        }
    }

    /// There is something to let go, some time.
    fn look_after(&self, table: &mut Table<D>) {
        if std::mem::take(&mut table.waits) {
            self.wake.notify_one();
        }
    }
}

impl<D> Table<D> {
    fn take_unused(&mut self, patience: Duration) -> Vec<Arc<D>> {
        let is_unused = |open: &Open<D>| open.keeps && open.used_at.elapsed() >= patience;
        let unused = self.open.values_mut().filter(|open| is_unused(open));
        unused
            .map(|open| {
                open.keeps = false;
                open.dir.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_handle_is_good_until_it_is_closed() {
        let dirs = Dirs::new(PATIENCE);
        let (one, other) = (dirs.add("one"), dirs.add("other"));
        assert_eq!((dirs.get(one).as_deref(), dirs.get(other).as_deref()), (Some(&"one"), Some(&"other")));
        dirs.remove(one);
        assert!(dirs.get(one).is_none() && dirs.get(other).is_some() && dirs.get(0).is_none());
    }

    #[test]
    fn what_is_not_used_lets_go_once_and_again_after_it_was_used() {
        let dirs = Dirs::new(Duration::ZERO);
        let (told, said) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| dirs.run(move |dir: &&str| told.send(*dir).unwrap()));
            let handle = dirs.add("a");
            assert_eq!(said.recv().unwrap(), "a");
            dirs.add("b");
            assert_eq!(said.recv().unwrap(), "b");
            dirs.get(handle).unwrap();
            assert_eq!(said.recv().unwrap(), "a");
            dirs.end();
        });
        assert!(said.recv().is_err(), "each was told once");
        let patient = Dirs::new(PATIENCE);
        patient.add("c");
        assert!(patient.table.lock().take_unused(PATIENCE).is_empty());
    }
}
