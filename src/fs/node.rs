//! A file in hand: its record, its inline contents, and where they are kept.
//!
//! Operations load a node, change it, and save it into a [`Change`](crate::fs::change::Change). The
//! caller holds the inode lock, shared to look, exclusive to change.

use crate::fs::FileSystem;
use crate::fs::attr::{FileKind, Ino, NAME_MAX, Timestamp};
use crate::fs::control;
use crate::fs::entry::{Entry, Record};
use crate::fs::error::Cause;
use crate::fs::inline::{Inline, checked};
use crate::fs::inode::{Facts, Location, Orphan, Place};
use crate::fs::keys;
use crate::fs::recent::Known;
use crate::lsm::{SeqNo, Tally};
use bytes::Bytes;

/// The result of a step inside an operation.
pub(super) type Outcome<T> = Result<T, Cause>;

/// Where a file's record is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Home {
    /// In its entry.
    Entry(Location),
    /// At its own key; its entries point there.
    Shared,
    /// In the table of inodes: it has no name.
    Orphan,
}

/// A file's record and inline contents.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it is kept.
    pub home: Home,
    /// Its attributes.
    pub record: Record,
    /// Its inline contents.
    pub inline: Inline,
    /// What the volume's tally has of it.
    pub counted: Tally,
}

impl Node {
    /// A file as it is stored: the tally has it.
    fn counted(home: Home, record: Record, inline: Inline) -> Node {
        let mut node = Node { home, record, inline, counted: Tally::default() };
        node.counted = node.tally();
        node
    }

    /// The inode number.
    pub fn ino(&self) -> Ino {
        self.record.ino
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.record.kind == FileKind::Directory
    }

    /// It is kept elsewhere from now on.
    pub fn move_to(&mut self, home: Home) {
        self.inline.make_whole();
        self.home = home;
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

/// A name's file as it was before its inode was locked.
pub(super) struct Glimpse<'a> {
    parent: Ino,
    name: &'a [u8],
    seq: SeqNo,
    /// What was seen.
    pub node: Option<Node>,
}

impl FileSystem {
    /// The file of a name, if there is one.
    pub(super) fn find(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Node>> {
        let key = keys::entry(parent, name);
        let Some((value, patches)) = self.volume.get_patched(&key)? else { return Ok(None) };
        match decode_entry(&key, &value.head)? {
            Entry::File(record) => {
                let home = Home::Entry(Location::new(parent, name));
                node(home, &key, record, value.tail, patches).map(Some)
            }
            Entry::Link(ino) => self.load_shared(ino).map(Some),
        }
    }

    /// As [`FileSystem::find`], the attributes only.
    pub(super) fn find_record(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Record>> {
        let key = keys::entry(parent, name);
        let head = self.volume.get_head(&key)?;
        head.map(|head| self.record_of(&key, &head)).transpose()
    }

    /// The attributes of the file that an entry describes or points to.
    pub(super) fn record_of(&self, key: &[u8], head: &[u8]) -> Outcome<Record> {
        match decode_entry(key, head)? {
            Entry::File(record) => Ok(record),
            Entry::Link(ino) => self.load_shared_record(ino),
        }
    }

    /// The file of a name before its inode is locked, to learn which inode that is. The caller holds the
    /// parent's name lock.
    pub(super) fn glimpse<'a>(&self, parent: Ino, name: &'a [u8]) -> Outcome<Glimpse<'a>> {
        let seq = self.volume.visible_seq();
        Ok(Glimpse { parent, name, seq, node: self.find(parent, name)? })
    }

    /// The same file now that its inode is locked: it may have been written to meanwhile.
    pub(super) fn confirm(&self, seen: Glimpse<'_>) -> Outcome<Option<Node>> {
        match seen.node {
            Some(node) if node.home == Home::Shared => self.load_shared(node.ino()).map(Some),
            Some(_) if self.written.since(seen.parent, seen.seq) => self.find(seen.parent, seen.name),
            node => Ok(node),
        }
    }

    /// A file that somebody looked up.
    pub(super) fn load(&self, ino: Ino) -> Outcome<Node> {
        self.load_for(ino, false)
    }

    /// As [`FileSystem::load`], to change it where it is: inline contents that may be patched are not read.
    pub(super) fn load_to_change(&self, ino: Ino) -> Outcome<Node> {
        self.load_for(ino, true)
    }

    /// Where a file that somebody looked up is. A volume that is gone has no files, whatever is
    /// known of them here.
    fn where_is(&self, ino: Ino) -> Outcome<Place> {
        self.volume.check_open()?;
        self.inodes.place(ino).ok_or_else(|| control::unknown(ino))
    }

    fn load_for(&self, ino: Ino, change: bool) -> Outcome<Node> {
        let place = self.where_is(ino)?;
        if let Place::Orphan(orphan) = place {
            return Ok(Node::counted(Home::Orphan, orphan.record, Inline::Whole(orphan.inline)));
        }
        let known = self.known(ino, &place);
        let is_known = known.is_some();
        if let Some(Known { record, shared, patches }) = known
            && let Some(inline) = Inline::unread(&record, patches, change)
        {
            let home = match place {
                Place::Entry(at) if !shared => Home::Entry(at),
                _ => Home::Shared,
            };
            return Ok(Node::counted(home, record, inline));
        }
        let node = match place {
            Place::Entry(at) => {
                let unread = if change { self.find_unread(&at)? } else { None };
                let found = unread.map_or_else(|| self.find(at.parent, &at.name), |node| Ok(Some(node)))?;
                same_inode(ino, found, Node::ino)?
            }
            _ => self.load_shared(ino)?,
        };
        if !is_known {
            self.recent.put(Known::of(&node, node.inline.patches()));
        }
        Ok(node)
    }

