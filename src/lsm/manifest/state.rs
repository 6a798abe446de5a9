//! What a manifest says: a store's shape, built by applying edits in order.
//!
//! Each commit applies its edits to a copy. A copy shares its levels with the original, and an edit
//! copies only the level that it changes. So do volumes that were forked from one another: what they share
//! is one level here, and is written once.

use super::edit::{Carried, Edit, VolumeId};
use crate::lsm::SeqNo;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::lineage::Lineage;
use crate::lsm::names::MAX_NUMBER;
use crate::lsm::table::TableMeta;
use crate::lsm::tally::{Quota, Tally};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The deepest level.
pub const MAX_LEVEL: usize = 6;

/// A level's tables.
pub type LevelState = Arc<Vec<Arc<TableMeta>>>;

/// A volume, as the manifest knows it.
#[derive(Debug, Clone, Default)]
pub struct VolumeState {
    /// Its name.
    pub name: String,
    /// The volume that it is a snapshot of, if it is one.
    pub owner: Option<VolumeId>,
    /// Its writes up to here are in tables.
    pub flushed: SeqNo,
    /// Where it was forked, and others from it.
    pub lineage: Lineage,
    /// The volumes whose writes past `flushed` and up to a sequence number are this one's too: what was in
    /// memtables when it was forked.
    pub inherits: Vec<(VolumeId, SeqNo)>,
    /// What of its tally came with its tables.
    pub tally: Tally,
    /// Does the tally lack what an earlier version wrote?
    pub uncounted: bool,
    /// How much it may hold.
    pub quota: Quota,
    /// Its tables; in L0 newest first, in deeper levels by key.
    pub levels: Vec<LevelState>,
}

/// A store's shape.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The store's id: random, and known to the manifest only ([`crate::lsm::log::record`]).
    pub store: u64,
    /// File numbers below this one may be in use.
    pub files: u64,
    /// The oldest log segment that is needed, and its base.
    pub log_start: (u64, u64),
    /// The log was synced up to this position.
    pub log_durable: u64,
    /// The lengths of earlier sessions' segments.
    pub sealed: BTreeMap<u64, u64>,
    /// Volume ids below this one were handed out.
    pub next_volume: VolumeId,
    /// The log's volume edits up to here are in.
    pub absorbed: SeqNo,
    /// The volumes.
    pub volumes: BTreeMap<VolumeId, Arc<VolumeState>>,
    /// Was it written by a version that kept no tallies? Then the log was, too.
    pub keeps_no_tallies: bool,
    /// The tables that the edits of one record add.
    pub(crate) added: BTreeMap<u64, Arc<TableMeta>>,
}

/// Numbers and positions are counted on from: what is near overflow was never written.
fn sane(number: u64) -> Result<u64, String> {
    if number < MAX_NUMBER / 2 { Ok(number) } else { Err(format!("{number} is no number that is reached")) }
}

fn sane_seq(seq: SeqNo) -> Result<SeqNo, String> {
    if seq <= MAX_SEQ { Ok(seq) } else { Err(format!("{seq} is past all sequence numbers")) }
}

impl State {
    /// Applies the edits of one record; `Err` says why one does not fit.
    pub fn apply_all(&mut self, edits: impl IntoIterator<Item = Edit>) -> Result<(), String> {
        let applied = edits.into_iter().try_for_each(|edit| self.apply(edit));
        self.added.clear();
        applied
    }

