//! Names: looking one up, and making one.

use crate::fs::FileSystem;
use crate::fs::attr::{Attr, Caller, FileKind, Ino, MODE_BITS, SETGID, SYMLINK_MAX, Timestamp};
use crate::fs::change::Change;
use crate::fs::control;
use crate::fs::entry::{INLINE_MAX, Record};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::inline::Inline;
use crate::fs::inode::{Facts, Location};
use crate::fs::node::{Home, Node, Outcome, check_name};
use crate::lsm::Tally;
use bytes::Bytes;

/// What is to be made.
struct New<'a> {
    kind: FileKind,
    mode: u32,
    rdev: u32,
    /// A symbolic link's target, or what a file starts with.
    contents: &'a [u8],
}

impl FileSystem {
    /// The file of a name, if there is one; counts a reference to it.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Attr>> {
        self.try_lookup(parent, name).context("lookup", || Subject::name(parent, name))
    }

    fn try_lookup(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Attr>> {
        check_name(name)?;
        if control::holds(parent, name) {
            return self.lookup_control(parent, name);
        }
        let _names = self.locks.names.shared(parent);
        let seq = self.volume.visible_seq();
        let Some(record) = self.find_record(parent, name)? else { return Ok(None) };
        self.inodes.reference(record.ino, parent, name, || self.facts(&record, parent, seq));
        Ok(Some(Attr::from(&record)))
    }

    /// Makes a regular file; counts a reference to it.
    pub fn create(&self, parent: Ino, name: &[u8], mode: u32, caller: Caller) -> Result<Attr> {
        let new = New { kind: FileKind::File, mode, rdev: 0, contents: b"" };
        self.make(parent, name, new, caller).context("create", || Subject::name(parent, name))
    }

    /// Makes a regular file with contents, at most [`INLINE_MAX`] bytes: nobody ever sees it without them.
    /// Counts a reference to it.
    pub fn create_whole(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        contents: &[u8],
        caller: Caller,
    ) -> Result<Attr> {
        let made = match contents.len() {
            0..=INLINE_MAX => {
                self.make(parent, name, New { kind: FileKind::File, mode, rdev: 0, contents }, caller)
            }
            _ => Err(Cause::FileTooLarge),
        };
        made.context("create", || Subject::name(parent, name))
    }

    /// Makes a regular file, a fifo, a socket or a device; counts a reference to it.
    pub fn mknod(
        &self,
        parent: Ino,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        rdev: u32,
        caller: Caller,
    ) -> Result<Attr> {
        let made = match kind {
            FileKind::Directory | FileKind::Symlink => Err(Cause::Invalid("not a kind that mknod makes")),
            FileKind::CharDevice | FileKind::BlockDevice => {
                self.make(parent, name, New { kind, mode, rdev, contents: b"" }, caller)
            }
            _ => self.make(parent, name, New { kind, mode, rdev: 0, contents: b"" }, caller),
        };
        made.context("mknod", || Subject::name(parent, name))
    }

    /// Makes a directory; counts a reference to it.
    pub fn mkdir(&self, parent: Ino, name: &[u8], mode: u32, caller: Caller) -> Result<Attr> {
        let new = New { kind: FileKind::Directory, mode, rdev: 0, contents: b"" };
        self.make(parent, name, new, caller).context("mkdir", || Subject::name(parent, name))
    }

    /// Makes a symbolic link; counts a reference to it.
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> Result<Attr> {
        let made = match target.len() {
            0 => Err(Cause::NotFound),
            1..=SYMLINK_MAX => {
                let new = New { kind: FileKind::Symlink, mode: 0o777, rdev: 0, contents: target };
                self.make(parent, name, new, caller)
            }
            _ => Err(Cause::NameTooLong),
        };
        made.context("symlink", || Subject::name(parent, name))
    }

    /// The target of a symbolic link.
    pub fn readlink(&self, ino: Ino) -> Result<Bytes> {
        let inode = self.locks.inodes.shared(ino);
        let target = self.load(ino).and_then(|node| match node.record.kind {
            FileKind::Symlink => self.inline(&node),
            _ => Err(Cause::Invalid("not a symbolic link")),
        });
        drop(inode);
        let target = target.context("readlink", || Subject::Inode(ino))?;
        self.note_access(ino);
        Ok(target)
    }

    fn make(&self, parent: Ino, name: &[u8], new: New<'_>, caller: Caller) -> Outcome<Attr> {
        self.admit(new.contents.len())?;
        control::check_changeable(parent, name)?;
        let _names = self.locks.names.exclusive(parent);
        // Nobody else can reach the new inode before this returns, so it needs no lock.
        let _inode = self.locks.inodes.exclusive(parent);
        let mut dir = self.load_parent(parent)?;
        if self.find_record(parent, name)?.is_some() {
            return Err(Cause::Exists);
        }
        let now = Timestamp::now();
        let mut change = Change::new(self);
        let mut node = self.new_node(&dir, &new, Location::new(parent, name), caller, now)?;
        if new.kind != FileKind::Symlink {
            self.inherit_acl(&mut change, &dir, &mut node, caller.umask)?;
        }
        change.create(parent, name, &node.record, new.contents);
        dir.modified(now);
        if node.is_dir() {
            dir.add_subdirectory()?;
            change.set_parent(node.ino(), parent, name);
        }
        change.save(&mut dir);
        change.commit()?;
        let facts = Facts { directory: node.is_dir(), bare: !node.record.has_xattrs };
        self.inodes.reference(node.ino(), parent, name, || facts);
        Ok(Attr::from(&node.record))
    }

    /// A new file. In a setgid directory it gets the directory's group, and a directory the bit as well.
    fn new_node(
        &self,
        dir: &Node,
        new: &New<'_>,
        at: Location,
        caller: Caller,
        now: Timestamp,
    ) -> Outcome<Node> {
        let mut mode = new.mode & MODE_BITS;
        let mut owner = caller;
        if dir.record.mode & SETGID != 0 {
            owner.gid = dir.record.gid;
            if new.kind == FileKind::Directory {
                mode |= SETGID;
            }
        }
        let mut record = Record::new(new.kind, self.numbers.take(dir.ino())?, mode, owner, now);
        record.rdev = new.rdev;
        record.size = new.contents.len() as u64;
        record.inline_len = new.contents.len() as u16;
        let inline = Inline::Whole(Bytes::copy_from_slice(new.contents));
        Ok(Node { home: Home::Entry(at), record, inline, counted: Tally::default() })
    }
}

impl Record {
    /// The record of an empty new file.
    pub(super) fn new(kind: FileKind, ino: Ino, mode: u32, owner: Caller, now: Timestamp) -> Record {
        Record {
            kind,
            mode,
            has_xattrs: false,
            inline_len: 0,
            ino,
            uid: owner.uid,
            gid: owner.gid,
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            rdev: 0,
            size: 0,
            pages: 0,
            atime: now,
            mtime: now,
            ctime: now,
        }
    }
}

impl Node {
    /// Counts a subdirectory's `..`.
    pub(super) fn add_subdirectory(&mut self) -> Outcome<()> {
        self.record.nlink = self.record.nlink.checked_add(1).ok_or(Cause::TooManyLinks)?;
        Ok(())
    }

    /// Takes back a subdirectory's `..`.
    pub(super) fn remove_subdirectory(&mut self) {
        self.record.nlink = self.record.nlink.saturating_sub(1);
    }
}
