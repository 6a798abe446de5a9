//! Rebuilding the manifest: which volumes there were, and which tables are whose.
//!
//! What it goes by, in this order:
//!
//! - **The last known shape**: a snapshot of the manifest, or its copy, and of its edits what can be read
//!   ([`copy::last_known`]). Without one there is a volume `main`.
//! - **The log's records about volumes** since then, and its writes.
//! - **Tables that the shape does not know**: each tells which volumes it was made for ([`Home`]). One that does not
//!   is the first volume's. A fork that the log tells of has those of its origin that are older than it.
//!
//! What a new table was merged from is not looked at any more: a merge drops deletes together with what they delete.
//!
//! A volume all of whose tables are there, and for which none is new, keeps them where they are. Of any other the
//! records of all tables, and of the log, are merged, in the order of their sequence numbers, into one table of
//! L0, which compactions cut up again: where a table stood in the levels is lost, and no order of whole tables
//! would do. Volumes that share all of these share that table.
//!
//! Where neither a snapshot nor its copy can be read, volumes that are gone may be back, and a fork has only the
//! tables that were made since: which older ones it shared with its origin nothing else tells. All volumes but the
//! first, which is nobody's fork, are said to be uncertain then; that one, too, if its name was given to another (by a
//! restore). A fork or snapshot for which no table was made, and
//! of which the log tells nothing, is not found.
//!
//! The store's id is looked for in what is left ([`id`]), unless the shape has it.

use super::log::{Salvage, last_run, nameless};
use super::{Repair, end_log, id};
use crate::lsm::blob::BlobReader;
use crate::lsm::check::Lens;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::log as wal;
use crate::lsm::manifest::{Edit, State, VolumeId, VolumeState, copy};
use crate::lsm::memtable::Memtable;
use crate::lsm::recover::FIRST_VOLUME;
use crate::lsm::table::pack::tables_in;
use crate::lsm::table::{self, Home, Table, TableFile, TableMeta};
use crate::lsm::volumes::HIDDEN;
use crate::lsm::{Error, Result, SeqNo};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The first volume's number.
const FIRST_ID: VolumeId = 1;

/// A table that is there, or a copy of what can be read of it.
struct Found {
    table: Arc<Table>,
    /// Of the copy, if it is one.
    copied: Option<Arc<TableMeta>>,
    largest_seq: SeqNo,
    homes: Vec<Home>,
    /// The tables that it stands for, all of them.
    replaces: Vec<u64>,
}

type Tables = BTreeMap<u64, Found>;

/// What a merged table was made of: tables' numbers, and memtables by their addresses.
type Sources = (Vec<u64>, Vec<*const Memtable>);

