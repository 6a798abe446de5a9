//! What members say of their files: owners, modes, times, extended attributes.

use super::Builder;
use crate::fs::acl::{self, Acl};
use crate::fs::archive::Member;
use crate::fs::attr::{FileKind, MODE_BITS, SETGID, SETUID};
use crate::fs::entry::{Record, encode_xattr_head};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::fs::xattr::{VALUE_MAX, check_xattr_name};

impl Builder<'_> {
    /// Owner, mode and times.
    pub(super) fn describe(&self, record: &mut Record, member: &Member) {
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

    pub(super) fn put_xattrs(&mut self, record: &mut Record, member: &Member) -> Outcome<()> {
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
}

/// Is it an attribute that only root may set?
pub(super) fn is_roots(name: &[u8]) -> bool {
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
