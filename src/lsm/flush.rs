//! Flushing: frozen memtables become tables of L0.
//!
//! One flush, in order:
//! 1. Take the *earliest* immutable memtable of a volume, or of each of several, once no batch is being inserted
//!    into it any more.
//! 2. Sync the log past their highest sequence number, so that after a power cut no volume
//!    has writes that are younger than another's lost ones. A store that is read-only ends here:
//!    a table that cannot be installed is not built, time and again.
//! 3. Build the tables, under no lock of the engine. A memtable that was full becomes a file; those that were cut
//!    short, by the budget or by a close, become tables of one pack ([`crate::lsm::table::pack`]). A file and the
//!    directory are synced: once for a thousand small memtables.
//! 4. Log the edit in the manifest, then swap the trees: the memtables out and the tables in, in one step, in
//!    every volume that has them ([`crate::lsm::shape`]). This too is one commit for all of a pack.
//! 5. Log segments that no memtable needs any more become obsolete (`obsolete.rs`).
//!
//! `num_memtable_limit` starts flushes; a writer that waits for room starts them too, and so do the budget
//! (`budget.rs`) and closing. A failed flush leaves everything as it was and is tried again.
//!
//! # Locks
//! `Shared::flush_turn` lets one flush run at a time; it is the outermost lock.

use crate::lsm::blob::{BlobOutput, LiveBlob};
use crate::lsm::iter::stripes::keep_visible;
use crate::lsm::key::KeyRef;
use crate::lsm::memtable::Memtable;
use crate::lsm::range::RangeSet;
use crate::lsm::shape::Change;
use crate::lsm::store::Shared;
use crate::lsm::table::{TableBuilder, TableMeta, TableOptions};
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// A memtable below one part in this many of a full one is small: it becomes a table of a pack.
const SMALL_ONE_IN: usize = 2;
/// The memtables of a pack hold one part in this many of what a table may: so each pack frees its room soon.
const PACK_ONE_IN: u64 = 2;
/// Volumes that are frozen under one hold of the locks.
const FROZEN_AT_ONCE: usize = 64;

/// Tables, in the order of what they were made of (`None`: nothing of it was worth keeping), and the new blob files
/// that their records point to.
type Built<T> = (T, Vec<Arc<LiveBlob>>);

/// A memtable to flush, and a volume that has it as its earliest.
struct Source {
    volume: Arc<Volume>,
    memtable: Arc<Memtable>,
}

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
    pub(crate) fn flush_one(self: &Arc<Self>) -> Result<bool> {
        self.shared().flush_earliest(std::slice::from_ref(self))
    }
}

impl Shared {
    /// Flushes every memtable that these volumes have at this moment, the mutable ones too. (Writers may fill others
    /// meanwhile.)
    pub(crate) fn flush_all_of(&self, volumes: &[Arc<Volume>]) -> Result<()> {
        volumes.chunks(FROZEN_AT_ONCE).for_each(|chunk| self.freeze(chunk));
        let newest = |volume: &Arc<Volume>| {
            volume.tree().immutable.first().map(|memtable| (volume.clone(), memtable.last_seq()))
        };
        let mut due: Vec<_> = volumes.iter().filter_map(newest).collect();
        while !due.is_empty() {
            let earliest: Vec<Arc<Volume>> = due.iter().map(|(volume, _)| volume.clone()).collect();
            self.flush_earliest(&earliest)?;
            due.retain(|(volume, newest)| {
                volume.tree().immutable.last().is_some_and(|earliest| earliest.last_seq() <= *newest)
            });
        }
        Ok(())
    }

    /// Flushes the earliest immutable memtable of each of these volumes; false if none has one. Whether or not it
    /// fails for some, the others are flushed; the first error.
    pub(crate) fn flush_earliest(&self, volumes: &[Arc<Volume>]) -> Result<bool> {
        let _turn = self.flush_turn.lock();
        let mut seen = HashSet::new();
        let source = |volume: &Arc<Volume>| {
            let memtable = volume.tree().immutable.last()?.clone();
            Some(Source { volume: volume.clone(), memtable })
        };
        let sources = volumes.iter().filter_map(source);
        let (small, large): (Vec<_>, Vec<_>) = sources
            .filter(|source| seen.insert(Arc::as_ptr(&source.memtable)))
            .partition(|source| source.memtable.size() < self.options.memtable_size / SMALL_ONE_IN);
        let mut first = Ok(());
        for group in large.chunks(1).chain(self.packs(&small)) {
            let outcome = match self.flush_group(group) {
                // One volume's damage does not keep the others from their flushes.
                Err(Error::Corruption { .. }) if group.len() > 1 => {
                    group.chunks(1).map(|one| self.flush_group(one)).fold(Ok(()), Result::and)
                }
                outcome => outcome,
            };
            first = first.and(outcome);
        }
        first.map(|()| !seen.is_empty())
    }

