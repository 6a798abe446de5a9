//! The table of inodes that somebody outside knows: for each, how often it was looked up and where its
//! record is.
//!
//! The kernel asks by inode number and forgets explicitly; until then its number must find the file.
//! A file's record stands under the name it was found by, so the table keeps directory and name, and
//! follows renames. An inode that loses its last name while it is known (it may be open: the kernel does
//! not tell) becomes an *orphan*: its attributes and small contents live here alone, until it is forgotten.
//!
//! For most files the table also knows that they have no extended attributes: programs that list a
//! directory ask for several of each file, and the kernel remembers no answer. That is noted when a file
//! becomes known, if nothing was written since its record was read, and taken back when one is set.
//!
//! An inode takes about 80 bytes (names of up to 22; measured with a million). What the kernel knows it need
//! not use: [`Inodes::coldest`] finds those that nobody asked for of late, by the clock algorithm (each
//! request marks its inode, the hand clears the marks of a shard and takes who had none). Files without a
//! name are not among them: they are open.
//!
//! The shards' locks are leaves: see lock.rs. Which of its states an inode is in changes only under its
//! inode lock.

mod name;
pub(super) mod neighbours;

pub(super) use name::Name;

use crate::fs::attr::{Ino, ROOT};
use crate::fs::entry::Record;
use crate::fs::groups::Groups;
use bytes::Bytes;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use neighbours::{BLOCK, Neighbours};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The table has parts with a lock each, in so many groups. Of a million inodes and a sixteenth more each part has
/// 2900, for which a hash map has 4096 places; with a quarter more it would have twice as many.
const SHARD_GROUPS: usize = 6;
const SHARDS: usize = Groups::<Mutex<Map>, SHARD_GROUPS>::LEN;

/// From shard to shard the hand takes so many steps. One at a time it would go from neighbours to neighbours as
/// listings do, and take away what they come to next.
const STRIDE: usize = 149;
// It is a prime: so the hand gets everywhere.
const _: () = assert!(!SHARDS.is_multiple_of(STRIDE));

/// Where an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: Name,
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

/// What is known of a file that becomes known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// It is a directory.
    pub directory: bool,
    /// It has no extended attributes.
    pub bare: bool,
}

/// An inode that somebody knows.
#[derive(Debug)]
struct Known {
    /// How often it was looked up, times [`LOOKUP`], and the marks below.
    count: u64,
    place: Place,
}

/// Somebody asked for it since the hand passed.
const USED: u64 = 1;
/// It has no extended attributes.
const BARE: u64 = 2;
/// It is a directory.
const DIRECTORY: u64 = 4;
/// One lookup. 2^61 of them cannot be counted in anybody's lifetime.
const LOOKUP: u64 = 8;

impl Known {
    fn is_cold(&self) -> bool {
        self.count & USED == 0 && !matches!(self.place, Place::Orphan(_))
    }
}

/// Inodes by their numbers.
type Map = HashMap<Ino, Known, Neighbours>;

/// The table. The root is always in it.
#[derive(Debug)]
pub(super) struct Inodes {
    shards: Groups<Mutex<Map>, SHARD_GROUPS>,
    len: AtomicUsize,
    /// The shard that the hand comes to next.
    hand: AtomicUsize,
}

impl Inodes {
    /// A table that knows the root.
    pub fn new() -> Inodes {
        Inodes { shards: Groups::default(), len: AtomicUsize::new(0), hand: AtomicUsize::new(0) }
    }

    fn shard(&self, ino: Ino) -> &Mutex<Map> {
        // Neighbours are in one part.
        self.shards.get(ino / BLOCK)
    }

    /// Where an inode's record is; `None` if nobody knows the inode.
    pub fn place(&self, ino: Ino) -> Option<Place> {
        if ino == ROOT {
            return Some(Place::Entry(Location::new(0, b"")));
        }
        let mut shard = self.shard(ino).lock();
        let known = shard.get_mut(&ino)?;
        known.count |= USED;
        Some(known.place.clone())
    }

    /// Is it certain that a known inode has no extended attributes?
    pub fn is_bare(&self, ino: Ino) -> bool {
        let mut shard = self.shard(ino).lock();
        let Some(known) = shard.get_mut(&ino) else { return false };
        known.count |= USED;
        known.count & BARE != 0
    }

    /// Notes that an inode has, or had, extended attributes. The caller holds the inode lock and wrote
    /// them: whoever read the record before sees in [`Facts`] that something was written.
    pub fn not_bare(&self, ino: Ino) {
        if let Some(known) = self.shard(ino).lock().get_mut(&ino) {
            known.count &= !BARE;
        }
    }

    /// Counts a lookup of an inode that was found under a name. The caller holds the directory's name
    /// lock, so that the name stands for the inode. `facts` is asked where the inode was not known.
    pub fn reference(&self, ino: Ino, parent: Ino, name: &[u8], facts: impl FnOnce() -> Facts) {
        if ino == ROOT {
            return;
        }
        match self.shard(ino).lock().entry(ino) {
            Entry::Occupied(mut known) => known.get_mut().count += LOOKUP,
            Entry::Vacant(free) => {
                let place = Place::Entry(Location::new(parent, name));
                let facts = facts();
                let bare = if facts.bare { BARE } else { 0 };
                let directory = if facts.directory { DIRECTORY } else { 0 };
                free.insert(Known { count: LOOKUP | USED | bare | directory, place });
                self.len.fetch_add(1, Relaxed);
            }
        }
    }

