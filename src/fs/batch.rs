//! Batches: many changes of files in one step, all of them or none.
//!
//! A batch's operations are done in order, each on what those before it left, and are applied as one write of the
//! engine: one record in the log. So nobody ever sees a part of a batch, and a crash leaves all of it or nothing. An
//! operation that fails, an expectation that does not hold among them, makes the whole batch do nothing.
//!
//! # Versions
//! A path's *version* is the sequence number of the newest write of its file's record ([`Tree::version`]). Each change of
//! the file gives it a new one, larger than any before: contents, attributes, a new name; of a directory, the names
//! in it, but not what is in the files below. A file that is replaced or made anew under the same path has a new
//! one, too. Flushes, compactions, forks and snapshots keep it. So "do this if the path is as I saw it" is
//! [`Expect::Version`] in front of a change. (With `relatime` or `strictatime`, reading a file may change it.)
//!
//! # How it is done
//! The operations run as they always do, but on a second [`FileSystem`] over a staged volume ([`Volume::stage`]): there they
//! see their own effects and nobody else does. Then the gathered writes are made in the real volume at once, and
//! the table of inodes is told where files are now.
//!
//! # Locks
//! All of the real one's locks are held, in their order (`lock.rs`): the rename lock, all name locks, all inode
//! locks. So nothing that the batch read or writes changes before it is applied. Whoever applies a batch waits for
//! room in the engine first, as for any change.
//!
//! A small batch is run under these locks. A large one takes its time, and others are not to wait for it: it is run
//! without locks, on the volume as it was at one moment ([`Volume::stage_apart`]). The locks are taken to apply it, and it is
//! applied if nothing that it has read was written meanwhile. Otherwise it is run anew, the last time
//! ([`ATTEMPTS_APART`]) as a small one is. An operation that fails fails of that moment, which the batch's time holds.
//!
//! What one operation does may be much: of a directory that is removed nobody knows what is in it. So a small batch may
//! write little ([`SMALL_RECORDS`]); where it comes to more it is left, and run as a large one. What removed files held
//! is given back when the locks are free again, and the mounts were told, and before the batch is answered; after a crash
//! the next open does it, as for any file (`reclaim.rs`).
//!
//! # Bounds
//! [`MAX_OPERATIONS`] operations, and [`MAX_BYTES`] bytes of all that they write.

mod staging;

pub(super) use staging::Staging;

use crate::fs::access::{AccessTimes, AtomicAccessTimes};
use crate::fs::attr::{Caller, Ino};
use crate::fs::change::Written;
use crate::fs::control::Control;
use crate::fs::error::{Cause, Context, Error, Result, Subject};
use crate::fs::filesystem::{FileSystem, FsOptions};
use crate::fs::inode::{Inodes, Orphan};
use crate::fs::lock::Locks;
use crate::fs::news::Gathered;
use crate::fs::node::{Node, Outcome};
use crate::fs::recent::Recent;
use crate::fs::sweep::Removals;
use crate::fs::tree::{Tree, TreePath};
use crate::lsm::{self, SeqNo, Volume};
use bytes::Bytes;
use std::sync::Arc;

/// The most operations in a batch.
pub const MAX_OPERATIONS: usize = 1 << 20;

/// The most bytes that a batch writes: contents, names and records.
pub const MAX_BYTES: usize = 128 << 20;

/// A batch of more operations, or bytes that are written or compared, is large.
const SMALL_OPERATIONS: usize = 256;
const SMALL_BYTES: usize = 1 << 20;
/// And one that writes more than so many bytes of names and records, and so many for each operation. (Its contents
/// it may write twice: what replaces a file is written apart, then moved.)
const SMALL_RECORDS: usize = 256 << 10;
const RECORDS_EACH: usize = 1 << 10;
/// A large batch is run so often without locks.
const ATTEMPTS_APART: usize = 2;

/// A step of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A regular file gets these contents as a whole, as with [`Tree::write`]; missing directories are made.
    Put {
        /// Its path.
        path: TreePath,
        /// What is in it then.
        contents: Bytes,
    },
    /// A directory is made, and those above it that are missing; there may be none of that name.
    MakeDir {
        /// Its path.
        path: TreePath,
    },
    /// A file, or with `recursive` a directory and all below it, is removed.
    Remove {
        /// Its path.
        path: TreePath,
        /// Directories, too.
        recursive: bool,
    },
    /// A file or directory gets another name, in place of what has it, as `rename(2)` does.
    Rename {
        /// Its path.
        from: TreePath,
        /// The new one, in a directory that exists.
        to: TreePath,
    },
    /// Something must be so, or the batch does nothing.
    Expect {
        /// Of which path.
        path: TreePath,
        /// What.
        that: Expect,
    },
    /// The path's version after the batch is asked for.
    Version {
        /// The path.
        path: TreePath,
    },
}

