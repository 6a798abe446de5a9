//! The inline contents of a file in hand: those of a small file, which stand beside its record.
//!
//! A small change of them, or of the record alone, is written as a patch of the file's value, and needs not even to read
//! what is stored. Where many patches lie over a value, or little would be spared, it is written as a whole.

use crate::fs::FileSystem;
use crate::fs::change::Change;
use crate::fs::chunk::overlay;
use crate::fs::entry::{INLINE_MAX, Record};
use crate::fs::error::Cause;
use crate::fs::keys;
use crate::fs::node::{Home, Node, Outcome};
use bytes::Bytes;

/// Patches over one value before it is put again: each makes reading it dearer.
pub(super) const PATCHES_MAX: usize = 16;

/// Contents are patched where that spares this many bytes, and half of them.
const SPARED_MIN: usize = 256;

/// The inline contents of a file in hand.
#[derive(Debug, Clone)]
pub(super) enum Inline {
    /// These, whatever is stored.
    Whole(Bytes),
    /// Those that are stored, under so many patches. Only if the next patch may lie over them they may not have been
    /// read.
    Stored { patches: usize, read: Option<Bytes> },
    /// Those that are stored, under so many patches and of the length `old_len`, with this part laid over them from a
    /// place on.
    Patched { patches: usize, old_len: usize, at: usize, part: Bytes },
}

impl Inline {
    /// No contents.
    pub const NONE: Inline = Inline::Whole(Bytes::new());

    /// Those of a file of which its record was read: none, or, to be changed where they are, those that may be patched.
    /// `None` if they are to be read.
    pub fn unread(record: &Record, patches: usize, change: bool) -> Option<Inline> {
        match usize::from(record.inline_len) {
            0 => Some(Inline::NONE),
            len if change && may_patch(patches, len, 0) => Some(Inline::Stored { patches, read: None }),
            _ => None,
        }
    }

    /// The patches that lie over what is stored, as far as is known.
    pub fn patches(&self) -> usize {
        match self {
            Inline::Whole(_) => 0,
            Inline::Stored { patches, .. } | Inline::Patched { patches, .. } => *patches,
        }
    }

    /// They are to be written as a whole, elsewhere. (They were read: only what stays in its place is not.)
    pub fn make_whole(&mut self) {
        if let Inline::Stored { read: Some(read), .. } = self {
            *self = Inline::Whole(std::mem::take(read));
        }
        debug_assert!(matches!(self, Inline::Whole(_)));
    }

    /// Those of a file without a name, all of which is in hand.
    pub fn in_hand(&self) -> Bytes {
        match self {
            Inline::Whole(bytes) | Inline::Stored { read: Some(bytes), .. } => bytes.clone(),
            Inline::Stored { read: None, .. } | Inline::Patched { .. } => {
                debug_assert!(false, "contents that were not read");
                Bytes::new()
            }
        }
    }
}

/// May contents, of which `part` bytes change and which have `len` then, be patched once more?
fn may_patch(patches: usize, len: usize, part: usize) -> bool {
    patches < PATCHES_MAX && len >= part + SPARED_MIN.max(part)
}

/// What was read of a file, which must fit together.
pub(super) fn checked(key: &[u8], record: &Record, inline: Bytes) -> Outcome<Bytes> {
    match inline.len() == usize::from(record.inline_len) {
        true => Ok(inline),
        false => Err(Cause::bad_record(key, "inline contents of another length")),
    }
}

impl Change<'_> {
    /// Writes a file's record, and of its inline contents what changed. How many patches lie over them then.
    pub(super) fn put_file(&mut self, key: &[u8], node: &Node) -> usize {
        let (head, len) = (node.record.encode(), usize::from(node.record.inline_len));
        match &node.inline {
            Inline::Patched { patches, old_len, at, part } => {
                let parts = [(*at as u32, &part[..])];
                self.batch.patch_split(key, &head, *old_len as u32, len as u32, &parts);
                patches + 1
            }
            Inline::Stored { patches, read } if read.is_none() || may_patch(*patches, len, 0) => {
                self.batch.put_head(key, &head);
                patches + 1
            }
            whole => {
                self.batch.put_split(key, &head, &whole.in_hand());
                0
            }
        }
    }
}

impl FileSystem {
    /// A file's inline contents.
    pub(super) fn inline(&self, node: &Node) -> Outcome<Bytes> {
        match &node.inline {
            Inline::Whole(bytes) | Inline::Stored { read: Some(bytes), .. } => Ok(bytes.clone()),
            Inline::Stored { read: None, .. } => {
                let (key, stored) = self.stored_inline(node)?;
                checked(&key, &node.record, stored)
            }
            Inline::Patched { at, part, .. } => Ok(overlay(&self.stored_inline(node)?.1, *at, part)),
        }
    }

    /// Those that are stored, and where.
    fn stored_inline(&self, node: &Node) -> Outcome<(Vec<u8>, Bytes)> {
        let key = match &node.home {
            Home::Entry(at) => keys::entry(at.parent, &at.name),
            Home::Shared | Home::Orphan => keys::inode(node.ino()).to_vec(),
        };
        let stored = self.volume.get(&key)?.unwrap_or_default().tail;
        Ok((key, stored))
    }

    /// Lays data over a file's inline contents, from `at` on, and gives them the length `len`, past which no data
    /// is. What is between is zeros.
    pub(super) fn lay_inline(&self, node: &mut Node, at: usize, data: &[u8], len: usize) -> Outcome<()> {
        debug_assert!(len <= INLINE_MAX);
        node.inline = match node.inline {
            Inline::Stored { patches, .. } if may_patch(patches, len, data.len()) => {
                let (old_len, part) = (usize::from(node.record.inline_len), Bytes::copy_from_slice(data));
                Inline::Patched { patches, old_len, at, part }
            }
            _ => {
                let old = self.inline(node)?;
                Inline::Whole(overlay(&old[..len.min(old.len())], at, data))
            }
        };
        node.record.inline_len = len as u16;
        Ok(())
    }
}
