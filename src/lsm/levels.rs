//! The levels of a tree: which tables it refers to, and in which order they are read.
//!
//! L0 holds flushed memtables, newest first, and may overlap; in each deeper level the tables' user key
//! ranges are disjoint and ascending. [`Levels`] is immutable and cheap to clone: an edit copies only the
//! levels that it touches.
//!
//! Trees of volumes that were forked from one another share levels, and levels share tables.
//!
//! A [`LiveTable`] is one reference-counted table: one object, however many trees refer to it. When the last
//! tree, scan or compaction that uses it is gone, and it was the last in its file, the file goes to the
//! [`Graveyard`](crate::lsm::graveyard). The table holds the blob files that its records point to.

use crate::lsm::blob::{LiveBlob, LiveBlobs};
use crate::lsm::graveyard::{Graveyard, LiveFile};
use crate::lsm::manifest::state::{LevelState, MAX_LEVEL};
use crate::lsm::table::TableMeta;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

/// A table that trees refer to.
#[derive(Debug)]
pub(crate) struct LiveTable {
    meta: Arc<TableMeta>,
    file: Arc<LiveFile>,
    /// Held, so that they are not deleted.
    _blobs: Vec<Arc<LiveBlob>>,
}

impl LiveTable {
    /// Somebody must hold the blob files that it points to already.
    pub fn new(meta: Arc<TableMeta>, graveyard: &Arc<Graveyard>, blobs: &LiveBlobs) -> Arc<LiveTable> {
        let blobs = blobs.of(&meta.blobs);
        let file = graveyard.file_of(&meta);
        file.gained(meta.size);
        Arc::new(LiveTable { meta, file, _blobs: blobs })
    }

    /// Has little of its pack a use any more?
    pub fn is_in_sparse_pack(&self) -> bool {
        self.file.is_sparse()
    }

    /// What the manifest knows of it.
    pub fn meta(&self) -> &Arc<TableMeta> {
        &self.meta
    }
}

impl Deref for LiveTable {
    type Target = TableMeta;

    fn deref(&self) -> &TableMeta {
        &self.meta
    }
}

impl Drop for LiveTable {
    fn drop(&mut self) {
        self.file.lost(&self.meta);
    }
}

type Level = Arc<Vec<Arc<LiveTable>>>;

/// A tree's tables.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    levels: [Level; MAX_LEVEL + 1],
}

impl Default for Levels {
    fn default() -> Levels {
        Levels { levels: std::array::from_fn(|_| Level::default()) }
    }
}

/// Makes trees' levels of a manifest's: what is shared there is shared in memory.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    graveyard: &'a Arc<Graveyard>,
    blobs: &'a LiveBlobs,
    levels: HashMap<*const Vec<Arc<TableMeta>>, Level>,
    tables: HashMap<u64, Arc<LiveTable>>,
}

impl<'a> Listed<'a> {
    pub fn new(graveyard: &'a Arc<Graveyard>, blobs: &'a LiveBlobs) -> Listed<'a> {
        Listed { graveyard, blobs, levels: HashMap::new(), tables: HashMap::new() }
    }

    /// A volume's levels.
    pub fn levels(&mut self, listed: &[LevelState]) -> Levels {
        Levels { levels: std::array::from_fn(|n| listed.get(n).map(|l| self.level(l)).unwrap_or_default()) }
    }

    fn level(&mut self, listed: &LevelState) -> Level {
        if let Some(level) = self.levels.get(&Arc::as_ptr(listed)) {
            return level.clone();
        }
        let live = |meta: &Arc<TableMeta>| {
            let new = || LiveTable::new(meta.clone(), self.graveyard, self.blobs);
            self.tables.entry(meta.number).or_insert_with(new).clone()
        };
        let level: Level = Arc::new(listed.iter().map(live).collect());
        self.levels.insert(Arc::as_ptr(listed), level.clone());
        level
    }
}

impl Levels {
    /// Is that level one and the same in both?
    pub fn shares(&self, n: usize, other: &Levels) -> bool {
        Arc::ptr_eq(&self.levels[n], &other.levels[n])
    }

    /// Does that level hold the same tables in both?
    pub fn equals(&self, n: usize, other: &Levels) -> bool {
        let numbers =
            |levels: &'_ Levels| levels.level(n).iter().map(|table| table.number).collect::<Vec<_>>();
        self.shares(n, other)
            || self.level(n).len() == other.level(n).len() && numbers(self) == numbers(other)
    }

    /// These levels, with that level as it is in `other`.
    pub fn with_level_of(mut self, n: usize, other: &Levels) -> Levels {
        self.levels[n] = other.levels[n].clone();
        self
    }

    /// The tables of one level, in reading order.
    pub fn level(&self, n: usize) -> &[Arc<LiveTable>] {
        self.levels.get(n).map_or(&[], |level| level.as_slice())
    }

    /// The levels, L0 first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[Arc<LiveTable>]> {
        self.levels.iter().map(|level| level.as_slice())
    }

    /// The bytes of a level's tables.
    pub fn size(&self, n: usize) -> u64 {
        self.level(n).iter().map(|table| table.size).sum()
    }

    /// The deepest level that holds a table.
    pub fn deepest(&self) -> Option<usize> {
        (0..=MAX_LEVEL).rev().find(|n| !self.level(*n).is_empty())
    }

    /// The tables of a level (not L0) whose range overlaps `smallest..=largest`.
    pub fn overlapping(&self, n: usize, smallest: &[u8], largest: &[u8]) -> &[Arc<LiveTable>] {
        debug_assert!(n > 0, "L0 is not sorted");
        let level = self.level(n);
        let from = level.partition_point(|table| table.largest.as_ref() < smallest);
        let to = level.partition_point(|table| table.smallest.as_ref() <= largest);
        &level[from.min(to)..to]
    }

    /// The tables whose range holds `key`, newest data first.
    pub fn tables_for<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Arc<LiveTable>> {
        let l0 = self.level(0).iter().filter(move |table| table.contains_key(key));
        let deeper = (1..=MAX_LEVEL).filter_map(move |n| self.overlapping(n, key, key).first());
        l0.chain(deeper)
    }

    /// Levels without the tables of these numbers and with `added`, which join L0 by their age or a
    /// deeper level in key order.
    pub fn edited(&self, removed: &[(usize, u64)], added: &[(usize, Arc<LiveTable>)]) -> Levels {
        let mut next = self.clone();
        for (n, number) in removed {
            Arc::make_mut(&mut next.levels[*n]).retain(|table| table.number != *number);
        }
        for (n, table) in added {
            let level = Arc::make_mut(&mut next.levels[*n]);
            let at = match n {
                0 => level.partition_point(|other| other.largest_seq > table.largest_seq),
                _ => level.partition_point(|other| other.smallest < table.smallest),
            };
            level.insert(at, table.clone());
        }
        next.check();
        next
    }

    /// What must always hold: deeper levels are sorted and disjoint.
    fn check(&self) {
        for level in &self.levels[1..] {
            debug_assert!(
                level.is_sorted_by(|a, b| a.largest < b.smallest),
                "a level overlaps itself: {level:?}"
            );
        }
    }
}
