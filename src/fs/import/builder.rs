//! Files of an import, as records in an ingestion.
//!
//! Each member is given its place at once: its directory is looked up among what was imported, a name that is there
//! already is replaced. Directories' records change with every subdirectory: those in use are kept in memory, a
//! bounded number of them, and written back when there are too many.
//!
//! The target directory stands in the import for itself under a number of its own, the *top*. What has that for its
//! directory is not installed but handed over ([`Top`]), to be given its real place when the import appears.

use super::ImportOptions;
use super::appear::{DIRECT_MAX, Top};
use super::contents::{Contents, Held};
use super::leftover::ranges;
use crate::fs::FileSystem;
use crate::fs::acl::{self, Acl};
use crate::fs::archive::{Member, MemberKind, Reader};
use crate::fs::attr::{FileKind, Ino, MODE_BITS, SETGID, SETUID, SYMLINK_MAX, Timestamp};
use crate::fs::control::check_changeable;
use crate::fs::entry::{
    Entry, MAX_FILE_SIZE, Record, decode_parent, encode_link, encode_orphan, encode_parent, encode_xattr_head,
};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Outcome, check_name, decode_entry};
use crate::fs::tally::of_record;
use crate::fs::xattr::{VALUE_MAX, check_xattr_name};
use crate::lsm::ingest::Ingest;
use crate::lsm::{Tally, Value};
use rustix::fs::makedev;
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

    /// Finds a directory by its names, and makes it where the archive did not speak of it before.
    fn dir_of(&mut self, parents: &[&[u8]]) -> Outcome<Ino> {
        let path = parents.join(&b'/');
        if let Some(ino) = self.paths.get(&path) {
            return Ok(*ino);
        }
        let mut dir = self.base;
        for name in parents {
            dir = match self.find(dir, name)? {
                None => {
                    self.claim(dir, name, None)?;
                    self.make_dir(dir, name)?
                }
                Some((Entry::File(record), _)) if record.kind == FileKind::Directory => record.ino,
                Some(_) => return Err(Cause::NotDirectory),
            };
        }
        if self.paths.len() >= CACHED {
            self.paths.clear();
        }
        if path.len() <= CACHED_LEN {
            self.paths.insert(path, dir);
        }
        Ok(dir)
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

    fn make_dir(&mut self, parent: Ino, name: &[u8]) -> Outcome<Ino> {
        let ino = self.number()?;
        let record = Record::new(FileKind::Directory, ino, DIR_MODE, self.options.caller, self.now);
        self.ingest.put(&keys::entry(parent, name), &record.encode(), b"")?;
        self.ingest.put(&keys::parent(ino), &encode_parent(parent, name), b"")?;
        if parent != self.top {
            let dir = self.dir(parent)?;
            dir.record.nlink = dir.record.nlink.checked_add(1).ok_or(Cause::TooManyLinks)?;
        }
        Ok(ino)
    }

    /// An imported directory other than the top, to be changed.
    fn dir(&mut self, ino: Ino) -> Outcome<&mut Dir> {
        if !self.dirs.contains_key(&ino) {
            if self.dirs.len() >= CACHED {
                self.write_dirs()?;
            }
            let key = keys::parent(ino);
            let bad = |what| Cause::bad_record(&key, what);
            let head = self.ingest.get(&key)?.ok_or_else(|| bad("missing"))?.head;
            let place = decode_parent(&head).map_err(bad)?;
            let Some((Entry::File(record), _)) = self.find(place.parent, &place.name)? else {
                return Err(bad("it leads to no directory"));
            };
            self.dirs.insert(ino, Dir { parent: place.parent, name: place.name, record });
        }
        self.dirs.get_mut(&ino).ok_or(Cause::Stale)
    }

    fn write_dirs(&mut self) -> Outcome<()> {
        for dir in std::mem::take(&mut self.dirs).into_values() {
            self.ingest.put(&keys::entry(dir.parent, &dir.name), &dir.record.encode(), b"")?;
        }
        Ok(())
    }

    /// The member of the directory that all goes to.
    fn base_member(&mut self, member: &Member) -> Outcome<()> {
        if member.kind != MemberKind::Directory {
            return Err(Cause::Invalid("a member without a name that is no directory"));
        }
        match self.base == self.top {
            true => self.top_member = Some(member.clone()),
            false => self.set_dir(self.base, member)?,
        }
        Ok(())
    }

    fn directory(&mut self, dir: Ino, name: &[u8], member: &Member) -> Outcome<()> {
        let ino = match self.find(dir, name)? {
            Some((Entry::File(record), _)) if record.kind == FileKind::Directory => record.ino,
            found => {
                self.claim(dir, name, found)?;
                self.make_dir(dir, name)?
            }
        };
        self.set_dir(ino, member)
    }

    /// Gives a directory the attributes that its member says.
    fn set_dir(&mut self, ino: Ino, member: &Member) -> Outcome<()> {
        let mut record = self.dir(ino)?.record.clone();
        self.describe(&mut record, member);
        self.put_xattrs(&mut record, member)?;
        self.dir(ino)?.record = record;
        Ok(())
    }

    /// Owner, mode and times.
    fn describe(&self, record: &mut Record, member: &Member) {
        record.mode = member.mode & MODE_BITS;
        (record.uid, record.gid) = match self.options.owners {
            true => (member.uid, member.gid),
            false => {
                record.mode &=
                    if record.kind == FileKind::Directory { MODE_BITS } else { !(SETUID | SETGID) };
                (self.options.caller.uid, self.options.caller.gid)
            }
        };
        record.mtime = member.mtime;
        record.atime = member.atime.unwrap_or(member.mtime);
        record.ctime = self.now;
    }

    fn put_xattrs(&mut self, record: &mut Record, member: &Member) -> Outcome<()> {
        for (name, value) in &member.xattrs {
            check_xattr_name(name)?;
            if !self.options.owners && is_roots(name) {
                continue;
            }
            if value.len() > VALUE_MAX {
                return Err(Cause::TooLong);
            }
            let Some(value) = xattr(record, name, value)? else { continue };
            record.has_xattrs = true;
            self.ingest.put(&keys::xattr(record.ino, name), &encode_xattr_head(), &value)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        dir: Ino,
        name: &[u8],
        member: &Member,
        reader: &mut Reader<impl Read>,
    ) -> Outcome<()> {
        let found = self.find(dir, name)?;
        self.claim(dir, name, found)?;
        let ino = self.number()?;
        let kind = match member.kind {
            MemberKind::File => FileKind::File,
            MemberKind::Symlink(_) => FileKind::Symlink,
            MemberKind::Fifo => FileKind::Fifo,
            MemberKind::CharDevice(..) => FileKind::CharDevice,
            MemberKind::BlockDevice(..) => FileKind::BlockDevice,
            MemberKind::Directory | MemberKind::HardLink(_) => return Err(Cause::Invalid("not a file")),
        };
        let mut record = Record::new(kind, ino, 0, self.options.caller, self.now);
        self.describe(&mut record, member);
        let mut inline = Vec::new();
        match &member.kind {
            MemberKind::File => {
                let held = self.contents(ino, member, reader)?;
                (record.size, record.pages, inline) = (member.size, held.pages, held.inline);
            }
            MemberKind::Symlink(target) => {
                match target.len() {
                    _ if target.contains(&0) => {
                        return Err(Cause::Invalid("a symbolic link to a path with a zero byte"));
                    }
                    1..=SYMLINK_MAX => inline = target.clone(),
                    0 => return Err(Cause::Invalid("a symbolic link to nothing")),
                    _ => return Err(Cause::NameTooLong),
                }
                (record.size, record.mode) = (target.len() as u64, 0o777);
            }
            MemberKind::CharDevice(major, minor) | MemberKind::BlockDevice(major, minor) => {
                let number = u32::try_from(makedev(*major, *minor));
                record.rdev = number.map_err(|_| Cause::Invalid("a device number that is too large"))?;
            }
            _ => {}
        }
        record.inline_len = inline.len() as u16;
        self.put_xattrs(&mut record, member)?;
        self.put_file(dir, name, &record, &inline)
    }

    fn contents(&mut self, ino: Ino, member: &Member, reader: &mut Reader<impl Read>) -> Outcome<Held> {
        if member.size > MAX_FILE_SIZE {
            return Err(Cause::FileTooLarge);
        }
        let mut contents = Contents::new(ino, member.size);
        reader.contents(|offset, bytes| contents.add(&mut self.ingest, offset, bytes))?;
        contents.finish(&mut self.ingest)
    }

    /// Gives a file its first name. Files of the top that would make its change too large are kept at a key of
    /// their own from the start, as those with several names are.
    fn put_file(&mut self, dir: Ino, name: &[u8], record: &Record, inline: &[u8]) -> Outcome<()> {
        if dir == self.top {
            self.top_bytes += inline.len();
            if self.top_bytes > DIRECT_MAX && !inline.is_empty() {
                self.ingest.put(&keys::inode(record.ino), &record.encode(), inline)?;
                return self.put_link(dir, name, record);
            }
        }
        Ok(self.ingest.put(&keys::entry(dir, name), &record.encode(), inline)?)
    }

    fn put_link(&mut self, dir: Ino, name: &[u8], record: &Record) -> Outcome<()> {
        self.ingest.put(&keys::entry(dir, name), &encode_link(record), b"")?;
        Ok(self.ingest.put(&keys::inode_name(record.ino, dir, name), b"", b"")?)
    }

    /// Gives a file that was imported another name.
    fn link(&mut self, dir: Ino, name: &[u8], target: &[u8]) -> Outcome<()> {
        let missing = Cause::Invalid("a hard link to what is not in the archive before it");
        let names = names(target)?;
        let Some((old_name, parents)) = names.split_last() else { return Err(missing) };
        let old_dir = self.dir_of(parents)?;
        let Some((entry, value)) = self.find(old_dir, old_name)? else { return Err(missing) };
        if (old_dir, *old_name) == (dir, name) {
            return Ok(());
        }
        let (mut record, inline) = match entry {
            Entry::File(record) if record.kind == FileKind::Directory => {
                return Err(Cause::NotPermitted("a directory has one name only"));
            }
            Entry::File(record) => {
                self.put_link(old_dir, old_name, &record)?;
                (record, value.tail)
            }
            Entry::Link(ino) => self.shared(ino)?,
        };
        let replaced = self.find(dir, name)?;
        record.nlink = record.nlink.checked_add(1).ok_or(Cause::TooManyLinks)?;
        self.ingest.put(&keys::inode(record.ino), &record.encode(), &inline)?;
        self.claim(dir, name, replaced)?;
        self.put_link(dir, name, &record)
    }

    /// A file that is kept at its own key.
    fn shared(&self, ino: Ino) -> Outcome<(Record, bytes::Bytes)> {
        let key = keys::inode(ino);
        let bad = |what| Cause::bad_record(&key, what);
        let value = self.ingest.get(&key)?.ok_or_else(|| bad("missing"))?;
        Ok((Record::decode(&value.head).map_err(bad)?, value.tail))
    }

    /// Takes a name from what has it, for another file to have.
    fn displace(&mut self, dir: Ino, name: &[u8], found: Option<(Entry, Value)>) -> Outcome<()> {
        let gone = match found {
            None => return Ok(()),
            Some((Entry::File(record), _)) if record.kind == FileKind::Directory => {
                return Err(Cause::Invalid("it was a directory before in the archive"));
            }
            Some((Entry::File(record), _)) => record,
            Some((Entry::Link(ino), _)) => {
                let (mut record, inline) = self.shared(ino)?;
                self.ingest.delete(&keys::inode_name(ino, dir, name))?;
                record.nlink = record.nlink.saturating_sub(1);
                if record.nlink > 0 {
                    return Ok(self.ingest.put(&keys::inode(ino), &record.encode(), &inline)?);
                }
                self.ingest.delete(&keys::inode(ino))?;
                record
            }
        };
        if gone.has_more() {
            let counted = encode_orphan(gone.tally().bytes as u64);
            self.ingest.put(&keys::orphan(gone.ino), &counted, b"")?;
        }
        Ok(())
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

/// Is it an attribute that only root may set?
fn is_roots(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

/// An attribute's value as it is kept, `None` if it is not. An access list sets the mode.
fn xattr(record: &mut Record, name: &[u8], value: &[u8]) -> Outcome<Option<Vec<u8>>> {
    if !matches!(name, acl::ACCESS | acl::DEFAULT) {
        return Ok(Some(value.to_vec()));
    }
    let list = Acl::decode(value).ok_or(Cause::Invalid("an access control list that makes no sense"))?;
    let Some(mut list) = list else { return Ok(None) };
    match (name, record.kind) {
        (acl::ACCESS, FileKind::Symlink) => Err(Cause::NotSupported),
        (acl::ACCESS, _) => {
            record.mode = list.show_in(record.mode);
            Ok(Some(list.encode()).filter(|_| !list.is_only_mode()))
        }
        (_, FileKind::Directory) => Ok(Some(list.encode())),
        _ => Err(Cause::NotAllowed),
    }
}
