//! What a manifest says: a store's shape, built by applying edits in order.
//!
//! Each commit applies its edits to a copy. A copy shares its levels with the original, and an edit
//! copies only the level that it changes.

use super::edit::{Edit, VolumeId};
use crate::lsm::SeqNo;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::names::MAX_NUMBER;
use crate::lsm::table::TableMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The deepest level.
pub const MAX_LEVEL: usize = 6;

/// A volume, as the manifest knows it.
#[derive(Debug, Clone, Default)]
pub struct VolumeState {
    /// Its name.
    pub name: String,
    /// Its writes up to here are in tables.
    pub flushed: SeqNo,
    /// Its tables; in L0 newest first, in deeper levels by key.
    pub levels: Vec<Arc<Vec<TableMeta>>>,
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
    /// The volumes.
    pub volumes: BTreeMap<VolumeId, VolumeState>,
}

/// Numbers and positions are counted on from: what is near overflow was never written.
fn sane(number: u64) -> Result<u64, String> {
    if number < MAX_NUMBER / 2 { Ok(number) } else { Err(format!("{number} is no number that is reached")) }
}

impl State {
    /// Applies one edit; `Err` says why it does not fit.
    pub fn apply(&mut self, edit: Edit) -> Result<(), String> {
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
            Edit::Volume { id, name } => {
                self.volumes.entry(id).or_default().name = name;
            }
            Edit::Flushed { volume, seq } if seq > MAX_SEQ => {
                return Err(format!("volume {volume} is flushed up to {seq}, past all sequence numbers"));
            }
            Edit::Flushed { volume, seq } => self.volume(volume)?.flushed = seq,
            Edit::AddTable { volume, level, table } => self.add_table(volume, level, table)?,
            Edit::RemoveTable { volume, level, number } => {
                let tables = self.level(volume, level)?;
                let at = tables.iter().position(|t| t.number == number);
                tables.remove(at.ok_or_else(|| format!("table {number} is not in level {level}"))?);
            }
        }
        Ok(())
    }

    fn add_table(&mut self, volume: VolumeId, level: usize, table: TableMeta) -> Result<(), String> {
        if table.number >= self.files {
            return Err(format!("table {} has a number that was never handed out", table.number));
        }
        if let Some(used) = table.blobs.iter().find(|used| used.file >= self.files) {
            return Err(format!("table {} points to blob file {}, which never was", table.number, used.file));
        }
        if table.largest_seq > MAX_SEQ {
            return Err(format!("table {} goes past all sequence numbers", table.number));
        }
        let tables = self.level(volume, level)?;
        if tables.iter().any(|t| t.number == table.number) {
            return Err(format!("table {} joins level {level} twice", table.number));
        }
        let at = match level {
            0 => 0,
            _ => tables.partition_point(|t| t.smallest < table.smallest),
        };
        tables.insert(at, table);
        Ok(())
    }

    fn volume(&mut self, id: VolumeId) -> Result<&mut VolumeState, String> {
        self.volumes.get_mut(&id).ok_or_else(|| format!("there is no volume {id}"))
    }

    fn level(&mut self, volume: VolumeId, level: usize) -> Result<&mut Vec<TableMeta>, String> {
        if level > MAX_LEVEL {
            return Err(format!("there is no level {level}"));
        }
        let levels = &mut self.volume(volume)?.levels;
        if levels.len() <= level {
            levels.resize_with(level + 1, Arc::default);
        }
        Ok(Arc::make_mut(&mut levels[level]))
    }

    /// The edits that build this state from nothing.
    pub fn to_edits(&self) -> Vec<Edit> {
        let (number, base) = self.log_start;
        let mut edits = vec![
            Edit::Store(self.store),
            Edit::Files(self.files),
            Edit::LogStart { number, base },
            Edit::LogDurable(self.log_durable),
        ];
        edits.extend(self.sealed.iter().map(|(&number, &len)| Edit::Sealed { number, len }));
        for (&id, volume) in &self.volumes {
            edits.push(Edit::Volume { id, name: volume.name.clone() });
            edits.push(Edit::Flushed { volume: id, seq: volume.flushed });
            for (level, tables) in volume.levels.iter().enumerate() {
                // Each joins L0 as its newest: the oldest goes first.
                let add = |table: &TableMeta| Edit::AddTable { volume: id, level, table: table.clone() };
                edits.extend(tables.iter().rev().map(add));
            }
        }
        edits
    }

    /// The numbers of all tables that some volume refers to.
    pub fn live_tables(&self) -> impl Iterator<Item = &TableMeta> {
        self.volumes.values().flat_map(|v| v.levels.iter().flat_map(|level| level.iter()))
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
            Edit::AddTable { volume: 1, level: 0, table }
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
            Edit::AddTable { volume: 1, level, table }
        };
        let built = [Edit::Volume { id: 1, name: "main".into() }, add(1, 0), add(2, 1)];
        built.into_iter().for_each(|edit| state.apply(edit).unwrap());
        let mut next = state.clone();
        next.apply(add(3, 0)).unwrap();
        let [before, after] = [&state, &next].map(|state| &state.volumes[&1].levels);
        assert!(Arc::ptr_eq(&before[1], &after[1]));
        assert_eq!([before[0].len(), after[0].len()], [1, 2], "the original stays as it was");
    }
}
