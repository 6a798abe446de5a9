//! Mending what a check found, in rounds: one mend may show what the next is.

use super::judge::record_in;
use super::{Finding, Mend, check};
use crate::fs::attr::Ino;
use crate::fs::entry::Entry;
use crate::fs::error::{Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::lsm::{Batch, Store, Volume};
use std::ops::Bound;

/// Rounds of checking and mending.
const ROUNDS_MAX: usize = 64;

/// What became of a volume that was mended.
#[derive(Debug, Clone, Default)]
pub struct Mended {
    /// What did not fit and does now.
    pub mended: Vec<Finding>,
    /// What still does not.
    pub left: Vec<Finding>,
}

/// Mends a volume's records until nothing is found any more, or nothing more can be done. Of a snapshot, which
/// takes no writes, only the tally.
pub fn mend(store: &Store, volume: &Volume) -> Result<Mended> {
    let mut mended = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let report = check(volume, &mut || ())?;
        let can_be = |mend: &Mend| !volume.is_snapshot() || matches!(mend, Mend::Count(_));
        let is_mendable = |f: &Finding| !f.mends.is_empty() && f.mends.iter().all(can_be);
        let (mends, left): (Vec<_>, Vec<_>) = report.findings.into_iter().partition(is_mendable);
        if mends.is_empty() {
            return Ok(Mended { mended, left });
        }
        let apply =
            || mends.iter().flat_map(|finding| &finding.mends).try_for_each(|one| apply(store, volume, one));
        apply().context("mend", || Subject::FileSystem)?;
        mended.extend(mends);
    }
    Ok(Mended { mended, left: check(volume, &mut || ())?.findings })
}

fn apply(store: &Store, volume: &Volume, mend: &Mend) -> Outcome<()> {
    let mut batch = Batch::new();
    match mend {
        Mend::Delete(key) => batch.delete(key),
        Mend::DeleteRange(from, to) => batch.delete_range(from, to),
        Mend::Put { key, head } => batch.put(key, head),
        Mend::Change { key, field } => {
            if let Some(value) = volume.get(key)?
                && let Some(mut record) = record_in(&value.head, keys::entry_name(key).is_some())
            {
                field.set(&mut record);
                batch.put_split(key, &record.encode(), &value.tail);
            }
        }
        Mend::Count(tally) => store.correct_tally(volume, *tally)?,
        Mend::SayAttributes(ino) => {
            if let Some(key) = place_of(volume, *ino)? {
                return apply(store, volume, &Mend::Change { key, field: super::Field::HasXattrs(true) });
            }
        }
    }
    volume.write(batch)?;
    Ok(())
}

/// Where a file's record is.
fn place_of(volume: &Volume, ino: Ino) -> Outcome<Option<Vec<u8>>> {
    let shared = keys::inode(ino);
    if volume.get_head(&shared)?.is_some() {
        return Ok(Some(shared.to_vec()));
    }
    let mut scan = volume.scan(Bound::Included(b"e"), Bound::Excluded(b"f"))?;
    while scan.next()? {
        if matches!(Entry::decode(scan.head()), Ok(Entry::File(record)) if record.ino == ino) {
            return Ok(Some(scan.key().to_vec()));
        }
    }
    Ok(None)
}
