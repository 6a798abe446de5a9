//! A memtable's node: a record whose bytes stand in the arena, ordered as internal keys are.

use crate::lsm::batch::Write;
use crate::lsm::key::{KeyRef, Kind, KindOrBound, SeqNo};
use std::cmp::Ordering;
use std::ptr::NonNull;

/// A record: where its key, its head and its tail stand, end to end; their lengths (a batch is shorter than
/// 4 GiB); and its internal key's trailer.
///
/// It is only made of slices of an arena, and lives in that arena's memtable, which hands out no copy of it:
/// whoever has a reference to it holds the memtable, and so the arena.
#[derive(Debug)]
pub(super) struct Record {
    whole: NonNull<u8>,
    trailer: u64,
    user_len: u32,
    head_len: u32,
    tail_len: u32,
}

// SAFETY: it points to bytes that nobody writes any more (see `arena.rs`); any thread may read them.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

impl Record {
    /// The record of a write.
    ///
    /// # Safety
    /// The write must stand in an arena that outlives the record.
    pub unsafe fn new(seq: SeqNo, write: &Write<'_>) -> Record {
        Record {
            whole: NonNull::from(write.whole).cast(),
            trailer: KeyRef::new(write.key(), seq, write.kind).trailer(),
            user_len: write.key_len as u32,
            head_len: write.head_len as u32,
            tail_len: write.tail().len() as u32,
        }
    }

    /// `len` bytes behind the first `from` ones.
    fn part(&self, from: u32, len: u32) -> &[u8] {
        // SAFETY: callers stay within the key, the head and the tail, whose slice `whole` is the start of. It stands
        // in an arena that outlives `self`, as the caller of `new` saw to, and whose bytes do not change.
        unsafe { std::slice::from_raw_parts(self.whole.as_ptr().add(from as usize), len as usize) }
    }

    pub fn user(&self) -> &[u8] {
        self.part(0, self.user_len)
    }

    pub fn head(&self) -> &[u8] {
        self.part(self.user_len, self.head_len)
    }

    pub fn tail(&self) -> &[u8] {
        self.part(self.user_len + self.head_len, self.tail_len)
    }

    pub fn seq(&self) -> SeqNo {
        self.trailer >> 8
    }

    pub fn kind(&self) -> Kind {
        Kind::from_u8(self.trailer as u8).expect("it was made of a kind")
    }

    pub fn key(&self) -> KeyRef<'_> {
        KeyRef { user: self.user(), seq: self.seq(), kind: KindOrBound::Kind(self.kind()) }
    }
}

/// Lets the skip list be searched by a borrowed key.
pub(super) trait AsKey {
    /// The user key and the trailer.
    fn parts(&self) -> (&[u8], u64);
}

impl AsKey for Record {
    fn parts(&self) -> (&[u8], u64) {
        (self.user(), self.trailer)
    }
}

impl AsKey for KeyRef<'_> {
    fn parts(&self) -> (&[u8], u64) {
        (self.user, self.trailer())
    }
}

impl<'a> std::borrow::Borrow<dyn AsKey + 'a> for Record {
    fn borrow(&self) -> &(dyn AsKey + 'a) {
        self
    }
}

macro_rules! ordered_as_key {
    ($($t:ty),*) => {$(
        impl PartialEq for $t {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }
        impl Eq for $t {}
        impl Ord for $t {
            fn cmp(&self, other: &Self) -> Ordering {
                let ((user, trailer), (other_user, other_trailer)) = (self.parts(), other.parts());
                user.cmp(other_user).then_with(|| other_trailer.cmp(&trailer))
            }
        }
        impl PartialOrd for $t {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    )*};
}
ordered_as_key!(Record, dyn AsKey + '_);
