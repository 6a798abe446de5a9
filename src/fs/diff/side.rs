//! One side of a comparison: reading its files by directory and name, and naming its directories.

use crate::fs::attr::{FileKind, Ino, ROOT};
use crate::fs::entry::{Entry, Record, decode_parent};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Outcome, decode_entry, decode_shared};
use crate::fs::tree::TreePath;
use crate::lsm::{Scan, Snapshot, Value, Volume};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

/// The most directories one in another: a bound on the loop.
const DEPTH_MAX: usize = 1 << 20;

/// A file: its record and its inline contents.
#[derive(Debug)]
pub(super) struct File {
    pub record: Record,
    pub inline: Bytes,
}

/// A volume at one moment.
pub(super) struct Side {
    pub snapshot: Snapshot,
    /// Directories all below which is known already.
    pub walked: HashSet<Ino>,
    /// The paths of directories; `None` of those that lead nowhere.
    dirs: HashMap<Ino, Option<Arc<TreePath>>>,
}

impl Side {
    pub fn new(volume: &Arc<Volume>) -> Side {
        let dirs = HashMap::from([(ROOT, Some(Arc::default()))]);
        Side { snapshot: volume.snapshot(), walked: HashSet::new(), dirs }
    }

    /// The path of a name in a directory; `None` if the root does not lead there. The root is in directory 0.
    pub fn path(&mut self, dir: Ino, name: &[u8]) -> Outcome<Option<TreePath>> {
        match dir {
            0 => Ok(Some(TreePath::default())),
            _ => Ok(self.dir(dir)?.map(|path| path.join(name))),
        }
    }

    /// The path of a directory.
    fn dir(&mut self, dir: Ino) -> Outcome<Option<Arc<TreePath>>> {
        let (mut way, mut at) = (Vec::new(), dir);
        let mut path = loop {
            if let Some(known) = self.dirs.get(&at) {
                break known.clone();
            }
            let key = keys::parent(at);
            let parent = self.snapshot.get(&key)?.filter(|_| way.len() < DEPTH_MAX);
            let Some(parent) = parent else { break None };
            let parent = decode_parent(&parent.head).map_err(|what| Cause::bad_record(&key, what))?;
            way.push((at, parent.name));
            at = parent.parent;
        };
        for (dir, name) in way.into_iter().rev() {
            path = path.map(|path| Arc::new(path.join(&name)));
            self.dirs.insert(dir, path.clone());
        }
        Ok(path)
    }

    /// The file of a name, if there is one.
    pub fn file(&self, dir: Ino, name: &[u8]) -> Outcome<Option<File>> {
        let key = keys::entry(dir, name);
        let Some(value) = self.snapshot.get(&key)? else { return Ok(None) };
        match decode_entry(&key, &value.head)? {
            Entry::File(record) => Ok(Some(File { record, inline: value.tail })),
            Entry::Link(ino) => {
                let key = keys::inode(ino);
                let (head, tail) = self.snapshot.get(&key)?.map(|value| (value.head, value.tail)).unzip();
                let record = decode_shared(&key, head, ino)?;
                Ok(Some(File { record, inline: tail.unwrap_or_default() }))
            }
        }
    }

    /// The entries of a directory.
    pub fn entries(&self, dir: Ino) -> Outcome<Scan> {
        let (from, to) = keys::entries(dir);
        Ok(self.snapshot.scan(Bound::Included(&from), Bound::Excluded(&to))?)
    }

    /// The names of a file with a record of its own: directory and name.
    pub fn names(&self, ino: Ino) -> Outcome<Vec<(Ino, Vec<u8>)>> {
        let (from, to) = (keys::inode(ino), keys::inode(ino + 1));
        let mut scan = self.snapshot.scan(Bound::Excluded(&from), Bound::Excluded(&to))?;
        let mut names = Vec::new();
        while scan.next()? {
            names.extend(keys::split_inode_name(scan.key()).map(|(dir, name)| (dir, name.to_vec())));
        }
        Ok(names)
    }

    /// The extended attributes of a file.
    pub fn xattrs(&self, record: &Record) -> Outcome<Vec<(Vec<u8>, Bytes)>> {
        let mut xattrs = Vec::new();
        if record.has_xattrs {
            let (from, to) = keys::xattrs(record.ino);
            let mut scan = self.snapshot.scan(Bound::Included(&from), Bound::Excluded(&to))?;
            while scan.next()? {
                xattrs.push((keys::xattr_name(scan.key()).to_vec(), scan.tail()?));
            }
        }
        Ok(xattrs)
    }
}

/// The record in an entry's value, unless it only points to one.
pub(super) fn file_in(key: &[u8], value: &Value) -> Option<Record> {
    match decode_entry(key, &value.head) {
        Ok(Entry::File(record)) => Some(record),
        _ => None,
    }
}

/// The directory that an entry is, if it is one.
pub(super) fn directory_in(key: &[u8], head: &[u8]) -> Outcome<Option<Ino>> {
    Ok(match decode_entry(key, head)? {
        Entry::File(record) if record.kind == FileKind::Directory => Some(record.ino),
        _ => None,
    })
}
