//! A full disk: room that is kept aside, so that what is deleted can give its room back.
//!
//! A delete is a write: a record in the log, later a table, an edit of the manifest, and a compaction which
//! writes before it frees. So while the disk is nearly full the store keeps a *reserve*: blocks that nothing is
//! written to ([`Disk::set_reserve`]), enough for the tables of all memtables and a compaction's largest step
//! ([`Options::working_room`]).
//!
//! - The reserve is at most an eighth of the disk ([`ONE_IN`]). On a disk for which that is too little, memtables,
//!   tables and so the steps of all work are smaller ([`fitted`]).
//! - Where there is plenty of room ([`PLENTY`] times the reserve) nothing is kept aside.
//! - A small part of it, the *last*, is for opens: a store must not need room that nobody can give.
//! - When a write that frees room ([`Batch::frees_room`]), a volume's deletion, a flush or a compaction finds the disk
//!   full, the reserve is given up but for the last, and it is tried again ([`Shared::with_reserve`]). Until that has ended the
//!   room is *lent*: nobody takes it back, or whoever asks to write often enough would each time be sooner.
//! - From then on the store is *low*: other writes get `ENOSPC` at once, before they have taken anything. Each
//!   of them first tries to take the reserve again, and sees to it that what was deleted is flushed and
//!   compacted; when the reserve can be taken, there is room for it too.
//!
//! # Locks
//! [`Reserve::loans`] protects how many have borrowed, and is held while the reserve is taken or given up. A leaf.
//!
//! [`Batch::frees_room`]: crate::lsm::Batch::frees_room

use crate::disk::{Disk, DiskError};
use crate::lsm::store::Shared;
use crate::lsm::volume::Volume;
use crate::lsm::{Error, Options, Result};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The reserve is at most this part of the disk.
const ONE_IN: u64 = 8;
/// What an open needs, in bytes, or at most this part of the reserve.
const LAST: u64 = 1 << 20;
const LAST_ONE_IN: u64 = 8;
/// With so many times its size free, none is kept.
const PLENTY: u64 = 16;

/// The room that a store keeps aside.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    /// Its size in bytes, if the disk is large.
    most: u64,
    held: AtomicBool,
    /// It was given up, and could not be taken again since.
    low: AtomicBool,
    /// A write was refused for want of room, and none was taken since.
    wanted: AtomicBool,
    /// How many do work with the room that was given up.
    loans: Mutex<usize>,
}

/// The right to the room that was given up: as long as this is there, it is not taken back.
#[derive(Debug)]
pub(crate) struct Loan<'a>(&'a Reserve);

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        *self.0.loans.lock() -= 1;
    }
}

/// The settings for a store on this disk: no work needs more room at once than can be kept aside.
pub(crate) fn fitted(options: Options, disk: &dyn Disk) -> Options {
    match disk.space() {
        Ok(space) => options.within(space.total / ONE_IN),
        Err(_) => options,
    }
}

impl Reserve {
    pub fn new(disk: Arc<dyn Disk>, options: &Options) -> Reserve {
        Reserve {
            disk,
            most: options.working_room(),
            held: AtomicBool::new(false),
            low: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            loans: Mutex::new(0),
        }
    }

    /// Are only writes that free room taken?
    pub fn is_low(&self) -> bool {
        self.low.load(Relaxed)
    }

    /// Is whatever gives room back worth its while?
    pub fn wants_room(&self) -> bool {
        self.is_low() || self.wanted.load(Relaxed)
    }

    /// A write was taken.
    pub fn took_write(&self) {
        if self.wanted.load(Relaxed) {
            self.wanted.store(false, Relaxed);
        }
    }

    /// Looks how much room there is: keeps some aside when it gets scarce and none is lent, and none when there is
    /// plenty.
    pub fn look(&self) {
        let loans = self.loans.lock();
        if *loans > 0 {
            return;
        }
        let Ok(space) = self.disk.space() else { return };
        let size = self.most.min(space.total / ONE_IN);
        let scarce = space.available < size.saturating_mul(PLENTY);
        let held = self.held.load(Relaxed);
        if scarce && !held {
            self.take(size);
        } else if !scarce && (held || self.is_low()) {
            let given = self.disk.set_reserve(0);
            self.held.store(given.is_err(), Relaxed);
            self.low.store(false, Relaxed);
        }
    }

