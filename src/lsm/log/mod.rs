//! The write-ahead log: numbered segments (`NNNNNN.log`) that all volumes of a store share.
//!
//! [`record`] has the bytes, [`reader`] the rules for a torn tail, this file the writer.
//!
//! # Invariants
//! - Log order is sequence order; positions grow and never have a gap between segments.
//! - Each open of a store starts a new segment (created at the first write). A segment that is
//!   full, or whose session ended, is never appended to.
//! - A file that nothing needs any more becomes a later segment ([`recycle`]), so behind a segment's
//!   end there may be records of earlier segments. The number in each header tells them: a session
//!   recycles what it filled itself, no other file, and hands out each number once.
//! - What is durable, a later record says (each states the position that was synced before it), or
//!   the manifest. If none follows for a while, a *witness* does: a record without a payload. It is not
//!   synced itself, the system gets around to it. Until then a bit that flips in the last synced
//!   records makes them look torn, and nobody can tell.
//! - A sync makes every segment before the current one, and the directory, durable before it
//!   answers: a record is durable only if all before it are.
//! - A failed write leaves no bytes behind in the log's prefix: its place is cut off again. If
//!   that fails too, or the failure is not a full disk, or a sync fails, the store is read-only
//!   ([`ReadOnly`]). What was written before can still be synced; but a failed sync is never tried
//!   again: every later one answers its error.
//!
//! # Locks
//! `tail` is held by the one appender, over the write's system call. `segments` protects the list
//! of live segments, never over I/O. `sync_turn` lets one sync run at a time; those who waited for
//! it mostly find their work done. Order: `tail` → `sync_turn` → `segments`; the spare files' lock is a
//! leaf.

mod prepare;
pub mod reader;
pub mod record;
mod recycle;

use self::record::{Framing, HEADER_LEN, Header, RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use self::recycle::Spares;
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

/// A live segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// The log position of its first byte.
    pub base: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The largest sequence number in it (0: none yet).
    pub last_seq: SeqNo,
    /// Open while not all of it is durable, or it is still being written.
    file: Option<Arc<dyn LogFile>>,
}

impl Segment {
    /// A segment of an earlier session, whole and durable.
    pub fn sealed(number: u64, base: u64, len: u64, last_seq: SeqNo) -> Segment {
        Segment { number, base, len, last_seq, file: None }
    }
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

    /// Starts a segment if there is none or the current one is full.
    fn ensure_segment(&self, tail: &mut Tail) -> Result<()> {
        if tail.file.is_some() {
            if tail.len < self.segment_size {
                return Ok(());
            }
            tail.file = None;
            tail.number += 1;
            tail.base += tail.len;
            tail.len = 0;
        }
        let name = file_name(tail.number);
        let (file, recycled) = self.segment_file(&name)?;
        let header = SegmentHeader { file: tail.number, base: tail.base }.encode(&self.framing);
        if let Err(e) = file.write_at(0, &header) {
            // The number can be used again only if the file is gone.
            return Err(match self.disk.delete(&name) {
                Ok(()) => e.into(),
                Err(_) => self.read_only.set(e.into()),
            });
        }
        tail.file = Some(file.clone());
        tail.len = SEGMENT_HEADER_LEN as u64;
        tail.prepared = (self.spares.are_kept() && !recycled).then_some(tail.len);
        self.segments.lock().push_back(Segment {
            number: tail.number,
            base: tail.base,
            len: tail.len,
            last_seq: 0,
            file: Some(file),
        });
        Ok(())
    }

    /// Makes every record whose append returned before this call durable.
    pub fn sync(&self) -> Result<()> {
        let target = self.written.load(Ordering::Acquire);
        if self.synced.load(Ordering::Acquire) >= target {
            return self.check_synced();
        }
        self.prepare();
        let _turn = self.sync_turn.lock();
        self.check_synced()?;
        if self.synced.load(Ordering::Acquire) >= target {
            return Ok(());
        }
        // What was written while this sync waited for its turn is covered as well.
        let target = self.written.load(Ordering::Acquire);
        self.sync_segments().map_err(|e| self.sync_failed(e))?;
        self.synced.fetch_max(target, Ordering::AcqRel);
        Ok(())
    }

