//! Flushing: frozen memtables become tables of L0.
//!
//! One flush of one volume, in order:
//! 1. Take the *earliest* immutable memtable, once no batch is being inserted into it any more.
//! 2. Build its table, under no lock of the engine. The table's file and the directory are synced.
//! 3. Sync the log past the table's highest sequence number, so that after a power cut no volume
//!    has writes that are younger than another's lost ones.
//! 4. Log the edit in the manifest, then swap the tree: the memtable out and the table in, in one step.
//! 5. Log segments that no memtable needs any more are deleted *one manifest commit later*: should
//!    the newest edit prove unreadable, the log that it made obsolete still stands.
//!
//! `num_memtable_limit` starts flushes; a writer that waits for room starts them too, and so does
//! closing. A failed flush leaves everything as it was and is tried again.
//!
//! # Locks
//! [`Flushing::turn`] lets one flush of a volume run at a time; it is the outermost lock.

use crate::lsm::iter::stripes::keep_visible;
use crate::lsm::log;
use crate::lsm::manifest::{Edit, Manifest};
use crate::lsm::memtable::Memtable;
use crate::lsm::store::Shared;
use crate::lsm::table::{self, TableBuilder, TableMeta};
use crate::lsm::volume::{Tree, Volume};
use crate::lsm::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;

/// A volume's flushes, and those who wait for them.
#[derive(Debug, Default)]
pub(crate) struct Flushing {
    turn: Mutex<()>,
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Outcome {
    /// The last flush failed.
    error: Option<Error>,
    /// Writers that wait for room.
    waiting: usize,
}

impl Volume {
    /// Has a flush of this volume work to do now?
    pub(crate) fn wants_flush(&self) -> bool {
        let frozen = self.tree().immutable.len();
        let limit = self.shared().options.num_memtable_limit.max(1);
        frozen > 0 && (frozen + 1 > limit || self.flushing.outcome.lock().waiting > 0)
    }

    /// Flushes the earliest immutable memtable; false if there is none.
    pub(crate) fn flush_one(&self) -> Result<bool> {
        let _turn = self.flushing.turn.lock();
        let Some(memtable) = self.tree().immutable.last().cloned() else { return Ok(false) };
        let flushed = self.flush_memtable(&memtable);
        {
            let mut outcome = self.flushing.outcome.lock();
            outcome.error = flushed.as_ref().err().cloned();
            self.flushing.changed.notify_all();
        }
        flushed?;
        self.shared().retire_memtable(memtable);
        if let Err(e) = self.shared().retire_log() {
            // The log only stays longer: the next flush tries again.
            tracing::warn!("log segments that are not needed could not be deleted: {e}");
        }
        Ok(true)
    }

    fn flush_memtable(&self, memtable: &Arc<Memtable>) -> Result<()> {
        let shared = self.shared();
        shared.commits.wait_visible(memtable.last_seq());
        let table = build_table(shared, memtable)?;
        shared.log.sync()?;
        self.change_tree(|tree| {
            let mut manifest = shared.manifest.lock();
            let mut edits = vec![Edit::Flushed { volume: self.id(), seq: memtable.last_seq() }];
            edits.extend(table.iter().map(|table| Edit::AddTable {
                volume: self.id(),
                level: 0,
                table: table.clone(),
            }));
            if let Err(e) = manifest.commit(edits) {
                shared.discard_table(&manifest, table.as_ref());
                return Err(e);
            }
            Ok(Some(without_memtable(tree, memtable, table)))
        })
    }

    /// Flushes every memtable, the mutable one too.
    pub(crate) fn flush_all(&self) -> Result<()> {
        self.freeze(|_| true);
        while self.flush_one()? {}
        Ok(())
    }

