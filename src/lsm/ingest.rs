//! Ingestion: records become sorted tables directly, past the log and the memtables, and all of them join a
//! volume in one edit of the manifest.
//!
//! ```text
//! put, delete ──> memory ──> runs: temporary tables, when memory is full ──┐ merged
//! append ─────────────────────────────────────────────────────────────────┴──> tables, blob files ──> one edit
//! ```
//!
//! Records come in any order ([`Ingest::put`]; a later one of the same key replaces it), or in the order of their keys,
//! which costs no sorting ([`Ingest::append`]). Memory is bounded whatever comes: what is put is held up to a budget,
//! then written out as a sorted run; a run is a table with filters, so that [`Ingest::get`] reads back what was put.
//! [`Ingest::finish`] merges the runs into tables and installs these with those of the appended records.
//!
//! # Fresh keys
//! All keys must be *fresh*: nobody has ever written them to the volume, nor does before they are installed. Then it
//! does not matter where in the tree the tables stand, or which sequence number the records carry. They carry that of a
//! write of the ingestion's own: all that was answered before it stands before them, readers at older snapshots do not
//! see them, and no other record has both their key and their number, in a fork of the volume either. So who wants them to appear at one moment of the history writes what
//! makes them matter (a directory's entry) when they are installed. An ingestion that finds a key that is not fresh
//! fails.
//!
//! # Where tables go
//! To the deepest level where no table overlaps them, else to L0. Fences ([`Ingest::fence`]) are keys at which tables are cut,
//! so that a table does not reach from one region of keys to another, over what others have between.
//!
//! # Crashes
//! Tables and blob files are complete and synced before the edit, and the log is synced past their sequence number. An
//! ingestion that ends before its edit leaves files that no manifest lists: the next open deletes them, as one that
//! fails deletes its own.
//!
//! # Locks
//! Everything is built under no lock. The installation holds `compacting.turn` (a compaction that picked its inputs
//! before would not fit afterwards), the manifest, `naming` (no fork of the volume may come between the edit and the
//! swap of the tree: the manifest's and the memory's fork would differ) and, at the end, `structure`.

mod output;
mod sort;

use self::output::Output;
use self::sort::Sorter;
use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::manifest::Edit;
use crate::lsm::manifest::state::MAX_LEVEL;
use crate::lsm::store::Shared;
use crate::lsm::table::TableMeta;
use crate::lsm::volume::{Tree, Volume};
use crate::lsm::{Error, Result, SeqNo, Value};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

/// Is shown a record (key, head, tail) before it is written; true if it takes it.
pub type Divert<'a> = dyn FnMut(&[u8], &[u8], &[u8]) -> Result<bool> + 'a;

/// What an ingestion has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ingested {
    /// Tables that were installed.
    pub tables: usize,
    /// Records in them.
    pub records: u64,
    /// Their bytes, blob files' included.
    pub bytes: u64,
}

/// An ingestion that is under way. Dropped unfinished, it did nothing.
pub struct Ingest<'v> {
    volume: &'v Volume,
    shared: &'v Shared,
    seq: SeqNo,
    sorter: Sorter<'v>,
    appended: Output<'v>,
    fences: Vec<Bytes>,
}

impl std::fmt::Debug for Ingest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("volume", self.volume).field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Volume {
    /// Starts an ingestion that holds about `memory` bytes of what is put. Its records carry `seq`, the number of a
    /// write to this volume that belongs to the ingestion alone.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::NoVolume`], [`Error::IsSnapshot`].
    pub fn ingest(&self, memory: usize, seq: SeqNo) -> Result<Ingest<'_>> {
        if self.is_snapshot() {
            return Err(Error::IsSnapshot(self.name()));
        }
        self.check_open()?;
        let shared = self.shared();
        let sorter = Sorter::new(shared, memory);
        Ok(Ingest { volume: self, shared, seq, sorter, appended: Output::new(self, seq), fences: Vec::new() })
    }
}

