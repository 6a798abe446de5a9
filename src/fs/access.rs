//! Times of last access.
//!
//! Only reads that arrive here can move them: what the kernel has cached it reads without a word. A mount
//! moves none unless it is asked to (`relatime`, `strictatime`), for it makes reads into writes.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp};
use crate::fs::change::Change;
use crate::fs::control;
use crate::fs::entry::Record;
use crate::fs::node::Outcome;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A day: with [`AccessTimes::Relative`], a time of access that is older moves.
const STALE_SECS: i64 = 24 * 60 * 60;

/// Which reads move the time of last access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessTimes {
    /// None.
    #[default]
    Kept,
    /// The first one after a change, and one a day.
    Relative,
    /// Each.
    Strict,
}

/// An [`AccessTimes`] that may change.
#[derive(Debug)]
pub(super) struct AtomicAccessTimes(AtomicU8);

impl AtomicAccessTimes {
    pub fn new(which: AccessTimes) -> AtomicAccessTimes {
        AtomicAccessTimes(AtomicU8::new(which as u8))
    }

    pub fn load(&self) -> AccessTimes {
        match self.0.load(Relaxed) {
            0 => AccessTimes::Kept,
            1 => AccessTimes::Relative,
            _ => AccessTimes::Strict,
        }
    }

    pub fn store(&self, which: AccessTimes) {
        self.0.store(which as u8, Relaxed);
    }
}

impl AccessTimes {
    fn moves(self, record: &Record, now: Timestamp) -> bool {
        match self {
            AccessTimes::Kept => false,
            AccessTimes::Strict => true,
            AccessTimes::Relative => {
                record.atime <= record.mtime
                    || record.atime <= record.ctime
                    || now.secs.saturating_sub(record.atime.secs) >= STALE_SECS
            }
        }
    }
}

impl FileSystem {
    /// Notes that a file was read. The reader has its answer already: should this fail, nothing is lost but
    /// the time. The caller holds no lock.
    pub(super) fn note_access(&self, ino: Ino) {
        if self.access_times() == AccessTimes::Kept || control::is_control(ino) {
            return;
        }
        if let Err(e) = self.try_note_access(ino) {
            tracing::debug!("time of access of inode {ino}: {e}");
        }
    }

    fn try_note_access(&self, ino: Ino) -> Outcome<()> {
        self.check_writable()?;
        let now = Timestamp::now();
        let record = {
            let _inode = self.locks.inodes.shared(ino);
            self.load_record(ino)?
        };
        if !self.access_times().moves(&record, now) {
            return Ok(());
        }
        self.admit(0)?;
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load_to_change(ino)?;
        node.record.atime = now;
        let mut change = Change::new(self);
        change.save(&mut node);
        change.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::attr::{Caller, FileKind};

    #[test]
    fn a_time_of_access_moves_after_a_change_and_once_a_day() {
        let at = |secs| Timestamp { secs, nanos: 5 };
        let mut record = Record::new(FileKind::File, 2, 0o644, Caller::new(0, 0), at(1000));
        let moves = |record: &Record, now| AccessTimes::Relative.moves(record, at(now));
        assert!(moves(&record, 1000), "not read since the last change");
        record.atime = at(1001);
        assert!(!moves(&record, 1002) && !moves(&record, 1000 + STALE_SECS));
        assert!(moves(&record, 1001 + STALE_SECS));
        record.ctime = at(1001);
        assert!(moves(&record, 1002));
        assert!(AccessTimes::Strict.moves(&record, at(0)) && !AccessTimes::Kept.moves(&record, at(1 << 40)));
    }
}
