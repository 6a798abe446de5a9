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
//! - Of patches that set nothing but the head only the newest counts.
//! - A put whose oldest version in the stripe is a first-put becomes a first-put itself.
//! - A value in a blob file stays there, unless patches lie over it. Over one that cannot be read (damaged, or
//!   the disk refuses) they are kept as they are: a reader of the key gets the error, and no flush or compaction fails for it.
//! - A range tombstone hides what is older in its stripe, and stays like a tombstone.
//! - Where nothing lies below (`bottom`), a tombstone in the oldest stripe hides nothing and goes, and
//!   patches without a base lie over nothing.

use crate::lsm::iter::InternalIterator;
use crate::lsm::key::{KeyRef, Kind, KindOrBound};
use crate::lsm::range::{RangeSet, RangeTombstone};
use crate::lsm::value::Fold;
use crate::lsm::{Result, SeqNo, Value};
use bytes::Bytes;

/// Receives the records that are kept, in order.
pub(crate) type Emit<'a> = dyn FnMut(KeyRef<'_>, &[u8], &[u8]) -> Result<()> + 'a;

/// Loads what the tail of a record with a blob pointer points to.
pub(crate) type Load<'a> = dyn Fn(&[u8]) -> Result<Bytes> + 'a;

/// What is known of the records below those that are walked.
pub(crate) trait Bottom {
    /// Has nothing older a version of this key? Asked for ascending keys.
    fn is_empty_at(&mut self, user: &[u8]) -> bool;

    /// Has nothing older a key from `start` up to `end`?
    fn is_empty_in(&self, start: &[u8], end: &[u8]) -> bool;
}

/// Always, or never.
impl Bottom for bool {
    fn is_empty_at(&mut self, _: &[u8]) -> bool {
        *self
    }

    fn is_empty_in(&self, _: &[u8], _: &[u8]) -> bool {
        *self
    }
}

/// The newest version of the key and stripe at hand, with what lies below it so far. Its buffers are
/// used again and again: most keys have one version, and nothing is allocated for it.
#[derive(Default)]
struct Held {
    /// Is there any?
    is_some: bool,
    user: Vec<u8>,
    stripe: usize,
    newest: Version,
    head: Vec<u8>,
    tail: Bytes,
    /// What the newest version, if it is a patch, lies over: down to the base, newest first.
    older: Vec<(Version, Value)>,
    /// Is the base of the patches (or the value itself) among them?
    complete: bool,
    /// Is the oldest version seen a first-put?
    first: bool,
}

#[derive(Clone, Copy)]
struct Version {
    seq: SeqNo,
    kind: Kind,
}

impl Default for Version {
    fn default() -> Version {
        Version { seq: 0, kind: Kind::Tombstone }
    }
}

impl Held {
    /// Holds the record that `source` stands on.
    fn hold(&mut self, source: &impl InternalIterator, stripe: usize, kind: Kind) -> Result<()> {
        let key = source.key();
        self.is_some = true;
        self.user.clear();
        self.user.extend_from_slice(key.user);
        self.stripe = stripe;
        self.newest = Version { seq: key.seq, kind };
        self.head.clear();
        self.head.extend_from_slice(source.head());
        self.tail = source.tail()?;
        self.older.clear();
        self.complete = !kind.is_patch();
        self.first = kind.is_first();
        Ok(())
    }

    /// Adds the record that `source` stands on, the next older one of the key and stripe.
    fn hold_older(&mut self, source: &impl InternalIterator, kind: Kind) -> Result<()> {
        if self.newest.kind == Kind::Tombstone && kind.is_first() {
            self.is_some = false;
            return Ok(());
        }
        if !self.complete {
            let value = Value { head: Bytes::copy_from_slice(source.head()), tail: source.tail()? };
            let sets_head = |kind| kind == Kind::HeadPatch;
            if !(sets_head(self.newest.kind) && sets_head(kind) && value.tail.is_empty()) {
                self.older.push((Version { seq: source.key().seq, kind }, value));
            }
            self.complete = !kind.is_patch();
        }
        self.first = kind.is_first();
        Ok(())
    }

