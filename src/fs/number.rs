//! Inode numbers: never handed out twice, across crashes too, and to files of one directory together.
//!
//! Numbers are reserved in blocks: a counter in the volume (`s ino`) says where the next block starts,
//! and moves past a block before the first of its numbers is used. The log keeps that order, so that no
//! crash leaves a used number unreserved; it only skips the rest of a block. A clean close gives back what
//! lies behind the last that was used.
//!
//! Of a block each directory that files are made in takes a *run* of neighbours at a time. Who lists, reads or removes
//! a directory comes to its files one after the other, and what is kept by number (the table of inodes, the records
//! that were used last, chunks) is found together then, however many directories are filled at once. What directories
//! have not used up goes to others once there are more of them than are kept account of: no number is lost.

use crate::fs::attr::{INO_LIMIT, Ino, ROOT};
use crate::fs::entry::{decode_counter, encode_counter};
use crate::fs::error::Cause;
use crate::fs::inode::neighbours;
use crate::fs::keys;
use crate::lsm::{self, Batch, SeqNo, Store, Volume};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Numbers reserved at a time.
const BLOCK: u64 = 1 << 16;

/// Numbers in a run, which begins at a multiple of this.
const RUN: u64 = neighbours::BLOCK;

/// Directories that have a run.
const RUNS_MAX: usize = 256;

/// The source of inode numbers. Its lock is a leaf: see lock.rs.
#[derive(Debug)]
pub(super) struct Numbers {
    volume: Arc<Volume>,
    stock: Mutex<Stock>,
}

