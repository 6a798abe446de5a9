//! Internal keys: a user key, the sequence number of the write, and what the write did.
//!
//! Order: user keys ascending as bytes, then sequence numbers *descending*, then kinds
//! descending, so that the newest version of a key comes first. [`KeyRef`]'s `Ord` is that order.
//!
//! Encoded (in table blocks):
//!
//! ```text
//! user key | trailer (8 bytes, big-endian): sequence number << 8 | kind
//! ```

use std::cmp::Ordering;

/// The place of a write in the one order of all writes in a store. 56 bits; 0 is before all writes.
pub type SeqNo = u64;

/// The largest sequence number that a trailer holds.
pub const MAX_SEQ: SeqNo = (1 << 56) - 1;

/// The length of an encoded key's trailer.
pub const TRAILER_LEN: usize = 8;

/// What a record does to its key. The numbers are part of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key is deleted.
    Tombstone = 0,
    /// The key has this value.
    Put = 1,
    /// The key has this value, and the writer knew that it was absent before.
    FirstPut = 2,
    /// Bytes of the value change (see [`crate::lsm::value`]).
    Patch = 3,
    /// Every key from this one up to an end (the head) is deleted, see [`crate::lsm::Batch::delete_range`].
    RangeTombstone = 4,
    /// A put whose value's tail stands in a blob file (see `lsm/blob`).
    BlobPointer = 5,
    /// A first-put whose value's tail stands in a blob file.
    FirstBlobPointer = 6,
    /// The value has this head, and bytes of its tail may change (see [`crate::lsm::value`]).
    HeadPatch = 7,
}

impl Kind {
    /// The kind of a number, if records have it.
    pub fn from_u8(n: u8) -> Option<Kind> {
        Some(match n {
            0 => Kind::Tombstone,
            1 => Kind::Put,
            2 => Kind::FirstPut,
            3 => Kind::Patch,
            4 => Kind::RangeTombstone,
            5 => Kind::BlobPointer,
            6 => Kind::FirstBlobPointer,
            7 => Kind::HeadPatch,
            _ => return None,
        })
    }

    /// Does the record's tail stand in a blob file?
    pub fn is_blob(self) -> bool {
        matches!(self, Kind::BlobPointer | Kind::FirstBlobPointer)
    }

    /// Does the record change a value that an older one gives?
    pub fn is_patch(self) -> bool {
        matches!(self, Kind::Patch | Kind::HeadPatch)
    }

    /// Does the record say that the key was absent before?
    pub fn is_first(self) -> bool {
        matches!(self, Kind::FirstPut | Kind::FirstBlobPointer)
    }

    /// What a put becomes when its tail goes to a blob file; `None` for what is no put.
    pub fn blob(self) -> Option<Kind> {
        match self {
            Kind::Put | Kind::BlobPointer => Some(Kind::BlobPointer),
            Kind::FirstPut | Kind::FirstBlobPointer => Some(Kind::FirstBlobPointer),
            Kind::Tombstone | Kind::Patch | Kind::HeadPatch | Kind::RangeTombstone => None,
        }
    }
}

/// A borrowed internal key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The user's key.
    pub user: &'a [u8],
    /// The write's sequence number.
    pub seq: SeqNo,
    /// What the write did.
    pub kind: KindOrBound,
}

/// A record's kind, or the bound that sorts before every kind of its sequence number.
///
/// Searches use [`KindOrBound::First`]: no record carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KindOrBound {
    /// A record's kind.
    Kind(Kind),
    /// Before every record of the same user key and sequence number.
    First,
}

impl KindOrBound {
    /// Is it the kind of a record whose tail stands in a blob file?
    pub fn is_blob(self) -> bool {
        matches!(self, KindOrBound::Kind(kind) if kind.is_blob())
    }
}

impl<'a> KeyRef<'a> {
    /// The key of a record.
    pub fn new(user: &'a [u8], seq: SeqNo, kind: Kind) -> KeyRef<'a> {
        KeyRef { user, seq, kind: KindOrBound::Kind(kind) }
    }

    /// The bound from which every version of `user` that a reader at `seq` may see follows.
    pub fn bound(user: &'a [u8], seq: SeqNo) -> KeyRef<'a> {
        KeyRef { user, seq, kind: KindOrBound::First }
    }

    /// The trailer: sequence number and kind in one number (bounds count as kind 255).
    pub fn trailer(&self) -> u64 {
        let kind = match self.kind {
            KindOrBound::Kind(k) => k as u8,
            KindOrBound::First => u8::MAX,
        };
        self.seq << 8 | u64::from(kind)
    }

    /// Appends the encoded key.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.user);
        out.extend_from_slice(&self.trailer().to_be_bytes());
    }

    /// Reads an encoded key; `None` if it is too short or its kind is unknown.
    pub fn decode(encoded: &'a [u8]) -> Option<KeyRef<'a>> {
        let (user, trailer) = encoded.split_last_chunk::<TRAILER_LEN>()?;
        let trailer = u64::from_be_bytes(*trailer);
        let kind = match trailer as u8 {
            u8::MAX => KindOrBound::First,
            k => KindOrBound::Kind(Kind::from_u8(k)?),
        };
        Some(KeyRef { user, seq: trailer >> 8, kind })
    }
}

impl Ord for KeyRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.user.cmp(other.user).then_with(|| other.trailer().cmp(&self.trailer()))
    }
}

impl PartialOrd for KeyRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_come_first_and_bounds_before_them() {
        let order = [
            KeyRef::bound(b"a", 9),
            KeyRef::new(b"a", 9, Kind::Patch),
            KeyRef::new(b"a", 9, Kind::Tombstone),
            KeyRef::new(b"a", 8, Kind::Put),
            KeyRef::bound(b"aa", 1),
            KeyRef::new(b"aa", 1, Kind::Put),
        ];
        assert!(order.is_sorted());
    }

    #[test]
    fn encoded_keys_read_back_and_garbage_does_not() {
        for key in [
            KeyRef::new(b"", 0, Kind::Put),
            KeyRef::new(b"k\0", MAX_SEQ, Kind::Tombstone),
            KeyRef::bound(b"k", 3),
        ] {
            let mut buf = Vec::new();
            key.encode_to(&mut buf);
            assert_eq!(KeyRef::decode(&buf), Some(key));
        }
        assert_eq!(KeyRef::decode(b"short"), None);
        for kind in [Kind::HeadPatch as u8 + 1, 200] {
            assert_eq!(KeyRef::decode(&[0, 0, 0, 0, 0, 0, 0, 0, kind]), None);
        }
    }
}
