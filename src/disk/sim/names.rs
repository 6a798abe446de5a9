//! The directory's entries: what processes see, and what a power cut may leave of them.
//!
//! A change is durable once the directory was synced. Of the others each survives a power cut by
//! chance, in any combination; a move happens whole or not at all.

use super::rng::Rng;
use std::collections::BTreeMap;

/// Which file an entry is.
pub(super) type FileId = u64;

/// Entries by name, in order.
pub(super) type Entries = BTreeMap<String, FileId>;

#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    current: Entries,
    durable: Entries,
    /// The changes that lead from `durable` to `current`, in order.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Add { name: String, file: FileId },
    Remove { name: String, file: FileId },
    Move { from: String, to: String, file: FileId },
}

impl Names {
    /// Entries that are on the disk as they are.
    pub(super) fn durable(entries: Entries) -> Names {
        Names { current: entries.clone(), durable: entries, unsynced: Vec::new() }
    }

    pub(super) fn current(&self) -> &Entries {
        &self.current
    }

    /// Adds an entry; `name` is free.
    pub(super) fn add(&mut self, name: &str, file: FileId) {
        self.change(Change::Add { name: name.to_owned(), file });
    }

    /// Removes an entry that exists.
    pub(super) fn remove(&mut self, name: &str, file: FileId) {
        self.change(Change::Remove { name: name.to_owned(), file });
    }

    /// Moves an entry that exists to a name that is free.
    pub(super) fn rename(&mut self, from: &str, to: &str, file: FileId) {
        self.change(Change::Move { from: from.to_owned(), to: to.to_owned(), file });
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// What a power cut leaves.
    pub(super) fn after_power_cut(&self, rng: &mut Rng) -> Entries {
        let survival_percent = rng.survival_percent();
        let mut found = self.durable.clone();
        for change in &self.unsynced {
            if rng.percent(survival_percent) {
                change.apply(&mut found);
            }
        }
        found
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }
}

impl Change {
    /// The entries may lack earlier changes: only what is this file's is removed.
    fn apply(&self, entries: &mut Entries) {
        match self {
            Change::Add { name, file } => {
                entries.insert(name.clone(), *file);
            }
            Change::Remove { name, file } => remove_if(entries, name, *file),
            Change::Move { from, to, file } => {
                remove_if(entries, from, *file);
                entries.insert(to.clone(), *file);
            }
        }
    }
}

fn remove_if(entries: &mut Entries, name: &str, file: FileId) {
    if entries.get(name) == Some(&file) {
        entries.remove(name);
    }
}
