//! The records that were used last, by inode: a request that names a file by its number, as most do, finds
//! it here without a look-up in the engine.
//!
//! One table of fixed size serves all file systems that a [`Host`](crate::fs::host::Host) opens, whose files it
//! tells apart by a number that each gets when it is opened; a file system that is opened by itself has one of its
//! own. The stage of a batch, and what is frozen, have none ([`Recent::none`]): they live briefly, and would displace
//! what is used. A record has one slot that it can be in, and displaces what is there; neighbours' slots are
//! neighbours. Slots are made when they are first needed: see [`Groups`].
//!
//! # What is here is what the engine has
//! A file's record is read, written and put here by those who hold its inode lock, and a change puts it here only
//! when it is committed. What makes a file puts its record without that lock: nobody can reach the inode yet. A record
//! without a name is not here but in the table of inodes, which is asked first. A batch writes to the engine by
//! itself, and forgets what it wrote, while it has all locks. Nobody else may write records to the volume while a file
//! system is open on it. Where assertions are on, each record that is found is compared with the engine's.
//!
//! Whether the volume is still there is not known here: who asks finds that out first.
//!
//! # Locks
//! A slot's is a leaf.

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::entry::{Entry, Record};
use crate::fs::groups::Groups;
use crate::fs::inode::Place;
use crate::fs::keys;
use crate::fs::node::{Home, Node, Outcome, decode_entry, decode_shared};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Slots come in so many groups: 131,072 of them.
const SLOT_GROUPS: usize = 2048;

type Slots = Groups<Mutex<Option<Held>>, SLOT_GROUPS>;

// All slots together take less than 20 MB.
const _: () = assert!(Slots::LEN * size_of::<Mutex<Option<Held>>>() < 20_000_000);

/// How far apart the same number's slots are in file systems that were opened one after the other. Odd, so that
/// it takes as many file systems as there are slots until two coincide.
const SPREAD: u64 = 40_503;

/// A record and whose it is.
#[derive(Debug)]
struct Held {
    of: u64,
    known: Known,
}

/// A file's record, and where it is kept.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub record: Record,
    /// At its own key, not in its entry.
    pub shared: bool,
    /// Patches that lie over it, at most; 0 without inline contents: that record is put whole.
    pub patches: usize,
}

impl Known {
    /// A file that has a name, under so many patches.
    pub fn of(node: &Node, patches: usize) -> Known {
        Known { record: node.record.clone(), shared: node.home == Home::Shared, patches }
    }
}

/// The table, of one file system.
#[derive(Debug)]
pub(super) struct Recent {
    of: u64,
    slots: Option<Arc<Slots>>,
}

impl Recent {
    /// An empty table.
    pub fn new() -> Recent {
        Recent::of_next(Some(Arc::default()))
    }

    /// No table: nothing is found.
    pub fn none() -> Recent {
        Recent { of: 0, slots: None }
    }

    /// The same table, of another file system.
    pub fn for_another(&self) -> Recent {
        Recent::of_next(self.slots.clone())
    }

    fn of_next(slots: Option<Arc<Slots>>) -> Recent {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Recent { of: NEXT.fetch_add(1, Relaxed), slots }
    }

    fn place(&self, ino: Ino) -> u64 {
        ino.wrapping_add(self.of.wrapping_mul(SPREAD))
    }

    /// The record of an inode, if it is here. The caller holds the inode lock, shared at least.
    pub fn get(&self, ino: Ino) -> Option<Known> {
        let slot = self.slots.as_ref()?.made(self.place(ino))?.lock();
        let held = slot.as_ref()?;
        (held.of == self.of && held.known.record.ino == ino).then(|| held.known.clone())
    }

    /// Notes what the engine has. The caller holds the inode lock; shared is enough for what it read under it.
    pub fn put(&self, known: Known) {
        let Some(slots) = &self.slots else { return };
        let place = self.place(known.record.ino);
        *slots.get(place).lock() = Some(Held { of: self.of, known });
    }

    /// The engine may have another record. The caller holds the inode lock exclusively.
    pub fn forget(&self, ino: Ino) {
        if let Some(slot) = self.slots.as_ref().and_then(|slots| slots.made(self.place(ino))) {
            let mut slot = slot.lock();
            if slot.as_ref().is_some_and(|held| held.of == self.of && held.known.record.ino == ino) {
                *slot = None;
            }
        }
    }
}

