//! Repairing a store's files: what can be read is brought back, and what could not be is told.
//!
//! 1. **The manifest.** If it cannot be read, the store's shape is put together from its copy, from what the tables
//!    say of themselves, and from the log ([`rebuild`]).
//! 2. **Tables.** One that is damaged is copied without what cannot be read ([`tables`]); the copy takes its
//!    place. A value that alone cannot be read becomes a tombstone: no older one may come up in its place.
//! 3. **The log.** If an open would refuse it, its whole records up to where it is known to have been durable
//!    become a table of L0 ([`log`]).
//!
//! What cannot be brought back: records in damaged blocks, of which only the range of keys is known. Older
//! versions of their keys may then show, deleted ones among them; with a manifest that was lost, also from
//! tables that were about to be deleted.
//!
//! Everything new is written, and a new generation of the manifest with it, before the first old file moves to
//! `lost/`; none is deleted. A repair that was interrupted is made again from the start.

mod id;
mod log;
mod rebuild;
mod tables;

use crate::disk::Disk;
use crate::lsm::blob::{self, BlobReader};
use crate::lsm::cache::BlockCache;
use crate::lsm::check::{Lens, Problem, TableCheck, Watch, check, open_to_look, packs_of};
use crate::lsm::log as wal;
use crate::lsm::manifest::{self, State};
use crate::lsm::table::pack::tables_in;
use crate::lsm::table::{self, TableBuilder, TableFile, TableMeta, TableOptions};
use crate::lsm::{Error, Options, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Files that were moved to `lost/`.
    pub moved: Vec<String>,
    /// Was the manifest rebuilt?
    pub rebuilt: bool,
    /// Volumes, and snapshots as `VOLUME@SNAPSHOT`, that may lack tables: those that they shared with others, of which
    /// neither the manifest nor its copy tells any more.
    pub uncertain: Vec<String>,
    /// Records that were brought back from the log and from damaged tables.
    pub brought_back: u64,
}

/// A repair that runs.
struct Repair<'a> {
    disk: &'a Arc<dyn Disk>,
    options: TableOptions,
    watch: &'a mut dyn Watch,
    next_file: u64,
    /// Files that nothing needs when the new manifest is written.
    old: Vec<String>,
    done: Repaired,
}

/// Repairs the store on `disk`, which must be locked. Tells `watch` of everything that could not be read.
/// Where nothing is damaged, nothing is changed.
///
/// # Errors
/// What [`check`] gives, and a disk that cannot be written to: then the store is as it was, but for files that
/// the next repair or open removes.
pub fn repair(disk: &Arc<dyn Disk>, options: &Options, watch: &mut dyn Watch) -> Result<Repaired> {
    struct Silent;
    impl Watch for Silent {
        fn problem(&mut self, _: Problem) {}
    }
    if check(disk, &mut Silent)?.problems == 0 {
        return Ok(Repaired::default());
    }
    let names: Vec<String> = disk.list()?.into_iter().map(|file| file.name).collect();
    let options = TableOptions::from(options);
    let next_file = names.iter().filter_map(|name| file_number(name)).max().unwrap_or(0) + 1;
    let mut repair = Repair { disk, options, watch, next_file, old: Vec::new(), done: Repaired::default() };
    match manifest::read(disk.as_ref(), &names) {
        Ok(Some(state)) => {
            repair.next_file = repair.next_file.max(state.files);
            repair.mend_tables(state)?;
        }
        Ok(None) => repair.rebuild(&names)?,
        Err(error @ Error::Corruption { .. }) => {
            repair.watch.problem(error.into());
            repair.rebuild(&names)?;
        }
        Err(error) => return Err(error),
    }
    repair.mend_log()?;
    Ok(repair.done)
}

/// The number of a table's, a pack's or a blob file's name.
fn file_number(name: &str) -> Option<u64> {
    table::parse_name(name).map(TableFile::number).or_else(|| blob::parse_file_name(name))
}

/// What was read; `None` where it is damaged.
fn unless_damaged<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(Error::Corruption { .. }) => Ok(None),
        read => read.map(Some),
    }
}

