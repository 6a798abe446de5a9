//! Where two volumes may differ: the keys whose newest versions are not the same write.
//!
//! What both trees refer to, a memtable or a table, cannot make them differ: every version in it is in both. So
//! only what one of them has alone is read. Of a key that stands there, the newest version on either side is
//! looked at, range tombstones among them: if it is the same write (compactions put it into another table), the
//! two agree, whatever else they share, for a write that both have has the same history before it in both. If not,
//! they *may* differ: who asks compares the values.
//!
//! A range tombstone that only one side has may also delete keys that stand in what both have. In such ranges,
//! and nowhere else, that is read too.
//!
//! So for a volume and its fork the cost is that of what came since, however much they share.

use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::level::LevelIter;
use crate::lsm::iter::merge::MergeIter;
use crate::lsm::iter::source::Source;
use crate::lsm::key::{KeyRef, MAX_SEQ};
use crate::lsm::levels::LiveTable;
use crate::lsm::memtable::Memtable;
use crate::lsm::range::RangeSet;
use crate::lsm::store::Shared;
use crate::lsm::volume::Tree;
use crate::lsm::{Result, SeqNo, Snapshot};
use bytes::Bytes;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// A cursor over the keys at which two states of volumes may differ, in order. Positioned before the first.
#[derive(Debug)]
pub struct Differences {
    sides: [Side; 2],
    shared: SharedKeys,
    key: Vec<u8>,
    started: bool,
    sources: usize,
}

/// What one volume has alone.
#[derive(Debug)]
struct Side {
    merge: MergeIter<Source>,
    ranges: RangeSet,
    seq: SeqNo,
}

/// What both have, in the ranges that only one of them deleted.
#[derive(Debug)]
struct SharedKeys {
    merge: MergeIter<Source>,
    /// Disjoint, in order; the end is not in. Those that are over are gone.
    ranges: std::collections::VecDeque<(Bytes, Bytes)>,
    /// Does the cursor stand in the first of them, or behind it?
    placed: bool,
}

/// A tree's memtables and tables: L0 and the memtables one by one, each deeper level together.
struct Parts {
    memtables: Vec<Arc<Memtable>>,
    runs: Vec<Vec<Arc<LiveTable>>>,
}

impl Parts {
    /// Those of a tree that `wanted` picks.
    fn of(
        tree: &Tree,
        memtable: impl Fn(&Arc<Memtable>) -> bool,
        table: impl Fn(&LiveTable) -> bool,
    ) -> Parts {
        let picked =
            |level: &[Arc<LiveTable>]| level.iter().filter(|t| table(t)).cloned().collect::<Vec<_>>();
        let mut runs: Vec<_> = picked(tree.levels.level(0)).into_iter().map(|table| vec![table]).collect();
        runs.extend(tree.levels.iter().skip(1).map(picked).filter(|run| !run.is_empty()));
        Parts { memtables: tree.memtables().filter(|m| memtable(m)).cloned().collect(), runs }
    }

    fn merge(&self, shared: &Shared) -> MergeIter<Source> {
        let memtables = self.memtables.iter().map(|memtable| Source::Memtable(memtable.iter()));
        let level =
            |run: &Vec<Arc<LiveTable>>| Source::Tables(LevelIter::new(&shared.tables, run.clone(), None));
        MergeIter::new(memtables.chain(self.runs.iter().map(level)).collect())
    }

    fn ranges(&self, shared: &Shared) -> Result<RangeSet> {
        let mut all = RangeSet::default();
        for memtable in self.memtables.iter().filter(|memtable| memtable.has_ranges()) {
            memtable.with_ranges(|ranges| ranges.tombstones().for_each(|tombstone| all.add(tombstone)));
        }
        for table in self.runs.iter().flatten().filter(|table| table.range_tombstones > 0) {
            shared.tables.get(table)?.ranges().tombstones().for_each(|tombstone| all.add(tombstone));
        }
        Ok(all)
    }

    fn len(&self) -> usize {
        self.memtables.len() + self.runs.iter().map(Vec::len).sum::<usize>()
    }
}

/// The memtables and tables of a tree.
struct Held {
    memtables: HashSet<*const Memtable>,
    tables: HashSet<u64>,
}

impl Held {
    fn by(tree: &Tree) -> Held {
        Held {
            memtables: tree.memtables().map(Arc::as_ptr).collect(),
            tables: tree.levels.iter().flatten().map(|table| table.number).collect(),
        }
    }
}