    /// Cuts small memtables into the contents of packs.
    fn packs<'a>(&self, small: &'a [Source]) -> impl Iterator<Item = &'a [Source]> + use<'a> {
        let most = (self.options.table_size / PACK_ONE_IN).max(1) as usize;
        let mut bytes = 0;
        small.chunk_by(move |source, _| {
            bytes += source.memtable.size();
            let goes_on = bytes < most;
            bytes = if goes_on { bytes } else { 0 };
            goes_on
        })
    }

    /// Flushes memtables together. The flush turn is held.
    fn flush_group(&self, group: &[Source]) -> Result<()> {
        let flushed = self.with_reserve(|| self.caught(|| self.flush_memtables(group)));
        group.iter().for_each(|source| source.volume.stall.flushed(flushed.as_ref().err().cloned()));
        self.budget.flushed(flushed.as_ref().err().cloned());
        flushed?;
        self.retired.lock().extend(group.iter().map(|source| source.memtable.clone()));
        if self.drop_retired() {
            self.flush_signal.raise();
        }
        if let Err(e) = self.retire_log() {
            // The log only stays longer: the next flush tries again.
            tracing::warn!("log segments that are not needed could not be deleted: {e}");
        }
        self.reserve.look();
        self.compaction_signal.raise();
        Ok(())
    }

    fn flush_memtables(&self, group: &[Source]) -> Result<()> {
        let last_seq = group.iter().map(|source| source.memtable.last_seq()).max().unwrap_or(0);
        self.commits.wait_visible(last_seq);
        self.log.sync()?;
        self.read_only.check()?;
        let started = Instant::now();
        // The new blob files are held until the tables hold them.
        let (tables, _blobs) = match group {
            [one] => {
                let new = || self.new_table(&self.options_for(one));
                let (table, blobs) = build_table(self, &one.memtable, &new)?;
                (vec![table], blobs)
            }
            _ => self.build_pack(group)?,
        };
        let bytes = tables.iter().flatten().map(|table| table.size).sum();
        let tables: Vec<_> =
            tables.into_iter().map(|table| table.map(|meta| self.live_table(meta))).collect();
        let change = |(source, table): (&'_ Source, &Option<_>)| Change::Flush {
            volume: source.volume.clone(),
            memtable: source.memtable.clone(),
            table: table.clone(),
        };
        let changes: Vec<Change> = group.iter().zip(&tables).map(change).collect();
        let installed = self.install(&changes);
        if !matches!(&installed, Ok(installed) if installed.contains(&true)) {
            // Or the volumes are gone.
            self.discard_tables(tables.iter().flatten().map(|table| table.meta().as_ref()));
        }
        installed.map(|_| self.metrics.flushed(bytes, started))
    }

    /// How a memtable's table is built.
    fn options_for(&self, source: &Source) -> TableOptions {
        let (volume, memtable) = (source.volume.clone(), source.memtable.clone());
        let homes = Change::Flush { volume, memtable, table: None }.homes(&self.volumes());
        TableOptions { homes, ..self.table_options.clone() }
    }

    /// The tables of memtables, in one pack; of each `None` if nothing of it is worth keeping.
    fn build_pack(&self, group: &[Source]) -> Result<Built<Vec<Option<TableMeta>>>> {
        let mut pack = self.new_pack()?;
        let (mut places, mut blobs) = (Vec::with_capacity(group.len()), Vec::new());
        for source in group {
            let new = || pack.table(self.new_table_number()?, &self.options_for(source));
            let (table, new_blobs) = build_table(self, &source.memtable, &new)?;
            places.push(table.map(|table| pack.add(table)));
            blobs.extend(new_blobs);
        }
        let tables = pack.finish()?;
        Ok((places.into_iter().map(|at| at.and_then(|at| tables.get(at).cloned())).collect(), blobs))
    }
}

