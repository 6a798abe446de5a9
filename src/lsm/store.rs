//! A store: opening, closing, and what its volumes share.
//!
//! # Locks
//! In the order in which they are taken, outermost first (each module's header says what its own protect):
//!
//! 1. `Store::closing`: a close that runs.
//! 2. `Shared::flush_turn` and volumes' `compacting.turn`: one flush, of a volume one compaction at a time
//! 3. the blob writer's `rotation`: held over the start of a file
//! 4. `Shared::manifest`: held over the manifest's I/O, and a sync of the log
//! 5. `Shared::naming`: one change of volumes at a time
//! 6. `Shared::structure`: changes of trees, and of which volumes there are
//! 7. the log's `tail`, then its `sync_turn`: held over the log's I/O
//! 8. the commit lock, a volume's `stall.outcome`, then its `tree`, `published`, a writer's slot
//! 9. `Shared::obsolete`: held over the deletion of files
//! 10. `Shared::{directory, told, retired, graveyard, live_blobs}`, the log's `segments` and spare segments, the
//!     blob writer's `state` (held over the cut of a file), a memtable's `blobs` and `ranges`, [`Work`], [`Budget`],
//!     `Snapshots::living`, the queue of [`Syncs`], the threads' signals, the caches' shards: leaves, under which
//!     no other is taken.

use crate::disk::{Disk, DiskError, Space};
use crate::lsm::background::{Signal, run_compactions, run_flushes};
use crate::lsm::blob::gc::Garbage;
use crate::lsm::blob::{BlobReader, BlobWriter, LiveBlobs};
use crate::lsm::budget::Budget;
use crate::lsm::cache::BlockCache;
use crate::lsm::commit::Commits;
use crate::lsm::graveyard::Graveyard;
use crate::lsm::log::Log;
use crate::lsm::manifest::{Manifest, VolumeId};
use crate::lsm::memtable::Memtable;
use crate::lsm::metrics::{MeteredDisk, Metrics};
use crate::lsm::obsolete::Obsolete;
use crate::lsm::readonly::ReadOnly;
use crate::lsm::recover::recover;
use crate::lsm::reserve::{self, Reserve};
use crate::lsm::shape::Told;
use crate::lsm::snapshot::Snapshots;
use crate::lsm::syncs::{Done, Syncs, run_syncs};
use crate::lsm::table::{TableCache, TableOptions};
use crate::lsm::volume::Volume;
use crate::lsm::volumes::Directory;
use crate::lsm::work::Work;
use crate::lsm::{Error, Options, Result};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What the volumes of a store share.
pub(crate) struct Shared {
    pub options: Options,
    pub table_options: TableOptions,
    pub metrics: Arc<Metrics>,
    pub disk: Arc<dyn Disk>,
    pub read_only: ReadOnly,
    pub log: Log,
    pub commits: Commits,
    pub manifest: Mutex<Manifest>,
    pub tables: Arc<TableCache>,
    pub snapshots: Snapshots,
    /// The blob files that somebody refers to.
    pub live_blobs: Arc<LiveBlobs>,
    pub blobs: Arc<BlobReader>,
    pub blob_writer: Arc<BlobWriter>,
    pub garbage: Garbage,
    pub flush_signal: Signal,
    pub compaction_signal: Signal,
    pub syncs: Syncs,
    /// Tables that nobody uses any more, on their way to `obsolete`.
    pub graveyard: Arc<Graveyard>,
    /// Files to delete.
    pub obsolete: Obsolete,
    /// Room on the disk that is kept aside.
    pub reserve: Reserve,
    /// Flushed memtables that a reader may still use.
    pub retired: Mutex<Vec<Arc<Memtable>>>,
    pub directory: RwLock<Directory>,
    /// The id of the next volume. Held over a change of volumes.
    pub naming: Mutex<VolumeId>,
    /// Guards trees and which volumes there are.
    pub structure: Mutex<()>,
    /// Changes of volumes that the manifest has not absorbed.
    pub told: Mutex<Told>,
    /// What all memtables hold.
    pub budget: Budget,
    /// The volumes that the background threads look at.
    pub work: Work,
    pub flush_turn: Mutex<()>,
    closed: AtomicBool,
}

impl Shared {
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }
}

/// An open store. All methods may be called from any thread. Dropping it closes it.
pub struct Store {
    shared: Arc<Shared>,
    closing: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    running: Vec<JoinHandle<()>>,
    closed: bool,
}