    fn apply(&mut self, edit: Edit) -> Result<(), String> {
        match edit {
            Edit::Store(id) => self.store = id,
            Edit::Files(number) => self.files = self.files.max(sane(number)?),
            Edit::LogStart { number, base } => {
                self.log_start = (sane(number)?, sane(base)?);
                self.sealed = self.sealed.split_off(&number);
            }
            Edit::LogDurable(position) => self.log_durable = sane(position)?,
            Edit::Sealed { number, len } => {
                self.sealed.insert(sane(number)?, sane(len)?);
            }
            Edit::VolumeIds(id) => self.next_volume = self.next_volume.max(id),
            Edit::Absorbed(seq) => self.absorbed = sane_seq(seq)?,
            Edit::Volume { id, name } => self.name(id, name)?,
            Edit::Fork { from, to, owner, seq, carried, name } => {
                let parent = self.volume(from)?;
                parent.lineage.last_fork = sane_seq(seq)?;
                let lineage = parent.lineage.of_fork(from, seq);
                let mut child = VolumeState { name, owner, lineage, ..parent.clone() };
                match carried {
                    Carried::Nothing => (child.flushed, child.inherits) = (seq, Vec::new()),
                    Carried::Inherited => {}
                    Carried::Own => child.inherits.push((from, seq)),
                }
                self.add_volume(to, child)?;
            }
            Edit::Delete(id) => {
                self.volumes.remove(&id).ok_or_else(|| no_volume(id))?;
            }
            Edit::Owner { id, owner } => self.volume(id)?.owner = Some(owner),
            Edit::Flushed { volume, seq } => {
                let volume = self.volume(volume)?;
                volume.flushed = sane_seq(seq)?;
                volume.inherits.retain(|(_, up_to)| *up_to > seq);
            }
            Edit::Forked { volume, lineage } => self.volume(volume)?.lineage = lineage,
            Edit::Tally { volume, tally } => self.volume(volume)?.tally += tally,
            Edit::Counted { volume, counted } => self.volume(volume)?.uncounted = !counted,
            Edit::Quota { volume, quota } => self.volume(volume)?.quota = quota,
            Edit::Inherits { volume, from, seq } => {
                self.volume(volume)?.inherits.push((from, sane_seq(seq)?));
            }
            Edit::AddTable { volume, level, table } => {
                self.check_table(&table)?;
                self.added.insert(table.number, table.clone());
                self.add_table(volume, level, table)?;
            }
            Edit::LinkTable { volume, level, number } => {
                let table = self.added.get(&number).cloned();
                let table = table.ok_or_else(|| format!("table {number} is unknown"))?;
                self.add_table(volume, level, table)?;
            }
            Edit::RemoveTable { volume, level, number } => {
                let tables = Arc::make_mut(self.level(volume, level)?);
                let at = tables.iter().position(|t| t.number == number);
                tables.remove(at.ok_or_else(|| format!("table {number} is not in level {level}"))?);
            }
            Edit::ShareLevel { volume, level, from } => {
                let shared = self.level(from, level)?.clone();
                *self.level(volume, level)? = shared;
            }
        }
        Ok(())
    }

    /// After the log was replayed: what a version wrote that kept no tallies is not counted.
    pub fn find_uncounted(&mut self) {
        if std::mem::take(&mut self.keeps_no_tallies) {
            self.volumes.values_mut().for_each(|volume| Arc::make_mut(volume).uncounted = true);
        }
    }

    /// Nobody knows who was forked from whom, or where, up to now.
    pub fn forget_lineages(&mut self) {
        let flushed = self.volumes.values().map(|volume| volume.flushed).max();
        let now = self.absorbed.max(flushed.unwrap_or(0));
        self.volumes.values_mut().for_each(|volume| Arc::make_mut(volume).lineage.forget(now));
    }

    fn name(&mut self, id: VolumeId, name: String) -> Result<(), String> {
        if let Some(volume) = self.volumes.get_mut(&id) {
            Arc::make_mut(volume).name = name;
            return Ok(());
        }
        self.add_volume(id, VolumeState { name, ..VolumeState::default() })
    }

    fn add_volume(&mut self, id: VolumeId, volume: VolumeState) -> Result<(), String> {
        if id == 0 || id == VolumeId::MAX {
            return Err(format!("{id} is no volume's number"));
        }
        if self.volumes.insert(id, Arc::new(volume)).is_some() {
            return Err(format!("volume {id} is made twice"));
        }
        self.next_volume = self.next_volume.max(id + 1);
        Ok(())
    }

    fn check_table(&self, table: &TableMeta) -> Result<(), String> {
        if table.number.max(table.file().number()) >= self.files {
            return Err(format!("table {} has a number that was never handed out", table.number));
        }
        if let Some(used) = table.blobs.iter().find(|used| used.file >= self.files) {
            return Err(format!("table {} points to blob file {}, which never was", table.number, used.file));
        }
        if table.largest_seq > MAX_SEQ {
            return Err(format!("table {} goes past all sequence numbers", table.number));
        }
        Ok(())
    }