/// What a batch expects of a path, on what the operations before left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Nothing has it.
    Absent,
    /// Something has it.
    Present,
    /// Its file has this version. None that an operation before has changed does.
    Version(SeqNo),
    /// It is a regular file with these contents.
    Contents(Bytes),
}

/// Why a batch was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BatchError {
    /// The operation that failed, counted from 0; `None` if it was the batch as a whole.
    pub operation: Option<usize>,
    /// How.
    #[source]
    pub error: Error,
}

impl BatchError {
    /// Was more written than the stage takes?
    fn is_too_large(&self) -> bool {
        matches!(self.error.cause, Cause::Engine(lsm::Error::TooLarge { .. }))
    }
}

/// Of the batch as a whole.
fn in_batch<T>(done: Outcome<T>) -> std::result::Result<T, BatchError> {
    let error = |error| BatchError { operation: None, error };
    done.context("batch", || Subject::FileSystem).map_err(error)
}

/// What running a batch in a staging file system gives.
struct Staged {
    /// The newest write before the batch, and its own last, as they are numbered there.
    before: SeqNo,
    last: SeqNo,
    /// Those that were asked for.
    versions: Vec<Option<SeqNo>>,
    /// What the mounts are to be told once it is applied.
    news: Arc<Gathered>,
    /// Files whose records were written.
    written: Vec<Ino>,
    /// Files that have changed their place, in order.
    settled: Vec<Node>,
}

/// What is left to do of a batch that is applied.
struct Applied {
    /// To be returned.
    versions: Vec<Option<SeqNo>>,
    /// To be told.
    news: Arc<Gathered>,
    /// Files that nobody can reach any more: what they hold is to be given back.
    unreachable: Vec<Orphan>,
}

impl FileSystem {
    /// Applies a batch, and returns the versions that were asked for, in order; `None` for a path that nothing has.
    /// The batch survives what any change that was answered does. What it makes belongs to `caller`.
    ///
    /// # Errors
    /// Nothing was changed: see the module's header, and [`BatchError`]. [`Cause::Unexpected`] is the cause where an
    /// expectation does not hold.
    pub fn apply(
        &self,
        operations: &[Operation],
        caller: Caller,
    ) -> std::result::Result<Vec<Option<SeqNo>>, BatchError> {
        let applied = self.try_apply(operations, caller)?;
        applied.news.tell(self);
        let mut has_room = true;
        for orphan in &applied.unreachable {
            // It is waited for while it comes: the batch is applied, and must be answered.
            has_room = has_room && self.admit(0).is_ok();
            self.dispose(orphan);
        }
        self.wait_until_told();
        Ok(applied.versions)
    }

    /// Does what needs the locks.
    fn try_apply(
        &self,
        operations: &[Operation],
        caller: Caller,
    ) -> std::result::Result<Applied, BatchError> {
        if operations.len() > MAX_OPERATIONS {
            let cause = Cause::TooMany { what: "operations", count: operations.len(), limit: MAX_OPERATIONS };
            return in_batch(Err(cause));
        }
        let written: usize = operations.iter().map(Operation::written).sum();
        let compared: usize = operations.iter().map(Operation::compared).sum();
        in_batch(self.admit(written))?;
        if operations.len() <= SMALL_OPERATIONS && written + compared <= SMALL_BYTES {
            let limit = 2 * written + operations.len() * RECORDS_EACH + SMALL_RECORDS;
            match self.apply_locked(operations, caller, limit) {
                Err(failed) if failed.is_too_large() => {}
                done => return done,
            }
        }
        for _ in 0..ATTEMPTS_APART {
            let staging = self.over(in_batch(self.volume.stage_apart(MAX_BYTES).map_err(Cause::from))?);
            let mut staged = staging.stage(operations, caller)?;
            // Most of it here, where nobody waits.
            staged.settled.iter_mut().for_each(|node| self.keep_contents_early(node));
            if staging.volume.is_outdated() {
                continue;
            }
            let _every = self.locks.every();
            if !staging.volume.is_outdated() {
                return in_batch(self.take_over(&staging, staged));
            }
        }
        self.apply_locked(operations, caller, MAX_BYTES)
    }

    /// Runs a batch that writes at most `limit` bytes under all locks.
    fn apply_locked(
        &self,
        operations: &[Operation],
        caller: Caller,
        limit: usize,
    ) -> std::result::Result<Applied, BatchError> {
        let _every = self.locks.every();
        let staging = self.over(in_batch(self.volume.stage(limit).map_err(Cause::from))?);
        let staged = staging.stage(operations, caller)?;
        in_batch(self.take_over(&staging, staged))
    }

