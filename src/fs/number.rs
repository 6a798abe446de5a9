//! Inode numbers: never handed out twice, across crashes too, and to files of one directory together.
//!
//! Numbers are reserved in blocks: a counter in the volume (`s ino`) says where the next block starts,
//! and moves past a block before the first of its numbers is used. The log keeps that order, so that no
//! crash leaves a used number unreserved; it only skips what was reserved and not used. A clean close gives
//! back what lies behind the last that was used.
//!
//! # Runs
//! Each directory in which files are made takes a *run* of neighbours from the block at a time. Who lists, reads or
//! removes a directory comes to its files one after the other, and finds together what is kept by number (the table of
//! inodes, the records that were used last, chunks), even if other directories were filled at the same time.
//!
//! So many directories have a run. For one more the run ends that was begun first. If as much is left of it as its
//! directory used, the new one goes on with it: one like the other finds room there. Else the rest is skipped: a
//! directory in many small pieces would be worse than a number less, of which there are 2^40. So less than half of them
//! is skipped, and none where more directories are filled in turn than have a run.

use crate::fs::attr::{INO_LIMIT, Ino, ROOT};
use crate::fs::entry::{decode_counter, encode_counter};
use crate::fs::error::Cause;
use crate::fs::inode::neighbours;
use crate::fs::keys;
use crate::lsm::{self, Batch, SeqNo, Store, Volume};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Numbers reserved at a time.
const BLOCK: u64 = 1 << 16;

/// Numbers in a run, at most: it ends before a multiple of this.
const RUN: u64 = neighbours::BLOCK;

/// Directories that have a run: as many as a hash map of 512 places takes. (Git and compiler caches spread what they
/// keep over 256.)
const RUNS_MAX: usize = 448;

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
    /// By directory.
    runs: HashMap<Ino, Run>,
    /// The same directories, the one that has had a run for longest first.
    order: VecDeque<Ino>,
}

