//! Preparing: the file of a segment that is not a recycled one gets its blocks ahead of its records.
//!
//! A store that was made of late has nothing to recycle, and each sync in a file that grows has the file system
//! below commit its journal, with all that others have put there ([`super::recycle`] has figures). So a sync
//! that finds the records at the end of the file's blocks has zeros written behind them first: the syncs of
//! the next [`AHEAD`] bytes of records then write data and nothing else.
//!
//! Zeros are no record: who reads the segment sees it end there. They are written under the appender's lock,
//! from its end on, so never over a record.

use super::{Log, Tail};

/// So much is prepared at once: more would hold the appenders up for longer than a sync takes.
const AHEAD: u64 = 256 << 10;

static ZEROS: [u8; AHEAD as usize] = [0; AHEAD as usize];

impl Log {
    /// Called before a sync. Does nothing where the disk has little room left.
    pub(super) fn prepare(&self) {
        let mut tail = self.tail.lock();
        let Tail { file: Some(file), prepared: Some(prepared), len, .. } = &*tail else { return };
        if len < prepared || *len >= self.segment_size || self.read_only.check().is_err() || !self.has_room()
        {
            return;
        }
        let end = (len + AHEAD).min(self.segment_size);
        let written = file.write_at(*len, &ZEROS[..(end - len) as usize]);
        if let Err(e) = &written {
            // A record that meets the same trouble is refused with it.
            tracing::warn!("a log segment could not be prepared: {e}");
        }
        tail.prepared = written.is_ok().then_some(end);
    }
}