impl Ingest<'_> {
    /// No table reaches over `key`: one ends before it, or starts at it or behind. To be said before keys
    /// there are added.
    pub fn fence(&mut self, key: &[u8]) {
        let at = self.fences.partition_point(|fence| fence.as_ref() < key);
        self.fences.insert(at, Bytes::copy_from_slice(key));
    }

    /// Sets a key to a value of two parts. Keys come in any order; the last value counts.
    pub fn put(&mut self, key: &[u8], head: &[u8], tail: &[u8]) -> Result<()> {
        self.check_room()?;
        self.sorter.set(key, Some((head, tail)))
    }

    /// Takes back what was put under a key.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.sorter.set(key, None)
    }

    /// The value that was put under a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.sorter.get(key)
    }

    /// Sets a key to a value of two parts. The key must be above all that were appended before.
    pub fn append(&mut self, key: &[u8], head: &[u8], tail: &[u8]) -> Result<()> {
        self.check_room()?;
        self.appended.add(&self.fences, key, head, tail)
    }

    /// Writes what is left as tables, and installs them all. Records that `divert` takes (by returning true) are
    /// left out; it is shown those that were put, in the order of their keys.
    ///
    /// # Errors
    /// Nothing was installed.
    pub fn finish(self, divert: &mut Divert<'_>) -> Result<Ingested> {
        let Ingest { volume, shared, seq, sorter, appended, fences } = self;
        let mut sorted = Output::new(volume, seq);
        let merged = sorter.merge(&mut |key, head, tail| match divert(key, head, tail)? {
            true => Ok(()),
            false => sorted.add(&fences, key, head, tail),
        });
        merged?;
        // The blob files are held until the tables hold them.
        let (mut tables, _blobs) = appended.finish()?;
        let (more, _more_blobs) = match sorted.finish() {
            Ok(finished) => finished,
            Err(e) => {
                shared.discard_tables(tables.iter());
                return Err(e);
            }
        };
        tables.extend(more);
        let ingested = Ingested {
            tables: tables.len(),
            records: tables.iter().map(|table| table.entries).sum(),
            bytes: tables.iter().map(|table| table.size + table.blob_bytes()).sum(),
        };
        let installed = volume.install_ingested(&tables, seq);
        // Compactions that came while the turn was held passed the volume over.
        shared.work.reshaped(volume.id());
        shared.compaction_signal.raise();
        if installed.is_err() {
            shared.discard_tables(tables.iter());
        }
        installed?;
        // Runs that were written are deleted.
        if let Err(e) = shared.reclaim() {
            tracing::warn!("files that an ingestion does not need any more stay for now: {e}");
        }
        shared.compaction_signal.raise();
        Ok(ingested)
    }

    /// Does not take the room that is kept for removing.
    fn check_room(&self) -> Result<()> {
        self.shared.admit(self.volume)
    }
}

impl Volume {
    /// Adds tables of fresh keys in one edit.
    fn install_ingested(&self, tables: &[TableMeta], seq: SeqNo) -> Result<()> {
        let shared = self.shared();
        if tables.is_empty() {
            return Ok(());
        }
        shared.commits.wait_visible(seq);
        shared.log.sync()?;
        shared.read_only.check()?;
        tables.iter().try_for_each(|table| self.check_fresh(table))?;
        let live: Vec<Arc<LiveTable>> = tables.iter().map(|table| shared.live_table(table.clone())).collect();
        let _turn = self.compacting.turn();
        let mut manifest = shared.manifest.lock();
        let _naming = shared.naming.lock();
        let (told, tree) = {
            let _structure = shared.structure.lock();
            (shared.told(), self.tree())
        };
        self.check_open()?;
        let added = placed(&tree.levels, live);
        let id = self.id();
        let edit = |(level, table): &(usize, Arc<LiveTable>)| Edit::AddTable {
            volume: id,
            level: *level,
            table: table.meta().clone(),
        };
        shared.commit(&mut manifest, told, added.iter().map(edit).collect())?;
        let _structure = shared.structure.lock();
        // Meanwhile memtables may have been frozen; no table joins or leaves without the manifest.
        let tree = self.tree();
        self.set_tree(Tree { levels: tree.levels.edited(&[], &added), ..Tree::clone(&tree) });
        Ok(())
    }

    /// Refuses a table in whose range the volume has records.
    fn check_fresh(&self, table: &TableMeta) -> Result<()> {
        let mut scan = self.scan(Bound::Included(&table.smallest), Bound::Included(&table.largest))?;
        if scan.next()? || scan.records_passed() > 0 {
            let key = table.smallest.escape_ascii();
            return Err(Error::Internal(format!("ingested keys from {key} on are not fresh")));
        }
        Ok(())
    }
}

/// The level for each table: the deepest where it overlaps nothing.
fn placed(levels: &Levels, tables: Vec<Arc<LiveTable>>) -> Vec<(usize, Arc<LiveTable>)> {
    let free = |table: &LiveTable| {
        let is_free = |n: &usize| levels.overlapping(*n, &table.smallest, &table.largest).is_empty();
        (1..=MAX_LEVEL).rev().find(is_free).unwrap_or(0)
    };
    tables.into_iter().map(|table| (free(&table), table)).collect()
}
