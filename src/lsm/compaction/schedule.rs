//! Which job is done next, and which are done together.
//!
//! Only volumes whose tables changed are looked at ([`crate::lsm::work`]), those with the most tables in L0 first;
//! all of them when the disk is full, a blob file is to be emptied, or a pack has few tables left in use.
//!
//! A job that merges much is done by itself. Small ones, of volumes that have nothing in common, are done together:
//! what they write is one pack, and one commit of the manifest installs it ([`crate::lsm::table::pack`]). So ten
//! thousand small volumes cost as much as one that is as large as they are together. If such a group fails for
//! damage in one volume's tables, its jobs are done one by one, and the others are none the worse for it.
//!
//! # Locks
//! A job holds its volume's [`Compacting::turn`](super::Compacting). Those of a group are only tried: whoever has one
//! sees to it that the volume is looked at again.

use super::{Job, garbage, leveled, pick};
use crate::lsm::levels::Levels;
use crate::lsm::store::Shared;
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result};
use parking_lot::{ArcMutexGuard, RawMutex};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// A job whose inputs are less than one part in this many of what a table holds is small.
pub(super) const SMALL_ONE_IN: u64 = 2;
/// A group has this many jobs at most. (Their inputs are together no more than a table holds.)
pub(super) const GROUP_JOBS: usize = 1024;

/// A job that is about to be done.
pub(super) struct Claim {
    pub volume: Arc<Volume>,
    /// What the job was picked from.
    pub levels: Levels,
    pub job: Job,
    /// The blob files that are to be emptied.
    pub emptied: Arc<BTreeSet<u64>>,
    /// Held by the claim, unless whoever made it holds it.
    pub _turn: Option<ArcMutexGuard<RawMutex, ()>>,
}

impl Claim {
    pub fn input_bytes(&self) -> u64 {
        self.job.input_bytes()
    }

    pub fn is_move(&self) -> bool {
        self.job.is_move(&self.levels)
    }
}

impl Volume {
    /// The most urgent job, if any is due.
    fn claim(
        self: &Arc<Self>,
        emptied: &Arc<BTreeSet<u64>>,
        turn: ArcMutexGuard<RawMutex, ()>,
    ) -> Result<Option<Claim>> {
        let shared = self.shared();
        let levels = self.tree().levels.clone();
        let now = leveled::Now {
            oldest_snapshot: shared.snapshots.stripes(&shared.commits).first().copied().unwrap_or(0),
            forked: shared.volumes().len() > 1,
            scarce: shared.reserve.wants_room(),
        };
        let due = if self.is_idle_fork() { None } else { pick(&levels, &shared.options, &now) };
        let job = match due {
            Some(job) => Some(job),
            None => garbage::pick(shared, &levels, emptied)?,
        };
        let (volume, emptied) = (self.clone(), emptied.clone());
        Ok(job.map(|job| Claim { volume, levels, job, emptied, _turn: Some(turn) }))
    }

    /// Does the most urgent compaction; false if none is due.
    pub(crate) fn compact_one(self: &Arc<Self>) -> Result<bool> {
        // On a full disk another job is chosen.
        self.shared().with_reserve(|| {
            let turn = self.compacting.turn.lock_arc();
            let emptied = Arc::new(self.shared().blobs_to_empty());
            let Some(claim) = self.claim(&emptied, turn)? else { return Ok(false) };
            self.shared().run_claims(vec![claim]).map(|()| true)
        })
    }
}

impl Shared {
    /// Does up to `most` compactions that are due, or groups of them; says whether there was any.
    pub(crate) fn compact_due(&self, most: usize) -> Result<bool> {
        if let Err(e) = self.read_only.check() {
            // Whoever waits for a compaction waits in vain.
            self.volumes().iter().for_each(|volume| volume.stall.compacted(Some(e.clone())));
            return Err(e);
        }
        // Once for all that are done: it is a look at every volume.
        let mut emptied = Arc::new(self.blobs_to_empty());
        if self.reserve.wants_room() || self.graveyard.has_sparse() || !emptied.is_empty() {
            self.volumes().iter().for_each(|volume| self.work.reshaped(volume.id()));
        }
        let (mut done, mut first) = (0, Ok(()));
        let (mut due, mut loan) = (Due::default(), None);
        while done < most && !self.is_closed() {
            match due.run_next(self, &emptied) {
                Ok(true) => done += 1,
                Ok(false) => break,
                Err(e) => {
                    // On a full disk other jobs are chosen. Once: what is lent is lent for all of the round.
                    if e.is_full() && loan.is_none() {
                        loan = self.make_room();
                        if loan.is_some() {
                            due.volumes.append(&mut due.failed);
                            continue;
                        }
                    }
                    first = first.and(Err(e));
                }
            }
            // Not only when no job is due any more: until then all that the jobs read would be kept.
            // What fails here is tried again.
            let _ = self.reclaim_passed();
            if !emptied.is_empty() {
                emptied = Arc::new(self.blobs_to_empty());
            }
        }
        // Not before: it would be looked at without end.
        due.volumes.append(&mut due.failed);
        due.volumes.keys().for_each(|id| self.work.reshaped(*id));
        first.map(|()| done > 0)
    }