    fn take(&self, size: u64) {
        match self.disk.set_reserve(size) {
            Ok(()) => {
                self.held.store(true, Relaxed);
                self.low.store(false, Relaxed);
            }
            Err(e) => {
                self.keep_last();
                if !self.low.swap(true, Relaxed) {
                    tracing::warn!("the disk is nearly full, only what frees room is taken: {e}");
                }
            }
        }
    }

    /// Gives the reserve up, and lends it; `None` if it was given up before, and nobody has it now.
    pub fn lend(&self) -> Option<Loan<'_>> {
        let mut loans = self.loans.lock();
        self.low.store(true, Relaxed);
        if self.held.swap(false, Relaxed) {
            tracing::warn!("the disk is full: the room that was kept aside is used to give room back");
            if !self.keep_last() {
                return None;
            }
        } else if *loans == 0 {
            return None;
        }
        *loans += 1;
        Some(Loan(self))
    }

    /// Keeps only what an open needs; false if not even that is to be had.
    fn keep_last(&self) -> bool {
        let size = self.disk.space().map_or(0, |space| self.most.min(space.total / ONE_IN));
        let last = LAST.min(size / LAST_ONE_IN);
        self.disk.set_reserve(last).or_else(|_| self.disk.set_reserve(0)).is_ok()
    }
}

impl Shared {
    /// Does `work` which gives room back; if the disk is full, once more with what room there is to give.
    pub(crate) fn with_reserve<R>(&self, mut work: impl FnMut() -> Result<R>) -> Result<R> {
        match work() {
            Err(e) if e.is_full() => match self.make_room() {
                Some(_loan) => work(),
                None => Err(e),
            },
            done => done,
        }
    }

    /// Gives back what room there is to give on a full disk; a loan if room that was kept aside is free now.
    pub(crate) fn make_room(&self) -> Option<Loan<'_>> {
        self.log.delete_spares(false);
        let loan = self.reserve.lend();
        // What waits for one more commit is room, too. It is no harm if there is none for the commit.
        let _ = self.reclaim();
        loan
    }

    /// Refuses a write that frees no room while there is none to spare.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(crate) fn admit(&self, volume: &Volume) -> Result<()> {
        if !self.reserve.is_low() {
            return Ok(());
        }
        self.reserve.look();
        if !self.reserve.is_low() {
            return Ok(());
        }
        self.give_room_back(volume);
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        Err(Error::from(DiskError::new("write", "the log", full)))
    }

    /// A write was refused: what was deleted is flushed and compacted soon.
    pub(crate) fn give_room_back(&self, volume: &Volume) {
        self.reserve.wanted.store(true, Relaxed);
        if volume.tree().memtable.frees_room() {
            self.freeze(self.by_id(volume.id()).as_slice());
        }
        // Files that wait for one more commit are room already. That commit may be what there is no room for.
        let _ = self.with_reserve(|| self.reclaim());
        self.flush_signal.raise();
        self.compaction_signal.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    const CAPACITY: u64 = 32 << 20;

    #[test]
    fn what_is_lent_is_taken_back_when_the_work_has_ended() {
        let disk = Arc::new(SimDisk::new(1));
        disk.set_capacity(CAPACITY);
        let options = fitted(Options::default(), &*disk);
        let reserve = Reserve::new(disk.clone(), &options);
        let available = || disk.space().unwrap().available;
        reserve.look();
        let kept = CAPACITY - available();
        assert!(kept > CAPACITY / 10 && !reserve.is_low(), "{kept} bytes are kept");

        let first = reserve.lend().unwrap();
        // It has been given up already, and there is somebody to use it.
        let second = reserve.lend().unwrap();
        for loan in [first, second] {
            reserve.look();
            assert!(
                reserve.is_low() && CAPACITY - available() <= kept / LAST_ONE_IN,
                "the room was taken back"
            );
            drop(loan);
        }
        assert!(reserve.lend().is_none(), "there is nothing to lend");
        reserve.look();
        assert!(!reserve.is_low());
        assert_eq!(CAPACITY - available(), kept);
    }
}