    /// The file of a name, if it can be changed without a look at its inline contents.
    fn find_unread(&self, at: &Location) -> Outcome<Option<Node>> {
        let key = keys::entry(at.parent, &at.name);
        let Some((head, patches)) = self.volume.get_head_patched(&key)? else { return Ok(None) };
        let Entry::File(record) = decode_entry(&key, &head)? else { return Ok(None) };
        let inline = Inline::unread(&record, patches, true);
        Ok(inline.map(|inline| Node::counted(Home::Entry(at.clone()), record, inline)))
    }

    /// As [`FileSystem::load`], the attributes only.
    pub(super) fn load_record(&self, ino: Ino) -> Outcome<Record> {
        if control::is_control(ino) {
            return self.control.record(ino);
        }
        let place = self.where_is(ino)?;
        if let Place::Orphan(orphan) = place {
            return Ok(orphan.record);
        }
        if let Some(known) = self.known(ino, &place) {
            return Ok(known.record);
        }
        match place {
            Place::Entry(at) => same_inode(ino, self.find_record(at.parent, &at.name)?, |r| r.ino),
            _ => self.load_shared_record(ino),
        }
    }

    /// What the table of inodes is to know of a file of `parent`, whose record was read after `seq`.
    /// Asked under the table's lock: an attribute that is set later finds the file in the table.
    pub(super) fn facts(&self, record: &Record, parent: Ino, seq: SeqNo) -> Facts {
        let changed = || self.written.since(parent, seq) || self.written.since(record.ino, seq);
        Facts { directory: record.kind == FileKind::Directory, bare: !record.has_xattrs && !changed() }
    }

    fn load_shared(&self, ino: Ino) -> Outcome<Node> {
        let key = keys::inode(ino);
        let (value, patches) = self.volume.get_patched(&key)?.unzip();
        let (head, tail) = value.map(|value| (value.head, value.tail)).unzip();
        let record = decode_shared(&key, head, ino)?;
        node(Home::Shared, &key, record, tail.unwrap_or_default(), patches.unwrap_or_default())
    }

    fn load_shared_record(&self, ino: Ino) -> Outcome<Record> {
        let key = keys::inode(ino);
        decode_shared(&key, self.volume.get_head(&key)?, ino)
    }

    /// The version of the file of a name: see `batch.rs`.
    pub(super) fn version(&self, parent: Ino, name: &[u8]) -> Outcome<Option<SeqNo>> {
        let key = keys::entry(parent, name);
        let Some(head) = self.volume.get_head(&key)? else { return Ok(None) };
        let of_entry = self.volume.version(&key)?;
        match decode_entry(&key, &head)? {
            Entry::File(_) => Ok(of_entry),
            Entry::Link(ino) => Ok(of_entry.max(self.volume.version(&keys::inode(ino))?)),
        }
    }

    /// A directory that can take a name: it has not been removed.
    pub(super) fn load_parent(&self, ino: Ino) -> Outcome<Node> {
        let node = self.load(ino)?;
        match node.home {
            _ if !node.is_dir() => Err(Cause::NotDirectory),
            Home::Orphan => Err(Cause::NotFound),
            _ => Ok(node),
        }
    }

    /// Notes where a file is kept now, or, if it lost its last name, hands it over as an orphan: it stays reachable as
    /// long as somebody knows it, else what it holds is given back.
    pub(super) fn settle(&self, node: Node) {
        if let Some(staging) = &self.staging {
            staging.settle(&node);
        }
        if let Some(orphan) = self.relocate(node) {
            self.dispose(&orphan);
        }
    }

    /// Does so, but returns an orphan that nobody can reach: the caller is to [dispose](FileSystem::dispose) of it.
    pub(super) fn relocate(&self, node: Node) -> Option<Orphan> {
        let ino = node.ino();
        match node.home {
            Home::Entry(at) => self.inodes.moved(ino, Place::Entry(at)),
            Home::Shared => self.inodes.moved(ino, Place::Shared),
            Home::Orphan => {
                let inline = node.inline.in_hand();
                return self.inodes.set_orphan(ino, Orphan { record: node.record, inline });
            }
        }
        None
    }

    /// Gives back what an unreachable orphan holds. In the stage of a batch somebody may have it open.
    pub(super) fn dispose(&self, orphan: &Orphan) {
        if orphan.record.has_more() && self.staging.is_none() {
            self.reclaim(orphan.record.ino, orphan.record.tally());
        }
    }
}

/// A node of what was read.
fn node(home: Home, key: &[u8], record: Record, inline: Bytes, patches: usize) -> Outcome<Node> {
    let read = Some(checked(key, &record, inline)?);
    Ok(Node::counted(home, record, Inline::Stored { patches, read }))
}

/// Reads an entry's head; `key` is for the error.
pub(super) fn decode_entry(key: &[u8], head: &[u8]) -> Outcome<Entry> {
    Entry::decode(head).map_err(|what| Cause::bad_record(key, what))
}

/// Reads the record at an inode's own key, where an entry points to.
pub(super) fn decode_shared(key: &[u8], head: Option<Bytes>, ino: Ino) -> Outcome<Record> {
    let bad = |what| Cause::bad_record(key, what);
    let head = head.ok_or_else(|| bad("missing, though an entry points here"))?;
    let record = Record::decode(&head).map_err(bad)?;
    if record.ino != ino || record.kind == FileKind::Directory || record.nlink == 0 {
        return Err(bad("not the file that its key says"));
    }
    Ok(record)
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
