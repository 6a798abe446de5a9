//! Directories, renames and versions by their paths.

use super::path::{OnPath, TreePath};
use super::{DIR_MODE, Held, Tree};
use crate::fs::node::Outcome;
use crate::fs::{Cause, FileKind, RenameMode, Result};
use crate::lsm::SeqNo;

impl Tree<'_> {
    /// Makes a directory, and those above it that are missing.
    pub fn make_dir(&self, path: &TreePath) -> Result<()> {
        let Some((parents, name)) = path.split_last() else {
            return Err(path.error("mkdir", Cause::Exists));
        };
        let parent = self.make_dirs(&parents).on("mkdir", path)?;
        let made = self.fs.mkdir(parent.attr.ino, name, DIR_MODE, self.caller).on("mkdir", path)?;
        self.fs.forget(made.ino, 1);
        self.fs.tell_name(parent.attr.ino, name);
        self.fs.wait_until_told();
        Ok(())
    }

    /// Gives a file or directory another name, in place of what has it.
    pub fn rename(&self, from: &TreePath, to: &TreePath) -> Result<()> {
        let root = |path: &TreePath| path.error("rename", Cause::Invalid("the root can't be renamed"));
        let (old_dir, old) = from.split_last().ok_or_else(|| root(from))?;
        let (new_dir, new) = to.split_last().ok_or_else(|| root(to))?;
        let old_dir = self.hold("rename", &old_dir).on("rename", from)?;
        let new_dir = self.hold("rename", &new_dir).on("rename", to)?;
        if new_dir.attr.kind != FileKind::Directory {
            return Err(to.error("rename", Cause::NotDirectory));
        }
        let moved = self.child(&old_dir, old).on("rename", from)?;
        let replaced = self.child(&new_dir, new).on("rename", to)?;
        let (old_dir, new_dir) = (old_dir.attr.ino, new_dir.attr.ino);
        self.fs.rename(old_dir, old, new_dir, new, RenameMode::Replace).on("rename", from)?;
        self.fs.tell_name(old_dir, old);
        self.fs.tell_name(new_dir, new);
        moved.iter().chain(&replaced).for_each(|held| self.fs.tell_inode(held.attr.ino));
        self.fs.wait_until_told();
        Ok(())
    }

    /// The deepest directory on the way to a path that exists, and the names that are missing below it.
    pub(in crate::fs) fn deepest(&self, path: &TreePath) -> Result<(Held<'_>, Vec<Box<[u8]>>)> {
        let mut held = self.hold("look up", &TreePath::default())?;
        for (at, name) in path.names.iter().enumerate() {
            match self.child(&held, name).on("look up", path)? {
                Some(next) => held = next,
                None => return Ok((held, path.names[at..].to_vec())),
            }
        }
        match held.attr.kind {
            FileKind::Directory => Ok((held, Vec::new())),
            _ => Err(path.error("look up", Cause::NotDirectory)),
        }
    }

    /// The version of a path ([`crate::fs::batch`]); `None` if nothing has it.
    pub fn version(&self, path: &TreePath) -> Result<Option<SeqNo>> {
        let Some((parents, name)) = path.split_last() else {
            return self.of_name(0, b"").map_err(|cause| path.error("look up", cause));
        };
        let parent = match self.hold("look up", &parents) {
            Err(error) if matches!(error.cause, Cause::NotFound | Cause::NotDirectory) => return Ok(None),
            held => held.on("look up", path)?,
        };
        self.of_name(parent.attr.ino, name).map_err(|cause| path.error("look up", cause))
    }

    fn of_name(&self, dir: u64, name: &[u8]) -> Outcome<Option<SeqNo>> {
        let _names = self.fs.locks.names.shared(dir);
        self.fs.version(dir, name)
    }
}