    /// Runs a batch here, in a staging file system.
    fn stage(&self, operations: &[Operation], caller: Caller) -> std::result::Result<Staged, BatchError> {
        let before = self.volume.visible_seq();
        let tree = Tree::new(self).on_behalf_of(caller);
        let news = Gathered::new();
        let _seat = news.listen_to(self);
        let mut asked: Vec<&TreePath> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            let done = operation.run(&tree, &mut asked);
            done.map_err(|error| BatchError { operation: Some(at), error })?;
        }
        // All that can fail comes before the write.
        let versions = asked.iter().map(|path| tree.version(path)).collect::<Result<Vec<_>>>();
        let versions = versions.map_err(|error| BatchError { operation: None, error })?;
        let (written, settled) = self.staging.as_ref().map(Staging::take).unwrap_or_default();
        Ok(Staged { before, last: self.volume.visible_seq(), versions, news, written, settled })
    }

    /// What the files are at this moment, to be read however long it takes.
    pub(super) fn frozen(&self) -> Result<FileSystem> {
        let volume = self.volume.pinned().context("open", || Subject::FileSystem)?;
        let frozen = self.over(volume);
        Ok(FileSystem { options: FsOptions { read_only: true, ..frozen.options }, ..frozen })
    }

    /// A file system that is this one but for its volume, and knows no inode.
    fn over(&self, volume: Arc<Volume>) -> FileSystem {
        FileSystem {
            store: self.store.clone(),
            options: self.options.clone(),
            access_times: AtomicAccessTimes::new(AccessTimes::Kept),
            control: Control::new(self.options.owner),
            volume,
            locks: Locks::default(),
            inodes: Arc::new(Inodes::new()),
            recent: Recent::none(),
            numbers: self.numbers.clone(),
            written: Written::new(),
            removals: Removals::new(),
            staging: Some(Staging::new(self.inodes.clone())),
            seats: Arc::default(),
        }
    }

    /// Makes what was done in a staging file system. All locks are held.
    fn take_over(&self, staging: &FileSystem, mut staged: Staged) -> Outcome<Applied> {
        staged.settled.iter_mut().try_for_each(|node| self.keep_contents(node))?;
        let last = self.volume.write_admitted(staging.volume.staged_batch())?;
        self.written.take_over(&staging.written, last);
        staged.written.into_iter().for_each(|ino| self.recent.forget(ino));
        let orphans = staged.settled.into_iter().filter_map(|node| self.relocate(node));
        let unreachable = orphans.filter(|orphan| orphan.record.has_more()).collect();
        // The batch's own writes have other numbers now, in the same order.
        let real = |seq| if seq > staged.before { last - (staged.last - seq) } else { seq };
        let versions = staged.versions.into_iter().map(|version| version.map(real)).collect();
        Ok(Applied { versions, news: staged.news, unreachable })
    }
}

impl Operation {
    /// The bytes of contents that it writes.
    fn written(&self) -> usize {
        match self {
            Operation::Put { contents, .. } => contents.len(),
            _ => 0,
        }
    }

    /// The bytes of contents that it reads at most.
    fn compared(&self) -> usize {
        match self {
            Operation::Expect { that: Expect::Contents(contents), .. } => contents.len(),
            _ => 0,
        }
    }

    fn run<'a>(&'a self, tree: &Tree<'_>, asked: &mut Vec<&'a TreePath>) -> Result<()> {
        match self {
            Operation::Put { path, contents } => {
                let mut rest = &contents[..];
                tree.write(path, |piece| {
                    let len = rest.len().min(piece.len());
                    piece[..len].copy_from_slice(&rest[..len]);
                    rest = &rest[len..];
                    Ok::<usize, Error>(len)
                })
            }
            Operation::MakeDir { path } => tree.make_dir(path),
            Operation::Remove { path, recursive } => tree.remove(path, *recursive),
            Operation::Rename { from, to } => tree.rename(from, to),
            Operation::Expect { path, that } => that.check(tree, path),
            Operation::Version { path } => {
                asked.push(path);
                Ok(())
            }
        }
    }
}

impl Expect {
    fn check(&self, tree: &Tree<'_>, path: &TreePath) -> Result<()> {
        let found = tree.version(path)?;
        let unexpected = |expected: String, found: String| {
            Err(path.error("expect", Cause::Unexpected { expected, found }))
        };
        let text = |version: Option<SeqNo>| version.map_or("absent".to_string(), |v| format!("version {v}"));
        match (self, found) {
            (Expect::Absent, None) | (Expect::Present, Some(_)) => Ok(()),
            (Expect::Absent, found) => unexpected(text(None), text(found)),
            (Expect::Present, None) => unexpected("present".to_string(), text(None)),
            (Expect::Version(expected), found) if found == Some(*expected) => Ok(()),
            (Expect::Version(expected), found) => unexpected(text(Some(*expected)), text(found)),
            (Expect::Contents(_), None) => unexpected("other contents".to_string(), text(None)),
            (Expect::Contents(expected), Some(_)) => match tree.holds(path, expected)? {
                true => Ok(()),
                false => unexpected("these contents".to_string(), "others".to_string()),
            },
        }
    }
}
