//! Tallies and quotas: what a volume holds, as its writers count it, and how much that may be.
//!
//! # A tally is a part of a volume's tree
//! A batch says by how much it changes the count of files and bytes of its volume ([`crate::lsm::Batch::count`]).
//! What these are is the writers' affair. The change stands in the batch's log record, and under the commit lock
//! it is added to the memtable that takes the batch; when that memtable becomes a table, its sum moves, in the
//! same edit of the manifest, to what the volume's tables hold. So the volume's tally is that of its tables and
//! of its memtables: exact between any two writes, and the same after a crash, for the log's replay and the
//! manifest bring it along with the records. A fork shares memtables and levels and so starts with the tally of
//! its parent; a restore brings the snapshot's; compactions move none.
//!
//! Stores of versions that kept no tallies have volumes that are *not counted*, until somebody who can count
//! tells the sum ([`Store::correct_tally`]).
//!
//! # Quotas
//! A volume's quota is a property of it like its name: set by a record in the log, then in the manifest. A batch
//! that adds files or bytes is refused, before anything of it is written, if the tally with it would pass
//! the quota: batches that are under way count, so that concurrent writers never pass it. Batches that add
//! nothing are always taken, past a quota that was lowered too. A fork starts with the quota of the
//! volume or snapshot that it is made of; a restore leaves the volume's as it is.
//!
//! # Locks
//! A volume's quota and its memtable's tally change under the commit lock. (A batch that fails takes its own part
//! back without it.)

use crate::lsm::manifest::{Edit, VolumeId};
use crate::lsm::store::Store;
use crate::lsm::varint;
use crate::lsm::volume::{Tree, Volume};
use crate::lsm::{Error, Result};
use parking_lot::RwLock;
use serde::Serialize;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A number of files and of bytes, or a change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Files.
    pub files: i64,
    /// Bytes.
    pub bytes: i64,
}

// What a damaged file says must not overflow.
impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally { files: self.files.wrapping_add(other.files), bytes: self.bytes.wrapping_add(other.bytes) }
    }
}

impl Neg for Tally {
    type Output = Tally;

    fn neg(self) -> Tally {
        Tally { files: self.files.wrapping_neg(), bytes: self.bytes.wrapping_neg() }
    }
}

impl Sub for Tally {
    type Output = Tally;

    fn sub(self, other: Tally) -> Tally {
        self + -other
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        *self = *self + other;
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), Add::add)
    }
}

/// Small numbers of either sign become small ones without.
fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

impl Tally {
    /// The most bytes that [`Tally::put`] appends.
    pub(crate) const MAX_LEN: usize = 2 * varint::MAX_LEN;

    /// Nothing?
    pub fn is_zero(&self) -> bool {
        *self == Tally::default()
    }

    /// Appends files, then bytes, as zigzag varints.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        varint::put(out, zigzag(self.files));
        varint::put(out, zigzag(self.bytes));
    }

    /// Takes what [`Tally::put`] appended.
    pub(crate) fn take(input: &mut &[u8]) -> Option<Tally> {
        Some(Tally { files: unzigzag(varint::take(input)?), bytes: unzigzag(varint::take(input)?) })
    }
}

/// A tally that many may change.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    files: AtomicI64,
    bytes: AtomicI64,
}

impl Counter {
    pub fn add(&self, tally: Tally) {
        self.files.fetch_add(tally.files, Relaxed);
        self.bytes.fetch_add(tally.bytes, Relaxed);
    }

