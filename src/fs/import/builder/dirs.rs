//! Directories of an import.

use super::{Builder, CACHED, CACHED_LEN, DIR_MODE, Dir};
use crate::fs::archive::{Member, MemberKind};
use crate::fs::attr::{FileKind, Ino};
use crate::fs::entry::{Entry, Record, decode_parent, encode_parent};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::Outcome;

impl Builder<'_> {
    /// Finds a directory by its names, and makes it where the archive did not speak of it before.
    pub(super) fn dir_of(&mut self, parents: &[&[u8]]) -> Outcome<Ino> {
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

    pub(super) fn make_dir(&mut self, parent: Ino, name: &[u8]) -> Outcome<Ino> {
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

    pub(super) fn write_dirs(&mut self) -> Outcome<()> {
        for dir in std::mem::take(&mut self.dirs).into_values() {
            self.ingest.put(&keys::entry(dir.parent, &dir.name), &dir.record.encode(), b"")?;
        }
        Ok(())
    }

    /// The member of the directory that all goes to.
    pub(super) fn base_member(&mut self, member: &Member) -> Outcome<()> {
        if member.kind != MemberKind::Directory {
            return Err(Cause::Invalid("a member without a name that is no directory"));
        }
        match self.base == self.top {
            true => self.top_member = Some(member.clone()),
            false => self.set_dir(self.base, member)?,
        }
        Ok(())
    }

    pub(super) fn directory(&mut self, dir: Ino, name: &[u8], member: &Member) -> Outcome<()> {
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
}
