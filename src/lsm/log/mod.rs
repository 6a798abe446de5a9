//! The write-ahead log: numbered segments (`NNNNNN.log`) that all volumes of a store share.
//!
//! [`record`] has the bytes, [`reader`] the rules for a torn tail, [`segments`] how the log gets its segments and
//! is rid of them, [`sync`] what makes it durable, this file the writer.
//!
//! # Invariants
//! - Log order is sequence order.
//! - What is durable, a later record says (each states the position that was synced before it), or
//!   the manifest. If none follows for a while, a *witness* does: a record without a payload. It is not
//!   synced itself, the system gets around to it. Until then a bit that flips in the last synced
//!   records makes them look torn, and nobody can tell.
//! - A failed write leaves no bytes behind in the log's prefix: its place is cut off again. If
//!   that fails too, or the failure is not a full disk, the store is read-only ([`ReadOnly`]). What was
//!   written before can still be synced.
//!
//! # Locks
//! `tail` is held by the one appender, over the write's system call. Order: `tail` → `sync_turn` ([`sync`]) →
//! `segments` ([`segments`]); the spare files' lock is a leaf.

mod prepare;
pub mod reader;
pub mod record;
mod recycle;
mod segments;
mod sync;

use self::record::{Framing, HEADER_LEN, Header, RecordKind};
use self::recycle::Spares;
pub use self::segments::Segment;
use crate::disk::{Disk, LogFile};
use crate::lsm::blob::BlobWriter;
use crate::lsm::readonly::ReadOnly;
use crate::lsm::{Error, Options, Result, SeqNo, names};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The framing of a store's log segments.
pub fn framing(store: u64) -> Framing {
    Framing { magic: b"lsmfslog", store }
}

/// The file name of segment `number`.
pub fn file_name(number: u64) -> String {
    format!("{number:06}.log")
}

/// The number of the log segment named `name`, if it is one.
pub fn parse_file_name(name: &str) -> Option<u64> {
    names::parse(name, "", ".log")
}

/// A record on its way into the log: room for the header, then the payload.
#[derive(Debug)]
pub struct PendingRecord {
    /// What the payload is.
    pub kind: RecordKind,
    /// [`HEADER_LEN`] bytes of room and the payload.
    pub bytes: Vec<u8>,
    /// The sequence number of its first write.
    pub first_seq: SeqNo,
    /// The sequence number of its last write.
    pub last_seq: SeqNo,
}

#[derive(Debug)]
struct Tail {
    file: Option<Arc<dyn LogFile>>,
    /// The current segment's number, or the next one's while there is none.
    number: u64,
    /// The current segment's base and length.
    base: u64,
    len: u64,
    /// The end of what was written of its file; none if that is not to be extended ahead of the records.
    prepared: Option<u64>,
    /// The position after the last record that holds something.
    data_end: u64,
    /// The highest synced position that a record states.
    stated: u64,
    /// Records of a group, end to end. Kept for its room.
    group: Vec<u8>,
}

/// More room than this is not kept for groups.
const GROUP_ROOM_KEPT: usize = 8 << 20;

/// Where a log goes on.
#[derive(Debug, Default)]
pub struct Resume {
    /// What there is of it, all of it durable.
    pub segments: Vec<Segment>,
    /// The number of the next segment.
    pub next_number: u64,
    /// The position of its first byte.
    pub position: u64,
}

/// The log's writer.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    framing: Framing,
    segment_size: u64,
    tail: Mutex<Tail>,
    segments: Mutex<VecDeque<Segment>>,
    spares: Spares,
    sync_turn: Mutex<()>,
    /// The position of the oldest live segment.
    start: AtomicU64,
    /// The position up to which records were handed to the operating system.
    written: AtomicU64,
    /// The position up to which they are durable.
    synced: AtomicU64,
    /// The newest segment whose directory entry is durable.
    named_up_to: AtomicU64,
    read_only: ReadOnly,
    /// Blob files, which are synced before the records that point to them.
    blobs: Option<Arc<BlobWriter>>,
    /// The sync that failed.
    failed_sync: OnceLock<Error>,
}

