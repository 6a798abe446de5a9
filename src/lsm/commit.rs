//! The group commit: the one order of all writes in a store, and their way through it.
//!
//! This is what [`crate::lsm::write`] calls steps 2, 3 and 5 of a commit; step 4, the insertion into the memtable,
//! each writer does in between, concurrently with the others.
//!
//! # Invariants
//! - Sequence order, log order and the order of memtables are one order: a batch takes its sequence numbers, its
//!   place in the queue, the memtable of this moment, and a place in the order of publication under the
//!   **commit lock**, which is held for these few steps only, never over I/O.
//! - Whoever finds nobody leading **leads**: it writes its record, and then hands the lead to the first
//!   that queued meanwhile, who writes the whole queue with one system call. So one at a time appends.
//! - The **visible sequence number** moves up in order: a batch is published when it and all before it
//!   are inserted. So a reader never sees a batch in part, nor one whose predecessor is missing.
//! - A batch whose log write failed is published as a gap: it was never inserted, and the log has
//!   cut its place off.
//!
//! # Locks
//! `queue` (the commit lock) protects the sequence numbers, the queue and who leads; `published` the
//! order of publication; each queued writer has a [`Slot`] with its own lock. Order: `queue` → a
//! volume's `tree` (read), `published`, or a slot's lock.

use crate::lsm::key::MAX_SEQ;
use crate::lsm::log::record::RecordKind;
use crate::lsm::log::{Log, PendingRecord};
use crate::lsm::memtable::Memtable;
use crate::lsm::tally::Tally;
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Result, SeqNo};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A leader writes at most this many bytes of others' records with its own.
const GROUP_LIMIT: usize = 4 << 20;

/// What a writer waits for mostly comes within a few microseconds: a leader's write, another's insertion.
/// To sleep and be woken takes several times as long, so it looks this often first, giving way between
/// (two writers on two processors, random fill of 100-byte values: 338,000 writes a second, 82,000 without).
const LOOKS: u32 = 100;
/// The first looks do not give way: this many only pause.
const PAUSES: u32 = 30;

/// The one order of all writes in a store.
#[derive(Debug)]
pub(crate) struct Commits {
    queue: Mutex<Queue>,
    published: Mutex<Publication>,
    progress: Condvar,
    visible: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    next_seq: SeqNo,
    waiting: VecDeque<Arc<Slot>>,
    led: bool,
    closed: bool,
}

/// The batches between their sequence numbers and their publication, oldest first.
#[derive(Debug, Default)]
struct Publication {
    /// The ticket of the front entry.
    first_ticket: u64,
    /// The last sequence number of each batch, and whether it is ready.
    batches: VecDeque<(SeqNo, bool)>,
}

/// A writer that queues while another leads.
#[derive(Debug)]
struct Slot {
    turn: Mutex<Turn>,
    wake: Condvar,
}

#[derive(Debug)]
enum Turn {
    /// The record waits for a leader.
    Queued(PendingRecord),
    /// A leader has the record.
    Taken,
    /// This writer leads, with the records that queued up to now, its own first.
    Lead(Vec<PendingRecord>, Vec<Arc<Slot>>),
    /// The record is in the log, or is not and never will be.
    Done(Result<Vec<u8>>),
}

enum Role {
    Lead(PendingRecord),
    Follow(Arc<Slot>),
}

/// What a batch got under the commit lock.
struct Place {
    first_seq: SeqNo,
    last_seq: SeqNo,
    ticket: u64,
}

impl Commits {
    /// Goes on after `last_seq`.
    pub fn new(last_seq: SeqNo) -> Commits {
        Commits {
            queue: Mutex::new(Queue {
                next_seq: last_seq + 1,
                waiting: VecDeque::new(),
                led: false,
                closed: false,
            }),
            published: Mutex::default(),
            progress: Condvar::new(),
            visible: AtomicU64::new(last_seq),
        }
    }

    /// The newest sequence number that readers see.
    pub fn visible(&self) -> SeqNo {
        self.visible.load(Ordering::Acquire)
    }

