//! Names: giving a file another one.
//!
//! A file starts with its record in its entry. Its second name moves the record to the file's own key
//! (`i inode`); from then on all its entries are links that point there, even if names are taken away
//! until one is left.

use crate::fs::FileSystem;
use crate::fs::attr::{Attr, Ino, Timestamp};
use crate::fs::change::Change;
use crate::fs::control::check_changeable;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::inode::Facts;
use crate::fs::node::{Home, Outcome};

impl FileSystem {
    /// Gives a file that is not a directory another name; counts a reference to it.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        self.try_link(ino, parent, name).context("link", || Subject::name(parent, name))
    }

    fn try_link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Outcome<Attr> {
        self.admit(0)?;
        check_changeable(parent, name)?;
        let _names = self.locks.names.exclusive(parent);
        let _inodes = self.locks.inodes.exclusive_all([parent, ino]);
        let mut node = self.load(ino)?;
        if node.is_dir() {
            return Err(Cause::NotPermitted("a directory has one name only"));
        }
        let mut dir = self.load_parent(parent)?;
        if self.find_record(parent, name)?.is_some() {
            return Err(Cause::Exists);
        }
        let now = Timestamp::now();
        let mut change = Change::new(self);
        match node.home.clone() {
            Home::Entry(first) => {
                change.put_link(first.parent, &first.name, &node.record);
                node.move_to(Home::Shared);
            }
            Home::Shared => {}
            // The last name is gone for good, however long the file stays open.
            Home::Orphan => return Err(Cause::NotFound),
        }
        node.record.nlink = node.record.nlink.checked_add(1).ok_or(Cause::TooManyLinks)?;
        node.record.ctime = now;
        change.put_name(parent, name, &mut node);
        dir.modified(now);
        change.save(&mut dir);
        change.commit()?;
        let attr = Attr::from(&node.record);
        let facts = Facts { directory: false, bare: !node.record.has_xattrs };
        self.settle(node);
        self.inodes.reference(ino, parent, name, || facts);
        Ok(attr)
    }
}
