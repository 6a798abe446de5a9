//! Names: taking one away.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp};
use crate::fs::change::Change;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::{Node, Outcome, check_name};
use std::ops::Bound;

impl FileSystem {
    /// Removes a file's name. The file lives on while it is referenced.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let removed = self.remove(parent, name, |node| match node.is_dir() {
            true => Err(Cause::IsDirectory),
            false => Ok(()),
        });
        removed.context("unlink", || Subject::name(parent, name))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let removed = self.remove(parent, name, |node| match node.is_dir() {
            true => self.check_empty(node.ino()),
            false => Err(Cause::NotDirectory),
        });
        removed.context("rmdir", || Subject::name(parent, name))
    }

    /// Removes a name if `check` allows it.
    fn remove(&self, parent: Ino, name: &[u8], check: impl Fn(&Node) -> Outcome<()>) -> Outcome<()> {
        self.check_writable()?;
        check_name(name)?;
        let _names = self.locks.names.exclusive(parent);
        let ino = self.find_record(parent, name)?.ok_or(Cause::NotFound)?.ino;
        let _inodes = self.locks.inodes.exclusive_all([parent, ino]);
        // Again, under the inode's lock: it may have been written to.
        let mut node = self.find(parent, name)?.ok_or(Cause::NotFound)?;
        check(&node)?;
        let mut dir = self.load_parent(parent)?;

        let now = Timestamp::now();
        let mut change = Change::new(self);
        change.remove(parent, name);
        dir.modified(now);
        if node.is_dir() {
            dir.remove_subdirectory();
        }
        change.save(&dir);
        change.unname(&mut node, now);
        change.commit()?;
        self.bury(node);
        Ok(())
    }

    /// Refuses a directory that has entries. The caller holds the directory's inode lock exclusively,
    /// which whoever adds an entry needs too.
    pub(super) fn check_empty(&self, dir: Ino) -> Outcome<()> {
        let (from, to) = keys::entries(dir);
        let mut scan = self.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        if scan.next()? { Err(Cause::NotEmpty) } else { Ok(()) }
    }
}

impl Change<'_> {
    /// Adds what else is written when a file loses its last name. After the commit the node is to be
    /// [buried](FileSystem::bury).
    pub(super) fn unname(&mut self, node: &mut Node, now: Timestamp) {
        node.location = None;
        node.record.nlink = 0;
        node.record.ctime = now;
        if node.is_dir() {
            self.remove_parent(node.ino());
        }
        if node.record.chunks > 0 {
            self.orphan_chunks(node.ino());
        }
    }
}
