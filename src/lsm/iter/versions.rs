//! The versions of one key that its value is folded from, as a backward scan met them.
//!
//! Whoever asks for keys alone pays nothing for the values: what stands in blob files is loaded, and
//! patches are laid over it, when the value is asked for. What could not be read is an error then.

use crate::lsm::blob::BlobReader;
use crate::lsm::key::Kind;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::value::Fold;
use crate::lsm::{Result, Value};
use bytes::Bytes;

/// One version, as its record has it: the tail may be a pointer.
#[derive(Debug)]
struct Version {
    kind: Kind,
    head: Bytes,
    tail: Result<Bytes>,
}

/// The versions of a key, newest first: patches, then what they lie over, if that is anything.
#[derive(Debug, Default)]
pub(crate) struct Versions(Vec<Version>);

impl Versions {
    /// Forgets them, keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds the next one. They may come oldest first, if [`Versions::reverse`] ends it.
    pub fn push(&mut self, kind: Kind, head: &[u8], tail: Result<Bytes>) {
        self.0.push(Version { kind, head: Bytes::copy_from_slice(head), tail });
    }

    pub fn reverse(&mut self) {
        self.0.reverse();
    }

    /// Is the key there?
    pub fn visible(&self) -> bool {
        self.0.first().is_some_and(|newest| newest.kind.is_patch() || newest.kind.blob().is_some())
    }

    /// The value; empty if the key is absent.
    pub fn value(&self, key: &[u8], blobs: &BlobReader) -> Result<Value> {
        let mut fold = Fold::default();
        for Version { kind, head, tail } in &self.0 {
            let whole =
                || blobs.resolve(*kind, Value { head: head.clone(), tail: tail.clone()? }, CacheUse::Fill);
            if fold.push(*kind, whole)?.is_break() {
                break;
            }
        }
        Ok(fold.finish(key)?.unwrap_or_default())
    }
}
