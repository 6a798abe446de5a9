//! One request is one batch: a change gathers what an operation writes and applies it at once, so that a
//! crash leaves all of it or nothing.
//!
//! It also keeps account of which directories' entries were written last, for those who list them: see
//! [`Written`].

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::entry::{Record, encode_orphan, encode_parent};
use crate::fs::inode::Orphan;
use crate::fs::keys;
use crate::fs::node::{Node, Outcome};
use crate::lsm::{Batch, SeqNo};
use std::sync::atomic::{AtomicU64, Ordering};

/// A change that is being gathered. Dropped, it did nothing.
pub(super) struct Change<'a> {
    fs: &'a FileSystem,
    /// The writes; chunks are added to it directly.
    pub batch: Batch,
    dirs: Vec<Ino>,
    orphan: Option<Orphan>,
}

impl<'a> Change<'a> {
    /// An empty change.
    pub fn new(fs: &'a FileSystem) -> Change<'a> {
        Change { fs, batch: Batch::new(), dirs: Vec::new(), orphan: None }
    }

    /// Adds an entry under a name that is free.
    pub fn create(&mut self, parent: Ino, name: &[u8], record: &Record, inline: &[u8]) {
        self.dirs.push(parent);
        self.batch.first_put(&keys::entry(parent, name), &record.encode(), inline);
    }

    /// Puts a file under a name, in place of what may be there.
    pub fn put_at(&mut self, parent: Ino, name: &[u8], node: &Node) {
        self.dirs.push(parent);
        self.batch.put_split(&keys::entry(parent, name), &node.record.encode(), &node.inline);
    }

    /// Writes a changed file where it is kept.
    pub fn save(&mut self, node: &Node) {
        debug_assert_eq!(node.inline.len(), usize::from(node.record.inline_len));
        match &node.location {
            Some(at) => self.put_at(at.parent, &at.name, node),
            None => {
                debug_assert!(self.orphan.is_none());
                self.orphan = Some(Orphan { record: node.record.clone(), inline: node.inline.clone() });
            }
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, parent: Ino, name: &[u8]) {
        self.dirs.push(parent);
        self.batch.delete(&keys::entry(parent, name));
    }

    /// Notes where a directory's entry is.
    pub fn set_parent(&mut self, dir: Ino, parent: Ino, name: &[u8]) {
        self.batch.put(&keys::parent(dir), &encode_parent(parent, name));
    }

    /// Forgets where a directory's entry was.
    pub fn remove_parent(&mut self, dir: Ino) {
        self.batch.delete(&keys::parent(dir));
    }

    /// Notes that a file's chunks belong to nobody once it is forgotten or the process ends.
    pub fn orphan_chunks(&mut self, ino: Ino) {
        self.batch.put(&keys::orphan(ino), &encode_orphan());
    }

    /// Applies the change: all of it, or on an error nothing.
    pub fn commit(self) -> Outcome<()> {
        if !self.batch.is_empty() {
            let seq = self.fs.volume.write(self.batch)?;
            for dir in self.dirs {
                self.fs.written.note(dir, seq);
            }
        }
        if let Some(orphan) = self.orphan {
            // Somebody knows the inode: it was loaded from the table, under its lock.
            let unknown = self.fs.inodes.set_orphan(orphan.record.ino, orphan);
            debug_assert!(unknown.is_none());
        }
        Ok(())
    }
}

/// Directories that share a place in [`Written`].
const STRIPES: usize = 4096;

/// The newest write into each directory's entries, so that a listing at an older snapshot knows whether
/// it must read an entry again. Striped: it may name a later write than a directory had, never an
/// earlier one. A write is noted before its request is answered.
#[derive(Debug)]
pub(super) struct Written(Box<[AtomicU64]>);

impl Written {
    /// Nothing was written yet.
    pub fn new() -> Written {
        Written((0..STRIPES).map(|_| AtomicU64::new(0)).collect())
    }

    fn stripe(&self, dir: Ino) -> &AtomicU64 {
        &self.0[(dir % STRIPES as Ino) as usize]
    }

    /// Notes a write.
    pub fn note(&self, dir: Ino, seq: SeqNo) {
        self.stripe(dir).fetch_max(seq, Ordering::AcqRel);
    }

    /// May an entry of the directory have been written after `seq`?
    pub fn since(&self, dir: Ino, seq: SeqNo) -> bool {
        self.stripe(dir).load(Ordering::Acquire) > seq
    }
}
