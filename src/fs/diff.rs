//! What differs between two volumes or snapshots, by path.
//!
//! The engine tells the keys at which they may differ ([`Differences`]), reading only what they do not share.
//! An entry that differs is a path that differs; the record of a file with several names stands for all of them;
//! chunks and extended attributes belong to a file whose record was written with them. Parent records make a
//! directory's number a path again, on each side its own. Where an entry leads to another directory than on the
//! other side (one that was renamed, made or removed), all paths below it differ, and the directory is walked.
//!
//! A path is *changed* if it is there on both sides and kind, permissions, owner, device number, contents, extended
//! attributes or, but for directories, the time of the last change of contents are not the same. Link counts, times
//! of access, times of attributes and inode numbers make no difference, nor do holes.
//!
//! Memory: the paths that differ, for they come in the order of paths and are found in the order of inodes; and the
//! directories on the way to them.

mod contents;
mod side;

use crate::fs::attr::{FileKind, Ino};
use crate::fs::entry::Record;
use crate::fs::error::{Context, Subject};
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::fs::tree::TreePath;
use crate::lsm::{Differences, Value, Volume};
use side::{File, Side};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is on the second side only.
    Added,
    /// It is on the first side only.
    Removed,
    /// It is on both and not the same.
    Changed,
}

/// Hands each path that differs between `a` and `b` to `each`, in the order of paths.
///
/// # Errors
/// Those of `each`, and what keeps a record from being read.
pub fn diff<E: From<crate::fs::Error>>(
    a: &Arc<Volume>,
    b: &Arc<Volume>,
    mut each: impl FnMut(Difference, &TreePath) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let gather = || -> Outcome<Comparison> {
        let mut comparison = Comparison::new([a, b]);
        comparison.gather()?;
        Ok(comparison)
    };
    let mut found = gather().context("compare", || Subject::FileSystem)?;
    for (path, dirs) in std::mem::take(&mut found.paths) {
        if let Some(difference) = found.judge(&path, dirs).context("compare", || Subject::FileSystem)? {
            each(difference, &path)?;
        }
    }
    Ok(())
}

/// Two sides that are compared.
struct Comparison {
    sides: [Side; 2],
    /// Paths that may differ, with the directory that each is in, on both sides.
    paths: BTreeMap<TreePath, [Option<Ino>; 2]>,
    /// Files of which a chunk or an extended attribute differs.
    touched: HashSet<Ino>,
}

impl Comparison {
    fn new(volumes: [&Arc<Volume>; 2]) -> Comparison {
        Comparison { sides: volumes.map(Side::new), paths: BTreeMap::new(), touched: HashSet::new() }
    }

    /// Finds the paths that may differ.
    fn gather(&mut self) -> Outcome<()> {
        let mut keys = Differences::between(&self.sides[0].snapshot, &self.sides[1].snapshot)?;
        while keys.next()? {
            let key = keys.key();
            let Some(ino) = keys::ino_of(key) else { continue };
            match key[0] {
                b'e' => self.entry(ino, key)?,
                b'i' if key.len() == keys::PREFIX_LEN => self.shared(ino, key)?,
                b'd' | b'x' => _ = self.touched.insert(ino),
                _ => {}
            }
        }
        Ok(())
    }

    /// An entry that may differ.
    fn entry(&mut self, dir: Ino, key: &[u8]) -> Outcome<()> {
        let values = [self.sides[0].snapshot.get(key)?, self.sides[1].snapshot.get(key)?];
        if values[0] == values[1] {
            return Ok(());
        }
        let name = keys::entry_name(key).unwrap_or_default();
        let directory = |value: &Option<Value>| {
            let record = side::file_in(key, value.as_ref()?)?;
            (record.kind == FileKind::Directory).then_some(record.ino)
        };
        let directories = [directory(&values[0]), directory(&values[1])];
        for (at, value) in values.iter().enumerate().filter(|(_, value)| value.is_some()) {
            let Some(path) = self.sides[at].path(dir, name)? else { continue };
            self.add(at, path.clone(), dir);
            let apart = directories[0] != directories[1];
            if let Some(below) = directories[at].filter(|_| apart && value.is_some()) {
                self.walk(at, below, path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, side: usize, path: TreePath, dir: Ino) {
        self.paths.entry(path).or_default()[side] = Some(dir);
    }

    /// Adds all that is below a directory.
    fn walk(&mut self, at: usize, dir: Ino, path: TreePath) -> Outcome<()> {
        let mut ways = vec![(dir, path)];
        while let Some((dir, path)) = ways.pop() {
            if !self.sides[at].walked.insert(dir) {
                continue;
            }
            let mut scan = self.sides[at].entries(dir)?;
            while scan.next()? {
                let Some(name) = keys::entry_name(scan.key()) else { continue };
                let child = path.join(name);
                if let Some(below) = side::directory_in(scan.key(), scan.head())? {
                    ways.push((below, child.clone()));
                }
                self.paths.entry(child).or_default()[at] = Some(dir);
            }
        }
        Ok(())
    }

    /// A file with a record of its own, which may differ: all its names.
    fn shared(&mut self, ino: Ino, key: &[u8]) -> Outcome<()> {
        if self.sides[0].snapshot.get(key)? == self.sides[1].snapshot.get(key)? {
            return Ok(());
        }
        for at in [0, 1] {
            for (dir, name) in self.sides[at].names(ino)? {
                if let Some(path) = self.sides[at].path(dir, &name)? {
                    self.add(at, path, dir);
                }
            }
        }
        Ok(())
    }

    /// How a path differs.
    fn judge(&self, path: &TreePath, dirs: [Option<Ino>; 2]) -> Outcome<Option<Difference>> {
        let name = path.name();
        let file = |at: usize| match dirs[at] {
            Some(dir) => self.sides[at].file(dir, name),
            None => Ok(None),
        };
        Ok(match (file(0)?, file(1)?) {
            (None, None) => None,
            // Of a volume that was never mounted.
            (None, Some(_)) | (Some(_), None) if name.is_empty() => None,
            (Some(_), None) => Some(Difference::Removed),
            (None, Some(_)) => Some(Difference::Added),
            (Some(a), Some(b)) => (!self.is_same(&a, &b)?).then_some(Difference::Changed),
        })
    }

    fn is_same(&self, a: &File, b: &File) -> Outcome<bool> {
        if !same_attributes(&a.record, &b.record) {
            return Ok(false);
        }
        let untouched = a.record.ino == b.record.ino && !self.touched.contains(&a.record.ino);
        if untouched && a.record.pages == b.record.pages {
            return Ok(a.inline == b.inline);
        }
        let [of_a, of_b] = &self.sides;
        Ok(of_a.xattrs(&a.record)? == of_b.xattrs(&b.record)? && contents::are_same((of_a, a), (of_b, b))?)
    }
}

fn same_attributes(a: &Record, b: &Record) -> bool {
    let of = |r: &Record| (r.kind, r.mode, r.uid, r.gid, r.rdev);
    // What changes in a directory changes its times, and is told of.
    let of_contents = |r: &Record| (r.kind != FileKind::Directory).then_some((r.size, r.mtime));
    of(a) == of(b) && of_contents(a) == of_contents(b)
}
