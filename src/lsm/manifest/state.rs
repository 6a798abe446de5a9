//! What a manifest says: a store's shape, built by applying edits in order.

use super::edit::{Edit, VolumeId};
use crate::lsm::SeqNo;
use crate::lsm::table::TableMeta;
use std::collections::BTreeMap;

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
    pub levels: Vec<Vec<TableMeta>>,
}

/// A store's shape.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// File numbers below this one may be in use.
    pub files: u64,
    /// The oldest log segment that is needed, and its base.
    pub log_start: (u64, u64),
    /// The lengths of earlier sessions' segments.
    pub sealed: BTreeMap<u64, u64>,
    /// The volumes.
    pub volumes: BTreeMap<VolumeId, VolumeState>,
}

impl State {
    /// Applies one edit; `Err` says why it does not fit.
    pub fn apply(&mut self, edit: Edit) -> Result<(), String> {
        match edit {
            Edit::Files(number) => self.files = self.files.max(number),
            Edit::LogStart { number, base } => {
                self.log_start = (number, base);
                self.sealed = self.sealed.split_off(&number);
            }
            Edit::Sealed { number, len } => {
                self.sealed.insert(number, len);
            }
            Edit::Volume { id, name } => {
                self.volumes.entry(id).or_default().name = name;
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
            levels.resize_with(level + 1, Vec::new);
        }
        Ok(&mut levels[level])
    }

    /// The edits that build this state from nothing.
    pub fn to_edits(&self) -> Vec<Edit> {
        let (number, base) = self.log_start;
        let mut edits = vec![Edit::Files(self.files), Edit::LogStart { number, base }];
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
        self.volumes.values().flat_map(|v| v.levels.iter().flatten())
    }
}
