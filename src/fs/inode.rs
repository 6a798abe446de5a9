//! The table of inodes that somebody outside knows: for each, how often it was looked up and where its
//! record is.
//!
//! The kernel asks by inode number and forgets explicitly; until then its number must find the file.
//! A file's record stands under the name it was found by, so the table keeps directory and name, and
//! follows renames. An inode that loses its last name while it is known (it may be open: the kernel does
//! not tell) becomes an *orphan*: its attributes and small contents live here alone, until it is forgotten.
//!
//! About 120 bytes an inode. The shards' locks are leaves: see lock.rs. Which of its states an inode is in
//! changes only under its inode lock.

use crate::fs::attr::{Ino, ROOT};
use crate::fs::entry::Record;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Parts of the table with a lock each.
const SHARDS: usize = 64;

/// Where an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: Box<[u8]>,
}

impl Location {
    /// A name in a directory.
    pub fn new(parent: Ino, name: &[u8]) -> Location {
        Location { parent, name: name.into() }
    }
}

/// A file without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orphan {
    /// Its attributes.
    pub record: Record,
    /// Its inline contents.
    pub inline: Bytes,
}

/// Where an inode's record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In this entry, or where it points to.
    Entry(Location),
    /// At its own key: it has, or had, several names.
    Shared,
    /// Here: it has no name any more.
    Orphan(Box<Orphan>),
}

#[derive(Debug)]
struct Known {
    lookups: u64,
    place: Place,
}

/// The table. The root is always in it.
#[derive(Debug)]
pub(super) struct Inodes {
    shards: Box<[Mutex<HashMap<Ino, Known>>]>,
}

impl Inodes {
    /// A table that knows the root.
    pub fn new() -> Inodes {
        Inodes { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, ino: Ino) -> &Mutex<HashMap<Ino, Known>> {
        &self.shards[(ino % SHARDS as Ino) as usize]
    }

    /// Where an inode's record is; `None` if nobody knows the inode.
    pub fn place(&self, ino: Ino) -> Option<Place> {
        if ino == ROOT {
            return Some(Place::Entry(Location::new(0, b"")));
        }
        self.shard(ino).lock().get(&ino).map(|known| known.place.clone())
    }

    /// Counts a lookup of an inode that was found under a name. The caller holds the directory's name
    /// lock, so that the name stands for the inode.
    pub fn reference(&self, ino: Ino, parent: Ino, name: &[u8]) {
        if ino == ROOT {
            return;
        }
        match self.shard(ino).lock().entry(ino) {
            Entry::Occupied(mut known) => known.get_mut().lookups += 1,
            Entry::Vacant(free) => {
                let place = Place::Entry(Location::new(parent, name));
                free.insert(Known { lookups: 1, place });
            }
        }
    }

    /// Takes back `count` lookups. If they were the last ones of an orphan, it is returned: nobody can
    /// reach it any more.
    pub fn forget(&self, ino: Ino, count: u64) -> Option<Orphan> {
        let mut shard = self.shard(ino).lock();
        let Entry::Occupied(mut known) = shard.entry(ino) else { return None };
        let lookups = &mut known.get_mut().lookups;
        *lookups = lookups.saturating_sub(count);
        if *lookups > 0 {
            return None;
        }
        match known.remove().place {
            Place::Orphan(orphan) => Some(*orphan),
            Place::Entry(_) | Place::Shared => None,
        }
    }

    /// Notes that an inode's record moved.
    pub fn moved(&self, ino: Ino, place: Place) {
        if let Some(known) = self.shard(ino).lock().get_mut(&ino) {
            known.place = place;
        }
    }

    /// Notes that an inode lost its last name, or that an orphan changed. Gives the orphan back if nobody
    /// knows the inode.
    pub fn set_orphan(&self, ino: Ino, orphan: Orphan) -> Option<Orphan> {
        match self.shard(ino).lock().get_mut(&ino) {
            Some(known) => {
                known.place = Place::Orphan(Box::new(orphan));
                None
            }
            None => Some(orphan),
        }
    }

    /// The number of inodes known.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::entry::HEAD_LEN;

    fn orphan() -> Orphan {
        let mut head = [0; HEAD_LEN];
        (head[0], head[1], head[15]) = (1, 1, 9);
        Orphan { record: Record::decode(&head).unwrap(), inline: Bytes::new() }
    }

    #[test]
    fn an_inode_is_known_until_every_lookup_is_forgotten() {
        let table = Inodes::new();
        assert_eq!(table.place(9), None);
        table.reference(9, 1, b"a");
        table.reference(9, 1, b"a");
        table.moved(9, Place::Entry(Location::new(2, b"b")));
        assert_eq!(table.place(9), Some(Place::Entry(Location::new(2, b"b"))));
        table.moved(9, Place::Shared);
        assert_eq!(table.place(9), Some(Place::Shared));
        assert_eq!(table.forget(9, 1), None);
        assert_eq!(table.len(), 1);
        assert_eq!(table.forget(9, 1), None);
        assert_eq!(table.place(9), None);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_orphan_comes_back_with_its_last_lookup() {
        let table = Inodes::new();
        table.reference(9, 1, b"a");
        table.reference(9, 1, b"a");
        assert_eq!(table.set_orphan(9, orphan()), None);
        assert_eq!(table.place(9), Some(Place::Orphan(Box::new(orphan()))));
        assert_eq!(table.forget(9, 1), None);
        assert_eq!(table.forget(9, 5), Some(orphan()));
        assert_eq!(table.set_orphan(9, orphan()), Some(orphan()));
    }

    #[test]
    fn the_root_is_never_forgotten() {
        let table = Inodes::new();
        table.reference(ROOT, 0, b"");
        assert_eq!(table.forget(ROOT, 10), None);
        assert!(table.place(ROOT).is_some());
    }
}
