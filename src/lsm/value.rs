//! Values: a head and a tail, and patches of them.
//!
//! A value has two parts. The *head* stands beside its key in a table's data block; the *tail*,
//! when it is large, stands apart in a value block, so that a scan that looks only at keys and
//! heads never reads the tails. A plain value is all head.
//!
//! A **patch** changes bytes of the tail and sets its length; the head stays. As a record its head
//! describes it and its tail holds the new bytes, end to end:
//!
//! ```text
//! head: new length | number of parts | (offset | length) of each part     all varints
//! tail: the parts' bytes
//! ```
//!
//! Versions of a key are folded newest to oldest: patches gather until the first put (or
//! tombstone, or the end of history: an empty value), then lie over it, oldest first.

use crate::lsm::key::Kind;
use crate::lsm::{Error, Result, varint};
use bytes::Bytes;
use std::ops::ControlFlow;

/// The longest tail that a patch may make.
pub const MAX_PATCHED_LEN: usize = 1 << 30;

/// A key's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    /// The part that stands beside the key.
    pub head: Bytes,
    /// The part that may stand apart.
    pub tail: Bytes,
}

/// Which part of a value a read needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The head; tails are left empty and not read.
    Head,
    /// All of it.
    Whole,
}

/// Refuses a patch that no reader would take.
pub(crate) fn check_patch(key: &[u8], new_len: u32, parts: &[(u32, &[u8])]) -> Result<()> {
    if new_len as usize > MAX_PATCHED_LEN {
        return Err(Error::TooLarge { what: "value", len: new_len as usize, limit: MAX_PATCHED_LEN });
    }
    let fits = |(offset, bytes): &(u32, &[u8])| *offset as usize + bytes.len() <= new_len as usize;
    if !parts.iter().all(fits) {
        let key = key.escape_ascii().to_string();
        return Err(Error::BadPatch { key, what: "a part ends past the new length" });
    }
    Ok(())
}

/// Encodes a patch's head.
pub(crate) fn encode_patch_head(out: &mut Vec<u8>, new_len: u32, parts: &[(u32, &[u8])]) {
    varint::put(out, u64::from(new_len));
    varint::put(out, parts.len() as u64);
    for (offset, bytes) in parts {
        varint::put(out, u64::from(*offset));
        varint::put(out, bytes.len() as u64);
    }
}

/// Lays one patch over `tail`; `None` if its record is malformed.
fn apply_patch(tail: &mut Vec<u8>, head: &[u8], mut bytes: &[u8]) -> Option<()> {
    let mut head = head;
    let new_len = varint::take_usize(&mut head).filter(|len| *len <= MAX_PATCHED_LEN)?;
    tail.resize(new_len, 0);
    for _ in 0..varint::take_usize(&mut head)? {
        let offset = varint::take_usize(&mut head)?;
        let len = varint::take_usize(&mut head)?;
        let part = varint::take_bytes(&mut bytes, len)?;
        tail.get_mut(offset..offset.checked_add(len)?)?.copy_from_slice(part);
    }
    Some(())
}

/// Folds the versions of one key, newest first, into its value.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// Patches so far, newest first.
    patches: Vec<Value>,
    base: Option<Value>,
}

impl Fold {
    /// Takes the next older version; `Break` when older ones no longer matter. `value` gives the whole
    /// value, whether or not its tail stands in a blob file.
    pub fn push(&mut self, kind: Kind, value: impl FnOnce() -> Result<Value>) -> Result<ControlFlow<()>> {
        match kind {
            Kind::Patch => {
                self.patches.push(value()?);
                return Ok(ControlFlow::Continue(()));
            }
            Kind::Put | Kind::FirstPut | Kind::BlobPointer | Kind::FirstBlobPointer => {
                self.base = Some(value()?);
            }
            Kind::Tombstone | Kind::RangeTombstone => {}
        }
        Ok(ControlFlow::Break(()))
    }

    /// Has it taken no version yet?
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.patches.is_empty()
    }

    /// The value; `None` if the key is absent. Empties the fold.
    pub fn finish(&mut self, key: &[u8]) -> Result<Option<Value>> {
        let base = self.base.take();
        if self.patches.is_empty() {
            return Ok(base);
        }
        let Value { head, tail } = base.unwrap_or_default();
        let mut tail = Vec::from(tail);
        for patch in self.patches.drain(..).rev() {
            apply_patch(&mut tail, &patch.head, &patch.tail).ok_or_else(|| Error::BadPatch {
                key: key.escape_ascii().to_string(),
                what: "it does not fit its own record",
            })?;
        }
        Ok(Some(Value { head, tail: tail.into() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(new_len: u32, parts: &[(u32, &[u8])]) -> Value {
        let mut head = Vec::new();
        encode_patch_head(&mut head, new_len, parts);
        let tail: Vec<u8> = parts.iter().flat_map(|(_, b)| b.iter().copied()).collect();
        Value { head: head.into(), tail: tail.into() }
    }

    fn fold(versions: &[(Kind, Value)]) -> Option<Value> {
        let mut fold = Fold::default();
        for (kind, value) in versions {
            if fold.push(*kind, || Ok(value.clone())).unwrap().is_break() {
                break;
            }
        }
        fold.finish(b"k").unwrap()
    }

    #[test]
    fn patches_lie_over_the_base_oldest_first() {
        let base = Value { head: "h".into(), tail: "abcdef".into() };
        let got = fold(&[
            (Kind::Patch, patch(8, &[(7, b"Z")])),
            (Kind::Patch, patch(4, &[(0, b"XY"), (3, b"W")])),
            (Kind::Put, base),
            (Kind::Patch, patch(1, &[])),
        ]);
        assert_eq!(got, Some(Value { head: "h".into(), tail: Bytes::from_static(b"XYcW\0\0\0Z") }));
    }

    #[test]
    fn a_patch_over_nothing_patches_an_empty_value() {
        let want = Some(Value { head: Bytes::new(), tail: Bytes::from_static(b"\0\0a") });
        assert_eq!(fold(&[(Kind::Patch, patch(3, &[(2, b"a")])), (Kind::Tombstone, Value::default())]), want);
        assert_eq!(fold(&[(Kind::Patch, patch(3, &[(2, b"a")]))]), want);
        assert_eq!(fold(&[]), None);
    }

    #[test]
    fn a_malformed_patch_is_an_error() {
        for head in [&b""[..], b"\x01", b"\x01\x01\x05\x01", b"\xff\xff\xff\xff\x7f\x00"] {
            let mut fold = Fold::default();
            let value = Value { head: Bytes::copy_from_slice(head), tail: "x".into() };
            let _ = fold.push(Kind::Patch, || Ok(value)).unwrap();
            assert!(fold.finish(b"k").is_err(), "{head:?}");
        }
    }
}
