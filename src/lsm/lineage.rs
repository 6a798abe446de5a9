//! What a volume may have in common with others: where it was forked, and where others were last forked from it.
//!
//! Volumes have a record in common only if both had it from a third, or one from the other: it is older than the place
//! in the order of writes where they parted. A volume parted from all others when it was forked, or when one was
//! forked from it. So whatever two volumes of one origin have in common is no newer than the newest parting of either:
//! what is newer is a volume's own, in whichever file it stands ([`own_after`]).
//! What is older may be its own or not.

use crate::lsm::SeqNo;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::manifest::VolumeId;
use crate::lsm::manifest::edit::Carried;
use crate::lsm::varint::{put, take};
use crate::lsm::volume::{Tree, Volume};
use std::collections::HashMap;

/// The origin of volumes of which nobody knows who was forked from whom.
const UNKNOWN: VolumeId = VolumeId::MAX;

/// Where a volume parted from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lineage {
    /// Where it was forked from another (0: it was not).
    pub forked: SeqNo,
    /// Where another was last forked from it (0: none was).
    pub last_fork: SeqNo,
    /// The volume that it and its relatives descend from (0: it is the first of them).
    pub origin: VolumeId,
}

impl Lineage {
    /// That of a fork, made at `seq`, of the volume `id` with this one.
    pub fn of_fork(&self, id: VolumeId, seq: SeqNo) -> Lineage {
        let origin = if self.origin == 0 { id } else { self.origin };
        Lineage { forked: seq, last_fork: 0, origin }
    }

    /// As long as nobody knows more: it may have in common with any other what is not newer than `seq`.
    pub fn forget(&mut self, seq: SeqNo) {
        (self.last_fork, self.origin) = (self.last_fork.max(seq), UNKNOWN);
    }

    /// The newest place where it parted from another.
    pub fn parted(&self) -> SeqNo {
        self.forked.max(self.last_fork)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        [self.forked, self.last_fork, self.origin.into()].into_iter().for_each(|n| put(out, n));
    }

    /// What earlier versions have written ends with the first number.
    pub(crate) fn take(input: &mut &[u8]) -> Option<Lineage> {
        let forked = take(input)?;
        let (last_fork, origin) = match input.is_empty() {
            true => (0, 0),
            false => (take(input)?, take(input)?.try_into().ok()?),
        };
        (forked.max(last_fork) <= MAX_SEQ).then_some(Lineage { forked, last_fork, origin })
    }
}

/// Of each of these volumes, by id and lineage: its records newer than this are its own.
pub(crate) fn own_after(volumes: &[(VolumeId, Lineage)]) -> Vec<SeqNo> {
    let origin = |(id, lineage): &(VolumeId, Lineage)| if lineage.origin == 0 { *id } else { lineage.origin };
    // Of each origin the newest partings of two volumes.
    let mut newest: HashMap<VolumeId, [SeqNo; 2]> = HashMap::new();
    for volume in volumes {
        let [first, second] = newest.entry(origin(volume)).or_default();
        let parted = volume.1.parted();
        (*first, *second) = (parted.max(*first), parted.min(*first).max(*second));
    }
    let own_after = |volume: &(VolumeId, Lineage)| {
        // The newest parting of the others, or of itself if that is no newer.
        newest.get(&origin(volume)).map_or(0, |[first, second]| match volume.1.parted() == *first {
            true => *second,
            false => volume.1.parted(),
        })
    };
    volumes.iter().map(own_after).collect()
}

impl Volume {
    /// What a fork of this tree of the volume, just frozen, shares in memtables.
    pub(crate) fn carried(&self, tree: &Tree) -> Carried {
        match tree.immutable.first() {
            None => Carried::Nothing,
            Some(newest) if newest.last_seq() > self.lineage().forked => Carried::Own,
            Some(_) => Carried::Inherited,
        }
    }

    /// Has it, since it was forked, had no write of its own that is in a table? Then its tables are those
    /// that its parent had, and none of its concern, unless a writer waits for their number to sink.
    pub(crate) fn is_idle_fork(&self) -> bool {
        let Lineage { forked, .. } = self.lineage();
        forked > 0 && self.tree().flushed <= forked && self.stall.waiting() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(forked: SeqNo, last_fork: SeqNo, origin: VolumeId) -> Lineage {
        Lineage { forked, last_fork, origin }
    }

    #[test]
    fn what_is_newer_than_every_parting_of_two_is_a_volumes_own() {
        // 1 was forked at 10 to 2 and at 30 to 3; 2 at 20 to 4. 5 has no relatives.
        let all = [
            (1, lineage(0, 30, 0)),
            (2, lineage(10, 20, 1)),
            (3, lineage(30, 0, 1)),
            (4, lineage(20, 0, 1)),
            (5, Lineage::default()),
        ];
        assert_eq!(own_after(&all), [30, 20, 30, 20, 0]);
        // Without 3 there is nobody who has of 1 what it wrote since 10; that of 2 is 20.
        assert_eq!(own_after(&[all[0], all[1], all[3]]), [20, 20, 20]);
        assert_eq!(own_after(&[all[0], all[4]]), [0, 0]);
    }

    #[test]
    fn a_fork_has_the_origin_of_its_parent_and_what_is_forgotten_may_be_anybodys() {
        let first = Lineage::default();
        let child = first.of_fork(7, 50);
        assert_eq!((child, child.of_fork(8, 60)), (lineage(50, 0, 7), lineage(60, 0, 7)));
        let mut forgotten = [(7, first), (8, child), (9, first)];
        forgotten.iter_mut().for_each(|(_, lineage)| lineage.forget(90));
        assert_eq!(own_after(&forgotten), [90, 90, 90]);
    }

    #[test]
    fn a_lineage_reads_back_and_so_does_what_earlier_versions_wrote() {
        let mut encoded = Vec::new();
        lineage(10, 300, UNKNOWN).encode(&mut encoded);
        assert_eq!(Lineage::take(&mut &encoded[..]), Some(lineage(10, 300, UNKNOWN)));
        assert_eq!(Lineage::take(&mut &encoded[..1]), Some(lineage(10, 0, 0)));
        assert_eq!(Lineage::take(&mut &encoded[..2]), None);
        let mut late = Vec::new();
        put(&mut late, MAX_SEQ + 1);
        assert_eq!(Lineage::take(&mut &late[..]), None);
    }
}
