//! Checking a store's files: every checksum, and whether what they say fits together.
//!
//! In this order, each as far as it can be read:
//!
//! 1. the manifest: its snapshot, its edits, whether the levels below L0 are disjoint;
//! 2. each table ([`tables`]): every block, the order of its keys, its filters, and what the manifest says of
//!    it: counts, key range, range of sequence numbers, what it points to;
//! 3. each value in a blob file that a table points to;
//! 4. the log, as an open would replay it, and the values that it points to;
//! 5. the manifest's copy.
//!
//! Nothing is changed: the log is replayed on an [`Overlay`]. The store must be locked, so that nobody else
//! changes it either.

mod tables;

pub(crate) use tables::{Lens, TableCheck};

use crate::disk::overlay::Overlay;
use crate::disk::{Disk, Listed};
use crate::lsm::blob::BlobReader;
use crate::lsm::cache::BlockCache;
use crate::lsm::manifest::{self, State};
use crate::lsm::table::pack::tables_in;
use crate::lsm::table::{self, TableFile, TableMeta};
use crate::lsm::{Error, Options, Result, Store};
use bytes::Bytes;
use std::sync::Arc;

/// Something that is wrong with a store.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What, in which file, at which offset.
    pub error: Error,
    /// The keys that cannot be read for it: from the first up to the second, as far as they are known.
    pub keys: Option<(Bytes, Option<Bytes>)>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem { error, keys: None }
    }
}

/// Is told how a check goes.
pub trait Watch {
    /// So many bytes are to be read in all.
    fn total(&mut self, _bytes: u64) {}

    /// So many more have been read.
    fn read(&mut self, _bytes: u64) {}

    /// Something is wrong.
    fn problem(&mut self, problem: Problem);
}

/// A store whose files were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Tables.
    pub tables: u64,
    /// Records in them.
    pub records: u64,
    /// Values in blob files.
    pub blob_values: u64,
    /// Problems found.
    pub problems: u64,
}

/// Counts what it passes on.
struct Counting<'a> {
    watch: &'a mut dyn Watch,
    problems: u64,
}

impl Watch for Counting<'_> {
    fn total(&mut self, bytes: u64) {
        self.watch.total(bytes);
    }

    fn read(&mut self, bytes: u64) {
        self.watch.read(bytes);
    }

    fn problem(&mut self, problem: Problem) {
        self.problems += 1;
        self.watch.problem(problem);
    }
}

/// Checks the files of the store on `disk`.
///
/// # Errors
/// Only what keeps the check from being made: [`Error::NotAStore`], [`Error::NewerFormat`], a disk that
/// fails. Damage is told to `watch`.
pub fn check(disk: &Arc<dyn Disk>, watch: &mut dyn Watch) -> Result<Checked> {
    let mut watch = Counting { watch, problems: 0 };
    let mut checked = Checked::default();
    let listed = disk.list()?;
    let names: Vec<String> = listed.iter().map(|file| file.name.clone()).collect();
    match manifest::read(disk.as_ref(), &names) {
        Ok(Some(state)) => check_state(disk, &listed, &state, &mut checked, &mut watch)?,
        // An empty store, unless the open below knows better.
        Ok(None) => {}
        Err(error @ Error::Corruption { .. }) => {
            check_tables_alone(disk, &listed, &mut checked, &mut watch)?;
            watch.problem(error.into());
        }
        Err(error) => return Err(error),
    }
    if watch.problems == 0 {
        match open_to_look(disk.clone(), Options::default()) {
            Ok(store) => check_log(&store, &mut checked, &mut watch)?,
            Err(error @ Error::Corruption { .. }) => watch.problem(error.into()),
            Err(error) => return Err(error),
        }
    }
    manifest::copy::differences(disk.as_ref(), &names)?.into_iter().for_each(|e| watch.problem(e.into()));
    checked.problems = watch.problems;
    Ok(checked)
}

/// Opens a store that is only looked at: nothing is changed on `disk`.
///
/// # Errors
/// As [`Store::open`].
pub fn open_to_look(disk: Arc<dyn Disk>, options: Options) -> Result<Store> {
    let overlay = Arc::new(Overlay::new(disk));
    let store = Store::open(overlay.clone(), Options { background: false, ..options })?;
    // Neither is anything written in memory when it is closed.
    overlay.release();
    Ok(store)
}

fn check_state(
    disk: &Arc<dyn Disk>,
    listed: &[Listed],
    state: &State,
    checked: &mut Checked,
    watch: &mut dyn Watch,
) -> Result<()> {
    let blobs = BlobReader::new(disk.clone(), Arc::new(BlockCache::new(0)), state.store, 64);
    let pointed: u64 = state.live_tables().map(TableMeta::blob_bytes).sum();
    watch.total(state.live_tables().map(|table| table.size).sum::<u64>() + pointed);
    check_levels(state, watch);
    let mut seen = std::collections::BTreeSet::new();
    // A table that several volumes refer to is read once.
    let lens = Lens::of(listed);
    for meta in state.live_tables().filter(|meta| seen.insert(meta.number)) {
        let mut table = TableCheck::new(Some(&blobs));
        table.run(disk, &lens, meta, true, watch)?;
        table.count_in(checked);
    }
    for pack in packs_of(state) {
        if let Err(error @ Error::Corruption { .. }) = tables_in(disk.as_ref(), pack) {
            watch.problem(error.into());
        }
    }
    Ok(())
}

/// The packs that a manifest refers to.
pub(crate) fn packs_of(state: &State) -> std::collections::BTreeSet<TableFile> {
    state.live_tables().map(TableMeta::file).filter(|file| matches!(file, TableFile::Pack(_))).collect()
}

/// Without a manifest the tables are still there to be read.
fn check_tables_alone(
    disk: &Arc<dyn Disk>,
    listed: &[Listed],
    checked: &mut Checked,
    watch: &mut dyn Watch,
) -> Result<()> {
    let files = || listed.iter().filter_map(|file| Some((table::parse_name(&file.name)?, file.len)));
    watch.total(files().map(|(_, len)| len).sum());
    let lens = Lens::of(listed);
    for (file, _) in files() {
        let tables = match tables_in(disk.as_ref(), file) {
            Err(error @ Error::Corruption { .. }) => {
                watch.problem(error.into());
                continue;
            }
            tables => tables?,
        };
        for meta in tables {
            let mut table = TableCheck::new(None);
            table.run(disk, &lens, &meta, false, watch)?;
            table.count_in(checked);
        }
    }
    Ok(())
}

/// In each level below L0 the tables are in order, and disjoint.
fn check_levels(state: &State, watch: &mut dyn Watch) {
    for volume in state.volumes.values() {
        for (n, level) in volume.levels.iter().enumerate().skip(1) {
            for pair in level.windows(2).filter(|pair| pair[0].largest >= pair[1].smallest) {
                let what = format!(
                    "it overlaps {} in level {n} of the volume {}",
                    pair[0].file().name(),
                    volume.name
                );
                let error = pair[1].place().damage(0, what);
                let keys = Some((pair[1].smallest.clone(), Some(pair[0].largest.clone())));
                watch.problem(Problem { error, keys });
            }
        }
    }
}

/// The values in blob files that the log's records point to. (Its records were read by the open.)
fn check_log(store: &Store, checked: &mut Checked, watch: &mut dyn Watch) -> Result<()> {
    for volume in store.shared().volumes().iter() {
        let tree = volume.tree();
        for memtable in tree.memtables() {
            tables::check_pointers(memtable, &store.shared().blobs, checked, watch)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