impl Repair<'_> {
    /// Makes a state from what is left, and installs it.
    pub(super) fn rebuild(&mut self, names: &[String]) -> Result<()> {
        self.done.rebuilt = true;
        let known = copy::last_known(self.disk.as_ref(), names)?;
        let stated = known.as_ref().map(|state| state.store).filter(|store| *store != 0);
        let found = match stated {
            None => id::find(self.disk.as_ref(), names)?,
            stated => stated,
        };
        let store = match found {
            Some(store) => store,
            None => id::make_new(self.disk.as_ref(), names)?,
        };
        self.options.store = store;
        let blobs = self.blobs(store);
        let is_known = known.is_some();
        let mut state = known.unwrap_or_else(first_volume);
        state.store = store;
        self.next_file = self.next_file.max(state.files);
        let tables = self.tables(names, &blobs)?;
        let listed: HashSet<u64> = state.live_tables().map(|table| table.number).collect();
        let framing = found.map(wal::framing);
        let read = Salvage::of(self, framing, &last_run(names), &mut state, false, &blobs)?;
        let strangers: Vec<u64> = tables.keys().copied().filter(|number| !listed.contains(number)).collect();
        // Names may have changed: the newest tables first.
        let homes =
            strangers.iter().rev().filter_map(|number| tables.get(number)).flat_map(|found| &found.homes);
        let new: Vec<&Home> = homes.filter(|home| read.is_new(home.id)).collect();
        let (memtables, forks, last_seq, end) =
            (read.memtables, read.forks, read.last_seq, read.segments_end);
        let first_has_its_name = !new.iter().any(|home| home.owner.is_none() && home.name == FIRST_VOLUME);
        new.into_iter().for_each(|home| settle(&mut state, home));
        let mut merged: HashMap<Sources, Option<Arc<TableMeta>>> = HashMap::new();
        for id in state.volumes.keys().copied().collect::<Vec<_>>() {
            let is_own = |number: &&u64| tables.get(number).is_some_and(|f| belongs(f, id, &forks));
            let new: Vec<u64> = strangers.iter().filter(is_own).copied().collect();
            let memtables = memtables.get(&id).map_or(&[][..], Vec::as_slice);
            let Some(volume) = state.volumes.get_mut(&id).map(Arc::make_mut) else { continue };
            self.rebuild_volume(volume, &tables, new, memtables, &mut merged)?;
            volume.flushed = volume.flushed.max(newest(volume));
        }
        if !is_known {
            let uncertain = state.volumes.keys().filter(|id| **id != FIRST_ID || !first_has_its_name);
            self.done.uncertain = uncertain.map(|id| full_name(&state, *id)).collect();
        }
        state.absorbed = state.absorbed.max(last_seq);
        // A log that is gone leaves its numbers behind.
        let end = end.max(state.log_start);
        end_log(&mut state, end);
        // Nobody knows which of the tables' tallies the shape has.
        state.keeps_no_tallies = true;
        state.forget_lineages();
        let live: HashSet<TableFile> = state.live_tables().map(TableMeta::file).collect();
        let files = self.disk.list()?.into_iter().map(|file| file.name);
        let is_old = |name: &String| match table::parse_name(name) {
            Some(file) => !live.contains(&file),
            None => wal::parse_file_name(name).is_some() && names.contains(name),
        };
        self.old = files.filter(is_old).collect();
        self.install(state)
    }

    /// Whatever tables are there.
    fn tables(&mut self, names: &[String], blobs: &BlobReader) -> Result<Tables> {
        let mut tables = Tables::new();
        let lens = Lens::of(&self.disk.list()?);
        for file in names.iter().filter_map(|name| table::parse_name(name)) {
            let Some(metas) = self.listed_in(file)? else { continue };
            for meta in metas {
                if let Some(found) = self.found(&meta, &lens, blobs)? {
                    tables.insert(meta.number, found);
                }
            }
        }
        Ok(tables)
    }

    /// The tables of a file; `None` if it does not say.
    fn listed_in(&mut self, file: TableFile) -> Result<Option<Vec<TableMeta>>> {
        match tables_in(self.disk.as_ref(), file) {
            Err(error @ Error::Corruption { .. }) => {
                self.watch.problem(error.into());
                Ok(None)
            }
            listed => listed.map(Some),
        }
    }

    fn found(&mut self, meta: &TableMeta, lens: &Lens, blobs: &BlobReader) -> Result<Option<Found>> {
        let properties = self.open(meta)?.ok().and_then(|table| table.properties().ok());
        let (homes, replaces) = properties.map(|found| (found.homes, found.replaces)).unwrap_or_default();
        let Some(table) = self.sound_table(meta, lens, blobs)? else { return Ok(None) };
        let own = table.properties()?.meta;
        let largest_seq = own.largest_seq;
        if own.number == meta.number {
            return Ok(Some(Found { table, copied: None, largest_seq, homes, replaces }));
        }
        // What the damaged one lacks, those that it stands for may have.
        Ok(Some(Found { table, copied: Some(own.into()), largest_seq, homes, replaces: Vec::new() }))
    }

    fn rebuild_volume(
        &mut self,
        volume: &mut VolumeState,
        tables: &Tables,
        new: Vec<u64>,
        memtables: &[Arc<Memtable>],
        merged: &mut HashMap<Sources, Option<Arc<TableMeta>>>,
    ) -> Result<()> {
        let numbers = || volume.levels.iter().flat_map(|level| level.iter()).map(|table| table.number);
        // What the shape's own tables stand for was obsolete, if it is still there: in a pack that others need.
        let stood_for: HashSet<u64> =
            numbers().filter_map(|n| tables.get(&n)).flat_map(|f| f.replaces.iter().copied()).collect();
        let new: Vec<u64> = new.into_iter().filter(|number| !stood_for.contains(number)).collect();
        let keeps = new.is_empty() && numbers().all(|number| tables.contains_key(&number));
        let found = new.iter().filter_map(|number| tables.get(number));
        let replaced: HashSet<u64> = found.flat_map(|found| found.replaces.iter().copied()).collect();
        let mut sources: Vec<u64> = if keeps { Vec::new() } else { numbers().chain(new).collect() };
        sources.retain(|number| tables.contains_key(number) && !replaced.contains(number));
        let key = (sources, memtables.iter().map(Arc::as_ptr).collect());
        let table = match merged.get(&key) {
            Some(table) => table.clone(),
            None => {
                let opened = key.0.iter().filter_map(|n| tables.get(n)).map(|f| f.table.clone()).collect();
                let table = self.merge(opened, memtables)?.map(Arc::new);
                merged.insert(key, table.clone());
                table
            }
        };
        if !keeps {
            volume.levels = Vec::new();
        }
        for level in &mut volume.levels {
            let copied = |meta: &Arc<TableMeta>| tables.get(&meta.number).and_then(|f| f.copied.clone());
            if level.iter().any(|meta| copied(meta).is_some()) {
                *level = Arc::new(level.iter().map(|m| copied(m).unwrap_or_else(|| m.clone())).collect());
            }
        }
        if let Some(table) = table {
            if volume.levels.is_empty() {
                volume.levels.push(Arc::default());
            }
            Arc::make_mut(&mut volume.levels[0]).insert(0, table);
        }
        Ok(())
    }
}

