//! One request is one batch: a change gathers what an operation writes and applies it at once, so that a
//! crash leaves all of it or nothing.
//!
//! It also keeps account of which directories' entries were written last, for those who list them: see
//! [`Written`].

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::entry::{Record, encode_link, encode_orphan, encode_parent};
use crate::fs::groups::Groups;
use crate::fs::inode::{Location, Orphan};
use crate::fs::keys;
use crate::fs::node::{Home, Node, Outcome};
use crate::fs::recent::Known;
use crate::lsm::{Batch, SeqNo};
use std::sync::atomic::{AtomicU64, Ordering};

/// A change that is being gathered. Dropped, it did nothing. [`FileSystem::admit`] lets it in, before any lock.
pub(super) struct Change<'a> {
    fs: &'a FileSystem,
    /// The writes; chunks are added to it directly.
    pub batch: Batch,
    /// Whose entries or, of files with a record of their own, which inodes are written.
    dirs: Vec<Ino>,
    /// Records that are written of files with a name.
    records: Vec<Known>,
    orphan: Option<Orphan>,
}

/// Room for the records of most changes, contents aside.
const CHANGE_ROOM: usize = 1024;

impl<'a> Change<'a> {
    /// An empty change.
    pub fn new(fs: &'a FileSystem) -> Change<'a> {
        Change::of(fs, Batch::new())
    }

    /// An empty change, which will take so many bytes of contents.
    pub fn with_room(fs: &'a FileSystem, bytes: usize) -> Change<'a> {
        Change::of(fs, Batch::with_capacity(CHANGE_ROOM + bytes))
    }

    fn of(fs: &'a FileSystem, batch: Batch) -> Change<'a> {
        Change { fs, batch, dirs: Vec::new(), records: Vec::new(), orphan: None }
    }

    /// Adds an entry under a name that is free.
    pub fn create(&mut self, parent: Ino, name: &[u8], record: &Record, inline: &[u8]) {
        self.dirs.push(parent);
        self.batch.count(record.tally());
        self.batch.first_put(&keys::entry(parent, name), &record.encode(), inline);
        self.records.push(Known { record: record.clone(), shared: false, patches: 0 });
    }

    /// Gives a file a name, in place of what may have it, and writes its record, which moves along if it
    /// is kept in the entry.
    pub fn put_name(&mut self, parent: Ino, name: &[u8], node: &mut Node) {
        match &node.home {
            Home::Entry(_) => node.move_to(Home::Entry(Location::new(parent, name))),
            Home::Shared => self.put_link(parent, name, &node.record),
            Home::Orphan => debug_assert!(false, "a file without a name does not get one again"),
        }
        self.save(node);
    }

    /// Makes a name point to a file that is kept at its own key.
    pub fn put_link(&mut self, parent: Ino, name: &[u8], record: &Record) {
        self.dirs.push(parent);
        self.batch.put(&keys::entry(parent, name), &encode_link(record));
        self.batch.put(&keys::inode_name(record.ino, parent, name), b"");
    }

    /// Adds records that were made elsewhere, entries of a directory among them.
    pub fn append_entries(&mut self, parent: Ino, records: &Batch) {
        self.dirs.push(parent);
        self.batch.append(records);
    }

    /// Writes a changed file where it is kept.
    pub fn save(&mut self, node: &mut Node) {
        let counts_else = self.count(node);
        match &node.home {
            Home::Entry(at) => {
                self.dirs.push(at.parent);
                let patches = self.put_file(&keys::entry(at.parent, &at.name), node);
                self.records.push(Known::of(node, patches));
            }
            Home::Shared => {
                self.dirs.push(node.ino());
                let patches = self.put_file(&keys::inode(node.ino()), node);
                self.records.push(Known::of(node, patches));
            }
            Home::Orphan => {
                debug_assert!(self.orphan.is_none());
                self.orphan = Some(Orphan { record: node.record.clone(), inline: node.inline.in_hand() });
                match node.record.has_more() {
                    _ if !counts_else => {}
                    true => self.put_orphan(&node.record),
                    false => self.batch.delete(&keys::orphan(node.ino())),
                }
            }
        }
    }

    /// Takes a name from a file.
    pub fn remove_name(&mut self, parent: Ino, name: &[u8], node: &Node) {
        self.dirs.push(parent);
        self.batch.delete(&keys::entry(parent, name));
        self.remove_link(parent, name, node);
    }

    /// Forgets that a file kept at its own key had this name; the entry is another file's now, or gone.
    pub fn remove_link(&mut self, parent: Ino, name: &[u8], node: &Node) {
        if node.home == Home::Shared {
            self.batch.delete(&keys::inode_name(node.ino(), parent, name));
        }
    }

    /// Removes the record of a file kept at its own key.
    pub fn remove_shared(&mut self, ino: Ino) {
        self.batch.delete(&keys::inode(ino));
    }

    /// Notes where a directory's entry is.
    pub fn set_parent(&mut self, dir: Ino, parent: Ino, name: &[u8]) {
        self.batch.put(&keys::parent(dir), &encode_parent(parent, name));
    }

    /// Forgets where a directory's entry was.
    pub fn remove_parent(&mut self, dir: Ino) {
        self.batch.delete(&keys::parent(dir));
    }

    /// Notes that what a file holds belongs to nobody once it is forgotten or the process ends.
    pub fn put_orphan(&mut self, file: &Record) {
        self.batch.put(&keys::orphan(file.ino), &encode_orphan(file.tally().bytes as u64));
    }

    /// Applies the change: all of it, or on an error nothing. It was [admitted](FileSystem::admit).
    pub fn commit(self) -> Outcome<()> {
        if !self.batch.is_empty() {
            let seq = self.fs.volume.write_admitted(self.batch)?;
            for dir in self.dirs {
                self.fs.written.note(dir, seq);
            }
            if let Some(staging) = &self.fs.staging {
                staging.note_written(self.records.iter().map(|known| known.record.ino));
            }
            self.records.into_iter().for_each(|known| self.fs.recent.put(known));
        }
        if let Some(orphan) = self.orphan
            && let Some(unknown) = self.fs.inodes.set_orphan(orphan.record.ino, orphan)
        {
            // It was forgotten in the meantime, which the kernel does not do to what it uses.
            self.fs.dispose(&unknown);
        }
        Ok(())
    }
}

/// Directories share one in so many groups of places in [`Written`].
const GROUPS: usize = 64;

/// The newest write into each directory's entries, and to each file's record that is at its own key, so that a listing at an older snapshot knows whether
/// it must read an entry again. Striped: it may name a later write than a directory had, never an
/// earlier one. A write is noted before its request is answered.
#[derive(Debug)]
pub(super) struct Written(Groups<AtomicU64, GROUPS>);

impl Written {
    /// Nothing was written yet.
    pub fn new() -> Written {
        Written(Groups::default())
    }

    /// Notes a write.
    pub fn note(&self, dir: Ino, seq: SeqNo) {
        self.0.get(dir).fetch_max(seq, Ordering::AcqRel);
    }

    /// Notes at `seq` what was noted in another.
    pub fn take_over(&self, other: &Written, seq: SeqNo) {
        let noted = |(_, theirs): &(Ino, &AtomicU64)| theirs.load(Ordering::Acquire) > 0;
        other.0.all_made().filter(noted).for_each(|(place, _)| self.note(place, seq));
    }

    /// May an entry of the directory have been written after `seq`?
    pub fn since(&self, dir: Ino, seq: SeqNo) -> bool {
        self.0.made(dir).is_some_and(|newest| newest.load(Ordering::Acquire) > seq)
    }
}
