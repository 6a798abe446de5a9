//! The log: its whole records, also those behind damage, become memtables.
//!
//! Records that follow one that is not whole are taken up to where the log is known to have been durable: what
//! follows that place was never promised, and with a hole before it it would be no prefix of the history.

use super::{FIRST_ID, Repair};
use crate::lsm::batch::Writes;
use crate::lsm::blob::found::pointers_in;
use crate::lsm::blob::{self, BlobReader, Pointer};
use crate::lsm::check::Problem;
use crate::lsm::key::{Kind, MAX_SEQ, SeqNo};
use crate::lsm::log::record::{Framing, HEADER_LEN, Header, RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::log::{file_name, parse_file_name, reader};
use crate::lsm::manifest::{State, VolumeId};
use crate::lsm::memtable::Memtable;
use crate::lsm::{Error, Result, varint};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The volume and the number of writes, before the writes.
const BATCH_HEADER_LEN: usize = 8;

/// The newest segments that follow one another without a gap in their numbers; older ones are leftovers.
pub(super) fn last_run(names: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    numbers.sort_unstable();
    let starts_run = |at: &usize| *at == 0 || numbers[*at - 1] + 1 != numbers[*at];
    let from = (0..numbers.len()).rev().find(starts_run).unwrap_or(0);
    numbers.split_off(from)
}

/// What can be read of a log.
#[derive(Default)]
pub(super) struct Salvage {
    /// What it holds that no table has.
    pub memtables: BTreeMap<VolumeId, Vec<Arc<Memtable>>>,
    pub last_seq: SeqNo,
    /// The number and the base of the next segment.
    pub segments_end: (u64, u64),
}

impl Salvage {
    /// Reads segments. `framing`: none if the store's id is lost. `state`: none if the manifest is.
    pub fn of(
        repair: &mut Repair<'_>,
        framing: Option<Framing>,
        numbers: &[u64],
        state: Option<&State>,
        blobs: &BlobReader,
    ) -> Result<Salvage> {
        let (first, start) = state.map_or((1, 0), |state| state.log_start);
        let mut salvage = Salvage { segments_end: (first, start), ..Salvage::default() };
        let mut segments = Vec::new();
        let mut durable = state.map_or(0, |state| state.log_durable);
        for &number in numbers {
            let object = repair.disk.open(&file_name(number))?;
            let bytes = object.read_at(0, object.len()? as usize)?;
            let stated = framing.and_then(|framing| reader::highest_synced(&bytes, &framing, number));
            durable = durable.max(stated.unwrap_or(0));
            segments.push((number, bytes));
        }
        let mut position = start;
        let mut hole = false;
        for (number, bytes) in segments {
            let name = file_name(number);
            let base = match framing {
                Some(framing) => SegmentHeader::decode(&bytes, &framing, &name)?.map(|header| header.base),
                None => bytes.get(24..32).and_then(|base| base.try_into().ok()).map(u64::from_be_bytes),
            };
            let segment = Segment { number, bytes, framing, base: base.unwrap_or(position) };
            hole |= segment.base != position && state.is_some();
            position = segment.base;
            let mut at = SEGMENT_HEADER_LEN;
            while let Some((header, from, end)) = segment.next_record(at) {
                if from > at {
                    hole = true;
                    let what = format!("{} bytes of it cannot be read", from - at);
                    repair.watch.problem(Error::corruption(name.clone(), at as u64, what).into());
                }
                if hole && segment.base + end as u64 > durable {
                    let what = "what follows here was never known to be durable, and is left";
                    repair.watch.problem(Error::corruption(name.clone(), from as u64, what).into());
                    break;
                }
                let payload = segment.bytes.slice(from + HEADER_LEN..end);
                salvage.record(repair, &name, from as u64, &header, payload, state, blobs)?;
                at = end;
            }
            position += at as u64;
            salvage.segments_end = (number + 1, position.max(salvage.segments_end.1));
        }
        if position < durable && state.is_some() {
            let what = "the log ends here, and was longer";
            let last = file_name(salvage.segments_end.0.saturating_sub(1));
            repair.watch.problem(Error::corruption(last, 0, what).into());
        }
        Ok(salvage)
    }

    #[allow(clippy::too_many_arguments, reason = "one record and where it stands")]
    fn record(
        &mut self,
        repair: &mut Repair<'_>,
        name: &str,
        offset: u64,
        header: &Header,
        payload: Bytes,
        state: Option<&State>,
        blobs: &BlobReader,
    ) -> Result<()> {
        if header.kind != RecordKind::Batch {
            return Ok(());
        }
        let writes = Writes::new(&payload);
        let (Some(writes), Some(pointers)) = (writes, pointers_in(&payload)) else {
            repair.watch.problem(Error::corruption(name, offset, "a batch is malformed").into());
            return Ok(());
        };
        let (volume, count) = (writes.volume, u64::from(writes.left()));
        let last = header.first_seq.saturating_add(count).saturating_sub(1);
        let flushed = state.map_or(Some(0), |state| state.volumes.get(&volume).map(|volume| volume.flushed));
        let (Some(flushed), true) = (flushed, count > 0 && last <= MAX_SEQ && header.first_seq > 0) else {
            repair.watch.problem(Error::corruption(name, offset, "a batch of no volume").into());
            return Ok(());
        };
        if last <= flushed {
            return Ok(());
        }
        let mut unreadable = BTreeSet::new();
        for pointer in &pointers {
            if !blobs.checks_out(pointer)? {
                unreadable.insert((pointer.file, pointer.offset));
            }
        }
        let payload = match unreadable.is_empty() {
            true => payload.to_vec(),
            false => self.without(repair, name, offset, &payload, &unreadable),
        };
        // Without a manifest there is one volume.
        let volume = if state.is_some() { volume } else { FIRST_ID };
        let memtables = self.memtables.entry(volume).or_insert_with(|| vec![Arc::new(Memtable::new())]);
        let Some(memtable) = memtables.last() else { return Ok(()) };
        memtable.note(header.first_seq, last);
        if memtable.insert_batch(header.first_seq, payload, 0).is_err() {
            repair.watch.problem(Error::corruption(name, offset, "a batch is malformed").into());
        }
        self.last_seq = self.last_seq.max(last);
        repair.done.brought_back += count;
        Ok(())
    }

    /// A batch with tombstones in the place of values that cannot be read: no older ones may come up.
    fn without(
        &self,
        repair: &mut Repair<'_>,
        name: &str,
        offset: u64,
        payload: &[u8],
        unreadable: &BTreeSet<(u64, u64)>,
    ) -> Vec<u8> {
        let mut next = payload[..BATCH_HEADER_LEN].to_vec();
        for write in Writes::new(payload).into_iter().flatten().map_while(std::result::Result::ok) {
            let pointer = Pointer::decode(write.tail()).filter(|_| write.kind.is_blob());
            let lost = pointer.filter(|pointer| unreadable.contains(&(pointer.file, pointer.offset)));
            let kind = if lost.is_some() { Kind::Tombstone } else { write.kind };
            next.push(kind as u8);
            varint::put(&mut next, write.key().len() as u64);
            if kind != Kind::Tombstone {
                varint::put(&mut next, write.head().len() as u64);
                varint::put(&mut next, write.tail().len() as u64);
                next.extend_from_slice(write.whole);
                continue;
            }
            next.extend_from_slice(write.key());
            if let Some(pointer) = lost {
                let blob = blob::file_name(pointer.file);
                let what = format!("it points to byte {} of {blob}, which cannot be read", pointer.offset);
                let key = Bytes::copy_from_slice(write.key());
                let error = Error::corruption(name, offset, what);
                repair.watch.problem(Problem { error, keys: Some((key.clone(), Some(key))) });
            }
        }
        next
    }
}

/// A segment that is read.
struct Segment {
    number: u64,
    bytes: Bytes,
    framing: Option<Framing>,
    base: u64,
}

impl Segment {
    /// The next whole record at or behind `at`: its header, where it begins and where it ends.
    fn next_record(&self, at: usize) -> Option<(Header, usize, usize)> {
        match &self.framing {
            // Nothing but the checksum of the payload speaks for a record: each must follow the last.
            None => self.record_at(at),
            Some(_) => (at..self.bytes.len()).find_map(|at| self.record_at(at)),
        }
    }

    fn record_at(&self, at: usize) -> Option<(Header, usize, usize)> {
        let bytes = self.bytes.get(at..)?;
        // The number is compared before a checksum is computed: this runs once a byte.
        if bytes.get(16..24)? != self.number.to_be_bytes() {
            return None;
        }
        let (header, sum) = match &self.framing {
            Some(framing) => Header::decode(bytes, framing)?,
            None => Header::decode_unsigned(bytes)?,
        };
        let end = HEADER_LEN.checked_add(header.payload_len as usize)?;
        let payload = bytes.get(HEADER_LEN..end)?;
        Header::payload_matches(payload, sum).then_some((header, at, at + end))
    }
}
