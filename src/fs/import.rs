//! Importing an archive: its files become sorted tables directly, and appear all at once.
//!
//! # How
//! 1. **Numbers.** Inode numbers come from blocks that are reserved for the import alone; with each goes a record
//!    (`b inode`, [`crate::fs::keys::import`]) that says so. So all keys of the import are fresh, and nobody else's lie between.
//! 2. **Building.** Each member becomes the records that a mount would have written, in an engine's ingestion
//!    ([`crate::lsm::ingest`]): contents in the order in which they come, which is that of their keys; the rest sorted
//!    with bounded memory. The archive's paths are resolved in what was imported, never in what was there before, and
//!    no symbolic link is followed: nothing leads out of the target directory. ([`builder`])
//! 3. **Installing.** The tables join the volume in one edit of the manifest. Nothing points to what is in them.
//!    What members held that later ones replaced is given back, before anybody can have one of the files open.
//! 4. **Appearing.** One change gives the top names their entries in the target directory, and deletes the `b`
//!    records: one record in the log, all of it or nothing. ([`appear`])
//!
//! A crash before 4 leaves `b` records, and perhaps tables: the next open deletes what has these numbers, then the
//! records ([`leftover`]). A failure does it at once.
//!
//! # What is there already
//! The target directory is made if it is missing. A name in it that exists keeps the whole import from happening.
//! Within the archive a later member replaces an earlier one of the same path, as tar does; a directory only
//! its attributes. A member for the target directory itself (`./`) sets its attributes.
//!
//! # Locks
//! None while the import is built. It appears under the target directory's name lock and inode lock.
//!
//! # Bounds
//! [`MEMORY`] for sorting, caches of [`builder::CACHED`] directories, and [`appear::TOP_MAX`] for the names in an existing
//! target directory: an import of more needs a directory of its own.

mod appear;
mod builder;
mod contents;
mod leftover;

pub(in crate::fs) use leftover::block;

use crate::fs::archive::{Member, MemberKind, Reader};
use crate::fs::error::{Context, Result, Subject};
use crate::fs::node::Outcome;
use crate::fs::tree::{Tree, TreePath};
use crate::fs::{Caller, FileSystem};
use builder::Builder;
use std::io::Read;

/// What is held in memory of records that are to be sorted.
pub const MEMORY: usize = 64 << 20;

/// How an import is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions {
    /// Who owns what the archive only speaks of, and without `owners` everything.
    pub caller: Caller,
    /// Owners as the archive says; else no file has setuid, setgid or attributes that only root may set.
    pub owners: bool,
    /// Bytes held in memory of records that are to be sorted.
    pub memory: usize,
}

impl ImportOptions {
    /// The usual ones.
    pub fn new(caller: Caller, owners: bool) -> ImportOptions {
        ImportOptions { caller, owners, memory: MEMORY }
    }
}

/// What was imported, or is so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Members that are not directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
}

impl FileSystem {
    /// Imports a tar archive (plain, not compressed: see [`crate::fs::archive::unpacked`]) below a directory, all of it or
    /// nothing. The import survives what any change that was answered does.
    ///
    /// # Errors
    /// Nothing was imported. [`crate::fs::Cause::Archive`] if it cannot be read, [`crate::fs::Cause::Exists`] if a name is taken.
    pub fn import(&self, archive: impl Read, at: &TreePath, options: &ImportOptions) -> Result<Imported> {
        let mut failed_at = None;
        let imported = self.try_import(archive, at, options, &mut failed_at);
        imported.context("import", || Subject::Path(failed_at.unwrap_or_else(|| at.to_bytes()).into()))
    }

