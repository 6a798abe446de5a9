//! Files of an import, as records in an ingestion.
//!
//! Each member is given its place at once: its directory is looked up among what was imported, a name that is there
//! already is replaced. Directories' records change with every subdirectory: those in use are kept in memory, a
//! bounded number of them, and written back when there are too many.
//!
//! The target directory stands in the import for itself under a number of its own, the *top*. What has that for its
//! directory is not installed but handed over ([`Top`]), to be given its real place when the import appears.

mod attributes;
mod dirs;
mod files;

use self::attributes::is_roots;
use super::ImportOptions;
use super::appear::Top;
use super::leftover::ranges;
use crate::fs::FileSystem;
use crate::fs::archive::{Member, MemberKind, Reader};
use crate::fs::attr::{Ino, Timestamp};
use crate::fs::control::check_changeable;
use crate::fs::entry::{Entry, Record};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Outcome, check_name, decode_entry};
use crate::fs::tally::of_record;
use crate::lsm::ingest::Ingest;
use crate::lsm::{Tally, Value};
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

/// Directories whose records are in memory, and paths of directories that are remembered.
pub(super) const CACHED: usize = 10_000;

/// The longest path of a directory that is remembered.
const CACHED_LEN: usize = 4096;

/// The longest path of a member, and of a hard link's target. Longer ones are not refused for their own sake, but for
/// that of all who walk through trees.
const PATH_MAX: usize = 64 << 10;

/// The mode of directories that the archive only speaks of.
const DIR_MODE: u32 = 0o755;

/// The numbers in the first block; each next one has twice as many, up to the last.
const FIRST_BLOCK: u64 = 1 << 16;
const LAST_BLOCK: u64 = 1 << 24;

/// A directory in use.
#[derive(Debug)]
struct Dir {
    parent: Ino,
    name: Box<[u8]>,
    record: Record,
}

/// What is imported so far.
pub(super) struct Builder<'f> {
    fs: &'f FileSystem,
    ingest: Ingest<'f>,
    options: ImportOptions,
    now: Timestamp,
    blocks: Vec<Range<Ino>>,
    next: Ino,
    target: Ino,
    /// Stands for the target directory.
    top: Ino,
    /// What the archive says of the target directory, if it does; with its attributes.
    top_member: Option<Member>,
    /// Bytes of small contents that the top's files have in their entries.
    top_bytes: usize,
    /// Where members' paths begin: the top, or a directory below it that was missing.
    base: Ino,
    dirs: HashMap<Ino, Dir>,
    paths: HashMap<Vec<u8>, Ino>,
}

/// The names of a path.
fn names(path: &[u8]) -> Outcome<Vec<&[u8]>> {
    if path.len() > PATH_MAX {
        return Err(Cause::NameTooLong);
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(Cause::Invalid("a path with .. is not taken")),
            _ => {
                check_name(name)?;
                names.push(name);
            }
        }
    }
    Ok(names)
}

impl<'f> Builder<'f> {
    /// An import without files.
    pub fn start(fs: &'f FileSystem, target: Ino, options: &ImportOptions) -> Outcome<Builder<'f>> {
        // The first block's record comes first: all that was written before it is older than the import.
        let (block, seq) = fs.numbers.reserve_import(FIRST_BLOCK)?;
        let ingest = fs.volume.ingest(options.memory, seq)?;
        let mut builder = Builder {
            fs,
            ingest,
            options: *options,
            target,
            now: Timestamp::now(),
            blocks: Vec::new(),
            next: block.start,
            top: block.start,
            top_member: None,
            top_bytes: 0,
            base: block.start,
            dirs: HashMap::new(),
            paths: HashMap::new(),
        };
        builder.add_block(block);
        builder.next += 1;
        Ok(builder)
    }

    fn add_block(&mut self, block: Range<Ino>) {
        for (from, to) in ranges(&block) {
            self.ingest.fence(&from);
            self.ingest.fence(&to);
        }
        self.next = block.start;
        self.blocks.push(block);
    }

    /// The inode numbers that are the import's.
    pub fn blocks(&self) -> Vec<Range<Ino>> {
        self.blocks.clone()
    }

    fn number(&mut self) -> Outcome<Ino> {
        if self.blocks.last().is_none_or(|block| self.next == block.end) {
            let len = self.blocks.last().map_or(FIRST_BLOCK, |block| (block.end - block.start) * 2);
            let (block, _) = self.fs.numbers.reserve_import(len.min(LAST_BLOCK))?;
            self.add_block(block);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Makes the directories that are missing on the way to where the import goes.
    pub fn make_base(&mut self, missing: &[Box<[u8]>]) -> Outcome<()> {
        for name in missing {
            self.claim(self.base, name, None)?;
            self.base = self.make_dir(self.base, name)?;
        }
        Ok(())
    }

    /// Takes a member in, its contents from `reader`.
    pub fn member(&mut self, member: &Member, reader: &mut Reader<impl Read>) -> Outcome<()> {
        let names = names(&member.path)?;
        let Some((name, parents)) = names.split_last() else {
            return self.base_member(member);
        };
        let dir = self.dir_of(parents)?;
        match &member.kind {
            MemberKind::Directory => self.directory(dir, name, member),
            MemberKind::HardLink(target) => self.link(dir, name, target),
            _ => self.file(dir, name, member, reader),
        }
    }

    /// Takes a name for a file. In the target directory it must be free.
    fn claim(&mut self, dir: Ino, name: &[u8], found: Option<(Entry, Value)>) -> Outcome<()> {
        if found.is_none() && dir == self.top {
            check_changeable(self.target, name)?;
            if self.fs.find_record(self.target, name)?.is_some() {
                return Err(Cause::NameTaken(name.escape_ascii().to_string()));
            }
        }
        self.displace(dir, name, found)
    }

    /// What has a name in an imported directory.
    fn find(&self, dir: Ino, name: &[u8]) -> Outcome<Option<(Entry, Value)>> {
        let key = keys::entry(dir, name);
        let found = self.ingest.get(&key)?;
        found.map(|value| Ok((decode_entry(&key, &value.head)?, value))).transpose()
    }

    /// Installs everything but what the target directory gets, which is returned.
    pub fn finish(mut self) -> Outcome<Top> {
        self.write_dirs()?;
        if let Some(member) = &mut self.top_member
            && !self.options.owners
        {
            (member.uid, member.gid) = (self.options.caller.uid, self.options.caller.gid);
            member.xattrs.retain(|(name, _)| !is_roots(name));
        }
        let target = self.target;
        let mut top = Top::new(self.top_member.take(), self.blocks.clone());
        let stand_in = self.top;
        let mut failed = None;
        let mut tally = Tally::default();
        let finished = self.ingest.finish(&mut |key, head, tail| {
            let counted = of_record(key, head, || Ok(tail.len()));
            let taken = counted.and_then(|counted| {
                tally += counted;
                top.take(stand_in, target, key, head, tail)
            });
            Ok(taken.unwrap_or_else(|cause| {
                failed.get_or_insert(cause);
                true
            }))
        });
        match failed {
            Some(cause) => Err(cause),
            None => {
                finished?;
                top.count(tally);
                Ok(top)
            }
        }
    }
}
