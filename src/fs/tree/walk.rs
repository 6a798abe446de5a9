//! Files in hand, listings in pieces, and the walk through all that lies below a directory.

use super::path::{OnPath, TreePath};
use crate::fs::{Attr, DirHandle, FileKind, FileSystem, Ino, Result};
use std::collections::VecDeque;

/// Names that are taken from a directory at once.
const NAMES_AT_ONCE: usize = 256;

/// A file that is referenced while this lives.
#[derive(Debug)]
pub(in crate::fs) struct Held<'a> {
    pub fs: &'a FileSystem,
    pub attr: Attr,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.fs.forget(self.attr.ino, 1);
    }
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Child {
    pub name: Box<[u8]>,
    pub attr: Attr,
}

/// A directory that is being listed, without `.` and `..`.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    dir: Held<'a>,
    handle: DirHandle,
    cookie: u64,
    ahead: VecDeque<Child>,
}

impl<'a> Listing<'a> {
    pub fn open(dir: Held<'a>) -> Result<Listing<'a>> {
        let handle = dir.fs.opendir(dir.attr.ino)?;
        Ok(Listing { dir, handle, cookie: 0, ahead: VecDeque::new() })
    }

    /// The next name, in byte order.
    pub fn next(&mut self) -> Result<Option<Child>> {
        if self.ahead.is_empty() {
            self.look_ahead()?;
        }
        Ok(self.ahead.pop_front())
    }

    fn look_ahead(&mut self) -> Result<()> {
        let Listing { dir, handle, cookie, ahead } = self;
        dir.fs.readdir(handle, *cookie, &mut |entry| {
            if ahead.len() == NAMES_AT_ONCE {
                return true;
            }
            *cookie = entry.cookie;
            if let (Some(attr), false) = (entry.attr, matches!(entry.name, b"." | b"..")) {
                ahead.push_back(Child { name: entry.name.into(), attr });
            }
            false
        })
    }
}

/// What a walk comes to.
#[derive(Debug)]
pub(in crate::fs) enum Step {
    /// A file or a directory; the walk's path is its path.
    Entry(Attr),
    /// The end of a directory that was entered, of this inode; the walk's path is its path.
    Left(Ino),
}

/// A walk in the order of paths. It goes below a directory only where it is told to.
#[derive(Debug)]
pub(in crate::fs) struct Walk<'a> {
    /// The path of the last step.
    pub path: TreePath,
    /// From the directory where the walk started to the one it is in.
    levels: Vec<Listing<'a>>,
    /// Is the path's last name that of an entry, not of the directory that the walk is in?
    at_entry: bool,
}

impl<'a> Walk<'a> {
    /// Starts in a directory; `path` is its path.
    pub fn start(dir: Held<'a>, path: TreePath) -> Result<Walk<'a>> {
        let first = Listing::open(dir).on("list", &path)?;
        Ok(Walk { path, levels: vec![first], at_entry: false })
    }

    /// Goes on to the next step.
    pub fn next(&mut self) -> Result<Option<Step>> {
        if std::mem::take(&mut self.at_entry) {
            self.path.names.pop();
        }
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        if let Some(child) = level.next().on("list", &self.path)? {
            self.path.names.push(child.name);
            self.at_entry = true;
            return Ok(Some(Step::Entry(child.attr)));
        }
        let left = self.levels.pop();
        self.at_entry = true;
        Ok(left.filter(|_| !self.levels.is_empty()).map(|left| Step::Left(left.dir.attr.ino)))
    }

    /// Goes below the directory that the walk has just come to.
    pub fn enter(&mut self) -> Result<()> {
        if let Some(dir) = self.hold()?.filter(|held| held.attr.kind == FileKind::Directory) {
            self.levels.push(Listing::open(dir).on("list", &self.path)?);
            self.at_entry = false;
        }
        Ok(())
    }

    /// The entry that the walk has just come to; `None` if it is gone.
    pub fn hold(&self) -> Result<Option<Held<'a>>> {
        let Some((level, name)) = self.levels.last().zip(self.path.names.last()) else { return Ok(None) };
        let fs = level.dir.fs;
        let found = fs.lookup(level.dir.attr.ino, name).on("look up", &self.path)?;
        Ok(found.map(|attr| Held { fs, attr }))
    }

    /// The directory and the name of the entry that the walk has just come to, or left.
    pub fn entry(&self) -> Option<(Ino, &[u8])> {
        let (level, name) = self.levels.last().zip(self.path.names.last())?;
        Some((level.dir.attr.ino, name))
    }
}
