//! Changing attributes.

use crate::fs::FileSystem;
use crate::fs::attr::{Attr, Caller, Ino, MODE_BITS, SetAttr, Timestamp, without_setid};
use crate::fs::change::Change;
use crate::fs::error::{Context, Result, Subject};
use crate::fs::node::{Node, Outcome, check_file};

impl FileSystem {
    /// Changes attributes, the size among them, and returns the new ones.
    pub fn setattr(&self, ino: Ino, set: &SetAttr, caller: Caller) -> Result<Attr> {
        self.try_setattr(ino, set, caller).context("setattr", || Subject::Inode(ino))
    }

    fn try_setattr(&self, ino: Ino, set: &SetAttr, caller: Caller) -> Outcome<Attr> {
        self.admit(0)?;
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load_to_change(ino)?;
        // The kernel lets everybody "change" to the same owner; it should not take a program's setuid.
        let owns = caller.keeps_setid() || caller.uid == node.record.uid;
        if *set == SetAttr::default() && !owns {
            return Ok(Attr::from(&node.record));
        }
        let now = Timestamp::now();
        let mut change = Change::new(self);
        if let Some(size) = set.size {
            check_file(&node.record)?;
            self.resize(&mut change, &mut node, size, now)?;
        }
        if set.size.is_some() || sets_owner(set) {
            self.drop_capabilities(&mut change, &mut node)?;
        }
        apply(&mut node, set, caller, now);
        if set.mode.is_some() {
            self.acl_follows_mode(&mut change, &mut node)?;
        }
        change.save(&mut node);
        change.commit()?;
        Ok(Attr::from(&node.record))
    }
}

/// Is it a change of owner? One to the same owner comes without any attribute, and nothing else does.
fn sets_owner(set: &SetAttr) -> bool {
    set.uid.is_some() || set.gid.is_some() || *set == SetAttr::default()
}

/// Applies all but the size.
fn apply(node: &mut Node, set: &SetAttr, caller: Caller, now: Timestamp) {
    let is_dir = node.is_dir();
    let record = &mut node.record;
    if !is_dir && (sets_owner(set) || (set.size.is_some() && !caller.keeps_setid())) {
        record.mode = without_setid(record.mode);
    }
    record.uid = set.uid.unwrap_or(record.uid);
    record.gid = set.gid.unwrap_or(record.gid);
    if let Some(mode) = set.mode {
        record.mode = mode & MODE_BITS;
    }
    if let Some(atime) = set.atime {
        record.atime = atime.resolve(now);
    }
    if let Some(mtime) = set.mtime {
        record.mtime = mtime.resolve(now);
    }
    record.ctime = set.ctime.unwrap_or(now);
}