    /// Refuses all later commits, and waits for those under way.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        let mut published = self.published.lock();
        while !published.batches.is_empty() {
            self.progress.wait(&mut published);
        }
    }

    /// Runs `step` while no batch can take its place: between two writes in the order.
    pub fn between_writes<R>(&self, step: impl FnOnce() -> R) -> R {
        let _queue = self.queue.lock();
        step()
    }

    /// Commits one record of `count` writes to `volume`, which changes its tally; returns its last sequence
    /// number and what `insert` does. That is given the memtable, the first sequence number and the record,
    /// once it is in the log.
    pub fn commit(
        &self,
        log: &Log,
        volume: &Volume,
        bytes: Vec<u8>,
        count: usize,
        tally: Tally,
        insert: impl FnOnce(&Memtable, SeqNo, Vec<u8>) -> usize,
    ) -> Result<(SeqNo, usize)> {
        let mut memtable = None;
        let (place, role) = self.take_place(RecordKind::Batch, count, |first_seq, last_seq| {
            if volume.is_deleted() {
                return Err(Error::NoVolume(volume.name()));
            }
            let tree = volume.tree();
            volume.check_quota(&tree, tally)?;
            let current = memtable.insert(tree.memtable.clone());
            current.note(first_seq, last_seq);
            current.count(tally);
            Ok(bytes)
        })?;
        let memtable = memtable.expect("a place was taken in it");
        let inserted = self.append(log, role).map(|record| insert(&memtable, place.first_seq, record));
        if inserted.is_err() {
            memtable.count(-tally);
        }
        self.publish(place.ticket, place.last_seq);
        inserted.map(|size| (place.last_seq, size))
    }

    /// Commits one record of edits, which takes one sequence number. `step` is given that number under the
    /// commit lock, between two writes, and returns the record. All writes before it are visible then.
    pub fn commit_edits(&self, log: &Log, step: impl FnOnce(SeqNo) -> Vec<u8>) -> Result<SeqNo> {
        let (place, role) = self.take_place(RecordKind::Edits, 1, |seq, _| Ok(step(seq)))?;
        let written = self.append(log, role);
        self.publish(place.ticket, place.last_seq);
        written.map(|_| place.last_seq)
    }

    /// Step 2. `fill` is given the sequence numbers and returns the record.
    fn take_place(
        &self,
        kind: RecordKind,
        count: usize,
        fill: impl FnOnce(SeqNo, SeqNo) -> Result<Vec<u8>>,
    ) -> Result<(Place, Role)> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Error::Closed);
        }
        let first_seq = queue.next_seq;
        let last_seq = first_seq + count as u64 - 1;
        if last_seq > MAX_SEQ {
            return Err(Error::NoSequenceNumbers);
        }
        let bytes = fill(first_seq, last_seq)?;
        queue.next_seq = last_seq + 1;
        let ticket = self.published.lock().enter(last_seq);
        let place = Place { first_seq, last_seq, ticket };
        let record = PendingRecord { kind, bytes, first_seq, last_seq };
        if !queue.led {
            queue.led = true;
            return Ok((place, Role::Lead(record)));
        }
        let slot = Arc::new(Slot { turn: Mutex::new(Turn::Queued(record)), wake: Condvar::new() });
        queue.waiting.push_back(slot.clone());
        Ok((place, Role::Follow(slot)))
    }

    /// Step 3.
    fn append(&self, log: &Log, role: Role) -> Result<Vec<u8>> {
        match role {
            Role::Lead(record) => self.lead(log, record),
            Role::Follow(slot) => self.follow(log, &slot),
        }
    }

    /// Step 3, for a writer that found nobody leading.
    fn lead(&self, log: &Log, mut record: PendingRecord) -> Result<Vec<u8>> {
        let result = log.append(std::slice::from_mut(&mut record));
        self.hand_over();
        result.map(|()| record.bytes)
    }

    /// Step 3, for a writer that queued.
    fn follow(&self, log: &Log, slot: &Slot) -> Result<Vec<u8>> {
        look_often(|| slot.turn.try_lock().is_some_and(|turn| turn.is_over()));
        let mut turn = slot.turn.lock();
        loop {
            match std::mem::replace(&mut *turn, Turn::Taken) {
                Turn::Done(result) => return result,
                Turn::Lead(records, others) => {
                    drop(turn);
                    return self.lead_group(log, records, &others);
                }
                waiting => *turn = waiting,
            }
            slot.wake.wait(&mut turn);
        }
    }

    /// Writes a group: `records[0]` is the caller's, the others belong to `others`, in order.
    fn lead_group(
        &self,
        log: &Log,
        mut records: Vec<PendingRecord>,
        others: &[Arc<Slot>],
    ) -> Result<Vec<u8>> {
        let result = log.append(&mut records);
        self.hand_over();
        let mut answers = records.into_iter().map(|r| result.clone().map(|()| r.bytes));
        let own = answers.next().expect("a group holds its leader's record");
        for (slot, answer) in others.iter().zip(answers) {
            *slot.turn.lock() = Turn::Done(answer);
            slot.wake.notify_one();
        }
        own
    }

    /// Makes the first in the queue the leader of all that queue, within limits.
    fn hand_over(&self) {
        let mut queue = self.queue.lock();
        let Some(leader) = queue.waiting.pop_front() else {
            queue.led = false;
            return;
        };
        let mut records = vec![leader.take_record()];
        let mut others = Vec::new();
        let mut room = GROUP_LIMIT.saturating_sub(records[0].bytes.len());
        while let Some(slot) = queue.waiting.pop_front() {
            let record = slot.take_record();
            room = room.saturating_sub(record.bytes.len());
            records.push(record);
            others.push(slot);
            if room == 0 {
                break;
            }
        }
        drop(queue);
        *leader.turn.lock() = Turn::Lead(records, others);
        leader.wake.notify_one();
    }

    /// Waits until everything up to `seq`, whose place is taken, is visible.
    pub fn wait_visible(&self, seq: SeqNo) {
        if self.visible() >= seq {
            return;
        }
        let mut published = self.published.lock();
        while self.visible() < seq {
            self.progress.wait(&mut published);
        }
    }

    /// Step 5: the batch is inserted (or failed); waits until it and all before it are published.
    fn publish(&self, ticket: u64, last_seq: SeqNo) {
        let mut published = self.published.lock();
        if let Some(visible) = published.ready(ticket) {
            self.visible.store(visible, Ordering::Release);
            self.progress.notify_all();
        }
        if published.first_ticket > ticket {
            return;
        }
        drop(published);
        if look_often(|| self.visible() >= last_seq) {
            return;
        }
        let mut published = self.published.lock();
        while published.first_ticket <= ticket {
            self.progress.wait(&mut published);
        }
    }
}

