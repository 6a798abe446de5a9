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
//! A **patch with a head** gives the value another head, too. It has all of that one, so whoever reads heads
//! alone needs nothing older:
//!
//! ```text
//! head: the value's
//! tail: nothing (the value's stays), or old length | new length (varints)
//!       | (offset | length, varints, and the bytes) of each part
//! ```
//!
//! The old length is that of the tail it lies over. Where what it lay over was lost to damage, a reader mostly finds
//! another one there: that is an error, and not zeros in place of what is lost.
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

/// Puts a tail at the start of `out` and returns its length; one that is longer than `out` is not put there.
pub(crate) fn put_tail(tail: &[u8], out: &mut [u8]) -> usize {
    if let Some(place) = out.get_mut(..tail.len()) {
        place.copy_from_slice(tail);
    }
    tail.len()
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

/// Encodes the tail of a patch with a head, one that changes the value's tail.
pub(crate) fn encode_patch_tail(out: &mut Vec<u8>, old_len: u32, new_len: u32, parts: &[(u32, &[u8])]) {
    varint::put(out, u64::from(old_len));
    varint::put(out, u64::from(new_len));
    for (offset, bytes) in parts {
        varint::put(out, u64::from(*offset));
        varint::put_prefixed(out, bytes);
    }
}

/// What is wrong with a patch.
type Fits = std::result::Result<(), &'static str>;

const MALFORMED: &str = "it does not fit its own record";

/// Lays one patch over `tail`.
fn apply_patch(tail: &mut Vec<u8>, mut head: &[u8], mut bytes: &[u8]) -> Fits {
    let mut apply = || {
        resize(tail, &mut head)?;
        for _ in 0..varint::take_usize(&mut head)? {
            let offset = varint::take_usize(&mut head)?;
            let len = varint::take_usize(&mut head)?;
            lay(tail, offset, varint::take_bytes(&mut bytes, len)?)?;
        }
        Some(())
    };
    apply().ok_or(MALFORMED)
}

/// As [`apply_patch`], one with a head that changes the tail.
fn apply_head_patch(tail: &mut Vec<u8>, mut patch: &[u8]) -> Fits {
    if varint::take_usize(&mut patch).ok_or(MALFORMED)? != tail.len() {
        return Err("it lies over a value of another length: what it was made for is lost");
    }
    let mut apply = || {
        resize(tail, &mut patch)?;
        while !patch.is_empty() {
            let offset = varint::take_usize(&mut patch)?;
            lay(tail, offset, varint::take_prefixed(&mut patch)?)?;
        }
        Some(())
    };
    apply().ok_or(MALFORMED)
}

fn resize(tail: &mut Vec<u8>, patch: &mut &[u8]) -> Option<()> {
    let new_len = varint::take_usize(patch).filter(|len| *len <= MAX_PATCHED_LEN)?;
    tail.resize(new_len, 0);
    Some(())
}

fn lay(tail: &mut [u8], offset: usize, part: &[u8]) -> Option<()> {
    tail.get_mut(offset..offset.checked_add(part.len())?)?.copy_from_slice(part);
    Some(())
}

/// Folds the versions of one key, newest first, into its value.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// Patches so far, newest first.
    patches: Vec<(Kind, Value)>,
    base: Option<Value>,
}

