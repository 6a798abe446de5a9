//! Importing an archive: its files become sorted tables directly, and appear all at once.
//!
//! # How
//! 1. **Numbers.** Inode numbers come from blocks that are reserved for the import alone; with each goes a record
//!    (`b inode`, [`keys::import`]) that says so. So all keys of the import are fresh, and nobody else's lie between.
//! 2. **Building.** Each member becomes the records that a mount would have written, in an engine's ingestion
//!    ([`crate::lsm::ingest`]): contents in the order in which they come, which is that of their keys; the rest sorted
//!    with bounded memory. The archive's paths are resolved in what was imported, never in what was there before, and
//!    no symbolic link is followed: nothing leads out of the target directory. ([`builder`])
//! 3. **Installing.** The tables join the volume in one edit of the manifest. Nothing points to what is in them.
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
    /// Owners as the archive says; else nothing has setuid or setgid.
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
    /// Nothing was imported. [`Cause::Archive`] if it cannot be read, [`Cause::Exists`] if a name is taken.
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
        let done = built.and_then(|()| self.appear(target, builder.finish()?));
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
        self.reclaim_replaced(&blocks);
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