/// What was reserved and not yet handed out.
#[derive(Debug)]
struct Stock {
    /// The rest of the block.
    block: Range<Ino>,
    /// Where the next block starts, as the volume's counter says.
    counter: Ino,
    /// Rests of runs, by directory. At most [`RUNS_MAX`].
    runs: HashMap<Ino, Range<Ino>>,
    /// Rests of runs that are no directory's. They are used up before there is another run, so that they are no more
    /// than [`RUNS_MAX`] either.
    spare: Vec<Range<Ino>>,
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
        let stock = Stock { block: next..next, counter: next, runs: HashMap::new(), spare: Vec::new() };
        Ok(Numbers { volume, stock: Mutex::new(stock) })
    }

    /// A number that nothing has had before, for a file of a directory.
    pub fn take(&self, dir: Ino) -> Result<Ino, Cause> {
        let mut stock = self.stock.lock();
        let ino = match stock.runs.get_mut(&dir).and_then(Iterator::next) {
            Some(ino) => ino,
            None => {
                let mut run = self.another_run(&mut stock)?;
                let first = run.next().ok_or(Cause::NoInodes)?;
                stock.assign(dir, run);
                first
            }
        };
        debug_assert!(ino > ROOT && ino < INO_LIMIT);
        Ok(ino)
    }

    /// A run that is nobody's, which is not empty.
    fn another_run(&self, stock: &mut Stock) -> Result<Range<Ino>, Cause> {
        if let Some(run) = stock.spare.pop() {
            return Ok(run);
        }
        if stock.block.is_empty() {
            let Ok(block) = stock.next_block(BLOCK) else {
                // The last numbers.
                stock.collect_runs();
                return stock.spare.pop().ok_or(Cause::NoInodes);
            };
            self.write(Batch::new(), block.end)?;
            (stock.counter, stock.block) = (block.end, block);
        }
        Ok(stock.split_run())
    }

    /// A block of `len` numbers, or as many as there are, for an import, with a record that says so, and that
    /// write's sequence number.
    pub fn reserve_import(&self, len: u64) -> Result<(Range<Ino>, SeqNo), Cause> {
        let mut stock = self.stock.lock();
        let block = stock.next_block(len)?;
        let mut batch = Batch::new();
        batch.put(&keys::import(block.start), &encode_counter(block.end));
        let seq = self.write(batch, block.end)?;
        stock.counter = block.end;
        Ok((block, seq))
    }

    /// Numbers that were handed out or skipped.
    pub fn used(&self) -> u64 {
        let stock = self.stock.lock();
        stock.block.start - stock.rests().map(|run| run.end - run.start).sum::<u64>()
    }

    /// Gives back what was reserved and not used, but for what lies before a number that was.
    pub fn give_back(&self) -> Result<(), Cause> {
        let mut stock = self.stock.lock();
        // Not what others were reserved after.
        if stock.block.end != stock.counter {
            return Ok(());
        }
        stock.collect_runs();
        stock.spare.sort_unstable_by_key(|run| run.start);
        let mut first = stock.block.start;
        while let Some(last) = stock.spare.pop_if(|run| run.end == first) {
            first = last.start;
        }
        stock.block.start = first;
        if !stock.block.is_empty() {
            self.write(Batch::new(), stock.block.start)?;
            (stock.block.end, stock.counter) = (stock.block.start, stock.block.start);
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

impl Stock {
    /// The next block, of up to `len` numbers.
    fn next_block(&self, len: u64) -> Result<Range<Ino>, Cause> {
        let end = INO_LIMIT.min(self.counter.saturating_add(len));
        if end > self.counter { Ok(self.counter..end) } else { Err(Cause::NoInodes) }
    }

    /// Takes a run from the block, which is not empty.
    fn split_run(&mut self) -> Range<Ino> {
        let start = self.block.start;
        let end = self.block.end.min((start / RUN + 1) * RUN);
        self.block.start = end;
        start..end
    }

    /// Gives a directory a run; its own is used up.
    fn assign(&mut self, dir: Ino, run: Range<Ino>) {
        if self.runs.len() == RUNS_MAX && !self.runs.contains_key(&dir) {
            self.collect_runs();
        }
        self.runs.insert(dir, run);
        debug_assert!(self.runs.len() <= RUNS_MAX && self.spare.len() <= RUNS_MAX);
    }

    /// Takes their runs from all directories.
    fn collect_runs(&mut self) {
        let runs = self.runs.drain().map(|(_, run)| run);
        self.spare.extend(runs.filter(|run| !run.is_empty()));
    }

    fn rests(&self) -> impl Iterator<Item = &Range<Ino>> {
        self.runs.values().chain(&self.spare)
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

    /// So many numbers for one directory, in order.
    fn take(numbers: &Numbers, len: u64) -> Vec<Ino> {
        (0..len).map(|_| numbers.take(ROOT).unwrap()).collect()
    }

    #[test]
    fn a_crash_skips_numbers_and_a_close_does_not() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        assert!(take(&numbers, BLOCK + 3).into_iter().eq(ROOT + 1..ROOT + 1 + BLOCK + 3));
        let killed = Numbers::open(at.clone()).unwrap();
        assert_eq!(take(&killed, 1), [ROOT + 1 + 2 * BLOCK]);
        killed.give_back().unwrap();
        killed.give_back().unwrap();
        assert_eq!(take(&Numbers::open(at).unwrap(), 1), [ROOT + 2 + 2 * BLOCK]);
        store.close().unwrap();
    }

    #[test]
    fn files_of_a_directory_get_neighbours() {
        let (_store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at).unwrap();
        // The first run ends where others do.
        take(&numbers, RUN - ROOT - 1);
        let dirs = RUNS_MAX as u64 - 1;
        let taken: Vec<Ino> = (0..dirs * RUN).map(|n| numbers.take(100 + n % dirs).unwrap()).collect();
        for dir in 0..dirs as usize {
            let own: Vec<Ino> = taken.iter().skip(dir).step_by(dirs as usize).copied().collect();
            assert!(own[0].is_multiple_of(RUN) && own.iter().copied().eq(own[0]..own[0] + RUN), "{own:?}");
        }
        assert_eq!(numbers.used(), RUN * (dirs + 1));
    }

    #[test]
    fn no_number_is_lost_or_handed_out_twice_however_many_directories_there_are() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        let dirs = 3 * RUNS_MAX as u64;
        let mut taken: Vec<Ino> = (0..5 * dirs).map(|n| numbers.take(n % dirs).unwrap()).collect();
        assert_eq!(numbers.used(), ROOT + 1 + taken.len() as u64);
        let bound = ROOT + 1 + taken.len() as u64 + RUN * (RUNS_MAX as u64 + 1);
        assert!(taken.iter().all(|ino| *ino < bound));
        numbers.give_back().unwrap();
        let again = Numbers::open(at).unwrap();
        taken.extend((0..dirs).map(|dir| again.take(dir).unwrap()));
        let len = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), len);
        store.close().unwrap();
    }

    #[test]
    fn an_imports_numbers_are_nobody_elses() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        assert_eq!(take(&numbers, 1), [ROOT + 1]);
        let (block, _) = numbers.reserve_import(10).unwrap();
        assert_eq!(block, ROOT + 1 + BLOCK..ROOT + 11 + BLOCK);
        assert_eq!(take(&numbers, 1), [ROOT + 2], "the present block is used up first");
        assert!(take(&numbers, BLOCK - 2).iter().all(|ino| !block.contains(ino)));
        assert_eq!(take(&numbers, 1), [block.end]);
        let (after, _) = numbers.reserve_import(5).unwrap();
        numbers.give_back().unwrap();
        assert_eq!(take(&Numbers::open(at).unwrap(), 1), [after.end], "only the last block is given back");
        store.close().unwrap();
    }

    #[test]
    fn the_last_numbers_are_the_last() {
        let (_store, at) = volume(SimDisk::new(1));
        let mut batch = Batch::new();
        batch.put(keys::INODE_COUNTER, &encode_counter(INO_LIMIT - 3));
        at.write(batch).unwrap();
        let numbers = Numbers::open(at).unwrap();
        // Another directory gets what the first had for itself.
        let taken = [1, 2, 1].map(|dir| numbers.take(dir).unwrap());
        assert_eq!(taken, [INO_LIMIT - 3, INO_LIMIT - 2, INO_LIMIT - 1]);
        assert!(matches!(numbers.take(1), Err(Cause::NoInodes)));
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