impl Differences {
    /// Between two volumes, or snapshots, of one store.
    pub fn between(a: &Snapshot, b: &Snapshot) -> Result<Differences> {
        let shared = a.volume().shared();
        let trees = [a, b].map(|side| side.volume().tree());
        a.volume().check_open()?;
        b.volume().check_open()?;
        let [of_a, of_b] = [Held::by(&trees[0]), Held::by(&trees[1])];
        let apart = |tree: &Tree, other: &Held| {
            let memtable = |m: &Arc<Memtable>| !other.memtables.contains(&Arc::as_ptr(m));
            Parts::of(tree, memtable, |table| !other.tables.contains(&table.number))
        };
        let parts = [apart(&trees[0], &of_b), apart(&trees[1], &of_a)];
        let common = Parts::of(
            &trees[0],
            |m| of_b.memtables.contains(&Arc::as_ptr(m)),
            |table| of_b.tables.contains(&table.number),
        );
        let side = |at: usize, seq| -> Result<Side> {
            Ok(Side { merge: parts[at].merge(shared), ranges: parts[at].ranges(shared)?, seq })
        };
        let sides = [side(0, a.seq())?, side(1, b.seq())?];
        let ranges = deleted_by_one(&sides).into();
        let shared = SharedKeys { merge: common.merge(shared), ranges, placed: false };
        let sources = parts.iter().map(Parts::len).sum();
        Ok(Differences { sides, shared, key: Vec::new(), started: false, sources })
    }

    /// The memtables and tables that only one of the two has.
    pub fn sources(&self) -> usize {
        self.sources
    }

    /// Moves to the next key; false at the end.
    ///
    /// # Errors
    /// After one the cursor is at its end.
    #[allow(clippy::should_implement_trait, reason = "a lending cursor: `Iterator` cannot yield borrows")]
    pub fn next(&mut self) -> Result<bool> {
        if !self.started {
            self.started = true;
            self.sides.iter_mut().try_for_each(|side| side.merge.seek_to_first())?;
        }
        loop {
            let shared = self.shared.key()?;
            let left = self.sides.iter().filter(|side| side.merge.valid());
            let keys = left.map(|side| side.merge.key().user);
            let Some(key) = keys.chain(shared).min() else {
                self.key.clear();
                return Ok(false);
            };
            self.key.clear();
            self.key.extend_from_slice(key);
            self.shared.pass(&self.key)?;
            let [a, b] = &mut self.sides;
            if a.pass(&self.key)? != b.pass(&self.key)? {
                return Ok(true);
            }
        }
    }

    /// The key. Empty before the first and at the end.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Side {
    /// Moves past a key; the newest write over it (0: none).
    fn pass(&mut self, key: &[u8]) -> Result<SeqNo> {
        let mut newest = self.deleted(key);
        while self.merge.valid() && self.merge.key().user == key {
            let seq = self.merge.key().seq;
            if seq <= self.seq {
                newest = newest.max(seq);
            }
            self.merge.next()?;
        }
        Ok(newest)
    }

    /// The newest range tombstone over a key (0: none).
    fn deleted(&self, key: &[u8]) -> SeqNo {
        self.ranges.covering(key, self.seq).map_or(0, |(seq, _)| seq)
    }
}

/// The ranges that the two did not delete by the same write.
fn deleted_by_one([a, b]: &[Side; 2]) -> Vec<(Bytes, Bytes)> {
    let bounds: BTreeSet<Bytes> = [a, b]
        .into_iter()
        .flat_map(|side| side.ranges.tombstones())
        .flat_map(|tombstone| [tombstone.start, tombstone.end])
        .collect();
    let pieces = bounds.iter().zip(bounds.iter().skip(1));
    let apart = pieces.filter(|(start, _)| a.deleted(start) != b.deleted(start));
    apart.map(|(start, end)| (start.clone(), end.clone())).collect()
}

impl SharedKeys {
    /// The next key in the ranges.
    fn key(&mut self) -> Result<Option<&[u8]>> {
        while let Some((start, end)) = self.ranges.front() {
            if !self.placed || self.merge.valid() && self.merge.key().user < start.as_ref() {
                self.merge.seek(KeyRef::bound(start, MAX_SEQ))?;
                self.placed = true;
            }
            if !self.merge.valid() {
                self.ranges.clear();
            } else if self.merge.key().user < end.as_ref() {
                break;
            } else {
                self.ranges.pop_front();
            }
        }
        Ok((!self.ranges.is_empty()).then(|| self.merge.key().user))
    }

    /// Moves past a key.
    fn pass(&mut self, key: &[u8]) -> Result<()> {
        while !self.ranges.is_empty() && self.merge.valid() && self.merge.key().user == key {
            self.merge.next()?;
        }
        Ok(())
    }
}
