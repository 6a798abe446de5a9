//! What a flush or compaction keeps of the versions of a key.
//!
//! The sequence numbers at which somebody reads, now or later, cut the history into *stripes*: all
//! versions within one look the same to every reader but for the newest. So of each key and stripe
//! one record survives, the newest version, into which the patches over their base are folded.
//! Versions newer than the last such number are all kept: readers may still come between them.
//!
//! - A tombstone and the first-put below it, in one stripe, cancel out: before the first-put the key was
//!   absent, so nothing below needs the tombstone. Whatever stands below *in the records* (an
//!   earlier life of the key) is then judged anew.
//! - A put whose oldest version in the stripe is a first-put becomes a first-put itself.
//! - Where nothing lies below (`bottom`), a tombstone in the oldest stripe hides nothing and goes, and
//!   patches without a base lie over nothing.

use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, KindOrBound};
use crate::lsm::value::Fold;
use crate::lsm::{Result, SeqNo, Value};

/// Receives the records that are kept, in order.
pub(crate) type Emit<'a> = dyn FnMut(KeyRef<'_>, &[u8], &[u8]) -> Result<()> + 'a;

/// The newest version of the key and stripe at hand, with what lies below it so far.
struct Held {
    stripe: usize,
    seq: SeqNo,
    /// The newest version's kind.
    kind: Kind,
    /// Its value, or the patches down to their base, newest first.
    versions: Vec<(SeqNo, Kind, Value)>,
    /// Is the base of the patches (or the value itself) among them?
    complete: bool,
    /// Is the oldest version seen a first-put?
    first: bool,
}

/// Walks `source` from its first record and emits what readers at `stripes` (ascending), or later,
/// can see. `bottom`: nothing older lies below the source's records.
pub(crate) fn keep_visible(
    source: &mut impl InternalIterator,
    stripes: &[SeqNo],
    bottom: bool,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let mut user: Vec<u8> = Vec::new();
    let mut held: Option<Held> = None;
    source.seek_to_first()?;
    while source.valid() {
        let key = source.key();
        let (seq, KindOrBound::Kind(kind)) = (key.seq, key.kind) else { unreachable!("records have a kind") };
        let stripe = stripe_of(stripes, seq);
        let same_key = key.user == user;
        match held.as_mut().filter(|h| same_key && h.stripe == stripe && stripe < stripes.len()) {
            Some(newer) if newer.kind == Kind::Tombstone && kind == Kind::FirstPut => held = None,
            Some(newer) => {
                if !newer.complete {
                    newer.versions.push((seq, kind, value_of(source)?));
                    newer.complete = kind != Kind::Patch;
                }
                newer.first = kind == Kind::FirstPut;
            }
            None => {
                if let Some(held) = held.take() {
                    emit_held(&user, held, bottom, emit)?;
                }
                if !same_key {
                    user.clear();
                    user.extend_from_slice(key.user);
                }
                let versions = vec![(seq, kind, value_of(source)?)];
                let complete = kind != Kind::Patch;
                held = Some(Held { stripe, seq, kind, versions, complete, first: kind == Kind::FirstPut });
            }
        }
        source.next()?;
    }
    match held {
        Some(held) => emit_held(&user, held, bottom, emit),
        None => Ok(()),
    }
}

/// The stripe of a sequence number: the first reader that sees it, or one past the last.
fn stripe_of(stripes: &[SeqNo], seq: SeqNo) -> usize {
    stripes.partition_point(|reader| *reader < seq)
}

fn value_of(source: &impl InternalIterator) -> Result<Value> {
    Ok(Value { head: bytes::Bytes::copy_from_slice(source.head()), tail: source.tail()? })
}