/// The table of `memtable`'s records; `None` if nothing of it is worth keeping.
fn build_table(
    shared: &Shared,
    memtable: &Arc<Memtable>,
    new: &dyn Fn() -> Result<TableBuilder>,
) -> Result<Built<Option<TableMeta>>> {
    let stripes = shared.snapshots.stripes(&shared.commits);
    let mut builder: Option<TableBuilder> = None;
    // The memtable takes no more writes: a copy of its range tombstones is all of them.
    let ranges = memtable.with_ranges(RangeSet::clone);
    let mut blobs = BlobOutput::new(shared, BTreeSet::new());
    let load = |tail: &[u8]| shared.blobs.load_uncached(tail);
    let add = &mut |key: KeyRef<'_>, head: &[u8], tail: &[u8]| {
        let builder = match &mut builder {
            Some(builder) => builder,
            empty => empty.insert(new()?),
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
        // One that volumes shared was put here by each.
        retired.sort_unstable_by_key(Arc::as_ptr);
        retired.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let unused: Vec<_> = retired.extract_if(.., |m| Arc::strong_count(m) == 1).collect();
        let is_left = !retired.is_empty();
        drop(retired);
        drop(unused);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Batch, Options, Store, Volume};
    use std::ops::Bound;
    use std::sync::{Arc, mpsc};
    use std::time::{Duration, Instant};

    /// Far longer than anything here takes: a test that hangs fails instead.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn who_waits_learns_of_a_flush_by_a_volume_that_shares_its_memtable() {
        let options = Options { memtable_size: 1000, memtable_stall_size: 2000, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let volume = store.volume("main").unwrap();
        let put = |key: &[u8], len: usize| {
            let mut batch = Batch::new();
            batch.put(key, &vec![0; len]);
            volume.write(batch)
        };
        // From now on nothing is flushed but by this thread.
        let _turn = store.shared().flush_turn.lock();
        put(b"large", 5000).unwrap();
        let fork = store.fork(&volume, "fork").unwrap();
        let memtable = fork.tree().immutable.last().unwrap().clone();
        let (done, is_done) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| done.send(put(b"small", 10)).unwrap());
            while volume.stall.waiting() == 0 {
                std::thread::yield_now();
            }
            store.shared().flush_group(&[Source { volume: fork.clone(), memtable }]).unwrap();
            let written = is_done.recv_timeout(PATIENCE);
            // Or it would wait for ever, and this thread for it.
            volume.stall.look_again();
            assert!(matches!(written, Ok(Ok(_))), "{written:?}");
        });
    }

    #[test]
    fn a_flush_leaves_no_hole_behind_it_in_the_history() {
        for seed in 0..20 {
            let sim = Arc::new(SimDisk::new(seed));
            let options = Options { background: false, ..Options::default() };
            let store = Store::open(sim.clone(), options.clone()).unwrap();
            let main = store.volume("main").unwrap();
            let other = store.create_volume("other").unwrap();
            let put = |volume: &Arc<Volume>, key: &[u8]| {
                let mut batch = Batch::new();
                batch.put(key, b"value");
                volume.write(batch).unwrap();
            };
            // The manifest knows of the volume: no commit of it needs the log any more.
            put(&other, b"before");
            store.flush().unwrap();
            put(&main, b"earlier");
            put(&other, b"later");
            store.shared().freeze(std::slice::from_ref(&other));
            assert!(store.shared().flush_earliest(std::slice::from_ref(&other)).unwrap());
            let store = Store::open(Arc::new(sim.crash()), options).unwrap();
            let has = |volume: &str, key: &[u8]| store.volume(volume).unwrap().get(key).unwrap().is_some();
            assert!(has("other", b"later"), "seed {seed}: it is in a table");
            assert!(has("main", b"earlier"), "seed {seed}: a later write is kept");
        }
    }

    #[test]
    fn a_memtable_that_volumes_shared_is_dropped_when_both_are_done_with_it() {
        let options = Options { background: false, ..Options::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)), options).unwrap();
        let volume = store.volume("main").unwrap();
        let put = |key: &[u8]| {
            let mut batch = Batch::new();
            batch.put(key, b"1");
            volume.write(batch).unwrap();
        };
        put(b"flushed after the other volume is gone");
        store.fork(&volume, "fork").unwrap();
        store.delete_volume("fork").unwrap();
        store.flush().unwrap();
        store.shared().drop_retired();
        assert_eq!(store.shared().retired.lock().len(), 0);
        put(b"in two volumes that go together");
        store.create_snapshot(&volume, "snapshot").unwrap();
        store.delete_volume("main").unwrap();
        drop(volume);
        store.shared().drop_retired();
        assert_eq!(store.shared().retired.lock().len(), 0);
    }

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