    pub fn get(&self) -> Tally {
        Tally { files: self.files.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// How much a volume may hold; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Quota {
    /// Files.
    pub files: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

/// The largest number that a quota can say.
const QUOTA_MAX: u64 = i64::MAX as u64;

impl Quota {
    /// No limits?
    pub fn is_none(&self) -> bool {
        *self == Quota::default()
    }

    /// Refuses what would take a tally from `held` past the quota.
    fn admit(&self, held: Tally, added: Tally) -> std::result::Result<(), (&'static str, u64)> {
        let passes = |limit: u64, held: i64, added: i64| {
            added > 0 && held.saturating_add(added) > i64::try_from(limit).unwrap_or(i64::MAX)
        };
        match *self {
            Quota { bytes: Some(limit), .. } if passes(limit, held.bytes, added.bytes) => {
                Err(("bytes", limit))
            }
            Quota { files: Some(limit), .. } if passes(limit, held.files, added.files) => {
                Err(("files", limit))
            }
            _ => Ok(()),
        }
    }

    /// Appends files, then bytes: varints, 0 for no limit, else one more than the limit.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let limit = |limit: Option<u64>| limit.map_or(0, |limit| limit.min(QUOTA_MAX) + 1);
        varint::put(out, limit(self.files));
        varint::put(out, limit(self.bytes));
    }

    /// Takes what [`Quota::put`] appended.
    pub(crate) fn take(input: &mut &[u8]) -> Option<Quota> {
        Some(Quota { files: varint::take(input)?.checked_sub(1), bytes: varint::take(input)?.checked_sub(1) })
    }
}

/// A volume's quota, which changes under the commit lock.
#[derive(Debug, Default)]
pub(crate) struct Limits(RwLock<Quota>);

impl Limits {
    pub fn new(quota: Quota) -> Limits {
        Limits(RwLock::new(quota))
    }

    pub fn get(&self) -> Quota {
        *self.0.read()
    }

    pub fn set(&self, quota: Quota) {
        *self.0.write() = quota;
    }
}

impl Tree {
    /// What the tree holds, batches that are under way included.
    pub fn tally(&self) -> Tally {
        self.tally + self.memtables().map(|memtable| memtable.tally()).sum()
    }
}

impl Volume {
    /// What the volume holds now, as its writers count it, batches that are under way included; `None` if it
    /// is not counted.
    pub fn tally(&self) -> Option<Tally> {
        let tree = self.tree();
        (!tree.uncounted).then(|| tree.tally())
    }

    /// How much the volume may hold.
    pub fn quota(&self) -> Quota {
        self.limits.get()
    }

    /// Refuses what would take the volume past its quota, were it written now.
    ///
    /// # Errors
    /// [`Error::OverQuota`].
    pub fn admits(&self, added: Tally) -> Result<()> {
        self.check_quota(&self.tree(), added)
    }

    /// Refuses what would take the volume past its quota. Under the commit lock, for certain.
    pub(crate) fn check_quota(&self, tree: &Tree, added: Tally) -> Result<()> {
        if added.files <= 0 && added.bytes <= 0 {
            return Ok(());
        }
        let quota = self.limits.get();
        if quota.is_none() || tree.uncounted {
            return Ok(());
        }
        let over = |(what, limit)| Error::OverQuota { volume: self.name(), what, limit };
        quota.admit(tree.tally(), added).map_err(over)
    }
}

impl Store {
    /// Sets how much a volume may hold. What it holds already may be more: then it can only shrink.
    ///
    /// # Errors
    /// [`Error::IsSnapshot`], and those of [`Volume::write`].
    pub fn set_quota(&self, volume: &Volume, quota: Quota) -> Result<()> {
        let shared = self.shared();
        let _naming = shared.naming.lock();
        self.check_writable()?;
        volume.check_open()?;
        if volume.is_snapshot() {
            return Err(Error::IsSnapshot(volume.name()));
        }
        let quota = Quota {
            files: quota.files.map(|limit| limit.min(QUOTA_MAX)),
            bytes: quota.bytes.map(|limit| limit.min(QUOTA_MAX)),
        };
        let before = volume.quota();
        let edits = vec![Edit::Quota { volume: volume.id(), quota }];
        // Whoever writes later in the order keeps to it.
        let set = || volume.limits.set(quota);
        self.change_volumes(edits, &[], set, |_| ()).inspect_err(|_| volume.limits.set(before))
    }

    /// Tells what a volume really holds, in the place of its tally. Nobody may write to it meanwhile.
    ///
    /// # Errors
    /// Those of [`Volume::write`].
    pub fn correct_tally(&self, volume: &Volume, held: Tally) -> Result<()> {
        let shared = self.shared();
        let _naming = shared.naming.lock();
        self.check_writable()?;
        volume.check_open()?;
        let missing = held - volume.tree().tally();
        let edits = counted(volume.id(), missing);
        self.change_volumes(
            edits,
            &[],
            || (),
            |_| {
                let tree = volume.tree();
                volume.set_tree(Tree { tally: tree.tally + missing, uncounted: false, ..Tree::clone(&tree) });
            },
        )
    }
}

/// The edits by which a volume counts as counted, after `missing` was added to its tally.
fn counted(volume: VolumeId, missing: Tally) -> Vec<Edit> {
    vec![Edit::Tally { volume, tally: missing }, Edit::Counted { volume, counted: true }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tallies_and_quotas_read_back(files: i64, bytes: i64, limits: (Option<u32>, Option<u64>), rest: Vec<u8>) {
            let tally = Tally { files, bytes };
            let bound = |limit: u64| limit.min(QUOTA_MAX);
            let quota = Quota { files: limits.0.map(u64::from), bytes: limits.1.map(bound) };
            let mut out = Vec::new();
            tally.put(&mut out);
            prop_assert!(out.len() <= Tally::MAX_LEN);
            quota.put(&mut out);
            out.extend_from_slice(&rest);
            let input = &mut out.as_slice();
            prop_assert_eq!(Tally::take(input), Some(tally));
            prop_assert_eq!(Quota::take(input), Some(quota));
            prop_assert_eq!(*input, rest.as_slice());
            let _ = (Tally::take(&mut rest.as_slice()), Quota::take(&mut rest.as_slice()));
        }
    }

    #[test]
    fn only_growth_is_refused() {
        let tally = |files, bytes| Tally { files, bytes };
        let quota = Quota { files: Some(10), bytes: Some(1000) };
        let admits = |held, added| quota.admit(held, added).is_ok();
        assert!(admits(tally(9, 999), tally(1, 1)));
        assert!(!admits(tally(9, 1000), tally(1, 1)) && !admits(tally(10, 0), tally(1, -5)));
        assert!(admits(tally(20, 2000), tally(0, 0)) && admits(tally(20, 2000), tally(-1, -1)));
        assert!(!admits(tally(20, 2000), tally(-1, 1)));
        assert!(!admits(tally(0, i64::MAX), tally(0, i64::MAX)));
        assert!(Quota::default().admit(tally(i64::MAX, 0), tally(1, 1)).is_ok());
    }
}