fn emit_held(user: &[u8], held: Held, bottom: bool, emit: &mut Emit<'_>) -> Result<()> {
    let at_bottom = bottom && held.stripe == 0;
    if held.kind == Kind::Tombstone {
        if at_bottom {
            return Ok(());
        }
        return emit(KeyRef::new(user, held.seq, Kind::Tombstone), &[], &[]);
    }
    if !held.complete && !at_bottom {
        for (seq, kind, value) in &held.versions {
            emit(KeyRef::new(user, *seq, *kind), &value.head, &value.tail)?;
        }
        return Ok(());
    }
    let mut fold = Fold::default();
    for (_, kind, value) in held.versions {
        let _ = fold.push(kind, || Ok(value))?;
    }
    let value = fold.finish(user)?.unwrap_or_default();
    let kind = if held.first { Kind::FirstPut } else { Kind::Put };
    emit(KeyRef::new(user, held.seq, kind), &value.head, &value.tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::batch::Write;
    use crate::lsm::memtable::Memtable;
    use Kind::{FirstPut as F, Patch as P, Put, Tombstone as T};
    use std::sync::Arc;

    /// The kinds and sequence numbers that are kept of `versions` of one key.
    fn kept(versions: &[(Kind, SeqNo)], stripes: &[SeqNo], bottom: bool) -> Vec<(Kind, SeqNo)> {
        let table = Arc::new(Memtable::new());
        for (kind, seq) in versions {
            let value = if *kind == P { bytes::Bytes::from_static(b"\x01\x00") } else { bytes::Bytes::new() };
            let head_len = value.len() as u32;
            table.insert(*seq, Write { kind: *kind, key: "k".into(), value, head_len });
        }
        let mut out = Vec::new();
        keep_visible(&mut table.iter(), stripes, bottom, &mut |key, _, _| {
            let KindOrBound::Kind(kind) = key.kind else { unreachable!() };
            out.push((kind, key.seq));
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn one_version_a_stripe_survives() {
        let versions = [(Put, 9), (Put, 7), (T, 5), (Put, 3), (Put, 1)];
        assert_eq!(kept(&versions, &[9], false), [(Put, 9)]);
        assert_eq!(kept(&versions, &[4, 6, 9], false), [(Put, 9), (T, 5), (Put, 3)]);
        assert_eq!(kept(&versions, &[4], false), [(Put, 9), (Put, 7), (T, 5), (Put, 3)]);
    }

    #[test]
    fn a_first_put_and_its_tombstone_cancel_within_a_stripe() {
        assert_eq!(kept(&[(T, 5), (Put, 4), (F, 3)], &[9], false), []);
        assert_eq!(kept(&[(T, 5), (F, 3)], &[4, 9], false), [(T, 5), (F, 3)]);
        // The tombstone of the life before stays: something older may lie below.
        assert_eq!(kept(&[(T, 5), (F, 4), (T, 2)], &[9], false), [(T, 2)]);
        assert_eq!(kept(&[(T, 5), (F, 4), (T, 2), (F, 1)], &[9], false), []);
    }

    #[test]
    fn a_put_inherits_that_nothing_was_before_it() {
        assert_eq!(kept(&[(Put, 5), (F, 3)], &[9], false), [(F, 5)]);
        assert_eq!(kept(&[(Put, 5), (F, 4), (T, 3)], &[9], false), [(Put, 5)]);
        assert_eq!(kept(&[(P, 5), (F, 4)], &[9], false), [(F, 5)]);
    }

    #[test]
    fn patches_fold_only_over_a_base_of_their_stripe() {
        assert_eq!(kept(&[(P, 5), (P, 4), (Put, 3)], &[9], false), [(Put, 5)]);
        assert_eq!(kept(&[(P, 5), (P, 4), (Put, 3)], &[3, 9], false), [(P, 5), (P, 4), (Put, 3)]);
        assert_eq!(kept(&[(P, 5), (P, 4)], &[9], false), [(P, 5), (P, 4)]);
        assert_eq!(kept(&[(P, 5), (P, 4)], &[9], true), [(Put, 5)]);
        assert_eq!(kept(&[(P, 5), (T, 4)], &[9], false), [(Put, 5)]);
    }

    #[test]
    fn tombstones_go_where_nothing_lies_below() {
        assert_eq!(kept(&[(T, 5)], &[9], true), []);
        assert_eq!(kept(&[(T, 5), (Put, 3)], &[3, 9], true), [(T, 5), (Put, 3)]);
        assert_eq!(kept(&[(T, 3)], &[2], true), [(T, 3)]);
    }
}