    /// Syncs what the records point to, every segment that has an open file, oldest first, and the directory
    /// that names it.
    fn sync_segments(&self) -> Result<()> {
        if let Some(blobs) = &self.blobs {
            blobs.sync()?;
        }
        let unsynced: Vec<(u64, Arc<dyn LogFile>)> = self
            .segments
            .lock()
            .iter()
            .filter_map(|segment| Some((segment.number, segment.file.clone()?)))
            .collect();
        let Some(&(last, _)) = unsynced.last() else { return Ok(()) };
        for (_, file) in &unsynced {
            file.sync()?;
        }
        if self.named_up_to.load(Ordering::Acquire) < last {
            self.disk.sync_dir()?;
            self.named_up_to.store(last, Ordering::Release);
        }
        // Older segments than the current one are never written again: done with.
        for segment in self.segments.lock().iter_mut().filter(|s| s.number < last) {
            segment.file = None;
        }
        Ok(())
    }

    /// The position up to which records are durable.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// The bytes of the live segments.
    pub fn live_len(&self) -> u64 {
        self.written.load(Ordering::Acquire).saturating_sub(self.start.load(Ordering::Acquire))
    }

    /// The largest sequence number in the segments that are full and before the last `kept` bytes of the log;
    /// `None` if there are none.
    pub fn last_seq_before_the_last(&self, kept: u64) -> Option<SeqNo> {
        let segments = self.segments.lock();
        let end = segments.back().map(|last| last.base + last.len)?.saturating_sub(kept);
        let full = segments.iter().take(segments.len() - 1);
        // The one that `end` lies in, too: what is kept is at most so much.
        full.take_while(|segment| segment.base < end).map(|segment| segment.last_seq).max()
    }

    /// The live segments, oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        self.segments.lock().iter().cloned().collect()
    }

    /// Ends the current segment, so that [`Log::oldest_needed`] may pass it. Call at close, when
    /// nobody appends any more.
    pub fn end_segment(&self) {
        let mut tail = self.tail.lock();
        if tail.file.take().is_some() {
            tail.number += 1;
            tail.base += tail.len;
            tail.len = 0;
        }
    }

    /// The number and base of the segment that the next record goes to, or a later one.
    pub fn current(&self) -> (u64, u64) {
        let tail = self.tail.lock();
        (tail.number, tail.base)
    }

    /// The number and base of the oldest segment, up to `current`, that is needed to replay the writes
    /// from `first_needed` on (`None`: no write is needed any more).
    pub fn oldest_needed(&self, current: (u64, u64), first_needed: Option<SeqNo>) -> (u64, u64) {
        let segments = self.segments.lock();
        let needed =
            |s: &&Segment| s.number >= current.0 || first_needed.is_some_and(|seq| s.last_seq >= seq);
        segments.iter().find(needed).map_or(current, |s| (s.number, s.base))
    }

    /// Forgets the segments below `number` and returns them: their files may be recycled or deleted.
    pub fn retire_below(&self, number: u64) -> Vec<u64> {
        let mut segments = self.segments.lock();
        let keep = segments.iter().position(|s| s.number >= number).unwrap_or(segments.len());
        let retired: Vec<Segment> = segments.drain(..keep).collect();
        let start = segments.front().map_or(self.written.load(Ordering::Acquire), |first| first.base);
        self.start.store(start, Ordering::Release);
        drop(segments);
        self.spares.retired(&retired);
        retired.into_iter().map(|s| s.number).collect()
    }

    fn sync_failed(&self, error: Error) -> Error {
        let _ = self.failed_sync.set(error.clone());
        self.read_only.set(error)
    }

    /// The error of an earlier sync.
    fn check_synced(&self) -> Result<()> {
        self.failed_sync.get().map_or(Ok(()), |e| Err(Error::ReadOnly(Arc::new(e.clone()))))
    }
}

#[cfg(test)]
mod tests;
