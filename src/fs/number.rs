//! Inode numbers: handed out in order, never twice, across crashes too.
//!
//! Numbers are reserved in blocks: a counter in the volume (`s ino`) says where the next block starts,
//! and moves past a block before the first of its numbers is used. The log keeps that order, so that no
//! crash leaves a used number unreserved; it only skips the rest of a block. A clean close gives the
//! rest back.

use crate::fs::attr::{INO_LIMIT, Ino, ROOT};
use crate::fs::entry::{decode_counter, encode_counter};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::lsm::{self, Batch, Store, Volume};
use parking_lot::Mutex;
use std::sync::Arc;

/// Numbers reserved at a time.
const BLOCK: u64 = 1 << 16;

/// The source of inode numbers. Its lock is a leaf: see lock.rs.
#[derive(Debug)]
pub(super) struct Numbers {
    volume: Arc<Volume>,
    range: Mutex<Range>,
}

/// What was reserved and not yet handed out.
#[derive(Debug)]
struct Range {
    next: Ino,
    end: Ino,
}

impl Numbers {
    /// Goes on where the volume's counter stands.
    pub fn open(volume: Arc<Volume>) -> Result<Numbers, Cause> {
        let next = match volume.get_head(keys::INODE_COUNTER)? {
            None => ROOT + 1,
            Some(head) => {
                let bad = |what| Cause::bad_record(keys::INODE_COUNTER, what);
                let next = decode_counter(&head).map_err(bad)?;
                if next <= ROOT || next > INO_LIMIT {
                    return Err(bad("inode number out of range"));
                }
                next
            }
        };
        Ok(Numbers { volume, range: Mutex::new(Range { next, end: next }) })
    }

    /// A number that nothing has had before.
    pub fn take(&self) -> Result<Ino, Cause> {
        let mut range = self.range.lock();
        if range.next == range.end {
            let end = INO_LIMIT.min(range.end + BLOCK);
            if end == range.end {
                return Err(Cause::NoInodes);
            }
            self.write(end)?;
            range.end = end;
        }
        let ino = range.next;
        range.next += 1;
        debug_assert!(ino > ROOT && ino < INO_LIMIT);
        Ok(ino)
    }

    /// Numbers that were handed out or skipped.
    pub fn used(&self) -> u64 {
        self.range.lock().next
    }

    /// Gives back what was reserved and not used.
    pub fn give_back(&self) -> Result<(), Cause> {
        let mut range = self.range.lock();
        if range.next < range.end {
            self.write(range.next)?;
            range.end = range.next;
        }
        Ok(())
    }

    fn write(&self, next: Ino) -> Result<(), Cause> {
        let mut batch = Batch::new();
        batch.put(keys::INODE_COUNTER, &encode_counter(next));
        // Within a change that was admitted.
        self.volume.write_admitted(batch)?;
        Ok(())
    }
}

/// Sets a volume back to one of its snapshots, all but its counter of inode numbers: none is used twice.
pub fn restore_volume(store: &Store, volume: &str, snapshot: &str) -> lsm::Result<Arc<Volume>> {
    store.restore(volume, snapshot, |fresh, old| {
        let Some(counter) = old.get_head(keys::INODE_COUNTER)? else { return Ok(()) };
        let mut batch = Batch::new();
        batch.put(keys::INODE_COUNTER, &counter);
        fresh.write(batch).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::{Options, Store};

    fn volume(disk: SimDisk) -> (Store, Arc<Volume>) {
        let store = Store::open(Arc::new(disk), Options::default()).unwrap();
        let volume = store.volume("main").unwrap();
        (store, volume)
    }

    #[test]
    fn a_crash_skips_numbers_and_a_close_does_not() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        let taken: Vec<Ino> = (0..BLOCK + 3).map(|_| numbers.take().unwrap()).collect();
        assert!(taken.iter().copied().eq(ROOT + 1..ROOT + 1 + BLOCK + 3));
        let killed = Numbers::open(at.clone()).unwrap();
        assert_eq!(killed.take().unwrap(), ROOT + 1 + 2 * BLOCK);
        killed.give_back().unwrap();
        killed.give_back().unwrap();
        assert_eq!(Numbers::open(at).unwrap().take().unwrap(), ROOT + 2 + 2 * BLOCK);
        store.close().unwrap();
    }

    #[test]
    fn the_last_number_is_the_last() {
        let (_store, at) = volume(SimDisk::new(1));
        let mut batch = Batch::new();
        batch.put(keys::INODE_COUNTER, &encode_counter(INO_LIMIT - 1));
        at.write(batch).unwrap();
        let numbers = Numbers::open(at).unwrap();
        assert_eq!(numbers.take().unwrap(), INO_LIMIT - 1);
        assert!(matches!(numbers.take(), Err(Cause::NoInodes)));
        assert_eq!(numbers.used(), INO_LIMIT);
    }

    #[test]
    fn a_counter_that_makes_no_sense_is_refused() {
        for bad in [&encode_counter(ROOT)[..], &encode_counter(INO_LIMIT + 1), b"", b"\x07"] {
            let (_store, at) = volume(SimDisk::new(1));
            let mut batch = Batch::new();
            batch.put(keys::INODE_COUNTER, bad);
            at.write(batch).unwrap();
            assert!(matches!(Numbers::open(at), Err(Cause::BadRecord { .. })));
        }
    }
}
