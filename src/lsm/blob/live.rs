//! The blob files that somebody refers to.
//!
//! A [`LiveBlob`] is one reference-counted file. Tables and memtables hold those that their records point to, a
//! flush or compaction those that it writes, the writer its current one. New references come from those
//! alone: a file that only [`LiveBlobs`] holds can never be referred to again.
//!
//! # Locks
//! `LiveBlobs::files` is a leaf.

use super::BlobUse;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A blob file.
#[derive(Debug)]
pub(crate) struct LiveBlob {
    pub number: u64,
    /// Its length in bytes, as far as places in it were given away.
    len: AtomicU64,
    /// Is it never written again?
    sealed: AtomicBool,
    /// Does it hold a value that cannot be moved?
    damaged: AtomicBool,
}

impl LiveBlob {
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// It will not be emptied.
    pub fn note_damage(&self) {
        self.damaged.store(true, Ordering::Release);
    }

    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }
}

/// Every blob file of a store that is not obsolete.
#[derive(Debug, Default)]
pub(crate) struct LiveBlobs {
    files: Mutex<BTreeMap<u64, Arc<LiveBlob>>>,
}

impl LiveBlobs {
    /// A file that is new here.
    pub fn add(&self, number: u64, len: u64, sealed: bool) -> Arc<LiveBlob> {
        let blob = LiveBlob {
            number,
            len: AtomicU64::new(len),
            sealed: AtomicBool::new(sealed),
            damaged: AtomicBool::new(false),
        };
        let blob = Arc::new(blob);
        self.files.lock().insert(number, blob.clone());
        blob
    }

    pub fn get(&self, number: u64) -> Option<Arc<LiveBlob>> {
        self.files.lock().get(&number).cloned()
    }

    /// The files of `uses`. Somebody must hold each already.
    pub fn of(&self, uses: &[BlobUse]) -> Vec<Arc<LiveBlob>> {
        let files = self.files.lock();
        let live = |used: &BlobUse| files.get(&used.file).expect("what is referred to is alive").clone();
        uses.iter().map(live).collect()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.files.lock().is_empty()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<LiveBlob>> {
        self.files.lock().values().cloned().collect()
    }

    /// Takes out the files that nobody refers to.
    pub fn take_unreferenced(&self) -> Vec<u64> {
        let mut files = self.files.lock();
        let is_dead = |blob: &Arc<LiveBlob>| Arc::strong_count(blob) == 1;
        let dead: Vec<u64> =
            files.iter().filter(|(_, blob)| is_dead(blob)).map(|(number, _)| *number).collect();
        dead.iter().for_each(|number| drop(files.remove(number)));
        dead
    }
}
