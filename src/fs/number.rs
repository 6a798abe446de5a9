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
use crate::lsm::{self, Batch, SeqNo, Store, Volume};
use parking_lot::Mutex;
use std::ops;
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
    /// Where the next block starts, as the volume's counter says.
    counter: Ino,
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
        Ok(Numbers { volume, range: Mutex::new(Range { next, end: next, counter: next }) })
    }

    /// A number that nothing has had before.
    pub fn take(&self) -> Result<Ino, Cause> {
        let mut range = self.range.lock();
        if range.next == range.end {
            let block = range.block(BLOCK)?;
            self.write(Batch::new(), block.end)?;
            *range = Range { next: block.start, end: block.end, counter: block.end };
        }
        let ino = range.next;
        range.next += 1;
        debug_assert!(ino > ROOT && ino < INO_LIMIT);
        Ok(ino)
    }

    /// A block of `len` numbers, or as many as there are, for an import, with a record that says so, and that
    /// write's sequence number.
    pub fn reserve_import(&self, len: u64) -> Result<(ops::Range<Ino>, SeqNo), Cause> {
        let mut range = self.range.lock();
        let block = range.block(len)?;
        let mut batch = Batch::new();
        batch.put(&keys::import(block.start), &encode_counter(block.end));
        let seq = self.write(batch, block.end)?;
        range.counter = block.end;
        Ok((block, seq))
    }

    /// Numbers that were handed out or skipped.
    pub fn used(&self) -> u64 {
        self.range.lock().next
    }

    /// Gives back what was reserved and not used.
    pub fn give_back(&self) -> Result<(), Cause> {
        let mut range = self.range.lock();
        // Not what others were reserved after.
        if range.next < range.end && range.end == range.counter {
            self.write(Batch::new(), range.next)?;
            (range.end, range.counter) = (range.next, range.next);
        }
        Ok(())
    }

    /// Moves the counter, in a batch with what else is to be written.
    fn write(&self, mut batch: Batch, next: Ino) -> Result<SeqNo, Cause> {
        batch.put(keys::INODE_COUNTER, &encode_counter(next));
        // Within a change that was admitted.
        Ok(self.volume.write_admitted(batch)?)
    }
}

impl Range {
    /// The next block, of up to `len` numbers.
    fn block(&self, len: u64) -> Result<ops::Range<Ino>, Cause> {
        let end = INO_LIMIT.min(self.counter.saturating_add(len));
        if end > self.counter { Ok(self.counter..end) } else { Err(Cause::NoInodes) }
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
    fn an_imports_numbers_are_nobody_elses() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        assert_eq!(numbers.take().unwrap(), ROOT + 1);
        let (block, _) = numbers.reserve_import(10).unwrap();
        assert_eq!(block, ROOT + 1 + BLOCK..ROOT + 11 + BLOCK);
        assert_eq!(numbers.take().unwrap(), ROOT + 2, "the present block is used up first");
        (2..BLOCK).for_each(|_| assert!(!block.contains(&numbers.take().unwrap())));
        assert_eq!(numbers.take().unwrap(), block.end);
        let (after, _) = numbers.reserve_import(5).unwrap();
        numbers.give_back().unwrap();
        assert_eq!(
            Numbers::open(at).unwrap().take().unwrap(),
            after.end,
            "only the last block is given back"
        );
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