impl Repair<'_> {
    fn blobs(&self, store: u64) -> BlobReader {
        BlobReader::new(self.disk.clone(), Arc::new(BlockCache::new(0)), store, 64)
    }

    fn new_table(&mut self) -> Result<TableBuilder> {
        let number = self.next_file;
        self.next_file += 1;
        TableBuilder::new(self.disk.create(&table::file_name(number))?, number, &self.options)
    }

    /// Puts copies in the places of damaged tables.
    fn mend_tables(&mut self, mut state: State) -> Result<()> {
        self.options.store = state.store;
        let blobs = self.blobs(state.store);
        let lens = Lens::of(&self.disk.list()?);
        let mut copies: BTreeMap<u64, Option<TableMeta>> = BTreeMap::new();
        let mut old: BTreeSet<TableFile> = BTreeSet::new();
        let metas: Vec<TableMeta> = state.live_tables().cloned().collect();
        // Their tables are copied, too, those that are sound among them: a pack is not mended in its place.
        let mut damaged_packs = BTreeSet::new();
        for pack in packs_of(&state) {
            if unless_damaged(tables_in(self.disk.as_ref(), pack))?.is_none() {
                damaged_packs.insert(pack);
            }
        }
        for meta in metas {
            if copies.contains_key(&meta.number) {
                continue;
            }
            let mut sound = Sound(true);
            TableCheck::new(Some(&blobs)).run(self.disk, &lens, &meta, true, &mut sound)?;
            if !sound.0 || damaged_packs.contains(&meta.file()) {
                let copy = self.copy_of(&meta, &blobs)?;
                copies.insert(meta.number, copy);
                old.insert(meta.file());
            }
        }
        if copies.is_empty() {
            return Ok(());
        }
        for volume in state.volumes.values_mut() {
            for level in &mut Arc::make_mut(volume).levels {
                let replaced = level.iter().filter_map(|meta| match copies.get(&meta.number) {
                    Some(copy) => copy.clone().map(Arc::new),
                    None => Some(meta.clone()),
                });
                *level = Arc::new(replaced.collect());
            }
        }
        // A pack stays while it has a sound table.
        let live: BTreeSet<TableFile> = state.live_tables().map(TableMeta::file).collect();
        self.old.extend(old.difference(&live).map(|file| file.name()));
        self.install(state)
    }

    /// If the log would be refused, or points to what cannot be read, makes tables of it.
    fn mend_log(&mut self) -> Result<()> {
        let mut sound = Sound(true);
        match open_to_look(self.disk.clone(), Options::default()) {
            Ok(_) => _ = check(self.disk, &mut sound)?,
            Err(Error::Corruption { .. }) => sound.0 = false,
            Err(error) => return Err(error),
        }
        if sound.0 {
            return Ok(());
        }
        let names: Vec<String> = self.disk.list()?.into_iter().map(|file| file.name).collect();
        let Some(mut state) = manifest::read(self.disk.as_ref(), &names)? else { return Ok(()) };
        self.next_file = self.next_file.max(state.files);
        self.options.store = state.store;
        let blobs = self.blobs(state.store);
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| wal::parse_file_name(name)).collect();
        numbers.retain(|number| *number >= state.log_start.0);
        numbers.sort_unstable();
        let framing = Some(wal::framing(state.store));
        let read = log::Salvage::of(self, framing, &numbers, &mut state, true, &blobs)?;
        let (memtables, end) = (read.memtables, read.segments_end);
        for (id, memtables) in &memtables {
            if let Some(volume) = state.volumes.get_mut(id).map(Arc::make_mut) {
                volume.tally += memtables.iter().map(|memtable| memtable.tally()).sum();
            }
            let Some(table) = self.merge(Vec::new(), memtables)? else { continue };
            if let Some(volume) = state.volumes.get_mut(id).map(Arc::make_mut) {
                volume.flushed = volume.flushed.max(table.largest_seq);
                if volume.levels.is_empty() {
                    volume.levels.push(Arc::default());
                }
                Arc::make_mut(&mut volume.levels[0]).insert(0, Arc::new(table));
            }
        }
        self.old.extend(names.iter().filter(|name| wal::parse_file_name(name).is_some()).cloned());
        end_log(&mut state, end);
        self.install(state)
    }

    /// Writes a state as the newest manifest, then moves away what it replaces.
    fn install(&mut self, mut state: State) -> Result<()> {
        state.files = state.files.max(self.next_file);
        state.find_uncounted();
        let names: Vec<String> = self.disk.list()?.into_iter().map(|file| file.name).collect();
        manifest::write_new(self.disk.as_ref(), manifest::next_generation(&names)?, &state)?;
        let old_manifests = names.into_iter().filter(|name| manifest::is_manifest_file(name));
        self.old.extend(old_manifests);
        for name in std::mem::take(&mut self.old) {
            match self.disk.move_to_lost(&name) {
                Err(e) if e.is_not_found() => {}
                moved => {
                    moved?;
                    self.done.moved.push(name);
                }
            }
        }
        Ok(self.disk.sync_dir()?)
    }
}

/// All that was read of the log is in tables now; it goes on behind.
fn end_log(state: &mut State, end: (u64, u64)) {
    (state.log_start, state.log_durable) = (end, end.1);
    state.sealed.clear();
    state.volumes.values_mut().map(Arc::make_mut).for_each(|volume| volume.inherits.clear());
}

/// Whether nothing was found.
struct Sound(bool);

impl Watch for Sound {
    fn problem(&mut self, _: Problem) {
        self.0 = false;
    }
}

#[cfg(test)]
mod tests;