/// A store of which nothing is known has its first volume.
fn first_volume() -> State {
    let main = VolumeState { name: FIRST_VOLUME.to_string(), ..VolumeState::default() };
    State {
        volumes: BTreeMap::from([(FIRST_ID, main.into())]),
        next_volume: FIRST_ID + 1,
        ..State::default()
    }
}

/// A volume's name, behind that of the volume that it is a snapshot of.
fn full_name(state: &State, id: VolumeId) -> String {
    let name =
        |id: VolumeId| state.volumes.get(&id).map_or_else(|| nameless(id), |volume| volume.name.clone());
    match state.volumes.get(&id).and_then(|volume| volume.owner) {
        Some(owner) => format!("{}@{}", name(owner), name(id)),
        None => name(id),
    }
}

/// The newest write in a volume's tables.
fn newest(volume: &VolumeState) -> u64 {
    volume.levels.iter().flat_map(|level| level.iter()).map(|table| table.largest_seq).max().unwrap_or(0)
}

/// Is a table that the shape does not know a volume's? `forks`: from which one each was forked, and where, as far as
/// the log tells.
fn belongs(found: &Found, id: VolumeId, forks: &BTreeMap<VolumeId, (VolumeId, SeqNo)>) -> bool {
    let is_home = |id: VolumeId| match found.homes.is_empty() {
        true => id == FIRST_ID,
        false => found.homes.iter().any(|home| home.id == id),
    };
    let (mut id, mut up_to) = (id, MAX_SEQ);
    // Numbers grow from forks to forks of them: this ends.
    loop {
        if is_home(id) && found.largest_seq <= up_to {
            return true;
        }
        match forks.get(&id) {
            Some(&(from, seq)) if from < id => (id, up_to) = (from, up_to.min(seq)),
            _ => return false,
        }
    }
}

/// Makes a volume that only a table knows, or gives one its name that only the log knows.
fn settle(state: &mut State, home: &Home) {
    if state.volumes.get(&home.id).is_some_and(|volume| volume.name != nameless(home.id)) {
        return;
    }
    let is_taken = state.volumes.values().any(|v| v.name == home.name && v.owner == home.owner);
    // The next open would take a hidden one for what an interrupted restore left, and delete it.
    let is_hidden = home.owner.is_none() && home.name.starts_with(HIDDEN);
    let name = if is_taken || is_hidden { nameless(home.id) } else { home.name.clone() };
    // What does not fit is left as it is.
    let _ = state.apply_all([Edit::Volume { id: home.id, name }]);
    if let Some(owner) = home.owner {
        let _ = state.apply_all([Edit::Owner { id: home.id, owner }]);
    }
}
