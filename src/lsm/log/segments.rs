//! The log's segments: how one is started, which are live, and when one is needed no more.
//!
//! # Invariants
//! - Positions grow and never have a gap between segments.
//! - Each open of a store starts a new segment (created at the first write). A segment that is
//!   full, or whose session ended, is never appended to.
//! - A file that nothing needs any more becomes a later segment ([`super::recycle`]), so behind a segment's
//!   end there may be records of earlier segments. The number in each header tells them: a session
//!   recycles what it filled itself, no other file, and hands out each number once.
//!
//! # Locks
//! `segments` protects the list of live segments, never over I/O. A segment is started under `tail`.

use super::record::{SEGMENT_HEADER_LEN, SegmentHeader};
use super::{Log, Tail, file_name};
use crate::disk::LogFile;
use crate::lsm::{Result, SeqNo};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    pub(super) file: Option<Arc<dyn LogFile>>,
}

impl Segment {
    /// A segment of an earlier session, whole and durable.
    pub fn sealed(number: u64, base: u64, len: u64, last_seq: SeqNo) -> Segment {
        Segment { number, base, len, last_seq, file: None }
    }
}

impl Log {
    /// Starts a segment if there is none or the current one is full.
    pub(super) fn ensure_segment(&self, tail: &mut Tail) -> Result<()> {
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
}