    fn add_table(&mut self, volume: VolumeId, level: usize, table: Arc<TableMeta>) -> Result<(), String> {
        let tables = Arc::make_mut(self.level(volume, level)?);
        if tables.iter().any(|t| t.number == table.number) {
            return Err(format!("table {} joins level {level} twice", table.number));
        }
        let at = match level {
            0 => tables.partition_point(|t| t.largest_seq > table.largest_seq),
            _ => tables.partition_point(|t| t.smallest < table.smallest),
        };
        tables.insert(at, table);
        Ok(())
    }

    fn volume(&mut self, id: VolumeId) -> Result<&mut VolumeState, String> {
        self.volumes.get_mut(&id).map(Arc::make_mut).ok_or_else(|| no_volume(id))
    }

    fn level(&mut self, volume: VolumeId, level: usize) -> Result<&mut LevelState, String> {
        if level > MAX_LEVEL {
            return Err(format!("there is no level {level}"));
        }
        let levels = &mut self.volume(volume)?.levels;
        if levels.len() <= level {
            levels.resize_with(level + 1, Arc::default);
        }
        Ok(&mut levels[level])
    }

    /// The edits that build this state from nothing. What volumes share is written once: a level that is
    /// another's, a table that another level has.
    pub fn to_edits(&self) -> Vec<Edit> {
        let (number, base) = self.log_start;
        let mut edits = vec![
            Edit::Store(self.store),
            Edit::Files(self.files),
            Edit::LogStart { number, base },
            Edit::LogDurable(self.log_durable),
            Edit::VolumeIds(self.next_volume),
            Edit::Absorbed(self.absorbed),
        ];
        edits.extend(self.sealed.iter().map(|(&number, &len)| Edit::Sealed { number, len }));
        let mut written = Written::default();
        for (&id, volume) in &self.volumes {
            edits.push(Edit::Volume { id, name: volume.name.clone() });
            edits.extend(volume.owner.map(|owner| Edit::Owner { id, owner }));
            edits.push(Edit::Flushed { volume: id, seq: volume.flushed });
            if volume.lineage != Lineage::default() {
                edits.push(Edit::Forked { volume: id, lineage: volume.lineage });
            }
            if !volume.tally.is_zero() {
                edits.push(Edit::Tally { volume: id, tally: volume.tally });
            }
            if volume.uncounted {
                edits.push(Edit::Counted { volume: id, counted: false });
            }
            if !volume.quota.is_none() {
                edits.push(Edit::Quota { volume: id, quota: volume.quota });
            }
            let inherits = volume.inherits.iter();
            edits.extend(inherits.map(|&(from, seq)| Edit::Inherits { volume: id, from, seq }));
            for (level, tables) in volume.levels.iter().enumerate().filter(|(_, tables)| !tables.is_empty()) {
                written.level(id, level, tables, &mut edits);
            }
        }
        edits
    }

    /// All tables that some volume refers to. One that several have may come more than once, but not
    /// once for each fork that has not changed.
    pub fn live_tables(&self) -> impl Iterator<Item = &TableMeta> {
        let mut seen = HashSet::new();
        let levels = self.volumes.values().flat_map(|v| v.levels.iter());
        levels.filter(move |level| seen.insert(Arc::as_ptr(level))).flat_map(|l| l.iter()).map(Arc::as_ref)
    }
}

fn no_volume(id: VolumeId) -> String {
    format!("there is no volume {id}")
}

/// What a snapshot of the state has of levels and tables so far.
#[derive(Default)]
struct Written {
    levels: HashMap<(usize, *const Vec<Arc<TableMeta>>), VolumeId>,
    tables: HashSet<u64>,
}

