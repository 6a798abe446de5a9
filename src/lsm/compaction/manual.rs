//! Compactions that somebody asked for: everything goes down to the deepest level, level by level.
//!
//! Small volumes that have nothing in common go down together, as in [`super::schedule`]: what they write is one pack, and
//! one commit of the manifest installs it. So ten thousand of them take as long as one that is as large as they are
//! together.
//!
//! # Locks
//! The turns of all volumes that go down together, in the order in which they were made. Nobody else waits for one turn while
//! it holds another.

use super::schedule::{Claim, GROUP_JOBS, SMALL_ONE_IN};
use super::{Input, Job, Reason};
use crate::lsm::Result;
use crate::lsm::levels::Levels;
use crate::lsm::store::Shared;
use crate::lsm::volume::Volume;
use std::collections::HashSet;
use std::sync::Arc;

impl Shared {
    /// Merges everything in these volumes, which are in the order in which they were made, down to the deepest level of each
    /// that holds something.
    pub(crate) fn compact_volumes(&self, volumes: &[Arc<Volume>]) -> Result<()> {
        let size =
            |volume: &Volume| volume.tree().levels.iter().flatten().map(|table| table.size).sum::<u64>();
        let is_small = |volume: &Volume| size(volume) < self.options.table_size / SMALL_ONE_IN;
        let (mut families, mut bytes) = (HashSet::new(), 0);
        let groups = volumes.chunk_by(|volume, next| {
            families.insert(volume.family());
            bytes += size(volume);
            // Two of a family may have the same tables.
            let goes_on = is_small(volume)
                && is_small(next)
                && bytes < self.options.table_size
                && families.len() < GROUP_JOBS
                && !families.contains(&next.family());
            if !goes_on {
                families.clear();
                bytes = 0;
            }
            goes_on
        });
        for group in groups {
            let compacted = self.compact_together(group);
            // Their turns were taken: nobody else could look at them.
            group.iter().for_each(|volume| self.work.reshaped(volume.id()));
            self.compaction_signal.raise();
            compacted?;
        }
        Ok(())
    }

    fn compact_together(&self, volumes: &[Arc<Volume>]) -> Result<()> {
        let _turns: Vec<_> = volumes.iter().map(|volume| volume.compacting.turn()).collect();
        let bottom = |volume: &Arc<Volume>| volume.tree().levels.deepest().unwrap_or(0).max(1);
        let bottoms: Vec<usize> = volumes.iter().map(bottom).collect();
        for level in 0..=bottoms.iter().copied().max().unwrap_or(0) {
            let on_the_way = || volumes.iter().zip(&bottoms).filter(|(_, bottom)| level <= **bottom);
            if !on_the_way().any(|(volume, bottom)| volume.descent(level, *bottom).is_some()) {
                continue;
            }
            // A look at every volume.
            let emptied = Arc::new(self.blobs_to_empty());
            let claim = |(volume, bottom): (&Arc<Volume>, &usize)| {
                let (levels, job) = volume.descent(level, *bottom)?;
                Some(Claim { volume: volume.clone(), levels, job, emptied: emptied.clone(), _turn: None })
            };
            let claims: Vec<Claim> = on_the_way().filter_map(claim).collect();
            self.run_jobs(&claims)?;
            drop(claims);
            self.reclaim_passed()?;
        }
        Ok(())
    }
}

impl Volume {
    /// The job that takes a level down, and what it is picked from, if there is something to do. The volume's turn is held.
    fn descent(&self, level: usize, bottom: usize) -> Option<(Levels, Job)> {
        let levels = self.tree().levels.clone();
        let inputs: Vec<Input> = levels.level(level).iter().map(|table| (level, table.clone())).collect();
        let settled = level == bottom && inputs.iter().all(|(_, table)| table.tombstones == 0);
        if inputs.is_empty() || settled {
            return None;
        }
        let job = Job { inputs, output_level: (level + 1).min(bottom), reason: Reason::Manual };
        let job = if level == bottom { job } else { job.with_overlapped(&levels) };
        Some((levels, job))
    }
}