impl Store {
    /// Opens the store on `disk`; an empty disk becomes a new store with one volume, `main`.
    ///
    /// # Errors
    /// [`Error::Corruption`] and [`Error::NewerFormat`] name the file; [`Error::NotAStore`] if other files
    /// are here; [`Error::Disk`]. Nothing was deleted then.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Store> {
        let metrics = Metrics::new();
        let disk = MeteredDisk::over(disk, metrics.clone());
        let graveyard = Arc::new(Graveyard::default());
        let read_only = ReadOnly::default();
        let cache = Arc::new(BlockCache::new(options.cache_size));
        let options = reserve::fitted(options, &*disk);
        let reserve = Reserve::new(disk.clone(), &options);
        let recovered = recover(&disk, &options, &graveyard, &cache, &read_only)?;
        let shared = Arc::new(Shared {
            table_options: TableOptions {
                store: recovered.manifest.state().store,
                ..TableOptions::from(&options)
            },
            metrics,
            tables: Arc::new(TableCache::new(disk.clone(), cache, options.open_files.div_ceil(2))),
            disk,
            read_only,
            log: recovered.log,
            commits: Commits::new(recovered.last_seq),
            manifest: Mutex::new(recovered.manifest),
            snapshots: Snapshots::default(),
            live_blobs: recovered.live_blobs,
            blobs: recovered.blobs,
            blob_writer: recovered.blob_writer,
            garbage: Garbage::default(),
            flush_signal: Signal::default(),
            compaction_signal: Signal::default(),
            syncs: Syncs::default(),
            graveyard,
            obsolete: Obsolete::default(),
            reserve,
            retired: Mutex::default(),
            directory: RwLock::default(),
            naming: Mutex::new(recovered.next_volume),
            structure: Mutex::default(),
            told: Mutex::default(),
            budget: Budget::default(),
            work: Work::default(),
            flush_turn: Mutex::default(),
            closed: AtomicBool::new(false),
            options,
        });
        shared.reserve.look();
        let volumes = recovered.volumes.into_iter();
        shared.directory.write().add(volumes.map(|born| Arc::new(Volume::new(shared.clone(), born))));
        shared.look_at_all();
        // Dropped from here on, it ends the threads that have started.
        let store = Store { shared, closing: Mutex::default() };
        store.delete_hidden()?;
        if store.shared.options.background {
            store.start("lsmfs-flush", run_flushes)?;
            store.start("lsmfs-log", run_syncs)?;
            store.start("lsmfs-compact", run_compactions)?;
            store.shared.flush_signal.raise();
            store.shared.compaction_signal.raise();
        }
        Ok(store)
    }

    fn start(&self, name: &str, run: fn(&Shared)) -> Result<()> {
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name(name.to_string()).spawn(move || run(&shared));
        let thread = spawned.map_err(|e| DiskError::new("start the thread", name, e))?;
        self.closing.lock().running.push(thread);
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        self.shared.check_open()
    }

    /// Makes every write that was answered before this call durable.
    pub fn sync(&self) -> Result<()> {
        self.check_open()?;
        self.shared.log.sync()
    }

    /// As [`Store::sync`], without waiting: `done` is called (on a thread of the store, so it must not
    /// block; it may drop the store) when every write answered before this call is durable. Requests that
    /// wait share one sync.
    pub fn sync_then(&self, done: Done) {
        if !self.shared.options.background {
            return done(self.sync());
        }
        if let Err(done) = self.shared.syncs.request(done) {
            done(self.sync());
        }
    }

    /// The room on the disk below the store.
    pub fn space(&self) -> Result<Space> {
        Ok(self.shared.disk.space()?)
    }

    /// Flushes every memtable and waits for it.
    pub fn flush(&self) -> Result<()> {
        self.check_open()?;
        self.flush_volumes()
    }

    fn flush_volumes(&self) -> Result<()> {
        self.shared.flush_all_of(&self.shared.volumes())
    }

    /// Does the background work that is due, on this thread; says whether there was any. For tests that
    /// run without the background threads.
    pub fn step(&self) -> Result<bool> {
        self.check_open()?;
        Ok(self.shared.flush_due()? || self.shared.compact_due(1)?)
    }

    /// Flushes, and merges every volume's tables down to its deepest level.
    pub fn compact(&self) -> Result<()> {
        self.flush()?;
        self.shared.read_only.check()?;
        self.shared.compact_volumes(&self.shared.volumes())?;
        self.shared.reclaim()
    }

    /// Flushes, waits for the background threads (a compaction that runs is given up), leaves a store that opens
    /// fast and lets others have it, whoever still holds a volume or a snapshot. A second close does nothing.
    /// Operations afterwards fail with [`Error::Closed`].
    ///
    /// # Errors
    /// Every write that was answered is in the log all the same, and the next open finds it.
    pub fn close(&self) -> Result<()> {
        let mut threads = self.closing.lock();
        if std::mem::replace(&mut threads.closed, true) {
            return Ok(());
        }
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        shared.volumes().iter().for_each(|volume| volume.stall.look_again());
        shared.budget.closed();
        shared.commits.close();
        shared.flush_signal.raise();
        shared.compaction_signal.raise();
        shared.syncs.stop();
        // What is called after a sync may hold the last of the store: a thread cannot wait for itself.
        let others = threads.running.drain(..).filter(|t| t.thread().id() != std::thread::current().id());
        for thread in others {
            if thread.join().is_err() {
                tracing::error!("a background thread had panicked");
            }
        }
        let result = self.close_files();
        // Volumes hold what they share, and that holds the volumes: here the circle ends.
        shared.directory.write().clear();
        shared.disk.release();
        result
    }

    fn close_files(&self) -> Result<()> {
        let shared = &self.shared;
        // First the log: whatever the flushes meet, nothing answered is lost.
        shared.log.sync()?;
        // What is written now has the room that was kept aside.
        shared.disk.set_reserve(0)?;
        self.flush_volumes()?;
        shared.log.end_segment();
        shared.blob_writer.end_file();
        shared.retire_log()?;
        shared.settle()
    }
}

// Volumes hold what they share, and that holds the volumes: derived, this would not end.
impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::error!("the store was not closed cleanly; nothing is lost: {e}");
        }
    }
}
