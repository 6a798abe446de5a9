//! Flushing: frozen memtables become tables of L0.
//!
//! One flush of one volume, in order:
//! 1. Take the *earliest* immutable memtable, once no batch is being inserted into it any more.
//! 2. Sync the log past the memtable's highest sequence number, so that after a power cut no volume
//!    has writes that are younger than another's lost ones. A store that is read-only ends here:
//!    a table that cannot be installed is not built, time and again.
//! 3. Build its table, under no lock of the engine. The table's file and the directory are synced.
//! 4. Log the edit in the manifest, then swap the tree: the memtable out and the table in, in one step, in
//!    every volume that has the memtable ([`crate::lsm::shape`]).
//! 5. Log segments that no memtable needs any more become obsolete (`obsolete.rs`).
//!
//! `num_memtable_limit` starts flushes; a writer that waits for room starts them too, and so does
//! closing. A failed flush leaves everything as it was and is tried again.
//!
//! # Locks
//! `Volume::flush_turn` lets one flush of a volume run at a time; it is the outermost lock.

use crate::lsm::Result;
use crate::lsm::blob::{BlobOutput, LiveBlob};
use crate::lsm::iter::stripes::keep_visible;
use crate::lsm::key::KeyRef;
use crate::lsm::memtable::Memtable;
use crate::lsm::range::RangeSet;
use crate::lsm::shape::Change;
use crate::lsm::store::Shared;
use crate::lsm::table::{TableBuilder, TableMeta};
use crate::lsm::volume::Volume;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

impl Volume {
    /// Has a flush of this volume work to do now?
    pub(crate) fn wants_flush(&self) -> bool {
        let tree = self.tree();
        let frozen = tree.immutable.len();
        let limit = self.shared().options.num_memtable_limit.max(1);
        // What was deleted should give its room back.
        let deletes_much = || {
            tree.immutable.iter().any(|memtable| memtable.deleted() >= self.shared().options.blob_file_size)
        };
        let is_urgent = || self.stall.waiting() > 0 || self.shared().reserve.wants_room() || deletes_much();
        frozen > 0 && (frozen + 1 > limit || is_urgent())
    }

    /// Flushes the earliest immutable memtable; false if there is none.
    pub(crate) fn flush_one(&self) -> Result<bool> {
        let _turn = self.flush_turn.lock();
        let Some(memtable) = self.tree().immutable.last().cloned() else { return Ok(false) };
        let flush = || self.shared().caught(|| self.flush_memtable(&memtable));
        let flushed = flush().or_else(|e| if self.shared().make_room_after(&e) { flush() } else { Err(e) });
        self.stall.flushed(flushed.as_ref().err().cloned());
        flushed?;
        self.shared().retired.lock().push(memtable);
        if self.shared().drop_retired() {
            self.shared().flush_signal.raise();
        }
        if let Err(e) = self.shared().retire_log() {
            // The log only stays longer: the next flush tries again.
            tracing::warn!("log segments that are not needed could not be deleted: {e}");
        }
        self.shared().reserve.look();
        self.shared().compaction_signal.raise();
        Ok(true)
    }

    fn flush_memtable(&self, memtable: &Arc<Memtable>) -> Result<()> {
        let shared = self.shared();
        shared.commits.wait_visible(memtable.last_seq());
        shared.log.sync()?;
        shared.read_only.check()?;
        let started = Instant::now();
        // The new blob files are held until the table holds them.
        let (table, _blobs) = build_table(shared, memtable)?;
        let bytes = table.as_ref().map_or(0, |table| table.size);
        let table = table.map(|meta| shared.live_table(meta));
        let change = Change::Flush { memtable, table: table.clone() };
        let installed = shared.install(&change);
        if !matches!(installed, Ok(true)) {
            // Or another volume that shares the memtable has flushed it meanwhile.
            shared.discard_tables(table.iter().map(|table| table.meta().as_ref()));
        }
        installed.map(|_| shared.metrics.flushed(bytes, started))
    }

    /// Flushes every memtable of this moment, the mutable one too. (Writers may fill others meanwhile.)
    pub(crate) fn flush_all(&self) -> Result<()> {
        self.freeze();
        let Some(newest) = self.tree().immutable.first().map(|memtable| memtable.last_seq()) else {
            return Ok(());
        };
        while self.tree().immutable.last().is_some_and(|earliest| earliest.last_seq() <= newest) {
            self.flush_one()?;
        }
        Ok(())
    }
}

/// The table of `memtable`'s records; `None` if nothing of it is worth keeping.
fn build_table(shared: &Shared, memtable: &Arc<Memtable>) -> Result<(Option<TableMeta>, Vec<Arc<LiveBlob>>)> {
    let stripes = shared.snapshots.stripes(&shared.commits);
    let mut builder: Option<TableBuilder> = None;
    // The memtable takes no more writes: a copy of its range tombstones is all of them.
    let ranges = memtable.with_ranges(RangeSet::clone);
    let mut blobs = BlobOutput::new(shared, BTreeSet::new());
    let load = |tail: &[u8]| shared.blobs.load_uncached(tail);
    let add = &mut |key: KeyRef<'_>, head: &[u8], tail: &[u8]| {
        let builder = match &mut builder {
            Some(builder) => builder,
            empty => empty.insert(shared.new_table(&shared.table_options)?),
        };
        builder.add(key, head, tail)
    };
    keep_visible(&mut memtable.iter(), &ranges, &stripes, &mut false, &load, &mut |key, head, tail| {
        blobs.add(key, head, tail, add)
    })?;
    let blobs = blobs.finish()?;
    let table = builder.map(TableBuilder::finish).transpose()?;
    Ok((table, blobs))
}

impl Shared {
    /// Drops flushed memtables that nobody uses any more: here, and not on the thread of a reader or
    /// writer. Is any left?
    pub(crate) fn drop_retired(&self) -> bool {
        let mut retired = self.retired.lock();
        let unused: Vec<_> = retired.extract_if(.., |m| Arc::strong_count(m) == 1).collect();
        let is_left = !retired.is_empty();
        drop(retired);
        drop(unused);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Batch, Options, Store};
    use std::ops::Bound;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn a_flushed_memtable_is_dropped_when_its_last_reader_is_gone() {
        let store = Store::open(Arc::new(SimDisk::new(1)), Options::default()).unwrap();
        let volume = store.volume("main").unwrap();
        let mut batch = Batch::new();
        batch.put(b"a", b"1");
        volume.write(batch).unwrap();
        let scan = volume.scan(Bound::Unbounded, Bound::Unbounded).unwrap();
        store.flush().unwrap();
        let retired = || store.shared().retired.lock().len();
        assert_eq!(retired(), 1);
        drop(scan);
        let end = Instant::now() + Duration::from_secs(60);
        while retired() > 0 {
            assert!(Instant::now() < end, "nobody looked");
            std::thread::yield_now();
        }
    }
}
