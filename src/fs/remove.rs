//! Names: taking one away.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, Timestamp};
use crate::fs::change::Change;
use crate::fs::control::check_changeable;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::{Home, Node, Outcome};
use std::ops::Bound;

/// Deleted entries that make it worth to delete their whole range once more.
const LONG_WALK: u64 = 1000;

impl FileSystem {
    /// Removes a file's name. The file lives on while it is referenced.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let removed = self.remove(parent, name, |_, node| match node.is_dir() {
            true => Err(Cause::IsDirectory),
            false => Ok(()),
        });
        removed.context("unlink", || Subject::name(parent, name))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let removed = self.remove(parent, name, |change, node| match node.is_dir() {
            true => self.check_empty(change, node.ino()),
            false => Err(Cause::NotDirectory),
        });
        removed.context("rmdir", || Subject::name(parent, name))
    }

    /// Removes a name if `check` allows it.
    fn remove(
        &self,
        parent: Ino,
        name: &[u8],
        check: impl Fn(&mut Change<'_>, &Node) -> Outcome<()>,
    ) -> Outcome<()> {
        self.admit(0)?;
        check_changeable(parent, name)?;
        let _names = self.locks.names.exclusive(parent);
        let seen = self.glimpse(parent, name)?;
        let ino = seen.node.as_ref().ok_or(Cause::NotFound)?.ino();
        let _inodes = self.locks.inodes.exclusive_all([parent, ino]);
        let mut node = self.confirm(seen)?.ok_or(Cause::NotFound)?;
        let mut change = Change::new(self);
        change.batch.frees_room();
        check(&mut change, &node)?;
        let mut dir = self.load_parent(parent)?;

        let now = Timestamp::now();
        change.remove_name(parent, name, &node);
        dir.modified(now);
        if node.is_dir() {
            dir.remove_subdirectory();
        }
        change.save(&mut dir);
        change.drop_link(&mut node, now);
        self.sweep(&mut change, parent, name);
        change.commit()?;
        self.settle(node);
        Ok(())
    }

    /// Refuses a directory that has entries. The caller holds the directory's inode lock exclusively,
    /// which whoever adds an entry needs too. Where much was deleted, one range tombstone for all of it goes
    /// into the change that removes the directory: what was a long walk is a step for whoever comes after.
    pub(super) fn check_empty(&self, change: &mut Change<'_>, dir: Ino) -> Outcome<()> {
        let (from, to) = keys::entries(dir);
        let mut scan = self.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        if scan.next()? {
            return Err(Cause::NotEmpty);
        }
        if scan.records_passed() > LONG_WALK {
            change.batch.delete_range(&from, &to);
        }
        Ok(())
    }
}

impl Change<'_> {
    /// Adds what else is written when a file loses a name. After the commit the node is to be
    /// [settled](FileSystem::settle).
    pub(super) fn drop_link(&mut self, node: &mut Node, now: Timestamp) {
        node.record.ctime = now;
        node.record.nlink = if node.is_dir() { 0 } else { node.record.nlink.saturating_sub(1) };
        if node.record.nlink > 0 {
            return self.save(node);
        }
        if node.is_dir() {
            self.remove_parent(node.ino());
        }
        if node.home == Home::Shared {
            self.remove_shared(node.ino());
        }
        node.home = Home::Orphan;
        self.count(node);
        if node.record.has_more() {
            self.put_orphan(&node.record);
        }
    }
}
