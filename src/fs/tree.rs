//! Files by their paths: what commands do.
//!
//! [`FileSystem`] speaks of inode numbers and single names, as the kernel does. Here a path is taken
//! apart, each directory on the way is looked up and its reference given back, and whole files are read,
//! written, removed, listed and scanned. Contents pass through in pieces, however large they are.
//! Symbolic links are not followed: where they lead is a mount's business.
//!
//! The store may be mounted: each change is told to the mounts ([`crate::fs::news`]), and when a call that changes
//! something returns they show it.
//!
//! Callbacks fail with an error type of their own, which takes a file system's error too.

mod names;
mod path;
mod unfinished;
mod walk;

pub use path::TreePath;

use crate::fs::entry::INLINE_MAX;
use crate::fs::{Attr, Caller, Cause, Error, FileKind, FileSystem, Ino, ROOT, Result, Subject};
use bytes::Bytes;
use path::OnPath;
use std::result::Result as StdResult;
use unfinished::Unfinished;
use walk::Listing;
pub(in crate::fs) use walk::{Held, Step, Walk};

/// The mode of files that are made.
const FILE_MODE: u32 = 0o644;
/// The mode of directories that are made.
const DIR_MODE: u32 = 0o755;
/// Bytes that are read or written at once.
const PIECE_BYTES: usize = 256 << 10;

/// Files by their paths.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    fs: &'a FileSystem,
    /// Who owns what is made.
    caller: Caller,
}

impl<'a> Tree<'a> {
    /// The files of `fs`; what is made belongs to the process's user.
    pub fn new(fs: &'a FileSystem) -> Tree<'a> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Tree { fs, caller: Caller::new(uid.as_raw(), gid.as_raw()) }
    }

