//! Names: moving one.
//!
//! A rename moves one entry, whatever lies below it. Locks: if the parents differ the rename lock (what is
//! moved may be a directory), then the name locks of both parents, then the inode locks of both parents,
//! of what is moved and of what is replaced.

use crate::fs::FileSystem;
use crate::fs::attr::{Ino, ROOT, Timestamp};
use crate::fs::change::Change;
use crate::fs::control::check_changeable;
use crate::fs::entry::decode_parent;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::{Node, Outcome};

/// The most directories walked up to the root: a bound on the loop, far past what paths can name.
const DEPTH_MAX: usize = 1 << 20;

/// What a rename does where the new name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenameMode {
    /// It replaces what has the name.
    #[default]
    Replace,
    /// It fails.
    NoReplace,
    /// The two change places; both names must exist.
    Exchange,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name<'a> {
    dir: Ino,
    name: &'a [u8],
}

impl FileSystem {
    /// Moves a file or directory to another name. Returns the directories whose `..` is another one now.
    pub fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<Vec<Ino>> {
        let (from, to) = (Name { dir: parent, name }, Name { dir: new_parent, name: new_name });
        self.try_rename(from, to, mode).context("rename", || Subject::name(parent, name))
    }

    fn try_rename(&self, from: Name<'_>, to: Name<'_>, mode: RenameMode) -> Outcome<Vec<Ino>> {
        self.admit(0)?;
        check_changeable(from.dir, from.name)?;
        check_changeable(to.dir, to.name)?;
        let _rename = (from.dir != to.dir).then(|| self.locks.rename());
        let _names = self.locks.names.exclusive_all([from.dir, to.dir]);
        let seen_source = self.glimpse(from.dir, from.name)?;
        let seen_target = self.glimpse(to.dir, to.name)?;
        let source = seen_source.node.as_ref().ok_or(Cause::NotFound)?.ino();
        let target = seen_target.node.as_ref().map(Node::ino);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Cause::Exists),
            (RenameMode::Exchange, None) => return Err(Cause::NotFound),
            (_, Some(target)) if target == source => return Ok(Vec::new()),
            _ => {}
        }
        let inodes = [from.dir, to.dir, source, target.unwrap_or(source)];
        let _inodes = self.locks.inodes.exclusive_all(inodes);
        let source = self.confirm(seen_source)?.ok_or(Cause::NotFound)?;
        let target = self.confirm(seen_target)?;
        self.check_ancestors(from, to, &source, target.as_ref(), mode)?;
        let came = target.iter().filter(|_| mode == RenameMode::Exchange).chain([&source]);
        let moved = came.filter(|node| from.dir != to.dir && node.is_dir()).map(Node::ino).collect();
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => self.exchange(from, to, source, target)?,
            (_, target) => self.move_over(from, to, source, target)?,
        }
        Ok(moved)
    }

    /// Moves `source`, in place of `target` if there is one.
    fn move_over(
        &self,
        from: Name<'_>,
        to: Name<'_>,
        mut source: Node,
        mut target: Option<Node>,
    ) -> Outcome<()> {
        let mut change = Change::new(self);
        if let Some(target) = &target {
            self.check_replace(&mut change, &source, target)?;
        }
        let now = Timestamp::now();
        let mut parents = Parents::load(self, from.dir, to.dir)?;
        change.remove_name(from.dir, from.name, &source);
        // Before the new name is placed, which may be in the range that is swept.
        self.sweep(&mut change, from.dir, from.name);
        self.place(&mut change, &mut source, to, now);
        if source.is_dir() {
            parents.from().remove_subdirectory();
            parents.to().add_subdirectory()?;
        }
        if let Some(target) = &mut target {
            if target.is_dir() {
                parents.to().remove_subdirectory();
            }
            change.remove_link(to.dir, to.name, target);
            change.drop_link(target, now);
        }
        parents.save(&mut change, now);
        change.commit()?;
        self.settle(source);
        target.into_iter().for_each(|target| self.settle(target));
        Ok(())
    }

    /// Swaps two names.
    fn exchange(&self, from: Name<'_>, to: Name<'_>, mut source: Node, mut target: Node) -> Outcome<()> {
        let now = Timestamp::now();
        let mut parents = Parents::load(self, from.dir, to.dir)?;
        let mut change = Change::new(self);
        change.remove_link(from.dir, from.name, &source);
        change.remove_link(to.dir, to.name, &target);
        self.place(&mut change, &mut source, to, now);
        self.place(&mut change, &mut target, from, now);
        match (source.is_dir(), target.is_dir()) {
            (true, false) => {
                parents.from().remove_subdirectory();
                parents.to().add_subdirectory()?;
            }
            (false, true) => {
                parents.to().remove_subdirectory();
                parents.from().add_subdirectory()?;
            }
            _ => {}
        }
        parents.save(&mut change, now);
        change.commit()?;
        self.settle(source);
        self.settle(target);
        Ok(())
    }

    /// Writes a node under another name.
    fn place(&self, change: &mut Change<'_>, node: &mut Node, at: Name<'_>, now: Timestamp) {
        node.record.ctime = now;
        change.put_name(at.dir, at.name, node);
        if node.is_dir() {
            change.set_parent(node.ino(), at.dir, at.name);
        }
    }

    /// A file replaces a file, a directory an empty directory.
    fn check_replace(&self, change: &mut Change<'_>, source: &Node, target: &Node) -> Outcome<()> {
        match (source.is_dir(), target.is_dir()) {
            (false, false) => Ok(()),
            (false, true) => Err(Cause::IsDirectory),
            (true, false) => Err(Cause::NotDirectory),
            (true, true) => self.check_empty(change, target.ino()),
        }
    }

    /// Refuses to move a directory below itself. The caller holds the rename lock if the parents differ.
    fn check_ancestors(
        &self,
        from: Name<'_>,
        to: Name<'_>,
        source: &Node,
        target: Option<&Node>,
        mode: RenameMode,
    ) -> Outcome<()> {
        if from.dir == to.dir {
            return Ok(());
        }
        let below_itself = Cause::Invalid("a directory cannot be moved below itself");
        if source.is_dir() && self.is_within(to.dir, source.ino())? {
            return Err(below_itself);
        }
        match target {
            Some(target) if target.is_dir() && self.is_within(from.dir, target.ino())? => match mode {
                RenameMode::Exchange => Err(below_itself),
                // It holds what is to replace it.
                _ => Err(Cause::NotEmpty),
            },
            _ => Ok(()),
        }
    }

    /// Is `dir` the directory `ancestor`, or below it?
    fn is_within(&self, mut dir: Ino, ancestor: Ino) -> Outcome<bool> {
        for _ in 0..DEPTH_MAX {
            if dir == ancestor {
                return Ok(true);
            }
            if dir == ROOT {
                return Ok(false);
            }
            let key = keys::parent(dir);
            // Without a record the directory was removed; nothing can be moved into it.
            let head = self.volume.get_head(&key)?.ok_or(Cause::NotFound)?;
            dir = decode_parent(&head).map_err(|what| Cause::bad_record(&key, what))?.parent;
        }
        Err(Cause::Invalid("directories nested too deeply"))
    }
}

/// The directories of the old and of the new name, which may be one.
struct Parents {
    from: Node,
    to: Option<Node>,
}

impl Parents {
    fn load(fs: &FileSystem, from: Ino, to: Ino) -> Outcome<Parents> {
        let other = (from != to).then(|| fs.load_parent(to)).transpose()?;
        Ok(Parents { from: fs.load_parent(from)?, to: other })
    }

    fn from(&mut self) -> &mut Node {
        &mut self.from
    }

    fn to(&mut self) -> &mut Node {
        self.to.as_mut().unwrap_or(&mut self.from)
    }

    fn save(mut self, change: &mut Change<'_>, now: Timestamp) {
        self.from.modified(now);
        change.save(&mut self.from);
        if let Some(mut to) = self.to {
            to.modified(now);
            change.save(&mut to);
        }
    }
}