    /// Emits what is left of the versions held, and holds none any more.
    fn release(&mut self, bottom: &mut impl Bottom, load: &Load<'_>, emit: &mut Emit<'_>) -> Result<()> {
        if !std::mem::take(&mut self.is_some) {
            return Ok(());
        }
        let Version { seq, kind } = self.newest;
        let droppable = kind == Kind::Tombstone || !self.complete;
        let at_bottom = self.stripe == 0 && droppable && bottom.is_empty_at(&self.user);
        let put = if self.first { Kind::FirstPut } else { Kind::Put };
        match kind {
            Kind::Tombstone if at_bottom => Ok(()),
            Kind::Tombstone => emit(KeyRef::new(&self.user, seq, kind), &[], &[]),
            Kind::Patch | Kind::HeadPatch if self.complete || at_bottom => match self.folded(load) {
                Ok(value) => emit(KeyRef::new(&self.user, seq, put), &value.head, &value.tail),
                Err(e) if e.is_unreadable() => {
                    tracing::error!("a value stays unreadable, and the patches over it as they are: {e}");
                    let at_bottom = self.stripe == 0 && bottom.is_empty_at(&self.user);
                    self.emit_all(at_bottom, emit)
                }
                Err(e) => Err(e),
            },
            Kind::Patch | Kind::HeadPatch => self.emit_all(false, emit),
            _ => {
                let kind = if kind.is_blob() { put.blob().unwrap_or(kind) } else { put };
                emit(KeyRef::new(&self.user, seq, kind), &self.head, &self.tail)
            }
        }
    }

    /// Emits every version as it is, but for a tombstone at the bottom: while a table has one that may go, it is
    /// rewritten.
    fn emit_all(&self, at_bottom: bool, emit: &mut Emit<'_>) -> Result<()> {
        let Version { seq, kind } = self.newest;
        emit(KeyRef::new(&self.user, seq, kind), &self.head, &self.tail)?;
        let mut kept =
            self.older.iter().filter(|(version, _)| !(at_bottom && version.kind == Kind::Tombstone));
        kept.try_for_each(|(Version { seq, kind }, value)| {
            emit(KeyRef::new(&self.user, *seq, *kind), &value.head, &value.tail)
        })
    }

    /// The patches laid over their base.
    fn folded(&self, load: &Load<'_>) -> Result<Value> {
        let mut fold = Fold::default();
        let newest = Value { head: Bytes::copy_from_slice(&self.head), tail: self.tail.clone() };
        let _ = fold.push(self.newest.kind, || Ok(newest))?;
        for (Version { kind, .. }, Value { head, tail }) in &self.older {
            let tail = || if kind.is_blob() { load(tail) } else { Ok(tail.clone()) };
            let _ = fold.push(*kind, || Ok(Value { head: head.clone(), tail: tail()? }))?;
        }
        Ok(fold.finish(&self.user)?.unwrap_or_default())
    }
}

/// Walks `source` from its first record and emits what readers at `stripes` (ascending), or later,
/// can see. `ranges`: the range tombstones of the source, whose own records are passed over.
pub(crate) fn keep_visible(
    source: &mut impl InternalIterator,
    ranges: &RangeSet,
    stripes: &[SeqNo],
    bottom: &mut impl Bottom,
    load: &Load<'_>,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let mut held = Held::default();
    let mut tombstones = needed_tombstones(ranges, stripes, bottom).into_iter().peekable();
    source.seek_to_first()?;
    while source.valid() {
        let key = source.key();
        while let Some(tombstone) =
            tombstones.next_if(|t| KeyRef::new(&t.start, t.seq, Kind::RangeTombstone) <= key)
        {
            held.release(bottom, load, emit)?;
            emit_tombstone(&tombstone, emit)?;
        }
        let (seq, KindOrBound::Kind(kind)) = (key.seq, key.kind) else { unreachable!("records have a kind") };
        let stripe = stripe_of(stripes, seq);
        if kind != Kind::RangeTombstone && !is_deleted(ranges, stripes, key) {
            let same_stripe = held.is_some && held.stripe == stripe && stripe < stripes.len();
            if same_stripe && key.user == held.user {
                held.hold_older(source, kind)?;
            } else {
                held.release(bottom, load, emit)?;
                held.hold(source, stripe, kind)?;
            }
        }
        source.next()?;
    }
    held.release(bottom, load, emit)?;
    tombstones.try_for_each(|tombstone| emit_tombstone(&tombstone, emit))
}

