//! The moment at which an import appears: one change of its target directory.

use super::leftover::forget_block;
use crate::fs::FileSystem;
use crate::fs::acl;
use crate::fs::archive::Member;
use crate::fs::attr::{Caller, FileKind, Ino, MODE_BITS, Timestamp};
use crate::fs::change::Change;
use crate::fs::control::check_changeable;
use crate::fs::entry::{Entry, decode_parent, encode_parent};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Outcome, decode_entry};
use crate::fs::xattr::check_xattr_name;
use crate::lsm::{Batch, Tally};
use std::ops::Range;

/// Small contents of files in the target directory that its change writes, in bytes; other files' records stand in the
/// tables.
pub(super) const DIRECT_MAX: usize = 4 << 20;

/// The most bytes that the change may have: about a million names.
pub(super) const TOP_MAX: usize = 256 << 20;

/// What the target directory gets.
#[derive(Debug)]
pub(super) struct Top {
    /// The records, as they are to be.
    records: Batch,
    /// The names in the target directory.
    names: Vec<Box<[u8]>>,
    subdirectories: u32,
    /// What the archive says of the directory itself.
    member: Option<Member>,
    blocks: Vec<Range<Ino>>,
}

impl Top {
    pub fn new(member: Option<Member>, blocks: Vec<Range<Ino>>) -> Top {
        Top { records: Batch::new(), names: Vec::new(), subdirectories: 0, member, blocks }
    }

    /// All that is imported counts from the moment at which it appears: until then nothing leads to it, and a quota
    /// can still refuse it.
    pub fn count(&mut self, tally: Tally) {
        self.records.count(tally);
    }

    /// Takes a record that has the target's stand-in for its directory; false for any other.
    pub fn take(
        &mut self,
        stand_in: Ino,
        target: Ino,
        key: &[u8],
        head: &[u8],
        tail: &[u8],
    ) -> Outcome<bool> {
        match key.first() {
            Some(b'e') if keys::ino_of(key) == Some(stand_in) => {
                let name = keys::entry_name(key).unwrap_or_default();
                self.records.first_put(&keys::entry(target, name), head, tail);
                self.names.push(name.into());
                if let Entry::File(record) = decode_entry(key, head)? {
                    self.subdirectories += u32::from(record.kind == FileKind::Directory);
                }
            }
            Some(b'i') => match (keys::ino_of(key), keys::split_inode_name(key)) {
                (Some(ino), Some((dir, name))) if dir == stand_in => {
                    self.records.put(&keys::inode_name(ino, target, name), b"");
                }
                _ => return Ok(false),
            },
            Some(b'p') => {
                let place = decode_parent(head).map_err(|what| Cause::bad_record(key, what))?;
                if place.parent != stand_in {
                    return Ok(false);
                }
                self.records.put(key, &encode_parent(target, &place.name));
            }
            _ => return Ok(false),
        }
        if self.records.encoded_len() > TOP_MAX {
            return Err(Cause::Invalid(
                "too many names for a directory that exists: import them into a new one",
            ));
        }
        Ok(true)
    }
}

impl FileSystem {
    /// Makes an import appear that is installed. Returns the names that the target directory gets.
    pub(super) fn appear(&self, target: Ino, top: Top) -> Outcome<Vec<Box<[u8]>>> {
        self.admit(top.records.encoded_len())?;
        let now = Timestamp::now();
        let _names = self.locks.names.exclusive(target);
        let _inode = self.locks.inodes.exclusive(target);
        let mut dir = self.load_parent(target)?;
        for name in &top.names {
            check_changeable(target, name)?;
            if self.find_record(target, name)?.is_some() {
                return Err(Cause::NameTaken(name.escape_ascii().to_string()));
            }
        }
        let mut change = Change::new(self);
        change.append_entries(target, &top.records);
        let links = dir.record.nlink.checked_add(top.subdirectories);
        dir.record.nlink = links.ok_or(Cause::TooManyLinks)?;
        dir.modified(now);
        if let Some(member) = &top.member {
            dir.record.mode = member.mode & MODE_BITS;
            (dir.record.uid, dir.record.gid) = (member.uid, member.gid);
            dir.record.mtime = member.mtime;
            dir.record.atime = member.atime.unwrap_or(member.mtime);
            if !member.xattrs.iter().any(|(name, _)| name == acl::ACCESS) {
                self.acl_follows_mode(&mut change, &mut dir)?;
            }
            for (name, value) in &member.xattrs {
                check_xattr_name(name)?;
                self.lay_xattr(&mut change, &mut dir, name, value, Caller::new(0, 0))?;
            }
        }
        top.blocks.iter().for_each(|block| forget_block(&mut change.batch, block));
        change.save(&mut dir);
        change.commit()?;
        self.inodes.not_bare(target);
        Ok(top.names)
    }
}
