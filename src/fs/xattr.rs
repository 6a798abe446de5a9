//! Extended attributes.
//!
//! Each is a key of its own (`x inode name`): its head is a format byte, its tail the value. A flag in
//! the file's record says that there are any, so that the others cost nothing; of most files the table of
//! inodes knows as much (see `inode.rs`), and no record is read. They go with the file: what
//! removes its chunks removes them.
//!
//! Who may read and change them is the kernel's to check. Two sorts mean something here: the access control
//! lists (see `acl.rs`), and `security.capability`, which is dropped when the file's contents or owner
//! change, as setuid is.

use crate::fs::FileSystem;
use crate::fs::acl::{self, Acl};
use crate::fs::attr::{Caller, FileKind, Ino, NAME_MAX, SETGID, Timestamp};
use crate::fs::change::Change;
use crate::fs::entry::encode_xattr_head;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::keys;
use crate::fs::node::{Node, Outcome};
use crate::fs::tally;
use bytes::Bytes;
use std::ops::Bound;

/// The longest value, in bytes (Linux's `XATTR_SIZE_MAX`).
pub(super) const VALUE_MAX: usize = 64 << 10;

/// The longest list of names, in bytes (Linux's `XATTR_LIST_MAX`).
const LIST_MAX: usize = 64 << 10;

/// What a program may do beyond its user's rights.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Whether an attribute must be there, or must not, to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrMode {
    /// It may.
    #[default]
    Set,
    /// It must not.
    Create,
    /// It must.
    Replace,
}

