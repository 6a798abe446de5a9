//! Files of an import, and their names.

use super::{Builder, names};
use crate::fs::archive::{Member, MemberKind, Reader};
use crate::fs::attr::{FileKind, Ino, SYMLINK_MAX};
use crate::fs::entry::{Entry, MAX_FILE_SIZE, Record, encode_link, encode_orphan};
use crate::fs::error::Cause;
use crate::fs::import::appear::DIRECT_MAX;
use crate::fs::import::contents::{Contents, Held};
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::lsm::Value;
use rustix::fs::makedev;
use std::io::Read;

impl Builder<'_> {
    pub(super) fn file(
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
    pub(super) fn link(&mut self, dir: Ino, name: &[u8], target: &[u8]) -> Outcome<()> {
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
    pub(super) fn displace(&mut self, dir: Ino, name: &[u8], found: Option<(Entry, Value)>) -> Outcome<()> {
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
}