impl Written {
    fn level(&mut self, volume: VolumeId, level: usize, tables: &LevelState, edits: &mut Vec<Edit>) {
        if let Some(&from) = self.levels.get(&(level, Arc::as_ptr(tables))) {
            edits.push(Edit::ShareLevel { volume, level, from });
            return;
        }
        self.levels.insert((level, Arc::as_ptr(tables)), volume);
        // Of those in L0 the oldest goes first.
        edits.extend(tables.iter().rev().map(|table| match self.tables.insert(table.number) {
            true => Edit::AddTable { volume, level, table: table.clone() },
            false => Edit::LinkTable { volume, level, number: table.number },
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_overflow_when_counted_on_are_refused() {
        let mut state = State { files: 2, ..State::default() };
        state.apply(Edit::Volume { id: 1, name: "main".into() }).unwrap();
        let table = |number, largest_seq| {
            let table = TableMeta { largest_seq, ..TableMeta::empty(number) };
            Edit::AddTable { volume: 1, level: 0, table: table.into() }
        };
        let refused = [
            Edit::Files(u64::MAX),
            Edit::LogStart { number: u64::MAX, base: 0 },
            Edit::LogStart { number: 1, base: u64::MAX },
            Edit::Sealed { number: 1, len: u64::MAX },
            Edit::LogDurable(u64::MAX),
            Edit::Flushed { volume: 1, seq: MAX_SEQ + 1 },
            table(1, MAX_SEQ + 1),
            table(2, 1),
        ];
        refused.into_iter().for_each(|edit| assert!(state.apply(edit.clone()).is_err(), "{edit:?}"));
        state.apply(table(1, MAX_SEQ)).unwrap();
    }

    #[test]
    fn a_copy_shares_the_levels_that_do_not_change() {
        let mut state = State { files: 9, ..State::default() };
        let add = |number, level| {
            let table = TableMeta { smallest: vec![number as u8].into(), ..TableMeta::empty(number) };
            Edit::AddTable { volume: 1, level, table: table.into() }
        };
        let built = [Edit::Volume { id: 1, name: "main".into() }, add(1, 0), add(2, 1)];
        built.into_iter().for_each(|edit| state.apply(edit).unwrap());
        let mut next = state.clone();
        next.apply(add(3, 0)).unwrap();
        let [before, after] = [&state, &next].map(|state| &state.volumes[&1].levels);
        assert!(Arc::ptr_eq(&before[1], &after[1]));
        assert_eq!([before[0].len(), after[0].len()], [1, 2], "the original stays as it was");
    }

    #[test]
    fn what_forks_share_is_written_once_and_shared_again() {
        let mut state = State { files: 99, ..State::default() };
        let meta = |number: u64| {
            let key = vec![b'k'; 400];
            TableMeta { smallest_seq: 1, largest_seq: 1, largest: key.into(), ..TableMeta::empty(number) }
        };
        let add = |volume, number, level| {
            let table = Arc::new(TableMeta { smallest: vec![number as u8].into(), ..meta(number) });
            Edit::AddTable { volume, level, table }
        };
        let fork = |to| {
            let carried = if to % 2 == 0 { Carried::Own } else { Carried::Inherited };
            Edit::Fork { from: 1, to, owner: None, seq: 9, carried, name: format!("f{to}") }
        };
        let first = [Edit::Volume { id: 1, name: "main".into() }, add(1, 1, 0), add(1, 2, 1), add(1, 3, 1)];
        state.apply_all(first).unwrap();
        state.apply_all((2..100).map(fork)).unwrap();
        // One of them changes a level: it still has the tables in common.
        state.apply_all([add(50, 50, 1)]).unwrap();
        let edits = state.to_edits();
        let mut encoded = Vec::new();
        edits.iter().for_each(|edit| edit.encode(&mut encoded));
        assert!(encoded.len() < 100 * 60, "{}", encoded.len());
        let mut again = State::default();
        again.apply_all(Edit::decode_all(&encoded).unwrap()).unwrap();
        let numbers = |state: &State, id: VolumeId| -> Vec<Vec<u64>> {
            state.volumes[&id].levels.iter().map(|l| l.iter().map(|t| t.number).collect()).collect()
        };
        for id in 1..100 {
            assert_eq!(numbers(&state, id), numbers(&again, id), "{id}");
            assert_eq!(state.volumes[&id].inherits, again.volumes[&id].inherits);
        }
        assert!(Arc::ptr_eq(&again.volumes[&1].levels[1], &again.volumes[&99].levels[1]));
        assert_eq!(again.next_volume, 100);
        assert_eq!(again.live_tables().map(|t| t.number).collect::<HashSet<_>>(), [1, 2, 3, 50].into());
    }
}
