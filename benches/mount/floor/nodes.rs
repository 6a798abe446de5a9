//! The floor's files and directories, in memory.
//!
//! An unlinked file is gone at once, open or not: no work that is measured uses one after its removal, and
//! what programs leave open they only close.

use fuser::{FileAttr, FileType, INodeNo, Request};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The table of nodes is in so many parts, each with a lock of its own.
const PARTS: u64 = 64;

const ROOT: u64 = 1;

/// A file, a directory or a symbolic link.
pub struct Node {
    attr: Mutex<FileAttr>,
    /// A file's contents, a link's target.
    pub data: RwLock<Vec<u8>>,
    /// A directory's entries: their inode numbers.
    pub children: RwLock<BTreeMap<OsString, u64>>,
}

impl Node {
    fn new(attr: FileAttr) -> Arc<Node> {
        Arc::new(Node { attr: Mutex::new(attr), data: RwLock::default(), children: RwLock::default() })
    }

    /// What stands for a name that is not there.
    pub fn absent() -> FileAttr {
        new_attr(0, FileType::RegularFile, 0, (0, 0))
    }

    /// Its attributes.
    pub fn attr(&self) -> FileAttr {
        *self.attr.lock()
    }

    /// Changes its attributes.
    pub fn change(&self, change: impl FnOnce(&mut FileAttr)) {
        change(&mut self.attr.lock());
    }

    /// Cuts its contents off, or extends them with zeros.
    pub fn resize(&self, size: usize) {
        self.data.write().resize(size, 0);
        self.measure(size);
    }

    /// Writes into its contents.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let mut data = self.data.write();
        let end = offset + bytes.len();
        if data.len() < end {
            data.resize(end, 0);
        }
        data[offset..end].copy_from_slice(bytes);
        self.measure(data.len());
    }

    fn measure(&self, size: usize) {
        self.change(|attr| {
            attr.size = size as u64;
            attr.blocks = attr.size.div_ceil(512);
            attr.mtime = SystemTime::now();
        });
    }
}

fn new_attr(ino: u64, kind: FileType, mode: u32, (uid, gid): (u32, u32)) -> FileAttr {
    let now = SystemTime::now();
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        perm: (mode & 0o7777) as u16,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// All nodes, by inode number.
pub struct Nodes {
    parts: Vec<RwLock<HashMap<u64, Arc<Node>>>>,
    next: AtomicU64,
}

impl Nodes {
    /// A root, and nothing in it.
    pub fn new() -> Nodes {
        let nodes =
            Nodes { parts: (0..PARTS).map(|_| RwLock::default()).collect(), next: AtomicU64::new(ROOT + 1) };
        nodes.insert(ROOT, Node::new(new_attr(ROOT, FileType::Directory, 0o755, (0, 0))));
        nodes
    }

    fn part(&self, ino: u64) -> &RwLock<HashMap<u64, Arc<Node>>> {
        &self.parts[(ino % PARTS) as usize]
    }

    fn insert(&self, ino: u64, node: Arc<Node>) {
        self.part(ino).write().insert(ino, node);
    }

    /// The node of this number.
    pub fn get(&self, ino: u64) -> Option<Arc<Node>> {
        self.part(ino).read().get(&ino).cloned()
    }

    /// The node of this name.
    pub fn find(&self, parent: u64, name: &OsStr) -> Option<Arc<Node>> {
        let child = *self.get(parent)?.children.read().get(name)?;
        self.get(child)
    }

    /// Makes a node; `None` if there is no such directory.
    pub fn add(
        &self,
        parent: u64,
        name: &OsStr,
        kind: FileType,
        mode: u32,
        request: &Request,
    ) -> Option<Arc<Node>> {
        let dir = self.get(parent)?;
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let node = Node::new(new_attr(ino, kind, mode, (request.uid(), request.gid())));
        self.insert(ino, node.clone());
        dir.children.write().insert(name.to_owned(), ino);
        Some(node)
    }

    /// Gives a node one more name.
    pub fn link(&self, ino: u64, parent: u64, name: &OsStr) -> Option<Arc<Node>> {
        let node = self.get(ino)?;
        node.change(|attr| attr.nlink += 1);
        self.get(parent)?.children.write().insert(name.to_owned(), ino);
        Some(node)
    }

    /// Removes a name, and the node that it was the last one of. False if it is not there.
    pub fn remove(&self, parent: u64, name: &OsStr) -> bool {
        let removed = self.get(parent).and_then(|dir| dir.children.write().remove(name));
        if let Some(ino) = removed {
            self.unlink(ino);
        }
        removed.is_some()
    }

    fn unlink(&self, ino: u64) {
        let Some(node) = self.get(ino) else { return };
        let left = {
            let mut attr = node.attr.lock();
            attr.nlink = if attr.kind == FileType::Directory { 0 } else { attr.nlink.saturating_sub(1) };
            attr.nlink
        };
        if left == 0 {
            self.part(ino).write().remove(&ino);
        }
    }

    /// Moves a name over another one. False if it is not there.
    pub fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr)) -> bool {
        let (Some(dir), Some(new_dir)) = (self.get(from.0), self.get(to.0)) else { return false };
        let Some(ino) = dir.children.write().remove(from.1) else { return false };
        let replaced = new_dir.children.write().insert(to.1.to_owned(), ino);
        if let Some(replaced) = replaced {
            self.unlink(replaced);
        }
        true
    }
}