impl FileSystem {
    /// What is known of a file at a place. The caller holds the inode lock, shared at least.
    pub(super) fn known(&self, ino: Ino, place: &Place) -> Option<Known> {
        let known = self.recent.get(ino)?;
        if cfg!(debug_assertions)
            && let Ok(stored) = self.as_stored(ino, place)
        {
            assert_eq!(Some((known.record.clone(), known.shared)), stored, "known, and stored at {place:?}");
        }
        Some(known)
    }

    /// A file's record as it is stored, and whether at its own key: to compare, not counted as a read.
    fn as_stored(&self, ino: Ino, place: &Place) -> Outcome<Option<(Record, bool)>> {
        if let Place::Entry(at) = place {
            let key = keys::entry(at.parent, &at.name);
            match self.volume.peek_head(&key)?.map(|head| decode_entry(&key, &head)).transpose()? {
                Some(Entry::File(record)) => return Ok(Some((record, false))),
                Some(Entry::Link(of)) if of == ino => {}
                _ => return Ok(None),
            }
        }
        let key = keys::inode(ino);
        let Some(head) = self.volume.peek_head(&key)? else { return Ok(None) };
        Ok(Some((decode_shared(&key, Some(head), ino)?, true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::fs::attr::{Caller, FileKind, ROOT, Timestamp};
    use crate::fs::{FsOptions, engine_options};
    use crate::lsm::Store;

    fn known(ino: Ino, mode: u32) -> Known {
        let now = Timestamp { secs: 1, nanos: 2 };
        Known {
            record: Record::new(FileKind::File, ino, mode, Caller::new(0, 0), now),
            shared: false,
            patches: 0,
        }
    }

    fn mode(recent: &Recent, ino: Ino) -> Option<u32> {
        recent.get(ino).map(|known| known.record.mode)
    }

    #[test]
    fn a_record_is_found_until_it_is_forgotten_or_displaced() {
        let recent = Recent::new();
        assert_eq!(mode(&recent, 7), None);
        recent.put(known(7, 0o600));
        recent.put(known(8, 0o644));
        assert_eq!((mode(&recent, 7), mode(&recent, 8)), (Some(0o600), Some(0o644)));
        recent.put(known(7, 0o640));
        assert_eq!(mode(&recent, 7), Some(0o640));
        let same_slot = 8 + Slots::LEN as u64;
        recent.forget(same_slot);
        assert_eq!(mode(&recent, 8), Some(0o644), "another's slot is left alone");
        recent.put(known(same_slot, 0o666));
        assert_eq!((mode(&recent, 8), mode(&recent, same_slot)), (None, Some(0o666)));
        recent.forget(7);
        assert_eq!(mode(&recent, 7), None);
    }

    #[test]
    fn file_systems_that_share_the_table_find_their_own() {
        let one = Recent::new();
        let others: Vec<Recent> = (0..3).map(|_| one.for_another()).collect();
        one.put(known(7, 0o600));
        assert!(others.iter().all(|other| mode(other, 7).is_none()));
        others.iter().for_each(|other| other.put(known(7, 0o644)));
        others.iter().for_each(|other| other.forget(7));
        assert_eq!(mode(&one, 7), Some(0o600));
    }

    #[test]
    fn what_is_frozen_has_no_table() {
        let store = Arc::new(Store::open(Arc::new(SimDisk::new(1)), engine_options()).unwrap());
        let fs = FileSystem::open(store, "main", FsOptions::default()).unwrap();
        let ino = fs.mknod(ROOT, b"f", FileKind::File, 0o644, 0, Caller::new(0, 0)).unwrap().ino;
        let frozen = fs.frozen().unwrap();
        assert_eq!(frozen.lookup(ROOT, b"f").unwrap().unwrap().ino, ino);
        frozen.read(ino, 0, 1).unwrap();
        assert_eq!((mode(&frozen.recent, ino), mode(&fs.recent, ino)), (None, Some(0o644)));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "known, and stored")]
    fn a_record_that_is_not_what_is_stored_is_noticed() {
        let store = Arc::new(Store::open(Arc::new(SimDisk::new(1)), engine_options()).unwrap());
        let fs = FileSystem::open(store, "main", FsOptions::default()).unwrap();
        fs.recent.put(known(ROOT, 0o600));
        let _ = fs.getattr(ROOT);
    }
}