    /// Takes back `count` lookups. If they were the last ones of an orphan, it is returned: nobody can
    /// reach it any more.
    pub fn forget(&self, ino: Ino, count: u64) -> Option<Orphan> {
        let mut shard = self.shard(ino).lock();
        let Entry::Occupied(mut known) = shard.entry(ino) else { return None };
        let left = (known.get().count / LOOKUP).saturating_sub(count);
        if left > 0 {
            let marks = known.get().count % LOOKUP;
            known.get_mut().count = left * LOOKUP + marks;
            return None;
        }
        self.len.fetch_sub(1, Relaxed);
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
                // A copy: what was read may be a part of a block, all of which it would keep in memory.
                let inline = Bytes::copy_from_slice(&orphan.inline);
                known.place = Place::Orphan(Box::new(Orphan { inline, ..orphan }));
                None
            }
            None => Some(orphan),
        }
    }

    /// The number of inodes known.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Is an inode known?
    pub fn is_known(&self, ino: Ino) -> bool {
        self.shard(ino).lock().contains_key(&ino)
    }

    /// The one name of a known inode that is no directory.
    pub fn file_name(&self, ino: Ino) -> Option<Location> {
        match self.shard(ino).lock().get(&ino)? {
            Known { count, place: Place::Entry(at) } if count & DIRECTORY == 0 => Some(at.clone()),
            _ => None,
        }
    }

    /// Moves the hand to the next shard and returns the inodes there that nobody asked for since it last came
    /// by, at most `limit` of them.
    pub fn coldest(&self, limit: usize) -> Vec<Ino> {
        let hand = self.hand.fetch_add(STRIDE, Relaxed) % SHARDS;
        let mut cold = Vec::new();
        let Some(shard) = self.shards.made(hand as u64) else { return cold };
        for (ino, known) in shard.lock().iter_mut() {
            if known.is_cold() && cold.len() < limit {
                cold.push(*ino);
            }
            known.count &= !USED;
        }
        cold
    }

    /// After so many calls of [`Inodes::coldest`] the hand was everywhere.
    pub const TURN: usize = SHARDS;
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

    fn file() -> Facts {
        Facts { directory: false, bare: true }
    }

    /// What the hand finds in one turn.
    fn turn(table: &Inodes) -> Vec<Ino> {
        let mut cold: Vec<Ino> = (0..Inodes::TURN).flat_map(|_| table.coldest(usize::MAX)).collect();
        cold.sort_unstable();
        cold
    }

    #[test]
    #[ignore = "measures the memory of the process, in which nothing else may run"]
    fn a_million_inodes_take_less_than_100_bytes_each() {
        let resident = || -> usize {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let (table, before) = (Inodes::new(), resident());
        for ino in 2..1_000_002 {
            table.reference(ino, 1, format!("file-{ino:07}").as_bytes(), file);
        }
        let each = (resident() - before) / 1_000_000;
        println!("{each} bytes an inode");
        assert!(each < 100);
    }

    #[test]
    fn the_coldest_are_those_that_nobody_asked_for() {
        let table = Inodes::new();
        table.reference(7, 1, b"dir", || Facts { directory: true, bare: true });
        for (ino, name) in [(8, b"a"), (9, b"b"), (10, b"c")] {
            table.reference(ino, 1, name, file);
        }
        assert_eq!(table.set_orphan(10, orphan()), None);
        assert!(turn(&table).is_empty(), "all of them are new");
        assert!(table.place(8).is_some());
        assert_eq!(turn(&table), [7, 9]);
        assert_eq!(turn(&table), [7, 8, 9]);
        let named = [7, 8, 9, 10].map(|ino| table.file_name(ino));
        assert_eq!(named, [None, Some(Location::new(1, b"a")), Some(Location::new(1, b"b")), None]);
        assert_eq!(turn(&table), [7, 8, 9], "to look is not to ask");
    }

    #[test]
    fn a_file_is_bare_until_it_is_told_otherwise() {
        let table = Inodes::new();
        assert!(!table.is_bare(8) && !table.is_bare(9));
        table.reference(8, 1, b"a", file);
        table.reference(9, 1, b"b", || Facts { directory: false, bare: false });
        assert!(table.is_bare(8) && !table.is_bare(9));
        table.not_bare(8);
        table.reference(8, 1, b"a", file);
        assert!(!table.is_bare(8));
        assert_eq!((table.forget(8, 1), table.len()), (None, 2));
        assert_eq!((table.forget(8, 1), table.len()), (None, 1));
    }

    #[test]
    fn an_inode_is_known_until_every_lookup_is_forgotten() {
        let table = Inodes::new();
        assert_eq!(table.place(9), None);
        table.reference(9, 1, b"a", file);
        table.reference(9, 1, b"a", file);
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
        table.reference(9, 1, b"a", file);
        table.reference(9, 1, b"a", file);
        assert_eq!(table.set_orphan(9, orphan()), None);
        assert_eq!(table.place(9), Some(Place::Orphan(Box::new(orphan()))));
        assert_eq!(table.forget(9, 1), None);
        assert_eq!(table.forget(9, 5), Some(orphan()));
        assert_eq!(table.set_orphan(9, orphan()), Some(orphan()));
    }

    #[test]
    fn the_root_is_never_forgotten() {
        let table = Inodes::new();
        table.reference(ROOT, 0, b"", file);
        assert_eq!(table.forget(ROOT, 10), None);
        assert!(table.place(ROOT).is_some());
    }
}
