//! The write path: from a batch to the log, the memtable and the readers.
//!
//! # A commit, step by step
//! 1. The batch was encoded as it was built; its bytes are the log record. If the volume's
//!    memtables hold too much, the writer waits here, before it has taken anything (`stall.rs`).
//!    Large values go to a blob file here, and the record keeps pointers to them ([`crate::lsm::blob`]).
//! 2. It takes its place in the order of all writes,
//! 3. its record goes to the log, with those of others that write meanwhile,
//! 4. each writer inserts its own batch into its memtable, concurrently with the others,
//! 5. and it is published: `write` returns only when the batch and all before it are visible.
//!
//! Steps 2, 3 and 5 are the group commit's ([`crate::lsm::commit`]), 1 and 4 are here.
//!
//! No lock is held from one step to the next.

use crate::lsm::blob::writer::Appended;
use crate::lsm::log::record::HEADER_LEN;
use crate::lsm::memtable::Memtable;
use crate::lsm::volume::Volume;
use crate::lsm::{Batch, Error, Result, SeqNo};
use std::time::Instant;

/// Step 4. The bytes that the batch takes.
fn insert(memtable: &Memtable, first_seq: SeqNo, record: Vec<u8>) -> usize {
    let inserted = memtable.insert_batch(first_seq, record, HEADER_LEN);
    inserted.expect("a batch encodes its own writes").size
}

impl Volume {
    /// Writes a batch: in the operating system's hands (it survives the process) and visible when
    /// this returns; durable after [`crate::lsm::Store::sync`].
    /// Returns the sequence number of its last write (for an empty batch, of the last visible one).
    ///
    /// # Errors
    /// Nothing of the batch was written. [`Error::TooLarge`], [`Error::BadPatch`], [`Error::Closed`], [`Error::ReadOnly`]
    /// after an earlier failure of the disk, [`Error::OverQuota`], [`Error::Disk`] (a full disk: try again when there is room).
    pub fn write(&self, batch: Batch) -> Result<SeqNo> {
        let started = self.shared().metrics.write_started();
        if !batch.is_empty() {
            batch.check()?;
            let wait = || self.wait_for_room(batch.encoded_len());
            if batch.is_freeing() { self.shared().with_reserve(wait)? } else { wait()? }
        }
        self.commit(batch, started)
    }

    /// As [`Volume::write`], by somebody whom [`Volume::wait_for_room`] has let in: does not wait for room.
    /// For writers that hold locks. The memtables pass their limit by what such writers have under way.
    pub fn write_admitted(&self, batch: Batch) -> Result<SeqNo> {
        self.commit(batch, self.shared().metrics.write_started())
    }

    fn commit(&self, batch: Batch, started: Option<Instant>) -> Result<SeqNo> {
        if batch.is_empty() {
            return Ok(self.visible_seq());
        }
        if let Some(staged) = self.staged() {
            return staged.write(self, batch);
        }
        if !batch.is_freeing() {
            self.shared().admit(self)?;
            let written = self.try_commit(batch, started);
            match &written {
                Ok(_) => self.shared().reserve.took_write(),
                Err(e) if e.is_full() => self.shared().give_room_back(self),
                Err(_) => {}
            }
            return written;
        }
        self.shared().with_reserve(|| self.try_commit(batch.clone(), started))
    }

    fn try_commit(&self, batch: Batch, started: Option<Instant>) -> Result<SeqNo> {
        let shared = self.shared();
        let frees_room = batch.is_freeing();
        let (count, data_len) = (batch.len(), batch.data_len());
        batch.check()?;
        self.check_open()?;
        if self.is_snapshot() {
            return Err(Error::IsSnapshot(self.name()));
        }
        shared.read_only.check()?;
        let (deleted, tally) = (batch.deleted(), batch.tally());
        // Again when the batch has its place. What is refused here writes no large values.
        self.admits(tally)?;
        let keys = self.watchers.keys_of(&batch);
        let (batch, blob) = self.separate(batch)?;
        let committed = batch.into_record(self.id()).and_then(|record| {
            shared.commits.commit(&shared.log, self, record, count, tally, |memtable, first_seq, record| {
                memtable.note_deleted(deleted);
                if frees_room {
                    memtable.note_frees_room();
                }
                if let Some(Appended { blob, bytes, .. }) = &blob {
                    memtable.refer(blob.clone(), *bytes);
                }
                insert(memtable, first_seq, record)
            })
        });
        if committed.is_err()
            && let Some(appended) = blob
        {
            self.take_back(appended);
        }
        let (seq, size) = committed?;
        self.watchers.note(seq, keys);
        shared.syncs.note_write(shared.options.sync_interval);
        shared.note_memtable_bytes(size);
        self.try_freeze_if_full();
        shared.metrics.wrote(count, data_len, started);
        Ok(seq)
    }

    /// Gives back the room of large values whose record was refused. Not when the store is read-only: what
    /// made it so may have left the record in the log, for the next open to find.
    fn take_back(&self, appended: Appended) {
        if self.shared().read_only.check().is_ok() {
            self.shared().blob_writer.take_back(appended);
        }
    }

    /// Appends a batch's large values to a blob file, if it has any.
    fn separate(&self, batch: Batch) -> Result<(Batch, Option<Appended>)> {
        let shared = self.shared();
        if !shared.options.separates(batch.longest_tail()) {
            return Ok((batch, None));
        }
        let mut held = None;
        let batch = batch.separate(shared.options.blob_min, |tails| {
            let new_number = || shared.manifest.lock().next_file_number();
            let (pointers, appended) = shared.blob_writer.append(tails, new_number)?;
            held = Some(appended);
            Ok(pointers)
        })?;
        Ok((batch, held))
    }
}