    fn try_import(
        &self,
        archive: impl Read,
        at: &TreePath,
        options: &ImportOptions,
        failed_at: &mut Option<Vec<u8>>,
    ) -> Outcome<Imported> {
        self.admit(0)?;
        let tree = Tree::new(self);
        // Known, and so found wherever it is moved, until the import has appeared.
        let (held, missing) = tree.deepest(at).map_err(|error| error.cause)?;
        let target = held.attr.ino;
        let mut reader = Reader::new(archive);
        let mut imported = Imported::default();
        let mut builder = Builder::start(self, target, options)?;
        let built = (|| {
            builder.make_base(&missing)?;
            while let Some(member) = reader.next_member()? {
                builder
                    .member(&member, &mut reader)
                    .inspect_err(|_| *failed_at = Some(member.path.clone()))?;
                imported.count(&member);
            }
            Ok(())
        })();
        let blocks = builder.blocks();
        let done = built.and_then(|()| {
            let mut top = builder.finish()?;
            // Once others know of the files, orphan records are of such as may be open.
            top.count(-self.reclaim_replaced(&blocks));
            self.appear(target, top)
        });
        match done {
            Ok(names) => names.iter().for_each(|name| self.tell_name(target, name)),
            Err(error) => {
                // Should this fail, too, the next open does it.
                if let Err(e) = self.remove_import(&blocks) {
                    tracing::error!("what a failed import left is not removed before the next mount: {e}");
                }
                return Err(error);
            }
        }
        self.tell_inode(target);
        self.wait_until_told();
        Ok(imported)
    }
}

impl Imported {
    fn count(&mut self, member: &Member) {
        match member.kind {
            MemberKind::Directory => self.directories += 1,
            _ => self.files += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::fs::archive::Writer;
    use crate::fs::news::{Audience, Seat};
    use crate::fs::{FsOptions, Ino, ROOT, Timestamp};
    use crate::lsm::{Options, Store};
    use std::ops::Bound;
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    /// Opens and removes a file when it is told of it.
    #[derive(Debug)]
    struct Opener(Weak<FileSystem>);

    impl Audience for Opener {
        fn name(&self, parent: Ino, name: &[u8]) {
            let fs = self.0.upgrade().unwrap();
            fs.lookup(parent, name).unwrap().unwrap();
            fs.unlink(parent, name).unwrap();
        }

        fn inode(&self, _: Ino) {}

        fn heard(&self, _: Duration) -> bool {
            true
        }
    }

    #[test]
    fn a_file_that_is_opened_and_removed_as_soon_as_it_appears_keeps_its_contents() {
        let store = Arc::new(Store::open(Arc::new(SimDisk::new(1)), Options::default()).unwrap());
        let fs = Arc::new(FileSystem::open(store, "main", FsOptions::default()).unwrap());
        let opener = Arc::new(Opener(Arc::downgrade(&fs)));
        let audience: Weak<Opener> = Arc::downgrade(&opener);
        let seat = Arc::new(Seat { bits: 0, audience });
        fs.seats.add(&seat);
        let mut archive = Writer::new(Vec::new());
        for byte in [1, 2] {
            let member = Member {
                path: b"a".to_vec(),
                kind: MemberKind::File,
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: Timestamp::now(),
                atime: None,
                xattrs: Vec::new(),
                size: 100_000,
                extents: None,
            };
            archive.member(&member).unwrap();
            archive.data(&[byte; 100_000]).unwrap();
        }
        let archive = archive.finish().unwrap();
        let options = ImportOptions::new(Caller::new(0, 0), true);
        fs.import(&archive[..], &TreePath::default(), &options).unwrap();
        assert_eq!(fs.lookup(ROOT, b"a").unwrap(), None);
        let (from, to) = crate::fs::keys::orphans();
        let mut scan = fs.volume.scan(Bound::Included(&from), Bound::Excluded(&to)).unwrap();
        let mut orphans = Vec::new();
        while scan.next().unwrap() {
            orphans.extend(crate::fs::keys::orphan_ino(scan.key()));
        }
        let [open] = orphans[..] else { panic!("of the two files one is open: {orphans:?}") };
        assert_eq!(fs.read(open, 0, 200_000).unwrap(), [2; 100_000][..]);
        fs.forget(open, 1);
        drop(seat);
    }
}
