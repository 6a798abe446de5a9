//! Locks, and the order in which they are taken.
//!
//! 1. The **rename lock**: moving anything to another parent. While it is held no directory's ancestors
//!    change.
//! 2. The **name locks**, of directories: which name stands for which inode. Shared to look up and to
//!    list, exclusive to create, remove and rename.
//! 3. The **inode locks**: a file's record, its contents and where its record is kept. Shared to read,
//!    exclusive to change. A directory's own attributes belong to it as a file, so that a create takes
//!    its parent's name lock and then its parent's inode lock.
//! 4. Leaves, each held for a few instructions and never with another lock sought: the shards of the
//!    table of inodes, the renderings of `control.rs`, the inode numbers. (The inode numbers' lock is held over
//!    one write to the engine, which takes none of these.)
//!
//! Who changes something waits for room in the engine before it takes any of these (`FileSystem::admit`), and not
//! again while it holds them: a stall holds up no reader.
//!
//! An open directory's own lock, around its listing's position, comes before all of these.
//!
//! Name and inode locks are striped: many inodes share a lock. Whoever needs several of one sort takes
//! them in one call, which sorts the stripes and takes each once; nobody who holds a lock of a sort
//! takes another of that sort. A batch takes all of both sorts. A child's inode is known only when its parent's name lock is held, which
//! is why names come before inodes.

use crate::fs::attr::Ino;
use crate::fs::groups::Groups;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Groups of locks of one sort.
const GROUPS: usize = 16;

/// The most inodes that one operation changes: in a rename two directories and what is moved and replaced.
const MANY: usize = 4;

/// All locks but the leaves.
#[derive(Debug, Default)]
pub(super) struct Locks {
    rename: Mutex<()>,
    /// Which name stands for which inode, a directory.
    pub names: Stripes,
    /// Records and contents, an inode.
    pub inodes: Stripes,
}

impl Locks {
    /// The rename lock.
    pub fn rename(&self) -> MutexGuard<'_, ()> {
        self.rename.lock()
    }

    /// All of them.
    pub fn every(&self) -> Everything<'_> {
        let rename = self.rename();
        let names = self.names.exclusive_every();
        Everything { _rename: rename, _names: names, _inodes: self.inodes.exclusive_every() }
    }
}

/// All locks, exclusively.
pub(super) struct Everything<'a> {
    _rename: MutexGuard<'a, ()>,
    _names: Every<'a>,
    _inodes: Every<'a>,
}

/// Striped locks of one sort.
#[derive(Debug, Default)]
pub(super) struct Stripes(Groups<RwLock<()>, GROUPS>);

/// Locks of one sort.
const STRIPES: usize = Groups::<RwLock<()>, GROUPS>::LEN;

/// Exclusive locks of several inodes.
pub(super) struct Exclusive<'a> {
    _guards: [Option<RwLockWriteGuard<'a, ()>>; MANY],
}

/// Exclusive locks of all inodes.
struct Every<'a>(#[expect(dead_code, reason = "held")] Vec<RwLockWriteGuard<'a, ()>>);

impl Stripes {
    fn stripe(ino: Ino) -> u64 {
        ino % STRIPES as Ino
    }

    /// Locks an inode, shared.
    pub fn shared(&self, ino: Ino) -> RwLockReadGuard<'_, ()> {
        self.0.get(ino).read()
    }

    /// Locks an inode, exclusively.
    pub fn exclusive(&self, ino: Ino) -> RwLockWriteGuard<'_, ()> {
        self.0.get(ino).write()
    }

    /// Locks all inodes exclusively.
    fn exclusive_every(&self) -> Every<'_> {
        Every((0..STRIPES as u64).map(|stripe| self.0.get(stripe).write()).collect())
    }

    /// Locks several inodes exclusively; naming one twice is fine.
    pub fn exclusive_all<const N: usize>(&self, inos: [Ino; N]) -> Exclusive<'_> {
        const { assert!(N <= MANY) };
        let mut stripes = inos.map(Self::stripe);
        stripes.sort_unstable();
        let mut guards = [const { None }; MANY];
        let mut last = None;
        for (slot, stripe) in guards.iter_mut().zip(stripes) {
            if last != Some(stripe) {
                *slot = Some(self.0.get(stripe).write());
                last = Some(stripe);
            }
        }
        Exclusive { _guards: guards }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_that_share_a_lock_are_locked_once() {
        let stripes = Stripes::default();
        let same = STRIPES as Ino;
        let held = stripes.exclusive_all([1, 1 + same, 1, 7]);
        assert!(stripes.0.get(1).try_read().is_none() && stripes.0.get(7).try_read().is_none());
        assert!(stripes.0.get(2).try_write().is_some());
        drop(held);
        assert!(stripes.0.get(1).try_write().is_some() && stripes.0.get(7).try_write().is_some());
    }

    #[test]
    fn all_inodes_are_locked_in_the_order_of_the_others() {
        let stripes = Stripes::default();
        std::thread::scope(|s| {
            s.spawn(|| (0..1000).for_each(|_| drop(stripes.exclusive_all([9, 3]))));
            s.spawn(|| (0..100).for_each(|_| drop(stripes.exclusive_every())));
        });
        let held = stripes.exclusive_every();
        assert!((0..STRIPES as u64).all(|n| stripes.0.get(n).try_read().is_none()));
        drop(held);
    }

    #[test]
    fn opposite_orders_do_not_deadlock() {
        let stripes = Stripes::default();
        std::thread::scope(|s| {
            for order in [[3, 9], [9, 3]] {
                let stripes = &stripes;
                s.spawn(move || (0..10_000).for_each(|_| drop(stripes.exclusive_all(order))));
            }
        });
    }
}