impl FileSystem {
    /// The value of an extended attribute, if it is there.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>> {
        self.try_getxattr(ino, name).context("getxattr", || Subject::Inode(ino))
    }

    fn try_getxattr(&self, ino: Ino, name: &[u8]) -> Outcome<Option<Bytes>> {
        check_xattr_name(name)?;
        if self.is_bare(ino)? {
            return Ok(None);
        }
        let _inode = self.locks.inodes.shared(ino);
        match self.load_record(ino)?.has_xattrs {
            true => self.xattr(ino, name),
            false => Ok(None),
        }
    }

    /// The names of the extended attributes, each followed by a zero byte.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        self.try_listxattr(ino).context("listxattr", || Subject::Inode(ino))
    }

    fn try_listxattr(&self, ino: Ino) -> Outcome<Vec<u8>> {
        if self.is_bare(ino)? {
            return Ok(Vec::new());
        }
        let _inode = self.locks.inodes.shared(ino);
        match self.load_record(ino)?.has_xattrs {
            true => self.xattr_names(ino),
            false => Ok(Vec::new()),
        }
    }

    /// The names and values of all extended attributes. Not of one moment: one that is removed meanwhile is left out.
    pub(super) fn xattrs(&self, ino: Ino) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let listed = self.listxattr(ino)?;
        let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let read = |name: &[u8]| Ok(self.getxattr(ino, name)?.map(|value| (name.to_vec(), value.to_vec())));
        names.filter_map(|name| read(name).transpose()).collect()
    }

    /// Is it certain that a file has none, without a read? In a volume that is gone nothing is.
    fn is_bare(&self, ino: Ino) -> Outcome<bool> {
        self.volume.check_open()?;
        Ok(self.inodes.is_bare(ino))
    }

    /// Sets an extended attribute.
    pub fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Result<()> {
        self.try_setxattr(ino, name, value, mode, caller).context("setxattr", || Subject::Inode(ino))
    }

    fn try_setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Outcome<()> {
        self.admit(value.len())?;
        check_xattr_name(name)?;
        if value.len() > VALUE_MAX {
            return Err(Cause::TooLong);
        }
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load_to_change(ino)?;
        let exists = node.record.has_xattrs && self.xattr(ino, name)?.is_some();
        match (mode, exists) {
            (XattrMode::Create, true) => return Err(Cause::Exists),
            (XattrMode::Replace, false) => return Err(Cause::NoAttribute),
            _ => {}
        }
        let mut change = Change::new(self);
        self.lay_xattr(&mut change, &mut node, name, value, caller)?;
        node.record.ctime = Timestamp::now();
        change.save(&mut node);
        change.commit()?;
        self.inodes.not_bare(ino);
        Ok(())
    }

    /// Adds to a change what setting an attribute is, whatever it is.
    pub(super) fn lay_xattr(
        &self,
        change: &mut Change<'_>,
        node: &mut Node,
        name: &[u8],
        value: &[u8],
        caller: Caller,
    ) -> Outcome<()> {
        match name {
            acl::ACCESS => self.set_access_acl(change, node, value, caller),
            acl::DEFAULT => self.set_default_acl(change, node, value),
            _ => self.put_xattr(change, node, name, value),
        }
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.try_removexattr(ino, name).context("removexattr", || Subject::Inode(ino))
    }

    fn try_removexattr(&self, ino: Ino, name: &[u8]) -> Outcome<()> {
        self.admit(0)?;
        check_xattr_name(name)?;
        let _inode = self.locks.inodes.exclusive(ino);
        let mut node = self.load_to_change(ino)?;
        if !node.record.has_xattrs || self.xattr(ino, name)?.is_none() {
            // Without a list of its own a file has the one that its mode says: removing that is nothing.
            return if is_acl(name) { Ok(()) } else { Err(Cause::NoAttribute) };
        }
        let mut change = Change::new(self);
        change.batch.frees_room();
        self.remove_xattr(&mut change, &mut node, name)?;
        node.record.ctime = Timestamp::now();
        change.save(&mut node);
        change.commit()
    }

    fn xattr(&self, ino: Ino, name: &[u8]) -> Outcome<Option<Bytes>> {
        Ok(self.volume.get(&keys::xattr(ino, name))?.map(|value| value.tail))
    }

    fn xattr_names(&self, ino: Ino) -> Outcome<Vec<u8>> {
        let (from, to) = keys::xattrs(ino);
        let mut scan = self.volume.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        let mut names = Vec::new();
        while scan.next()? {
            names.extend_from_slice(keys::xattr_name(scan.key()));
            names.push(0);
        }
        Ok(names)
    }

    /// Adds an attribute to a change.
    fn put_xattr(&self, change: &mut Change<'_>, node: &mut Node, name: &[u8], value: &[u8]) -> Outcome<()> {
        let ino = node.ino();
        let old = if node.record.has_xattrs { self.xattr(ino, name)? } else { None };
        if node.record.has_xattrs && old.is_none() {
            let listed = self.xattr_names(ino)?.len() + name.len() + 1;
            if listed > LIST_MAX {
                return Err(Cause::NoRoom);
            }
        }
        let counted = old.map(|old| tally::xattr(name, old.len())).unwrap_or_default();
        change.batch.count(tally::xattr(name, value.len()) - counted);
        node.record.has_xattrs = true;
        change.batch.put_split(&keys::xattr(ino, name), &encode_xattr_head(), value);
        Ok(())
    }

    /// Adds an attribute's removal to a change; it need not be there.
    fn remove_xattr(&self, change: &mut Change<'_>, node: &mut Node, name: &[u8]) -> Outcome<()> {
        if !node.record.has_xattrs {
            return Ok(());
        }
        if let Some(old) = self.xattr(node.ino(), name)? {
            change.batch.count(-tally::xattr(name, old.len()));
        }
        let others = self.xattr_names(node.ino())?;
        node.record.has_xattrs = others.split(|b| *b == 0).any(|other| !other.is_empty() && other != name);
        change.batch.delete(&keys::xattr(node.ino(), name));
        Ok(())
    }

    /// Adds to a change of a file's contents or owner that its capabilities are dropped.
    pub(super) fn drop_capabilities(&self, change: &mut Change<'_>, node: &mut Node) -> Outcome<()> {
        if node.record.has_xattrs && self.xattr(node.ino(), CAPABILITY)?.is_some() {
            self.remove_xattr(change, node, CAPABILITY)?;
        }
        Ok(())
    }

    /// Sets or removes the list that a file's permissions are checked by; the mode follows.
    fn set_access_acl(
        &self,
        change: &mut Change<'_>,
        node: &mut Node,
        value: &[u8],
        caller: Caller,
    ) -> Outcome<()> {
        if node.record.kind == FileKind::Symlink {
            return Err(Cause::NotSupported);
        }
        let Some(mut list) = decode_acl(value)? else { return self.remove_xattr(change, node, acl::ACCESS) };
        node.record.mode = list.show_in(node.record.mode);
        if !caller.keeps_setid() && caller.gid != node.record.gid {
            node.record.mode &= !SETGID;
        }
        match list.is_only_mode() {
            true => self.remove_xattr(change, node, acl::ACCESS),
            false => self.put_xattr(change, node, acl::ACCESS, &list.encode()),
        }
    }

    /// Sets or removes the list that what is made in a directory starts with.
    fn set_default_acl(&self, change: &mut Change<'_>, node: &mut Node, value: &[u8]) -> Outcome<()> {
        match decode_acl(value)? {
            None => self.remove_xattr(change, node, acl::DEFAULT),
            Some(_) if !node.is_dir() => Err(Cause::NotAllowed),
            Some(list) => self.put_xattr(change, node, acl::DEFAULT, &list.encode()),
        }
    }

    /// Adds to a change of a file's mode that its access list follows.
    pub(super) fn acl_follows_mode(&self, change: &mut Change<'_>, node: &mut Node) -> Outcome<()> {
        if !node.record.has_xattrs {
            return Ok(());
        }
        let Some(value) = self.xattr(node.ino(), acl::ACCESS)? else { return Ok(()) };
        if let Some(mut list) = decode_acl(&value)? {
            list.follow(node.record.mode);
            self.put_xattr(change, node, acl::ACCESS, &list.encode())?;
        }
        Ok(())
    }

    /// Adds to a create what the directory's default list gives to what is made there; without one the
    /// caller's umask counts.
    pub(super) fn inherit_acl(
        &self,
        change: &mut Change<'_>,
        dir: &Node,
        node: &mut Node,
        umask: u32,
    ) -> Outcome<()> {
        let default = match dir.record.has_xattrs {
            true => self.xattr(dir.ino(), acl::DEFAULT)?,
            false => None,
        };
        let Some(default) = default.map(|value| decode_acl(&value)).transpose()?.flatten() else {
            node.record.mode &= !umask;
            return Ok(());
        };
        let mut access = default.clone();
        node.record.mode = access.inherit(node.record.mode);
        if !access.is_only_mode() {
            self.put_xattr(change, node, acl::ACCESS, &access.encode())?;
        }
        if node.is_dir() {
            self.put_xattr(change, node, acl::DEFAULT, &default.encode())?;
        }
        Ok(())
    }
}

fn decode_acl(value: &[u8]) -> Outcome<Option<Acl>> {
    Acl::decode(value).ok_or(Cause::Invalid("an access control list that makes no sense"))
}

fn is_acl(name: &[u8]) -> bool {
    matches!(name, acl::ACCESS | acl::DEFAULT)
}

/// What the names of attributes begin with that programs may choose.
const SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Is it of a sort that files have here? Other systems' files have others.
pub(super) fn is_kept(name: &[u8]) -> bool {
    is_acl(name) || SPACES.iter().any(|space| name.starts_with(space))
}

/// Refuses names that no attribute has.
pub(super) fn check_xattr_name(name: &[u8]) -> Outcome<()> {
    if name.len() > NAME_MAX {
        return Err(Cause::NameTooLong);
    }
    if name.contains(&0) {
        return Err(Cause::Invalid("a name with a zero byte"));
    }
    match SPACES.iter().find(|space| name.starts_with(space)) {
        Some(space) if name.len() == space.len() => Err(Cause::Invalid("an attribute without a name")),
        None if !is_acl(name) => Err(Cause::NotSupported),
        _ => Ok(()),
    }
}