/// A run of a directory.
#[derive(Debug)]
struct Run {
    /// The first number that the directory took of it.
    first: Ino,
    rest: Range<Ino>,
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
        let stock = Stock { block: next..next, counter: next, runs: HashMap::new(), order: VecDeque::new() };
        Ok(Numbers { volume, stock: Mutex::new(stock) })
    }

    /// A number that nothing has had before, for a file of a directory.
    pub fn take(&self, dir: Ino) -> Result<Ino, Cause> {
        let mut stock = self.stock.lock();
        let ino = match stock.runs.get_mut(&dir).and_then(|run| run.rest.next()) {
            Some(ino) => ino,
            None => {
                let mut rest = self.another_run(&mut stock, dir)?;
                let first = rest.next().ok_or(Cause::NoInodes)?;
                stock.assign(dir, Run { first, rest });
                first
            }
        };
        debug_assert!(ino > ROOT && ino < INO_LIMIT);
        Ok(ino)
    }

    /// A run, which is not empty, for a directory that has none or has used it up.
    fn another_run(&self, stock: &mut Stock, dir: Ino) -> Result<Range<Ino>, Cause> {
        if let Some(run) = stock.make_room(dir).filter(Run::has_room_for_another) {
            return Ok(run.rest);
        }
        if stock.block.is_empty() {
            // It ends where runs do.
            let block = stock.next_block(BLOCK - stock.counter % RUN)?;
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

    /// Numbers that were handed out or skipped, or are an import's.
    pub fn used(&self) -> u64 {
        let stock = self.stock.lock();
        stock.counter - stock.runs.values().map(|run| &run.rest).chain([&stock.block]).map(len).sum::<u64>()
    }

    /// Gives back what was reserved and lies behind the last number that was used.
    pub fn give_back(&self) -> Result<(), Cause> {
        let stock = &mut *self.stock.lock();
        // Not what others were reserved after.
        if stock.block.end != stock.counter {
            return Ok(());
        }
        // The first number of each run was used: only one can have a rest there.
        let mut rests = stock.runs.values_mut().map(|run| &mut run.rest);
        if let Some(last) = rests.find(|rest| rest.end == stock.block.start) {
            stock.block.start = last.start;
            last.end = last.start;
        }
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

    /// If a directory that has no run would be one too many, ends the run that was begun first, and returns it.
    fn make_room(&mut self, dir: Ino) -> Option<Run> {
        let full = self.order.len() == RUNS_MAX && !self.runs.contains_key(&dir);
        let oldest = if full { self.order.pop_front() } else { None };
        oldest.and_then(|oldest| self.runs.remove(&oldest))
    }

    /// Gives a directory a run; there is room for it.
    fn assign(&mut self, dir: Ino, run: Run) {
        if self.runs.insert(dir, run).is_none() {
            self.order.push_back(dir);
        }
        debug_assert!(self.order.len() == self.runs.len() && self.order.len() <= RUNS_MAX);
    }
}

impl Run {
    /// Is as much left of it as its directory used? That is not nothing.
    fn has_room_for_another(&self) -> bool {
        len(&self.rest) >= self.rest.start - self.first
    }
}

fn len(range: &Range<Ino>) -> u64 {
    range.end - range.start
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

    fn are_neighbours(numbers: &[Ino]) -> bool {
        numbers.iter().copied().eq(numbers[0]..numbers[0] + numbers.len() as u64)
    }

    /// No number is there twice, and less than half of them all were skipped, but for the runs that have not ended.
    fn check(mut taken: Vec<Ino>) {
        let len = taken.len() as u64;
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len() as u64, len);
        let (runs, used_of_each) = (RUNS_MAX as u64 + 1, RUN / 2 + 1);
        assert!(taken[taken.len() - 1] < len * RUN / used_of_each + runs * RUN, "{len} of {taken:?}");
    }

    #[test]
    fn a_crash_skips_numbers_and_a_close_does_not() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        assert!(take(&numbers, BLOCK + 3).into_iter().eq(ROOT + 1..ROOT + 1 + BLOCK + 3));
        let killed = Numbers::open(at.clone()).unwrap();
        assert_eq!(take(&killed, 1), [2 * BLOCK]);
        killed.give_back().unwrap();
        killed.give_back().unwrap();
        assert_eq!(take(&Numbers::open(at).unwrap(), 1), [2 * BLOCK + 1]);
        store.close().unwrap();
    }

    #[test]
    fn a_close_gives_back_all_that_lies_behind_what_was_used() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        // The first run has one number left, the others have half.
        let mut taken = take(&numbers, RUN - ROOT - 2);
        taken.extend((0..3 * RUN / 2).map(|n| numbers.take(100 + n % 3).unwrap()));
        let last = 4 * RUN - RUN / 2 - 1;
        assert_eq!(taken.iter().max(), Some(&last));
        assert_eq!(numbers.used(), ROOT + 1 + taken.len() as u64);
        numbers.give_back().unwrap();
        assert_eq!(numbers.used(), ROOT + 1 + taken.len() as u64);
        assert_eq!(Numbers::open(at.clone()).unwrap().used(), last + 1);
        // Whoever goes on all the same gets others.
        taken.extend((0..3 * BLOCK).map(|n| numbers.take(100 + n % 5).unwrap()));
        numbers.give_back().unwrap();
        taken.extend(take(&numbers, 2 * RUN));
        numbers.give_back().unwrap();
        let next = taken.iter().max().unwrap() + 1;
        assert_eq!(take(&Numbers::open(at).unwrap(), 1), [next]);
        check(taken);
        store.close().unwrap();
    }

    #[test]
    fn files_of_a_directory_get_neighbours_though_many_are_filled_in_turn() {
        let (_store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at).unwrap();
        // The first run ends where others do.
        take(&numbers, RUN - ROOT - 1);
        let dirs = RUNS_MAX - 1;
        let taken: Vec<Ino> =
            (0..dirs * RUN as usize).map(|n| numbers.take(100 + (n % dirs) as u64).unwrap()).collect();
        for dir in 0..dirs {
            let own: Vec<Ino> = taken.iter().skip(dir).step_by(dirs).copied().collect();
            assert!(own[0].is_multiple_of(RUN) && are_neighbours(&own), "{own:?}");
        }
        assert_eq!(numbers.used(), RUN * RUNS_MAX as u64);
    }

    #[test]
    fn files_of_a_directory_get_neighbours_however_many_are_filled_one_after_the_other() {
        for files in [1, 5, 8, 9, 12, 16] {
            let (_store, at) = volume(SimDisk::new(1));
            let numbers = Numbers::open(at).unwrap();
            take(&numbers, RUN - ROOT - 1);
            let fill = |dir| -> Vec<Ino> { (0..files).map(|_| numbers.take(dir).unwrap()).collect() };
            let dirs: Vec<Vec<Ino>> = (0..3 * RUNS_MAX as u64).map(|n| fill(100 + n)).collect();
            assert!(dirs.iter().all(|own| are_neighbours(own)), "{files}: {dirs:?}");
            check(dirs.concat());
        }
    }

    #[test]
    fn the_run_that_was_begun_first_ends() {
        let (_store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at).unwrap();
        let dirs = 0..RUNS_MAX as u64;
        let first: Vec<Ino> = dirs.map(|dir| numbers.take(dir).unwrap()).collect();
        assert_eq!(numbers.take(RUNS_MAX as u64).unwrap(), first[0] + 1, "the new one goes on with it");
        assert_eq!(numbers.take(1).unwrap(), first[1] + 1, "all others have theirs");
        assert_eq!(numbers.take(RUNS_MAX as u64 - 1).unwrap(), first[RUNS_MAX - 1] + 1);
    }

    #[test]
    fn no_number_is_handed_out_twice_however_many_directories_there_are() {
        let (_store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        let dirs = 3 * RUNS_MAX as u64;
        let mut taken: Vec<Ino> = (0..20 * dirs).map(|n| numbers.take(n % dirs).unwrap()).collect();
        assert_eq!(numbers.used(), ROOT + 1 + taken.len() as u64, "none is skipped");
        numbers.give_back().unwrap();
        let again = Numbers::open(at).unwrap();
        taken.extend((0..dirs).map(|dir| again.take(dir).unwrap()));
        check(taken);
    }

    #[test]
    fn an_imports_numbers_are_nobody_elses() {
        let (store, at) = volume(SimDisk::new(1));
        let numbers = Numbers::open(at.clone()).unwrap();
        assert_eq!(take(&numbers, 1), [ROOT + 1]);
        let used = numbers.used();
        let (block, _) = numbers.reserve_import(10).unwrap();
        assert_eq!((block.clone(), numbers.used()), (BLOCK..BLOCK + 10, used + 10));
        assert_eq!(take(&numbers, 1), [ROOT + 2], "the present block is used up first");
        assert!(take(&numbers, BLOCK - ROOT - 3).iter().all(|ino| !block.contains(ino)));
        assert_eq!(take(&numbers, 1), [block.end]);
        let (after, _) = numbers.reserve_import(5).unwrap();
        numbers.give_back().unwrap();
        assert_eq!(take(&Numbers::open(at).unwrap(), 1), [after.end], "only the last block is given back");
        store.close().unwrap();
    }

    #[test]
    fn the_last_number_is_the_last() {
        let (_store, at) = volume(SimDisk::new(1));
        let mut batch = Batch::new();
        batch.put(keys::INODE_COUNTER, &encode_counter(INO_LIMIT - 1));
        at.write(batch).unwrap();
        let numbers = Numbers::open(at).unwrap();
        assert_eq!(take(&numbers, 1), [INO_LIMIT - 1]);
        assert!([ROOT, 9].iter().all(|dir| matches!(numbers.take(*dir), Err(Cause::NoInodes))));
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