/// Looks whether `is_over`, for some microseconds; false if it still was not.
fn look_often(mut is_over: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|look| {
        match look {
            ..PAUSES => std::hint::spin_loop(),
            _ => std::thread::yield_now(),
        }
        is_over()
    })
}

impl Turn {
    /// Has the writer something to do?
    fn is_over(&self) -> bool {
        matches!(self, Turn::Done(_) | Turn::Lead(..))
    }
}

impl Slot {
    fn take_record(&self) -> PendingRecord {
        match std::mem::replace(&mut *self.turn.lock(), Turn::Taken) {
            Turn::Queued(record) => record,
            other => unreachable!("a slot in the queue has its record: {other:?}"),
        }
    }
}

impl Publication {
    fn enter(&mut self, last_seq: SeqNo) -> u64 {
        self.batches.push_back((last_seq, false));
        self.first_ticket + self.batches.len() as u64 - 1
    }

    /// Marks a batch ready; returns the last sequence number that may be published now, if it moved.
    fn ready(&mut self, ticket: u64) -> Option<SeqNo> {
        let at = (ticket - self.first_ticket) as usize;
        self.batches[at].1 = true;
        let mut visible = None;
        while let Some(&(seq, true)) = self.batches.front() {
            visible = Some(seq);
            self.batches.pop_front();
            self.first_ticket += 1;
        }
        visible
    }
}
