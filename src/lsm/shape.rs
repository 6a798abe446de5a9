//! Changes of trees that the manifest must know: how a table takes a memtable's place, or other tables', in
//! every volume that has them.
//!
//! Volumes that were forked from one another share memtables and tables. A [`Change`] says what is replaced
//! by what; it is made in every volume that it *fits*: those of the family (forked from one another, `volumes.rs`)
//! whose tree has all that is replaced, in the same place. Changes of volumes that have nothing in common are made
//! together, in one commit. So a shared memtable is flushed once, a shared level compacted once, and what the forks shared
//! before they share afterwards, here and in the manifest.
//!
//! # Volumes' own changes
//! Creating, forking, renaming and deleting a volume are records in the log first ([`crate::lsm::volumes`]).
//! They wait in `Shared::told` until the next commit of the manifest absorbs them, in their order and before
//! its own edits. So whatever the manifest says of a volume's tables, it says of the volumes of that moment: a
//! fork's tables, when the manifest learns of it, are still its parent's.
//!
//! # Locks
//! `Shared::manifest` is held over the whole of a change, so that one follows another. `Shared::structure`
//! guards the trees, the list of volumes and `told` together; it is never held over the manifest's I/O, nor for
//! longer than a few trees take, since forks wait for it. Levels change under the manifest's lock only. While
//! the manifest is written, memtables may be frozen and volumes forked or deleted: a fork made
//! meanwhile has what its parent has, so the change fits it as well, and the next commit tells the manifest.

use crate::lsm::levels::{Levels, LiveTable};
use crate::lsm::manifest::state::MAX_LEVEL;
use crate::lsm::manifest::{Edit, Manifest, VolumeId};
use crate::lsm::memtable::Memtable;
use crate::lsm::store::Shared;
use crate::lsm::table::Home;
use crate::lsm::tally::Tally;
use crate::lsm::volume::{Tree, Volume};
use crate::lsm::{Result, SeqNo};
use std::sync::Arc;

/// Trees that are swapped under one hold of `structure`.
const SWAPPED_AT_ONCE: usize = 32;

/// What changes in trees.
#[derive(Debug)]
pub(crate) enum Change {
    /// A memtable, the earliest that is immutable, becomes a table or nothing.
    Flush {
        /// Of those that have it.
        volume: Arc<Volume>,
        memtable: Arc<Memtable>,
        table: Option<Arc<LiveTable>>,
    },
    /// Tables become others.
    Compaction {
        /// Of those that have them.
        volume: Arc<Volume>,
        /// The levels that the tables were picked from.
        picked: Levels,
        removed: Vec<(usize, u64)>,
        added: Vec<(usize, Arc<LiveTable>)>,
    },
}

/// A table tells of no more volumes than this.
const HOMES_MAX: usize = 64;
/// Among more volumes than this nobody looks who shares a table: it tells of one.
const HOMES_AMONG_MAX: usize = 256;

impl Change {
    /// A volume that it was made for.
    fn volume(&self) -> &Volume {
        match self {
            Change::Flush { volume, .. } | Change::Compaction { volume, .. } => volume,
        }
    }

    /// Has the tree all that is replaced, with nothing between or below it but what was there when
    /// the replacement was made?
    fn fits(&self, tree: &Tree) -> bool {
        match self {
            Change::Flush { memtable, .. } => tree.immutable.last().is_some_and(|m| Arc::ptr_eq(m, memtable)),
            Change::Compaction { picked, removed, .. } => {
                let top = removed.iter().map(|(level, _)| *level).min().unwrap_or(0);
                // Of L0 jobs take all there is. Tables that joined since are newer and come first.
                let (l0, picked_l0) = (tree.levels.level(0), picked.level(0));
                let newer = l0.len().checked_sub(picked_l0.len());
                let l0_fits = || {
                    newer.is_some_and(|newer| {
                        l0[newer..].iter().zip(picked_l0).all(|(a, b)| a.number == b.number)
                    })
                };
                (top > 0 || l0_fits()) && (top.max(1)..=MAX_LEVEL).all(|n| tree.levels.equals(n, picked))
            }
        }
    }

    /// Bytes in memory that are free afterwards.
    fn frees(&self) -> usize {
        match self {
            Change::Flush { memtable, .. } => memtable.size(),
            Change::Compaction { .. } => 0,
        }
    }

