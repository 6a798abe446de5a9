//! The directory of all volumes, at the top of a mount that shows them: what it is to those who look at it.
//!
//! It has no record in the store: its owner is the store's, its times are those of this mount.

use crate::fs::attr::{Attr, Caller, FileKind, ROOT, Timestamp};
use crate::fs::error::Cause;
use parking_lot::Mutex;

/// The directory. Its lock is a leaf.
#[derive(Debug)]
pub(super) struct Top {
    owner: Caller,
    changed: Mutex<Timestamp>,
}

impl Top {
    pub fn new(owner: Caller) -> Top {
        Top { owner, changed: Mutex::new(Timestamp::now()) }
    }

    pub fn attr(&self) -> Attr {
        let changed = *self.changed.lock();
        Attr {
            ino: ROOT,
            kind: FileKind::Directory,
            mode: 0o755,
            uid: self.owner.uid,
            gid: self.owner.gid,
            // As btrfs has it, and others that do not count: programs then look for themselves.
            nlink: 1,
            size: 0,
            blocks: 0,
            rdev: 0,
            atime: changed,
            mtime: changed,
            ctime: changed,
        }
    }

    /// A volume came, went, or has another name.
    pub fn note_change(&self) {
        *self.changed.lock() = Timestamp::now();
    }
}

/// What else is asked of the directory.
pub(super) fn refused() -> Cause {
    Cause::NotPermitted("here are volumes: mkdir makes one, rmdir deletes an empty one")
}
