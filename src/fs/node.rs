//! A file in hand: its record, its inline contents, and where they are kept.
//!
//! Operations load a node, change it, and save it into a [`Change`](crate::fs::change::Change). The
//! caller holds the inode lock, shared to look, exclusive to change.

use crate::fs::FileSystem;
use crate::fs::attr::{FileKind, Ino, NAME_MAX, Timestamp};
use crate::fs::entry::{INLINE_MAX, Record};
use crate::fs::error::Cause;
use crate::fs::inode::{Location, Orphan, Place};
use crate::fs::keys;
use bytes::Bytes;

/// The result of a step inside an operation.
pub(super) type Outcome<T> = Result<T, Cause>;

/// A file's record and inline contents.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where its entry is; `None` if it is an orphan.
    pub location: Option<Location>,
    /// Its attributes.
    pub record: Record,
    /// Its inline contents.
    pub inline: Bytes,
}

impl Node {
    /// The inode number.
    pub fn ino(&self) -> Ino {
        self.record.ino
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.record.kind == FileKind::Directory
    }

    /// Replaces the inline contents.
    pub fn set_inline(&mut self, inline: Bytes) {
        debug_assert!(inline.len() <= INLINE_MAX);
        self.record.inline_len = inline.len() as u16;
        self.inline = inline;
    }

    /// Marks a change of the contents (of a directory: of its entries).
    pub fn modified(&mut self, now: Timestamp) {
        self.record.mtime = now;
        self.record.ctime = now;
    }
}

/// Refuses what is not a regular file.
pub(super) fn check_file(record: &Record) -> Outcome<()> {
    match record.kind {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(Cause::IsDirectory),
        _ => Err(Cause::Invalid("not a regular file")),
    }
}

/// Reads an entry's head; `key` is for the error.
pub(super) fn decode_entry(key: &[u8], head: &[u8]) -> Outcome<Record> {
    Record::decode(head).map_err(|what| Cause::bad_record(key, what))
}

impl FileSystem {
    /// The entry of a name, if there is one.
    pub(super) fn find(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Node>> {
        let key = keys::entry(parent, name);
        let Some(value) = self.volume.get(&key)? else { return Ok(None) };
        let record = decode_entry(&key, &value.head)?;
        if value.tail.len() != usize::from(record.inline_len) {
            return Err(Cause::bad_record(&key, "inline contents of another length"));
        }
        Ok(Some(Node { location: Some(Location::new(parent, name)), record, inline: value.tail }))
    }

    /// As [`FileSystem::find`], the attributes only.
    pub(super) fn find_record(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Record>> {
        let key = keys::entry(parent, name);
        let head = self.volume.get_head(&key)?;
        head.map(|head| decode_entry(&key, &head)).transpose()
    }

    /// A file that somebody looked up.
    pub(super) fn load(&self, ino: Ino) -> Outcome<Node> {
        match self.inodes.place(ino).ok_or(Cause::Stale)? {
            Place::Entry(at) => same_inode(ino, self.find(at.parent, &at.name)?, Node::ino),
            Place::Orphan(orphan) => {
                Ok(Node { location: None, record: orphan.record, inline: orphan.inline })
            }
        }
    }

    /// As [`FileSystem::load`], the attributes only.
    pub(super) fn load_record(&self, ino: Ino) -> Outcome<Record> {
        match self.inodes.place(ino).ok_or(Cause::Stale)? {
            Place::Entry(at) => same_inode(ino, self.find_record(at.parent, &at.name)?, |r| r.ino),
            Place::Orphan(orphan) => Ok(orphan.record),
        }
    }

    /// A directory that can take a name: it has not been removed.
    pub(super) fn load_parent(&self, ino: Ino) -> Outcome<Node> {
        let node = self.load(ino)?;
        match node.location {
            _ if !node.is_dir() => Err(Cause::NotDirectory),
            None => Err(Cause::NotFound),
            Some(_) => Ok(node),
        }
    }

    /// Hands over a file that lost its last name: it stays reachable as an orphan as long as somebody
    /// knows it, else what it holds is given back.
    pub(super) fn bury(&self, node: Node) {
        let Node { record, inline, .. } = node;
        // A copy: what was read may be a part of a block, all of which it would keep in memory.
        let inline = Bytes::copy_from_slice(&inline);
        if let Some(orphan) = self.inodes.set_orphan(record.ino, Orphan { record, inline }) {
            self.dispose(&orphan);
        }
    }

    /// Gives back what an unreachable orphan holds.
    pub(super) fn dispose(&self, orphan: &Orphan) {
        if orphan.record.chunks > 0 {
            self.reclaimer.reclaim(orphan.record.ino, orphan.record.chunks);
        }
    }
}

/// What an entry holds is the inode that the table says, or one of the two is wrong.
fn same_inode<T>(ino: Ino, found: Option<T>, ino_of: impl Fn(&T) -> Ino) -> Outcome<T> {
    found.filter(|found| ino_of(found) == ino).ok_or(Cause::Stale)
}

/// Refuses names that no directory holds.
pub(super) fn check_name(name: &[u8]) -> Outcome<()> {
    match name {
        _ if name.len() > NAME_MAX => Err(Cause::NameTooLong),
        b"" | b"." | b".." => Err(Cause::Invalid("not a name")),
        _ if name.iter().any(|b| matches!(b, b'/' | 0)) => {
            Err(Cause::Invalid("a name with a slash or a zero byte"))
        }
        _ => Ok(()),
    }
}
