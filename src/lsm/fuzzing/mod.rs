//! What fuzzing puts into the engine's decoders (see [`crate::fuzzing`]).

mod files;
#[cfg(test)]
mod seeds;

use crate::disk::{DiskError, Object};
use crate::fuzzing::Target;
use crate::lsm::batch::Writes;
use crate::lsm::blob::found::pointers_in;
use crate::lsm::key::Kind;
use crate::lsm::log::reader::{SegmentReader, highest_synced, may_be_segment};
use crate::lsm::log::record::{Framing, Header};
use crate::lsm::manifest::{Edit, State};
use crate::lsm::memtable::Memtable;
use crate::lsm::value::Fold;
use crate::lsm::{Value, blob, table, varint};
use bytes::Bytes;
use std::io::ErrorKind;

#[cfg(test)]
pub(crate) use seeds::seeds;

/// The engine's targets.
pub(crate) fn targets() -> Vec<(&'static str, Target)> {
    [TARGETS, table::fuzzing::TARGETS, blob::fuzzing::TARGETS].concat()
}

const TARGETS: &[(&str, Target)] = &[
    ("segment", segment),
    ("batch", batch),
    ("patch", patch),
    ("edits", edits),
    ("log", files::log),
    ("manifest", files::manifest),
];

/// The store's id in all targets: no zeros, as random ones have.
pub(crate) const STORE: u64 = 0x0123_4567_89ab_cdef;

/// A segment's bytes as they come from the disk: most end at the first checksum.
fn segment(input: &[u8]) {
    let framing = Framing { magic: b"lsmfslog", store: STORE };
    let _ = may_be_segment(input, &framing);
    let _ = highest_synced(input, &framing, 1);
    let _ = Header::decode_unsigned(input);
    if let Ok(Some(mut reader)) =
        SegmentReader::new(Bytes::copy_from_slice(input), framing, "000001.log", 1, None)
    {
        let records = reader.by_ref().count();
        assert!(records * 40 <= input.len());
        let _ = reader.synced_after();
    }
}

/// A batch: the payload of a log record.
fn batch(input: &[u8]) {
    let Some(mut writes) = Writes::new(input) else { return };
    let count = u64::from(writes.left());
    let whole = writes.by_ref().collect::<Result<Vec<_>, ()>>();
    let tally = writes.tally();
    let pointers = pointers_in(input);
    let memtable = Memtable::new();
    let inserted = count > 0 && memtable.insert_batch(1, input.to_vec(), 0).is_ok();
    match whole {
        Ok(writes) => {
            assert_eq!(writes.len() as u64, count);
            let lens: usize = writes.iter().map(|write| write.whole.len()).sum();
            assert!(lens <= input.len());
            assert_eq!(inserted, count > 0 && tally.is_some());
        }
        Err(()) => assert!(pointers.is_none() && !inserted),
    }
}

/// A patch over a value: the base, the patch's head and its tail, each behind its length.
fn patch(mut input: &[u8]) {
    let mut parts = [&[][..]; 3];
    for part in &mut parts {
        *part = varint::take_prefixed(&mut input).unwrap_or_default();
    }
    let [base, head, tail] = parts.map(Bytes::copy_from_slice);
    // Long ones are allowed, and cost what they say.
    let len = varint::take(&mut &head[..]).unwrap_or(0);
    if len > 1 << 20 {
        return;
    }
    let mut with_head = Fold::default();
    let old_len = u8::try_from(base.len()).ok().filter(|len| *len < 0x80).unwrap_or(0);
    let lens_and_parts = match head.is_empty() {
        true => Bytes::new(),
        false => [&[old_len], &head[..]].concat().into(),
    };
    let _ = with_head.push(Kind::HeadPatch, || Ok(Value { head: Bytes::new(), tail: lens_and_parts }));
    let _ = with_head.push(Kind::Put, || Ok(Value { head: Bytes::new(), tail: base.clone() }));
    if let Ok(value) = with_head.finish(b"key") {
        let len = if head.is_empty() { base.len() as u64 } else { len };
        assert_eq!(value.map(|value| value.tail.len() as u64), Some(len));
    }
    let mut fold = Fold::default();
    let _ = fold.push(Kind::Patch, || Ok(Value { head, tail }));
    let _ = fold.push(Kind::Put, || Ok(Value { head: Bytes::new(), tail: base }));
    if let Ok(value) = fold.finish(b"key") {
        assert_eq!(value.map(|value| value.tail.len() as u64), Some(len));
    }
}

/// Manifest edits: those that decode encode to what decodes to the same, and a state that they build can be
/// written and built again.
fn edits(input: &[u8]) {
    let Some(edits) = Edit::decode_all(input) else { return };
    let encoded = encode(&edits);
    let again = Edit::decode_all(&encoded).expect("what was encoded decodes");
    assert_eq!(encode(&again), encoded);
    let mut state = State::default();
    if state.apply_all(edits).is_err() {
        return;
    }
    let written = encode(&state.to_edits());
    let mut rebuilt = State::default();
    rebuilt.apply_all(Edit::decode_all(&written).expect("it is whole")).expect("a state's edits fit");
    assert_eq!(encode(&rebuilt.to_edits()), written);
}

fn encode(edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::new();
    edits.iter().for_each(|edit| edit.encode(&mut out));
    out
}

/// A file in memory.
#[derive(Debug)]
pub(crate) struct Memory(pub Bytes);

impl Object for Memory {
    fn read_at(&self, offset: u64, len: usize) -> crate::disk::Result<Bytes> {
        let from = usize::try_from(offset).ok().filter(|from| *from <= self.0.len());
        let range =
            from.and_then(|from| Some(from..from.checked_add(len)?)).filter(|r| r.end <= self.0.len());
        let range = range.ok_or(ErrorKind::UnexpectedEof);
        Ok(self.0.slice(range.map_err(|kind| DiskError::new("read", "memory", kind.into()))?))
    }

    fn len(&self) -> crate::disk::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