    /// The tree afterwards, with these levels.
    fn applied(&self, tree: &Tree, levels: Levels) -> Tree {
        let mut to = Tree { levels, ..Tree::clone(tree) };
        if let Some(seq) = self.flushed() {
            to.immutable.pop();
            to.flushed = seq;
            to.tally += self.tally();
        }
        to
    }

    /// The volumes whose tables it changes, as far as those tables tell of them.
    pub fn homes(&self, volumes: &[Arc<Volume>]) -> Vec<Home> {
        let home = |volume: &Volume| Home { id: volume.id(), owner: volume.owner(), name: volume.name() };
        if volumes.len() > HOMES_AMONG_MAX {
            return vec![home(self.volume())];
        }
        let sharers = volumes.iter().filter(|volume| self.fits(&volume.tree()));
        sharers.take(HOMES_MAX).map(|volume| home(volume)).collect()
    }

    fn removed(&self) -> &[(usize, u64)] {
        match self {
            Change::Flush { .. } => &[],
            Change::Compaction { removed, .. } => removed,
        }
    }

    fn added(&self) -> Vec<(usize, Arc<LiveTable>)> {
        match self {
            Change::Flush { table, .. } => table.iter().map(|table| (0, table.clone())).collect(),
            Change::Compaction { added, .. } => added.clone(),
        }
    }

    fn flushed(&self) -> Option<SeqNo> {
        match self {
            Change::Flush { memtable, .. } => Some(memtable.last_seq()),
            Change::Compaction { .. } => None,
        }
    }

    /// What moves to the tally of the tables.
    fn tally(&self) -> Tally {
        match self {
            Change::Flush { memtable, .. } => memtable.tally(),
            Change::Compaction { .. } => Tally::default(),
        }
    }

    /// The levels that differ afterwards.
    fn levels(&self) -> Vec<usize> {
        let added = self.added();
        let touched = |n: &usize| {
            self.removed().iter().any(|(level, _)| level == n) || added.iter().any(|(level, _)| level == n)
        };
        (0..=MAX_LEVEL).filter(touched).collect()
    }

    /// The trees of the volumes that it fits, as they are and as they are to be. Levels that they share
    /// they share afterwards.
    fn next_trees(&self, volumes: &[Arc<Volume>]) -> Vec<Next> {
        let (touched, added) = (self.levels(), self.added());
        let mut next: Vec<Next> = Vec::new();
        for volume in volumes {
            let tree = volume.tree();
            if !self.fits(&tree) {
                continue;
            }
            let mut to = self.applied(&tree, tree.levels.clone());
            // Mostly one of the first few has the very same levels.
            let like = |n: usize| next.iter().take(8).find(|other| other.from.levels.shares(n, &tree.levels));
            let shared: Vec<_> = touched.iter().map(|&n| like(n).map(|other| (n, other))).collect();
            let from = shared.iter().flatten().map(|(n, other)| (*n, other.volume.id())).collect();
            to.levels = match shared.iter().copied().collect::<Option<Vec<_>>>() {
                Some(shared) => shared
                    .into_iter()
                    .fold(to.levels, |levels, (n, other)| levels.with_level_of(n, &other.to.levels)),
                None => shared
                    .into_iter()
                    .flatten()
                    .fold(to.levels.edited(self.removed(), &added), |levels, (n, other)| {
                        levels.with_level_of(n, &other.to.levels)
                    }),
            };
            next.push(Next { volume: volume.clone(), from: tree, to, like: from });
        }
        next
    }

    /// The edits that tell the manifest of `next`.
    fn edits(&self, next: &[Next]) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut named = false;
        let tally = self.tally();
        for Next { volume, like, .. } in next {
            let volume = volume.id();
            edits.extend(self.flushed().map(|seq| Edit::Flushed { volume, seq }));
            edits.extend((!tally.is_zero()).then_some(Edit::Tally { volume, tally }));
            let is_own = |level: usize| !like.iter().any(|(n, _)| *n == level);
            let removed = self.removed().iter().filter(|(level, _)| is_own(*level));
            edits.extend(removed.map(|&(level, number)| Edit::RemoveTable { volume, level, number }));
            for (level, table) in self.added().iter().filter(|(level, _)| is_own(*level)) {
                edits.push(match named {
                    false => Edit::AddTable { volume, level: *level, table: table.meta().clone() },
                    true => Edit::LinkTable { volume, level: *level, number: table.number },
                });
            }
            named |= like.is_empty();
            edits.extend(like.iter().map(|&(level, from)| Edit::ShareLevel { volume, level, from }));
        }
        edits
    }
}