impl Fold {
    /// Takes the next older version; `Break` when older ones no longer matter. `value` gives the whole
    /// value, whether or not its tail stands in a blob file.
    pub fn push(&mut self, kind: Kind, value: impl FnOnce() -> Result<Value>) -> Result<ControlFlow<()>> {
        match kind {
            Kind::Patch | Kind::HeadPatch => {
                self.patches.push((kind, value()?));
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

    /// The patches that it has taken.
    pub fn depth(&self) -> usize {
        self.patches.len()
    }

    /// The value; `None` if the key is absent. Empties the fold.
    pub fn finish(&mut self, key: &[u8]) -> Result<Option<Value>> {
        let base = self.base.take();
        if self.patches.is_empty() {
            return Ok(base);
        }
        let Value { mut head, mut tail } = base.unwrap_or_default();
        if let Some((_, newest)) = self.patches.iter().find(|(kind, _)| *kind == Kind::HeadPatch) {
            head = newest.head.clone();
        }
        self.patches.retain(|(kind, patch)| *kind == Kind::Patch || !patch.tail.is_empty());
        if !self.patches.is_empty() {
            let bad = |what| Error::BadPatch { key: key.escape_ascii().to_string(), what };
            tail = self.patched(tail.into()).map_err(bad)?;
        }
        Ok(Some(Value { head, tail }))
    }

    /// A tail with the patches laid over it, or what is wrong with one.
    fn patched(&mut self, mut tail: Vec<u8>) -> std::result::Result<Bytes, &'static str> {
        for (kind, patch) in self.patches.drain(..).rev() {
            match kind {
                Kind::HeadPatch => apply_head_patch(&mut tail, &patch.tail)?,
                _ => apply_patch(&mut tail, &patch.head, &patch.tail)?,
            }
        }
        Ok(tail.into())
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
    fn a_patch_with_a_head_replaces_the_head_and_leaves_the_tail_or_changes_it() {
        let with_head = |head: &'static str, lens: Option<(u32, u32)>, parts: &[(u32, &[u8])]| {
            let mut tail = Vec::new();
            lens.into_iter().for_each(|(old, new)| encode_patch_tail(&mut tail, old, new, parts));
            (Kind::HeadPatch, Value { head: head.into(), tail: tail.into() })
        };
        let base = || (Kind::Put, Value { head: "h".into(), tail: "abcdef".into() });
        let value = |head: &'static str, tail: &'static [u8]| {
            Some(Value { head: head.into(), tail: Bytes::from_static(tail) })
        };
        assert_eq!(fold(&[with_head("new", None, &[]), base()]), value("new", b"abcdef"));
        let longer = || with_head("newer", Some((6, 9)), &[(1, b"X"), (8, b"Y")]);
        assert_eq!(fold(&[longer(), with_head("new", None, &[]), base()]), value("newer", b"aXcdef\0\0Y"));
        assert_eq!(fold(&[with_head("last", None, &[]), longer(), base()]), value("last", b"aXcdef\0\0Y"));
        let mixed = [(Kind::Patch, patch(3, &[(2, b"Z")])), longer(), base()];
        assert_eq!(fold(&mixed), value("newer", b"aXZ"));
        let over_nothing = with_head("new", Some((0, 2)), &[(1, b"x")]);
        assert_eq!(fold(&[over_nothing, (Kind::Tombstone, Value::default())]), value("new", b"\0x"));
        assert_eq!(fold(&[with_head("new", None, &[])]), value("new", b""));
    }

    #[test]
    fn a_malformed_patch_is_an_error() {
        for tail in [
            &b"\xff"[..],
            b"\x00",
            b"\x00\x01\x00",
            b"\x00\x01\x05\x01x",
            b"\x00\x02\x00\x03xy",
            b"\x00\xff\xff\xff\xff\x7f",
            b"\x01\x02\x00\x02xy",
        ] {
            let mut fold = Fold::default();
            let value = Value { head: Bytes::new(), tail: Bytes::copy_from_slice(tail) };
            let _ = fold.push(Kind::HeadPatch, || Ok(value)).unwrap();
            assert!(fold.finish(b"k").is_err(), "{tail:?}");
        }
        for head in [&b""[..], b"\x01", b"\x01\x01\x05\x01", b"\xff\xff\xff\xff\x7f\x00"] {
            let mut fold = Fold::default();
            let value = Value { head: Bytes::copy_from_slice(head), tail: "x".into() };
            let _ = fold.push(Kind::Patch, || Ok(value)).unwrap();
            assert!(fold.finish(b"k").is_err(), "{head:?}");
        }
    }
}
