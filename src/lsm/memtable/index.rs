//! Where a key's newest record stands: who reads one key finds it, or that there is none, with one look,
//! instead of a walk down the skip list, whose every step is a cache miss or two.
//!
//! # Soundness
//! The index points to records that stand in nodes of its memtable's skip list. Nodes neither move nor go
//! before the list does, which the memtable drops after the index: it removes none, and every record is
//! another key to the list, for its sequence number is its own.
//!
//! # Locks
//! Each part has one, a leaf.

use super::record::Record;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;
use std::ptr::NonNull;
use xxhash_rust::xxh3::xxh3_64;

/// Parts of the index, each with a lock of its own.
const PARTS: usize = 16;

/// What a record takes in the index, on average: a part is between seven sixteenths and seven eighths full.
pub(super) const OVERHEAD: usize = (size_of::<Slot>() + 1) * 8 / 5;

/// The newest record of each key.
#[derive(Debug, Default)]
pub(super) struct Index {
    parts: [Mutex<HashTable<Slot>>; PARTS],
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    record: NonNull<Record>,
}

// SAFETY: it points to a record, which any thread may read (see the module's header and `Record`).
unsafe impl Send for Slot {}

impl Slot {
    fn record(&self) -> &Record {
        // SAFETY: the record stands in a node that outlives the index, as the caller of `insert` saw to.
        unsafe { self.record.as_ref() }
    }
}

impl Index {
    fn part(&self, hash: u64) -> &Mutex<HashTable<Slot>> {
        // The table places a key by the hash's lowest bits, and tells keys apart by its highest.
        &self.parts[(hash >> 40) as usize % PARTS]
    }

    /// Takes a record in.
    ///
    /// # Safety
    /// The record must stay where it is for as long as the index lives.
    pub unsafe fn insert(&self, record: &Record) {
        let hash = xxh3_64(record.user());
        let slot = Slot { hash, record: NonNull::from(record) };
        let same = |other: &Slot| other.hash == hash && other.record().user() == record.user();
        match self.part(hash).lock().entry(hash, same, |slot| slot.hash) {
            Entry::Occupied(mut newest) => {
                // Batches are inserted side by side.
                if newest.get().record().seq() <= record.seq() {
                    *newest.get_mut() = slot;
                }
            }
            Entry::Vacant(free) => drop(free.insert(slot)),
        }
    }

    /// The newest record of a key; `None` if it has none.
    pub fn newest(&self, user: &[u8]) -> Option<&Record> {
        let hash = xxh3_64(user);
        let part = self.part(hash).lock();
        let found = part.find(hash, |slot| slot.hash == hash && slot.record().user() == user)?;
        // SAFETY: as in `Slot::record`; the index, and so the record, outlives the reference.
        Some(unsafe { found.record.as_ref() })
    }
}
