//! Exporting: a tree of files as a tar archive.
//!
//! The archive shows one moment, however long it takes to write: what it reads is a view of the volume that stays
//! as it was when the export began ([`FileSystem::frozen`]).
//!
//! Everything goes along that an import takes: modes, owners, times, links, attributes, access control lists, devices, and
//! which parts of files are holes. Sockets do not: no archive holds them.
//!
//! # Bounds
//! In memory are a piece of contents, the extents of one sparse file, and a path for each file with several names
//! whose last name has not come yet.

use crate::fs::archive::{Member, MemberKind, Writer};
use crate::fs::attr::{Attr, FileKind, Ino};
use crate::fs::error::{Cause, Context, Subject};
use crate::fs::node::Outcome;
use crate::fs::tree::{Held, Step, Tree, TreePath, Walk};
use crate::fs::{FileSystem, Result, Seek};
use rustix::fs::{major, minor};
use std::collections::HashMap;
use std::io::{BufWriter, Write};

/// Bytes that are read and handed on at once.
const PIECE: usize = 256 << 10;

/// A sparse file in more parts than this is written as a whole.
const EXTENTS_MAX: usize = 1 << 20;

/// Smaller files are not looked at for holes.
const SPARSE_MIN: u64 = 8 << 10;

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Members that are not directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Sockets, which were left out.
    pub sockets: u64,
}

impl FileSystem {
    /// Writes an archive of what is in a directory, or of one file. Names in it are below `./`, which stands for the
    /// directory.
    ///
    /// # Errors
    /// [`Cause::Output`] if `out` fails.
    pub fn export(&self, path: &TreePath, out: impl Write) -> Result<Exported> {
        let frozen = self.frozen()?;
        let out = Writer::new(BufWriter::with_capacity(PIECE, out));
        let mut export = Export { fs: &frozen, out, links: HashMap::new(), done: Exported::default() };
        export.tree(path)?;
        let done = export.done;
        export.out.finish().context("export", || Subject::Path(path.to_bytes().into()))?;
        Ok(done)
    }
}

struct Export<'f, W: Write> {
    fs: &'f FileSystem,
    out: Writer<BufWriter<W>>,
    /// Files with names that have not come yet: the path of the first, and how many are left.
    links: HashMap<Ino, (Vec<u8>, u32)>,
    done: Exported,
}

impl<W: Write> Export<'_, W> {
    fn tree(&mut self, path: &TreePath) -> Result<()> {
        let start = Tree::new(self.fs).hold("export", path)?;
        if start.attr.kind != FileKind::Directory {
            let name = path.split_last().map(|(_, name)| name.to_vec()).unwrap_or_default();
            return self.add(&start, [b"./", &name[..]].concat(), path);
        }
        self.add(&start, b"./".to_vec(), path)?;
        // Paths in the archive are those below the start.
        let mut walk = Walk::start(start, TreePath::default())?;
        while let Some(step) = walk.next()? {
            let Step::Entry(_) = step else { continue };
            let Some(held) = walk.hold()? else { continue };
            let mut name = [b"./", &walk.path.to_bytes()[..]].concat();
            if held.attr.kind == FileKind::Directory {
                name.push(b'/');
            }
            self.add(&held, name, &walk.path)?;
            if held.attr.kind == FileKind::Directory {
                walk.enter()?;
            }
        }
        Ok(())
    }

    fn add(&mut self, held: &Held<'_>, name: Vec<u8>, path: &TreePath) -> Result<()> {
        self.try_add(held, name).context("export", || Subject::Path(path.to_bytes().into()))
    }

    fn try_add(&mut self, held: &Held<'_>, name: Vec<u8>) -> Outcome<()> {
        let attr = &held.attr;
        let Some(kind) = self.kind(attr, &name)? else {
            self.done.sockets += 1;
            return Ok(());
        };
        match kind {
            MemberKind::Directory => self.done.directories += 1,
            _ => self.done.files += 1,
        }
        let is_file = kind == MemberKind::File;
        let is_link = matches!(kind, MemberKind::HardLink(_));
        let member = Member {
            path: name,
            kind,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            mtime: attr.mtime,
            atime: Some(attr.atime),
            xattrs: if is_link {
                Vec::new()
            } else {
                self.fs.xattrs(attr.ino).map_err(|error| error.cause)?
            },
            size: if is_file { attr.size } else { 0 },
            extents: if is_file { self.extents(attr).map_err(|error| error.cause)? } else { None },
        };
        self.out.member(&member)?;
        if !is_file {
            return Ok(());
        }
        let extents = member.extents.unwrap_or_else(|| vec![(0, attr.size)]);
        extents.into_iter().try_for_each(|(offset, len)| self.data(attr.ino, offset, len))
    }

    /// What a file is in the archive; `None` if it has no place there.
    fn kind(&mut self, attr: &Attr, name: &[u8]) -> Outcome<Option<MemberKind>> {
        let several = attr.nlink > 1 && attr.kind != FileKind::Directory && attr.kind != FileKind::Socket;
        if several {
            if let Some((first, left)) = self.links.get_mut(&attr.ino) {
                *left -= 1;
                let (first, left) = (first.clone(), *left);
                if left == 0 {
                    self.links.remove(&attr.ino);
                }
                return Ok(Some(MemberKind::HardLink(first)));
            }
            self.links.insert(attr.ino, (name.to_vec(), attr.nlink - 1));
        }
        let device = (major(attr.rdev.into()), minor(attr.rdev.into()));
        Ok(Some(match attr.kind {
            FileKind::File => MemberKind::File,
            FileKind::Directory => MemberKind::Directory,
            FileKind::Symlink => {
                let target = self.fs.readlink(attr.ino).map_err(|error| error.cause)?;
                MemberKind::Symlink(target.to_vec())
            }
            FileKind::Fifo => MemberKind::Fifo,
            FileKind::CharDevice => MemberKind::CharDevice(device.0, device.1),
            FileKind::BlockDevice => MemberKind::BlockDevice(device.0, device.1),
            FileKind::Socket => return Ok(None),
        }))
    }

    /// Where a file has data, if it has holes.
    fn extents(&self, attr: &Attr) -> Result<Option<Vec<(u64, u64)>>> {
        if attr.size < SPARSE_MIN || attr.blocks * 512 >= attr.size {
            return Ok(None);
        }
        let mut extents = Vec::new();
        let mut at = 0;
        while at < attr.size {
            let start = match self.fs.seek(attr.ino, at, Seek::Data) {
                Err(error) if matches!(error.cause, Cause::PastEnd) => break,
                start => start?,
            };
            let end = self.fs.seek(attr.ino, start, Seek::Hole)?;
            extents.push((start, end - start));
            if extents.len() > EXTENTS_MAX {
                return Ok(None);
            }
            at = end;
        }
        Ok(Some(extents))
    }

    fn data(&mut self, ino: Ino, offset: u64, len: u64) -> Outcome<()> {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let piece = self.fs.read(ino, at, (end - at).min(PIECE as u64) as usize);
            let piece = piece.map_err(|error| error.cause)?;
            if piece.is_empty() {
                return Err(Cause::PastEnd);
            }
            self.out.data(&piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}
