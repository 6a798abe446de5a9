//! Giving back what removed files held.
//!
//! When a file with chunks or extended attributes loses its last name, the same batch writes an orphan
//! record (`o inode`). When nobody can reach the file any more, one batch removes what it held and the
//! record. A process that ends before that leaves the record, and the next open goes on.
//!
//! A failure is logged and leaves the rest to the next open.

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::entry::decode_orphan;
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::fs::tally;
use crate::lsm::{Batch, Scan, Tally, Volume};
use std::ops::Bound;

/// So many keys are deleted one by one; more, with one range tombstone. Every read of a memtable that has
/// range tombstones asks them too: a few point tombstones are cheaper for all.
pub(super) const FEW: usize = 64;

/// Orphan records read at a time.
const ORPHANS_AT_ONCE: usize = 1024;

impl FileSystem {
    /// Gives back what an unreachable file held.
    /// `counted`: what it counts in the volume's tally, its attributes aside.
    pub(super) fn reclaim(&self, ino: Ino, counted: Tally) {
        let counts = tally::of_xattrs(&self.volume, ino).map(|xattrs| counted + xattrs);
        let removed = counts.and_then(|counts| self.remove_contents(ino, counts, counted.bytes as u64));
        if let Err(e) = removed {
            tracing::error!("space of removed inode {ino} is not given back before the next mount: {e}");
        }
    }

    /// Gives back what files held that were unlinked and open when the last process ended. Before anything
    /// is unlinked in this one: later orphan records are of files that may be open.
    pub(super) fn reclaim_leftovers(&self) -> Outcome<()> {
        let (from, to) = keys::orphans();
        self.reclaim_orphans(&from, &to, None)
    }

    /// Gives back what the files held whose orphan records stand from one key up to another.
    /// What they count is taken from the volume's tally, or, if it does not have it, added to `uncounted`.
    pub(super) fn reclaim_orphans(
        &self,
        from: &[u8],
        to: &[u8],
        mut uncounted: Option<&mut Tally>,
    ) -> Outcome<()> {
        let mut from = Bound::Included(from.to_vec());
        loop {
            let mut scan = self.volume.scan(from.as_ref().map(Vec::as_slice), Bound::Excluded(to))?;
            let mut orphans = Vec::new();
            while orphans.len() < ORPHANS_AT_ONCE && scan.next()? {
                let bad = |what| Cause::bad_record(scan.key(), what);
                let ino = keys::orphan_ino(scan.key()).ok_or_else(|| bad("not an orphan's key"))?;
                orphans.push((ino, decode_orphan(scan.head()).map_err(bad)?));
            }
            let Some((last, _)) = orphans.last() else { return Ok(()) };
            from = Bound::Excluded(keys::orphan(*last).to_vec());
            for (ino, bytes) in orphans {
                self.admit(0)?;
                match &mut uncounted {
                    None => self.reclaim(ino, tally::file(bytes)),
                    Some(sum) => {
                        let held = tally::file(bytes) + tally::of_xattrs(&self.volume, ino)?;
                        self.remove_contents(ino, Tally::default(), bytes)?;
                        **sum += held;
                    }
                }
            }
        }
    }

    /// Removes a file's chunks, its extended attributes and its orphan record.
    fn remove_contents(&self, ino: Ino, counted: Tally, bytes: u64) -> Outcome<()> {
        let mut batch = Batch::new();
        batch.frees_room();
        batch.note_deleted(bytes);
        batch.count(-counted);
        for (from, to) in [keys::chunks(ino), keys::xattrs(ino)] {
            remove_range(&mut batch, &self.volume, &from, &to)?;
        }
        batch.delete(&keys::orphan(ino));
        // Locks may be held. The change that made the orphan was admitted: this adds little to it.
        self.volume.write_admitted(batch)?;
        Ok(())
    }
}

/// Adds the removal of all keys from `from` up to `to` to a batch. Looks at no more than [`FEW`] of them.
fn remove_range(batch: &mut Batch, volume: &Volume, from: &[u8], to: &[u8]) -> Outcome<()> {
    let mut scan = volume.scan(Bound::Included(from), Bound::Excluded(to))?;
    let keys = first_keys(&mut scan)?;
    match scan_has_more(&mut scan, &keys)? {
        true => batch.delete_range(from, to),
        false => keys.iter().for_each(|key| batch.delete(key)),
    }
    Ok(())
}

/// The next [`FEW`] keys of a scan, or all that are left.
fn first_keys(scan: &mut Scan) -> Outcome<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    while keys.len() < FEW && scan.next()? {
        keys.push(scan.key().to_vec());
    }
    Ok(keys)
}

/// After [`first_keys`]: is there another key? Moves on to it.
fn scan_has_more(scan: &mut Scan, keys: &[Vec<u8>]) -> Outcome<bool> {
    Ok(keys.len() == FEW && scan.next()?)
}