impl Log {
    /// The log of the store of this id, which goes on at `resume`.
    pub fn new(
        disk: Arc<dyn Disk>,
        store: u64,
        options: &Options,
        resume: Resume,
        read_only: ReadOnly,
    ) -> Log {
        let Resume { segments, next_number, position } = resume;
        let segment_size = options.log_segment_size;
        let start = segments.first().map_or(position, |first| first.base);
        Log {
            disk,
            framing: framing(store),
            segment_size,
            tail: Mutex::new(Tail {
                file: None,
                number: next_number,
                base: position,
                len: 0,
                prepared: None,
                data_end: position,
                stated: position,
                group: Vec::new(),
            }),
            segments: Mutex::new(segments.into()),
            spares: Spares::new(next_number, segment_size, options.spare_log_segments),
            sync_turn: Mutex::new(()),
            start: AtomicU64::new(start),
            written: AtomicU64::new(position),
            synced: AtomicU64::new(position),
            named_up_to: AtomicU64::new(0),
            read_only,
            blobs: None,
            failed_sync: OnceLock::new(),
        }
    }

    /// The log, each sync of which syncs these blob files first.
    pub(crate) fn after(self, blobs: Arc<BlobWriter>) -> Log {
        Log { blobs: Some(blobs), ..self }
    }

    /// Hands records to the operating system, in order, with one system call.
    ///
    /// # Errors
    /// None of the records is in the log then.
    pub fn append(&self, records: &mut [PendingRecord]) -> Result<()> {
        let Some(last_seq) = records.last().map(|r| r.last_seq) else { return Ok(()) };
        let mut tail = self.tail.lock();
        self.read_only.check()?;
        self.ensure_segment(&mut tail)?;
        let synced = self.synced.load(Ordering::Acquire);
        for record in records.iter_mut() {
            let header = Header {
                kind: record.kind,
                payload_len: (record.bytes.len() - HEADER_LEN) as u32,
                file: tail.number,
                first_seq: record.first_seq,
                synced,
            };
            header.fill(&self.framing, &mut record.bytes);
        }
        if let [one] = records {
            self.write(&mut tail, &one.bytes, last_seq)?;
        } else {
            let mut group = std::mem::take(&mut tail.group);
            records.iter().for_each(|record| group.extend_from_slice(&record.bytes));
            let written = self.write(&mut tail, &group, last_seq);
            group.clear();
            group.shrink_to(GROUP_ROOM_KEPT);
            tail.group = group;
            written?;
        }
        tail.data_end = tail.base + tail.len;
        tail.stated = synced;
        Ok(())
    }

    /// Writes a witness, if all is synced and no record says so yet.
    pub fn witness(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        self.read_only.check()?;
        let synced = self.synced.load(Ordering::Acquire);
        if synced < tail.data_end || tail.stated >= tail.data_end {
            return Ok(());
        }
        self.ensure_segment(&mut tail)?;
        let header =
            Header { kind: RecordKind::Skip, payload_len: 0, file: tail.number, first_seq: 0, synced };
        let mut record = [0; HEADER_LEN];
        header.fill(&self.framing, &mut record);
        self.write(&mut tail, &record, 0)?;
        tail.stated = synced;
        Ok(())
    }

    /// Writes whole records at the end of the current segment.
    fn write(&self, tail: &mut Tail, bytes: &[u8], last_seq: SeqNo) -> Result<()> {
        let Some(file) = &tail.file else { unreachable!("ensure_segment made one") };
        if let Err(e) = file.write_at(tail.len, bytes) {
            let error = self.undo(file.as_ref(), tail.len, e.into());
            tail.prepared = None;
            return Err(error);
        }
        tail.len += bytes.len() as u64;
        if let Some(segment) = self.segments.lock().back_mut() {
            segment.len = tail.len;
            segment.last_seq = segment.last_seq.max(last_seq);
        }
        self.written.store(tail.base + tail.len, Ordering::Release);
        Ok(())
    }

    /// Cuts a failed group off again, durably: else a power cut could bring it back in place of the
    /// group that is written there next. Room may come back; any other failure is one too many.
    fn undo(&self, file: &dyn LogFile, len: u64, error: Error) -> Error {
        // The system tells of a failure once: one sync at a time, or the other one takes it for its own.
        let _turn = self.sync_turn.lock();
        let cut = file.truncate(len).map_err(Error::from);
        match cut.and_then(|()| file.sync().map_err(|e| self.sync_failed(e.into()))) {
            Ok(()) if error.is_full() => {
                self.delete_spares(false);
                error
            }
            _ => self.read_only.set(error),
        }
    }
}

#[cfg(test)]
mod tests;
