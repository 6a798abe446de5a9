//! Merging several sources into one order.
//!
//! A binary heap of cursors, by the key that each stands on. No two sources hold the same internal
//! key: sequence numbers are unique. Moving the other way repositions every source, so that all stand on
//! the same side of the current key.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A valid cursor in the heap; the greatest is the next in the direction of travel.
struct Ranked<I> {
    source: I,
    /// The source's place in the list that was given: newest first.
    age: usize,
    direction: Direction,
}

impl<I: InternalIterator> Ord for Ranked<I> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.source.key().cmp(&other.source.key());
        match self.direction {
            Direction::Forward => order.reverse(),
            Direction::Backward => order,
        }
    }
}

impl<I: InternalIterator> PartialOrd for Ranked<I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I: InternalIterator> PartialEq for Ranked<I> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<I: InternalIterator> Eq for Ranked<I> {}

/// The records of several sources in one order.
pub(crate) struct MergeIter<I> {
    heap: BinaryHeap<Ranked<I>>,
    /// Sources that ran out in the direction of travel, with their ages.
    spent: Vec<(usize, I)>,
    direction: Direction,
}

impl<I> std::fmt::Debug for MergeIter<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeIter").field("spent", &self.spent.len()).finish_non_exhaustive()
    }
}

impl<I: InternalIterator> MergeIter<I> {
    /// Over `sources`, newest first, not positioned yet.
    pub fn new(sources: Vec<I>) -> MergeIter<I> {
        let spent = sources.into_iter().enumerate().collect();
        MergeIter { heap: BinaryHeap::new(), spent, direction: Direction::Forward }
    }

    /// The age of the source that the cursor stands on. The cursor must be valid.
    pub fn age(&self) -> usize {
        self.heap.peek().expect("the cursor is valid").age
    }

    /// Going forward, takes every source that is older than `age` to `target`, if it is before that.
    pub fn skip_older(&mut self, age: usize, target: KeyRef<'_>) -> Result<()> {
        debug_assert_eq!(self.direction, Direction::Forward);
        self.reposition_some(
            |ranked| ranked.age > age && ranked.source.key() < target,
            |source| source.seek(target),
        )
    }

    /// Moves the sources of the heap that `chosen` picks with `place`.
    fn reposition_some(
        &mut self,
        chosen: impl Fn(&Ranked<I>) -> bool,
        mut place: impl FnMut(&mut I) -> Result<()>,
    ) -> Result<()> {
        let mut moved = Ok(());
        for mut ranked in std::mem::take(&mut self.heap) {
            if moved.is_ok() && chosen(&ranked) {
                moved = place(&mut ranked.source);
            }
            if moved.is_ok() && ranked.source.valid() {
                self.heap.push(ranked);
            } else {
                self.spent.push((ranked.age, ranked.source));
            }
        }
        if moved.is_err() {
            self.give_up();
        }
        moved
    }

    fn top(&self) -> &I {
        &self.heap.peek().expect("the cursor is valid").source
    }

    /// Positions every source with `place`, for travel in `direction`.
    fn reposition(
        &mut self,
        direction: Direction,
        mut place: impl FnMut(&mut I) -> Result<()>,
    ) -> Result<()> {
        self.direction = direction;
        let mut sources = std::mem::take(&mut self.spent);
        sources.extend(self.heap.drain().map(|ranked| (ranked.age, ranked.source)));
        let mut placed = Ok(());
        for (age, mut source) in sources {
            if placed.is_ok() {
                placed = place(&mut source);
            }
            if placed.is_ok() && source.valid() {
                self.heap.push(Ranked { source, age, direction });
            } else {
                self.spent.push((age, source));
            }
        }
        if placed.is_err() {
            self.give_up();
        }
        placed
    }

    /// After an error the cursor is not valid.
    fn give_up(&mut self) {
        self.spent.extend(self.heap.drain().map(|ranked| (ranked.age, ranked.source)));
    }

    /// Moves the top source with `step` and restores the order.
    fn advance(&mut self, step: impl FnOnce(&mut I) -> Result<()>) -> Result<()> {
        let mut top = self.heap.peek_mut().expect("the cursor is valid");
        let stepped = step(&mut top.source);
        if stepped.is_err() || !top.source.valid() {
            let Ranked { age, source, .. } = PeekMut::pop(top);
            self.spent.push((age, source));
        } else {
            drop(top);
        }
        if stepped.is_err() {
            self.give_up();
        }
        stepped
    }

    fn turn(&mut self, direction: Direction) -> Result<()> {
        let key = self.key();
        let (user, seq, kind) = (key.user.to_vec(), key.seq, key.kind);
        let here = KeyRef { user: &user, seq, kind };
        match direction {
            // Every source goes to the first record after `here`; only one holds `here` itself.
            Direction::Forward => self.reposition(direction, |source| {
                source.seek(here)?;
                if source.valid() && source.key() == here { source.next() } else { Ok(()) }
            }),
            Direction::Backward => self.reposition(direction, |source| source.seek_before(here)),
        }
    }
}

impl<I: InternalIterator> InternalIterator for MergeIter<I> {
    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn key(&self) -> KeyRef<'_> {
        self.top().key()
    }

    fn head(&self) -> &[u8] {
        self.top().head()
    }

    fn tail(&self) -> Result<Bytes> {
        self.top().tail()
    }

    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.reposition(Direction::Forward, |source| source.seek(target))
    }

    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.reposition(Direction::Backward, |source| source.seek_before(target))
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.reposition(Direction::Forward, |source| source.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.reposition(Direction::Backward, |source| source.seek_to_last())
    }

    fn next(&mut self) -> Result<()> {
        match self.direction {
            Direction::Forward => self.advance(|source| source.next()),
            Direction::Backward => self.turn(Direction::Forward),
        }
    }

    fn prev(&mut self) -> Result<()> {
        match self.direction {
            Direction::Backward => self.advance(|source| source.prev()),
            Direction::Forward => self.turn(Direction::Backward),
        }
    }
}