    /// The same files; what is made belongs to `caller`.
    pub fn on_behalf_of(self, caller: Caller) -> Tree<'a> {
        Tree { caller, ..self }
    }

    /// The attributes of a file.
    pub fn stat(&self, path: &TreePath) -> Result<Attr> {
        Ok(self.hold("stat", path)?.attr)
    }

    /// The target of a symbolic link.
    pub fn readlink(&self, path: &TreePath) -> Result<Bytes> {
        let held = self.hold("read the link", path)?;
        self.fs.readlink(held.attr.ino).on("read the link", path)
    }

    /// The number of regular files, of directories (without the root), and of other files.
    pub fn count(&self) -> Result<(u64, u64, u64)> {
        let root = TreePath::default();
        let mut walk = Walk::start(self.hold("count", &root)?, root)?;
        let (mut files, mut directories, mut others) = (0, 0, 0);
        while let Some(step) = walk.next()? {
            let Step::Entry(attr) = step else { continue };
            match attr.kind {
                FileKind::File => files += 1,
                FileKind::Directory => {
                    directories += 1;
                    walk.enter()?;
                }
                _ => others += 1,
            }
        }
        Ok((files, directories, others))
    }

    /// Hands the contents of a regular file to `sink`, in pieces.
    pub fn read<E: From<Error>>(
        &self,
        path: &TreePath,
        sink: impl FnMut(&[u8]) -> StdResult<(), E>,
    ) -> StdResult<(), E> {
        Found { path, held: self.hold_regular(path)? }.read(sink)
    }

    /// Does a regular file hold just these contents? Reads no more than it takes to tell.
    pub(in crate::fs) fn holds(&self, path: &TreePath, contents: &[u8]) -> Result<bool> {
        let held = self.hold_regular(path)?;
        if held.attr.size != contents.len() as u64 {
            return Ok(false);
        }
        let mut offset = 0;
        for expected in contents.chunks(PIECE_BYTES) {
            if self.fs.read(held.attr.ino, offset, expected.len()).on("read", path)? != expected {
                return Ok(false);
            }
            offset += expected.len() as u64;
        }
        Ok(true)
    }

    /// Writes a regular file with what `source` puts into the buffer that it is given, until it puts
    /// nothing; makes missing directories. The file is replaced when all of it is written: until then,
    /// and after a failure, it is what it was.
    pub fn write<E: From<Error>>(
        &self,
        path: &TreePath,
        mut source: impl FnMut(&mut [u8]) -> StdResult<usize, E>,
    ) -> StdResult<(), E> {
        let Some((parents, name)) = path.split_last() else {
            return Err(path.error("write", Cause::Invalid("the root is a directory")).into());
        };
        let parent = self.make_dirs(&parents).on("write", path)?;
        let mut old = self.regular_child(&parent, name).on("write", path)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut len = 0;
        let mut ended = false;
        // Enough to know whether it is a small value.
        while len <= INLINE_MAX && !ended {
            let more = source(&mut piece[len..])?;
            (len, ended) = (len + more, more == 0);
        }
        if ended && old.is_none() {
            let (dir, start) = (parent.attr.ino, &piece[..len]);
            match self.fs.create_whole(dir, name, FILE_MODE, start, self.caller) {
                // Somebody else was first: it is replaced.
                Err(Error { cause: Cause::Exists, .. }) => {
                    old = self.regular_child(&parent, name).on("write", path)?;
                }
                made => {
                    drop(Held { fs: self.fs, attr: made.on("write", path)? });
                    self.fs.tell_name(dir, name);
                    self.fs.wait_until_told();
                    return Ok(());
                }
            }
        }
        let new = Unfinished::create(self, parent.attr.ino, old.is_some()).on("write", path)?;
        let mut offset = 0;
        while len > 0 {
            new.write(offset, &piece[..len]).on("write", path)?;
            offset += len as u64;
            len = if ended { 0 } else { source(&mut piece)? };
        }
        let finished = new.finish(name, old.as_ref().map(|old| &old.attr)).on("write", path);
        self.fs.wait_until_told();
        Ok(finished?)
    }

    /// Removes a file, or with `recursive` a directory and all below it.
    pub fn remove(&self, path: &TreePath, recursive: bool) -> Result<()> {
        let Some((parents, name)) = path.split_last() else {
            return Err(path.error("remove", Cause::Invalid("the root can't be removed")));
        };
        let parent = self.hold("remove", &parents).on("remove", path)?;
        let found = self.child(&parent, name).on("remove", path)?;
        let held = found.ok_or_else(|| path.error("remove", Cause::NotFound))?;
        let removed = match held.attr.kind {
            FileKind::Directory if !recursive => Err(path.error("remove", Cause::IsDirectory)),
            FileKind::Directory => {
                let dir = held.attr.ino;
                self.empty(held, path)
                    .and_then(|()| self.rmdir(parent.attr.ino, name, dir).on("remove", path))
            }
            _ => self.unlink(parent.attr.ino, name, held.attr.ino).on("remove", path),
        };
        self.fs.wait_until_told();
        removed
    }

    /// Removes a file's name, and says so.
    fn unlink(&self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.fs.unlink(dir, name)?;
        self.fs.tell_name(dir, name);
        // It may have other names, or be open.
        self.fs.tell_inode(ino);
        Ok(())
    }

    /// Removes an empty directory, and says so.
    fn rmdir(&self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.fs.rmdir(dir, name)?;
        self.fs.tell_name(dir, name);
        self.fs.tell_inode(ino);
        Ok(())
    }

    /// Removes all that lies below a directory.
    fn empty(&self, dir: Held<'a>, path: &TreePath) -> Result<()> {
        let mut walk = Walk::start(dir, path.clone())?;
        while let Some(step) = walk.next()? {
            let Some((dir, name)) = walk.entry() else { break };
            match step {
                Step::Entry(attr) if attr.kind == FileKind::Directory => walk.enter()?,
                Step::Entry(attr) => {
                    unless_gone(self.unlink(dir, name, attr.ino)).on("remove", &walk.path)?
                }
                Step::Left(ino) => unless_gone(self.rmdir(dir, name, ino)).on("remove", &walk.path)?,
            }
        }
        Ok(())
    }

    /// Hands the names and attributes in a directory to `each`, in byte order.
    pub fn list<E: From<Error>>(
        &self,
        path: &TreePath,
        mut each: impl FnMut(&[u8], &Attr) -> StdResult<(), E>,
    ) -> StdResult<(), E> {
        let mut listing = Listing::open(self.hold("list", path)?).on("list", path)?;
        while let Some(child) = listing.next().on("list", path)? {
            each(&child.name, &child.attr)?;
        }
        Ok(())
    }

    /// Hands the regular files from path `from` to path `to` to `each`, in the order of paths; both are
    /// included, `to` with all below it. `None` is no bound.
    pub fn scan<E: From<Error>>(
        &self,
        from: Option<&TreePath>,
        to: Option<&TreePath>,
        mut each: impl FnMut(&Found<'_>) -> StdResult<(), E>,
    ) -> StdResult<(), E> {
        let root = TreePath::default();
        let mut walk = Walk::start(self.hold("scan", &root)?, root)?;
        while let Some(step) = walk.next()? {
            let Step::Entry(attr) = step else { continue };
            if to.is_some_and(|to| walk.path > *to && !walk.path.is_within(to)) {
                break;
            }
            let too_early = from.is_some_and(|from| walk.path < *from);
            let leads_there = from.is_some_and(|from| from.is_within(&walk.path));
            match attr.kind {
                FileKind::Directory if !too_early || leads_there => walk.enter()?,
                FileKind::File if !too_early => {
                    if let Some(held) = walk.hold()? {
                        each(&Found { path: &walk.path, held })?;
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Looks a path up.
    pub(in crate::fs) fn hold(&self, op: &'static str, path: &TreePath) -> Result<Held<'a>> {
        let mut held = self.root().on(op, path)?;
        for name in &path.names {
            let next = self.child(&held, name).on(op, path)?;
            held = next.ok_or_else(|| path.error(op, Cause::NotFound))?;
        }
        Ok(held)
    }

    /// Looks a path up whose contents are to be read.
    fn hold_regular(&self, path: &TreePath) -> Result<Held<'a>> {
        let held = self.hold("read", path)?;
        check_regular(&held.attr).on("read", path)?;
        Ok(held)
    }

    /// Looks directories up, and makes those that are missing.
    fn make_dirs(&self, path: &TreePath) -> Result<Held<'a>> {
        let mut held = self.root()?;
        for name in &path.names {
            held = match self.child(&held, name)? {
                Some(next) => next,
                None => match self.fs.mkdir(held.attr.ino, name, DIR_MODE, self.caller) {
                    Ok(attr) => {
                        self.fs.tell_name(held.attr.ino, name);
                        Held { fs: self.fs, attr }
                    }
                    // Somebody else was first.
                    Err(e) if matches!(e.cause, Cause::Exists) => self.child(&held, name)?.ok_or(e)?,
                    Err(e) => return Err(e),
                },
            };
        }
        Ok(held)
    }

    /// The root is always referenced: to give its reference back changes nothing.
    fn root(&self) -> Result<Held<'a>> {
        Ok(Held { fs: self.fs, attr: self.fs.getattr(ROOT)? })
    }

    fn child(&self, dir: &Held<'a>, name: &[u8]) -> Result<Option<Held<'a>>> {
        if dir.attr.kind != FileKind::Directory {
            return Err(Cause::NotDirectory.of("lookup", Subject::Inode(dir.attr.ino)));
        }
        let found = self.fs.lookup(dir.attr.ino, name)?;
        Ok(found.map(|attr| Held { fs: self.fs, attr }))
    }

    /// As [`Tree::child`], of a name that is to be a regular file's.
    fn regular_child(&self, dir: &Held<'a>, name: &[u8]) -> Result<Option<Held<'a>>> {
        let found = self.child(dir, name)?;
        found.as_ref().map_or(Ok(()), |found| check_regular(&found.attr))?;
        Ok(found)
    }
}

/// What somebody else has removed meanwhile is removed.
fn unless_gone(removed: Result<()>) -> Result<()> {
    match removed {
        Err(Error { cause: Cause::NotFound, .. }) => Ok(()),
        removed => removed,
    }
}

fn check_regular(attr: &Attr) -> Result<()> {
    let cause = match attr.kind {
        FileKind::File => return Ok(()),
        FileKind::Directory => Cause::IsDirectory,
        FileKind::Symlink => Cause::Invalid("is a symbolic link"),
        _ => Cause::Invalid("not a regular file"),
    };
    Err(cause.of("open", Subject::Inode(attr.ino)))
}

/// A regular file that was found.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its path.
    pub path: &'a TreePath,
    held: Held<'a>,
}

impl Found<'_> {
    /// Hands its contents to `sink`, in pieces.
    pub fn read<E: From<Error>>(&self, mut sink: impl FnMut(&[u8]) -> StdResult<(), E>) -> StdResult<(), E> {
        let mut offset = 0;
        loop {
            let piece = self.held.fs.read(self.held.attr.ino, offset, PIECE_BYTES).on("read", self.path)?;
            if piece.is_empty() {
                return Ok(());
            }
            sink(&piece)?;
            offset += piece.len() as u64;
        }
    }
}