/// The range tombstones that are kept: of each fragment the newest in a stripe, and in the oldest only
/// if something lies below.
fn needed_tombstones(ranges: &RangeSet, stripes: &[SeqNo], bottom: &impl Bottom) -> Vec<RangeTombstone> {
    let mut needed: Vec<RangeTombstone> = Vec::new();
    for tombstone in ranges.tombstones() {
        let stripe = stripe_of(stripes, tombstone.seq);
        let repeats = needed.last().is_some_and(|newer| {
            newer.start == tombstone.start
                && stripe < stripes.len()
                && stripe_of(stripes, newer.seq) == stripe
        });
        let hides_nothing = stripe == 0 && bottom.is_empty_in(&tombstone.start, &tombstone.end);
        if !repeats && !hides_nothing {
            needed.push(tombstone);
        }
    }
    needed
}

fn emit_tombstone(tombstone: &RangeTombstone, emit: &mut Emit<'_>) -> Result<()> {
    let key = KeyRef::new(&tombstone.start, tombstone.seq, Kind::RangeTombstone);
    emit(key, &tombstone.end, &[])
}

/// Does a range tombstone of the record's own stripe hide it from every reader?
fn is_deleted(ranges: &RangeSet, stripes: &[SeqNo], key: KeyRef<'_>) -> bool {
    let stripe = stripe_of(stripes, key.seq);
    stripe < stripes.len()
        && ranges.first_after(key.user, key.seq).is_some_and(|t| stripe_of(stripes, t) == stripe)
}

/// The stripe of a sequence number: the first reader that sees it, or one past the last.
fn stripe_of(stripes: &[SeqNo], seq: SeqNo) -> usize {
    stripes.partition_point(|reader| *reader < seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::Batch;
    use crate::lsm::memtable::Memtable;
    use Kind::{FirstPut as F, HeadPatch as H, Patch as P, Put, Tombstone as T};
    use std::sync::Arc;

    /// The kinds and sequence numbers that are kept of `versions` of one key.
    fn kept(versions: &[(Kind, SeqNo)], stripes: &[SeqNo], bottom: bool) -> Vec<(Kind, SeqNo)> {
        let table = Arc::new(Memtable::new());
        for (kind, seq) in versions {
            let mut batch = Batch::new();
            match kind {
                Kind::Tombstone => batch.delete(b"k"),
                Kind::Patch => batch.patch(b"k", 1, &[]),
                Kind::HeadPatch => batch.put_head(b"k", b"head"),
                Kind::FirstPut => batch.first_put(b"k", b"", b""),
                _ => batch.put(b"k", b""),
            }
            table.insert_all(*seq, batch);
        }
        let mut out = Vec::new();
        let mut bottom = bottom;
        table
            .with_ranges(|ranges| {
                keep_visible(
                    &mut table.iter(),
                    ranges,
                    stripes,
                    &mut bottom,
                    &|_| unreachable!(),
                    &mut |key, _, _| {
                        let KindOrBound::Kind(kind) = key.kind else { unreachable!() };
                        out.push((kind, key.seq));
                        Ok(())
                    },
                )
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
    fn a_patch_of_the_head_folds_and_the_newest_is_enough() {
        assert_eq!(kept(&[(H, 5), (H, 4), (F, 3)], &[9], false), [(F, 5)]);
        assert_eq!(kept(&[(H, 5), (P, 4), (H, 3), (H, 2)], &[9], false), [(H, 5), (P, 4)]);
        assert_eq!(kept(&[(H, 5), (H, 4)], &[4, 9], false), [(H, 5), (H, 4)]);
        assert_eq!(kept(&[(P, 5), (H, 4), (H, 3)], &[9], false), [(P, 5), (H, 4), (H, 3)]);
        assert_eq!(kept(&[(T, 5), (H, 4), (F, 3)], &[9], false), []);
        assert_eq!(kept(&[(H, 5)], &[9], true), [(Put, 5)]);
    }

    #[test]
    fn tombstones_go_where_nothing_lies_below() {
        assert_eq!(kept(&[(T, 5)], &[9], true), []);
        assert_eq!(kept(&[(T, 5), (Put, 3)], &[3, 9], true), [(T, 5), (Put, 3)]);
        assert_eq!(kept(&[(T, 3)], &[2], true), [(T, 3)]);
    }
}
