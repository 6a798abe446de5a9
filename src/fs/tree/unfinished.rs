//! A file that is being written under a name of its own, until all of it is there: then it is put in the place of what
//! has its name.

use super::{FILE_MODE, Held, Tree};
use crate::fs::acl;
use crate::fs::xattr::CAPABILITY;
use crate::fs::{Attr, Caller, Cause, Error, Ino, RenameMode, Result, SetAttr, Subject, XattrMode};

/// The mode of a file that is to replace another, before it has that one's.
const PRIVATE_MODE: u32 = 0o600;
/// Names that are tried.
const NAMES_MAX: u32 = 1000;

/// The file. Removed when it is dropped unfinished.
pub(super) struct Unfinished<'a> {
    file: Held<'a>,
    caller: Caller,
    dir: Ino,
    name: Option<String>,
}

impl<'a> Unfinished<'a> {
    /// Makes the file. One that `replaces` another nobody else can read, until it is as that one.
    pub fn create(tree: &Tree<'a>, dir: Ino, replaces: bool) -> Result<Unfinished<'a>> {
        let mode = if replaces { PRIVATE_MODE } else { FILE_MODE };
        let mut tried = 0;
        loop {
            let name = format!(".lsmfs-put.{tried}");
            match tree.fs.create(dir, name.as_bytes(), mode, tree.caller) {
                Err(Error { cause: Cause::Exists, .. }) if tried < NAMES_MAX => tried += 1,
                created => {
                    let file = Held { fs: tree.fs, attr: created? };
                    return Ok(Unfinished { file, caller: tree.caller, dir, name: Some(name) });
                }
            }
        }
    }

    /// Writes a piece of the contents.
    pub fn write(&self, offset: u64, piece: &[u8]) -> Result<()> {
        let written = self.file.fs.write(self.file.attr.ino, offset, piece)?;
        match written == piece.len() {
            true => Ok(()),
            false => Err(Cause::FileTooLarge.of("write", Subject::Inode(self.file.attr.ino))),
        }
    }

    /// Gives the file its name, in place of `old`, whose owner, mode and attributes it takes over.
    pub fn finish(mut self, name: &[u8], old: Option<&Attr>) -> Result<()> {
        let fs = self.file.fs;
        if let Some(old) = old {
            self.take_over(old)?;
        }
        let Some(own) = &self.name else { return Ok(()) };
        fs.rename(self.dir, own.as_bytes(), self.dir, name, RenameMode::Replace)?;
        fs.tell_name(self.dir, own.as_bytes());
        fs.tell_name(self.dir, name);
        // It may have other names, or be open.
        old.into_iter().for_each(|old| fs.tell_inode(old.ino));
        self.name = None;
        Ok(())
    }

    /// Makes the file as `old` is, but for its contents. What these gave it, its capabilities, goes with them. Nobody
    /// else can read it before it has the access list: until then the mode would say more than that does.
    fn take_over(&self, old: &Attr) -> Result<()> {
        let (fs, ino, root) = (self.file.fs, self.file.attr.ino, Caller::new(0, 0));
        let old = fs.getattr(old.ino)?;
        // The list that the directory gives to what is made in it.
        fs.removexattr(ino, acl::ACCESS)?;
        let (uid, gid, private) = (Some(old.uid), Some(old.gid), Some(PRIVATE_MODE));
        fs.setattr(ino, &SetAttr { uid, gid, mode: private, ..SetAttr::default() }, self.caller)?;
        for (name, value) in fs.xattrs(old.ino)?.into_iter().filter(|(name, _)| name != CAPABILITY) {
            fs.setxattr(ino, &name, &value, XattrMode::Set, root)?;
        }
        fs.setattr(ino, &SetAttr { mode: Some(old.mode), ..SetAttr::default() }, self.caller)?;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // Should this fail too, the file is left, and whoever caused the drop is told why.
            let _ = self.file.fs.unlink(self.dir, name.as_bytes());
            self.file.fs.tell_name(self.dir, name.as_bytes());
        }
    }
}