/// A volume whose tree changes.
struct Next {
    volume: Arc<Volume>,
    from: Arc<Tree>,
    to: Tree,
    /// The levels that are to be as another volume's.
    like: Vec<(usize, VolumeId)>,
}

/// Volumes' own changes that the manifest does not know yet, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    edits: Vec<Edit>,
    /// The sequence number of the last.
    seq: SeqNo,
}

impl Told {
    /// The log tells of `edits` at `seq`.
    pub fn tell(&mut self, edits: Vec<Edit>, seq: SeqNo) {
        self.edits.extend(edits);
        self.seq = seq;
    }

    /// The sequence number of the last that was told.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Did a volume go?
    pub fn tells_of_deletes(&self) -> bool {
        self.edits.iter().any(|edit| matches!(edit, Edit::Delete(_)))
    }
}

impl Shared {
    /// What the manifest does not know yet.
    pub(crate) fn told(&self) -> Told {
        self.told.lock().clone()
    }

    /// Commits edits, after those that the log told of. Nothing enters the manifest before the log is synced
    /// past it.
    pub(crate) fn commit(&self, manifest: &mut Manifest, told: Told, edits: Vec<Edit>) -> Result<()> {
        let mut all = Vec::with_capacity(told.edits.len() + edits.len() + 2);
        let count = told.edits.len();
        if count > 0 {
            self.log.sync()?;
            all.extend(told.edits);
            all.push(Edit::Absorbed(told.seq));
        }
        all.push(Edit::LogDurable(self.log.synced()));
        all.extend(edits);
        manifest.commit(all)?;
        self.told.lock().edits.drain(..count);
        Ok(())
    }

    /// Swaps the trees of the volumes that changes fit, a few at a time: a fork, which waits for `structure`, is
    /// not to wait for a thousand others. Then those of forks that were made meanwhile.
    fn swap(&self, changes: &[Change], next: Vec<Vec<Next>>) {
        // What is replaced is dropped under no lock.
        let mut replaced = Vec::new();
        for (change, next) in changes.iter().zip(&next) {
            for few in next.chunks(SWAPPED_AT_ONCE) {
                let _structure = self.structure.lock();
                for Next { volume, to, .. } in few {
                    // Levels are as they were; memtables may have been frozen, or the volume is gone.
                    let tree = volume.tree();
                    if change.fits(&tree) {
                        replaced.push(self.reshape(volume, change.applied(&tree, to.levels.clone())));
                    }
                }
            }
        }
        let structure = self.structure.lock();
        for change in changes {
            for Next { volume, to, .. } in change.next_trees(&self.family_of(change.volume())) {
                replaced.push(self.reshape(&volume, to));
            }
        }
        drop(structure);
    }

    /// Gives a volume its new tree, and tells those whom it concerns; returns the old one.
    fn reshape(&self, volume: &Volume, tree: Tree) -> Arc<Tree> {
        let replaced = volume.set_tree(tree);
        volume.stall.look_again();
        self.work.reshaped(volume.id());
        replaced
    }

    /// Makes changes durable, and visible in every volume that they fit, all in one commit. Says of each whether
    /// there was any. No two of them may fit one volume.
    pub(crate) fn install(&self, changes: &[Change]) -> Result<Vec<bool>> {
        let mut manifest = self.manifest.lock();
        // Of one moment: the manifest knows of these volumes, or is told.
        let (told, families) = {
            let _structure = self.structure.lock();
            let families = changes.iter().map(|change| self.family_of(change.volume()));
            (self.told(), families.collect::<Vec<_>>())
        };
        let next: Vec<Vec<Next>> =
            changes.iter().zip(&families).map(|(change, family)| change.next_trees(family)).collect();
        let fitted: Vec<bool> = next.iter().map(|next| !next.is_empty()).collect();
        if !fitted.contains(&true) {
            return Ok(fitted);
        }
        let edits = changes.iter().zip(&next).flat_map(|(change, next)| change.edits(next)).collect();
        self.commit(&mut manifest, told, edits)?;
        self.swap(changes, next);
        // Who shared them has flushed them, too.
        let freed = changes.iter().zip(&fitted).filter(|(_, fitted)| **fitted);
        self.budget.freed(freed.map(|(change, _)| change.frees()).sum());
        Ok(fitted)
    }
}