    /// Waits until the memtables hold less than the limit: before a write has taken anything.
    ///
    /// # Errors
    /// That of the flush which should have made room.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        let limit = self.shared().options.memtable_stall_size;
        if self.memtable_bytes() < limit {
            return Ok(());
        }
        // What could be flushed may all be in the mutable memtable.
        self.freeze_if_full();
        let mut outcome = self.flushing.outcome.lock();
        outcome.waiting += 1;
        self.shared().flush_signal.raise();
        let result = loop {
            let tree = self.tree();
            if tree.memtable_bytes() < limit || tree.immutable.is_empty() {
                break Ok(());
            }
            if let Some(error) = &outcome.error {
                break Err(error.clone());
            }
            if self.shared().is_closed() {
                break Err(Error::Closed);
            }
            if self.shared().options.background {
                self.flushing.changed.wait(&mut outcome);
            } else if let Err(e) = MutexGuard::unlocked(&mut outcome, || self.flush_one()) {
                break Err(e);
            }
        };
        outcome.waiting -= 1;
        result
    }
}

/// The table of `memtable`'s records; `None` if nothing of it is worth keeping.
fn build_table(shared: &Shared, memtable: &Arc<Memtable>) -> Result<Option<TableMeta>> {
    let stripes = shared.snapshots.stripes(&shared.commits);
    let mut builder: Option<TableBuilder> = None;
    keep_visible(&mut memtable.iter(), &stripes, false, &mut |key, head, tail| {
        let builder = match &mut builder {
            Some(builder) => builder,
            empty => empty.insert(new_table(shared)?),
        };
        builder.add(key, head, tail)
    })?;
    builder.map(TableBuilder::finish).transpose()
}

fn new_table(shared: &Shared) -> Result<TableBuilder> {
    let number = shared.manifest.lock().next_file_number()?;
    let writer = shared.disk.create(&table::file_name(number))?;
    TableBuilder::new(writer, number, &shared.table_options)
}

fn without_memtable(tree: &Tree, memtable: &Arc<Memtable>, table: Option<TableMeta>) -> Tree {
    let mut next = tree.clone();
    let earliest = next.immutable.pop();
    assert!(earliest.is_some_and(|m| Arc::ptr_eq(&m, memtable)), "flushes go from the earliest memtable on");
    if let Some(table) = table {
        if next.levels.is_empty() {
            next.levels.push(Vec::new());
        }
        next.levels[0].insert(0, table);
    }
    next
}

impl Shared {
    /// Moves the log's start up to what memtables still need.
    pub(crate) fn retire_log(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        self.delete_obsolete()?;
        // Before the memtables are asked: a batch that none of them knows of yet goes to this segment
        // or a later one.
        let current = self.log.current();
        let first_needed = self.volumes().iter().filter_map(|v| v.tree().first_unflushed()).min();
        let (number, base) = self.log.oldest_needed(current, first_needed);
        if number > manifest.state().log_start.0 {
            manifest.commit(vec![Edit::LogStart { number, base }])?;
            let retired = self.log.retire_below(number);
            self.obsolete.lock().extend(retired.into_iter().map(log::file_name));
        }
        Ok(())
    }

    /// Deletes a table whose edit failed, unless the next open may yet see that edit.
    fn discard_table(&self, manifest: &Manifest, table: Option<&TableMeta>) {
        if let (false, Some(table)) = (manifest.has_failed(), table)
            && let Err(e) = self.disk.delete(&table::file_name(table.number))
        {
            tracing::warn!("a table that is not needed stays until the next open: {e}");
        }
    }

    /// Deletes the files that an earlier manifest commit made obsolete. Under the manifest's lock.
    pub(crate) fn delete_obsolete(&self) -> Result<()> {
        let mut obsolete = self.obsolete.lock();
        while let Some(name) = obsolete.last() {
            self.disk.delete(name)?;
            obsolete.pop();
        }
        Ok(())
    }

    /// Starts a generation of the manifest, after which nothing needs the obsolete files.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        manifest.rotate()?;
        self.delete_obsolete()
    }

    /// Drops a flushed memtable: here, and not on the thread of a reader or writer, when nobody uses it.
    pub(crate) fn retire_memtable(&self, memtable: Arc<Memtable>) {
        let mut retired = self.retired.lock();
        retired.push(memtable);
        retired.retain(|m| Arc::strong_count(m) > 1);
    }
}