    /// Does jobs together, or one.
    fn run_claims(&self, claims: Vec<Claim>) -> Result<()> {
        let run = |claims: &[Claim]| {
            let done = self.caught(|| self.run_jobs(claims));
            if claims.len() == 1 || !matches!(done, Err(Error::Corruption { .. })) {
                let error = done.as_ref().err();
                claims.iter().for_each(|claim| claim.volume.stall.compacted(error.cloned()));
            }
            done
        };
        match run(&claims) {
            Err(Error::Corruption { .. }) if claims.len() > 1 => {
                claims.chunks(1).map(run).fold(Ok(()), Result::and)
            }
            done => done,
        }
    }
}

/// The volumes that are still to be looked at.
#[derive(Default)]
struct Due {
    volumes: BTreeMap<u32, Arc<Volume>>,
    /// Those whose look or job failed, for the next round. (Not for damage, which will be there again.)
    failed: BTreeMap<u32, Arc<Volume>>,
}

impl Due {
    /// Adds those whose tables have changed.
    fn add(&mut self, shared: &Shared) {
        let changed = shared.work.take_compactions();
        self.volumes.extend(changed.into_iter().filter_map(|id| Some((id, shared.by_id(id)?))));
    }

    /// Does the next job, or group of them; false if none is due. Whoever's job fails is left out from then on.
    fn run_next(&mut self, shared: &Shared, emptied: &Arc<BTreeSet<u64>>) -> Result<bool> {
        self.add(shared);
        let claims = self.next(shared, emptied)?;
        if claims.is_empty() {
            return Ok(false);
        }
        let volumes: Vec<_> = claims.iter().map(|claim| claim.volume.clone()).collect();
        let outcome = shared.run_claims(claims);
        outcome.inspect_err(|e| self.note_failed(e, volumes)).map(|()| true)
    }

    fn note_failed(&mut self, error: &Error, volumes: Vec<Arc<Volume>>) {
        if !matches!(error, Error::Corruption { .. }) {
            self.failed.extend(volumes.into_iter().map(|volume| (volume.id(), volume)));
        }
    }

    /// The jobs to do next: one that is large, or a group of small ones; none if none is due.
    ///
    /// # Errors
    /// A volume that cannot be looked at, which is left out from then on.
    fn next(&mut self, shared: &Shared, emptied: &Arc<BTreeSet<u64>>) -> Result<Vec<Claim>> {
        let mut order: Vec<(usize, Arc<Volume>)> =
            self.volumes.values().map(|volume| (volume.load().1, volume.clone())).collect();
        order.sort_by_key(|(l0, _)| std::cmp::Reverse(*l0));
        let (mut group, mut bytes, mut families) = (Vec::new(), 0, HashSet::new());
        for (_, volume) in order {
            // Two of a family may want to merge the same tables.
            if families.contains(&volume.family()) {
                continue;
            }
            // With a job it is told of again.
            self.volumes.remove(&volume.id());
            let Some(turn) = volume.compacting.turn.try_lock_arc() else { continue };
            let claim = match volume.claim(emptied, turn) {
                // First what was gathered is done. Then it is looked at again.
                Err(_) if !group.is_empty() => {
                    self.volumes.insert(volume.id(), volume);
                    break;
                }
                claim => claim.inspect_err(|e| self.note_failed(e, vec![volume.clone()]))?,
            };
            let Some(claim) = claim else { continue };
            let is_small = claim.is_move() || claim.input_bytes() < shared.options.table_size / SMALL_ONE_IN;
            if !is_small && group.is_empty() {
                return Ok(vec![claim]);
            }
            if !is_small {
                self.volumes.insert(volume.id(), volume);
                continue;
            }
            bytes += if claim.is_move() { 0 } else { claim.input_bytes() };
            families.insert(volume.family());
            group.push(claim);
            if bytes >= shared.options.table_size || group.len() >= GROUP_JOBS {
                break;
            }
        }
        Ok(group)
    }
}
