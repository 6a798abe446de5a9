//! What is kept of a batch's run for the real file system to take over.
//!
//! Locks: one for each list, leaves.

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use crate::fs::inline::Inline;
use crate::fs::inode::Inodes;
use crate::fs::node::{Home, Node, Outcome};
use bytes::Bytes;
use parking_lot::Mutex;
use std::mem::take;
use std::sync::Arc;

/// What a staging file system has to tell the real one.
#[derive(Debug)]
pub(in crate::fs) struct Staging {
    /// Files that have changed their place, in order.
    settled: Mutex<Vec<Node>>,
    /// Files whose records were written.
    written: Mutex<Vec<Ino>>,
    /// The real one's table.
    inodes: Arc<Inodes>,
}

impl Staging {
    /// Nothing yet. `inodes` is the real one's table.
    pub fn new(inodes: Arc<Inodes>) -> Staging {
        Staging { settled: Mutex::default(), written: Mutex::default(), inodes }
    }

    /// Files whose records were written, and those that have changed their place.
    pub fn take(&self) -> (Vec<Ino>, Vec<Node>) {
        (take(&mut *self.written.lock()), take(&mut *self.settled.lock()))
    }

    /// Notes that the records of these files were written.
    pub fn note_written(&self, files: impl IntoIterator<Item = Ino>) {
        self.written.lock().extend(files);
    }

    /// Notes that a file has changed its place. Its contents are kept only where somebody may read them when it has no
    /// name, and as a copy: what was read may be a part of a block, all of which it would keep in memory.
    pub fn settle(&self, node: &Node) {
        let inline = match node.home {
            Home::Orphan if self.inodes.is_known(node.ino()) => copied(&node.inline.in_hand()),
            _ => Inline::NONE,
        };
        let (home, record) = (node.home.clone(), node.record.clone());
        self.settled.lock().push(Node { home, record, inline, counted: node.counted });
    }
}

fn copied(contents: &[u8]) -> Inline {
    Inline::Whole(Bytes::copy_from_slice(contents))
}

impl FileSystem {
    /// Reads what a file holds that is about to lose its name, and that somebody knows only since that was staged.
    /// It is what is stored still: a batch changes no file's contents, but puts other files in their place. The caller
    /// holds the inode lock, shared at least.
    pub(super) fn keep_contents(&self, node: &mut Node) -> Outcome<()> {
        let ino = node.ino();
        let has_contents = node.record.inline_len > 0 && node.home == Home::Orphan;
        if has_contents && node.inline.in_hand().is_empty() && self.inodes.is_known(ino) {
            match self.load(ino).and_then(|stored| self.inline(&stored)) {
                Ok(contents) => node.inline = copied(&contents),
                // It was forgotten in the meantime.
                Err(_) if !self.inodes.is_known(ino) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// As [`FileSystem::keep_contents`], before the batch is known to be of the present: what cannot be read is asked for
    /// again then.
    pub(super) fn keep_contents_early(&self, node: &mut Node) {
        let _inode = self.locks.inodes.shared(node.ino());
        let _ = self.keep_contents(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::fs::attr::{Caller, FileKind, ROOT};
    use crate::fs::batch::{MAX_BYTES, Operation};
    use crate::fs::tree::TreePath;
    use crate::fs::{FsOptions, engine_options};
    use crate::lsm::Store;

    const USER: Caller = Caller { uid: 1000, gid: 100, umask: 0 };

    /// A file system with small files of these names, which nobody knows, and the batch that removes them.
    fn files<const N: usize>(names: [&str; N]) -> (FileSystem, [Ino; N], [Operation; N]) {
        let store = Arc::new(Store::open(Arc::new(SimDisk::new(1)), engine_options()).unwrap());
        let fs = FileSystem::open(store, "main", FsOptions::default()).unwrap();
        let inos = names.map(|name| {
            let ino = fs.mknod(ROOT, name.as_bytes(), FileKind::File, 0o644, 0, USER).unwrap().ino;
            fs.write(ino, 0, name.as_bytes()).unwrap();
            fs.forget(ino, 1);
            ino
        });
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        (fs, inos, names.map(|name| Operation::Remove { path: path(name), recursive: false }))
    }

    #[test]
    fn of_what_is_removed_the_contents_are_kept_where_somebody_knows_it() {
        let (fs, inos, removal) = files(["known", "unknown"]);
        fs.lookup(ROOT, b"known").unwrap();
        let stage = fs.over(fs.volume.stage(MAX_BYTES).unwrap());
        let staged = stage.stage(&removal, USER).unwrap();
        let kept = staged.settled.iter().map(|node| (node.ino(), node.inline.in_hand()));
        assert_eq!(kept.collect::<Vec<_>>(), [(inos[0], "known".into()), (inos[1], Bytes::new())]);
    }

    #[test]
    fn a_file_that_is_opened_between_a_batchs_run_and_its_end_keeps_its_contents() {
        let (fs, inos, removal) = files(["opened", "not"]);
        let stage = fs.over(fs.volume.stage_apart(MAX_BYTES).unwrap());
        let staged = stage.stage(&removal, USER).unwrap();
        fs.lookup(ROOT, b"opened").unwrap();
        let every = fs.locks.every();
        fs.take_over(&stage, staged).unwrap();
        drop(every);
        assert_eq!(fs.lookup(ROOT, b"opened").unwrap(), None);
        assert_eq!(fs.read(inos[0], 0, 10).unwrap(), "opened");
        fs.forget(inos[0], 1);
    }
}
