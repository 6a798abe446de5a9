//! The log: its whole records, also those behind damage, become memtables.
//!
//! Records that follow one that is not whole are taken up to where the log is known to have been durable: what
//! follows that place was never promised, and with a hole before it it would be no prefix of the history. Behind that place
//! a record that points to what never came is where the log ends, as for an open ([`crate::lsm::recover`]).

use super::Repair;
use crate::lsm::batch::Writes;
use crate::lsm::blob::found::{pointers_in, write_again};
use crate::lsm::blob::{self, BlobReader, Pointer};
use crate::lsm::check::Problem;
use crate::lsm::key::{Kind, MAX_SEQ, SeqNo};
use crate::lsm::log::record::{Framing, HEADER_LEN, Header, RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::log::{file_name, parse_file_name, reader};
use crate::lsm::manifest::{Edit, State, VolumeId, VolumeState};
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
pub(super) struct Salvage<'a> {
    /// The store's shape, to which the log's records about volumes are added.
    pub state: &'a mut State,
    /// Volumes from this number on were made after that.
    first_new: VolumeId,
    /// The volumes that the log tells to be gone.
    deleted: BTreeSet<VolumeId>,
    /// What the log holds that no table of the shape has, by volume: forks have their parents' memtables.
    pub memtables: BTreeMap<VolumeId, Vec<Arc<Memtable>>>,
    /// The volumes that the log tells to be forked: from which one, and where.
    pub forks: BTreeMap<VolumeId, (VolumeId, SeqNo)>,
    pub last_seq: SeqNo,
    /// Blob files that records point to which are not known to be durable.
    unsure: BTreeSet<u64>,
    /// The number and the base of the next segment.
    pub segments_end: (u64, u64),
}

/// The name of a volume of which nothing but its number is known.
pub(super) fn nameless(id: VolumeId) -> String {
    format!("found-{id}")
}

impl<'a> Salvage<'a> {
    /// Reads segments. `framing`: none if the store's id is lost. `known`: is the state what the manifest says?
    pub fn of(
        repair: &mut Repair<'_>,
        framing: Option<Framing>,
        numbers: &[u64],
        state: &'a mut State,
        known: bool,
        blobs: &BlobReader,
    ) -> Result<Salvage<'a>> {
        let (first, start) = if known { state.log_start } else { (1, 0) };
        let mut durable = state.log_durable;
        let mut salvage = Salvage {
            first_new: state.next_volume,
            deleted: BTreeSet::new(),
            state,
            memtables: BTreeMap::new(),
            forks: BTreeMap::new(),
            last_seq: 0,
            unsure: BTreeSet::new(),
            segments_end: (first, start),
        };
        let segments = read_segments(repair, framing, numbers, &mut durable)?;
        let mut position = start;
        let mut hole = false;
        for (number, bytes) in segments {
            let name = file_name(number);
            let base = match framing {
                Some(framing) => SegmentHeader::decode(&bytes, &framing, &name)?.map(|header| header.base),
                None => bytes.get(24..32).and_then(|base| base.try_into().ok()).map(u64::from_be_bytes),
            };
            let segment = Segment { number, bytes, framing, base: base.unwrap_or(position) };
            hole |= segment.base != position && known;
            position = segment.base;
            let mut at = SEGMENT_HEADER_LEN;
            while let Some((header, from, end)) = segment.next_record(at) {
                if from > at {
                    hole = true;
                    let what = format!("{} bytes of it cannot be read", from - at);
                    repair.watch.problem(Error::corruption(name.clone(), at as u64, what).into());
                }
                let is_durable = segment.base + end as u64 <= durable;
                if hole && !is_durable {
                    let what = "what follows here was never known to be durable, and is left";
                    repair.watch.problem(Error::corruption(name.clone(), from as u64, what).into());
                    break;
                }
                let payload = segment.bytes.slice(from + HEADER_LEN..end);
                match header.kind {
                    RecordKind::Batch => {
                        // Without the store's id nothing says what is durable.
                        let may_end = !is_durable && framing.is_some();
                        let record = Record { name: &name, offset: from as u64, is_durable, may_end };
                        if !salvage.batch(repair, &record, header.first_seq, &payload, blobs)? {
                            hole = true;
                            break;
                        }
                    }
                    RecordKind::Edits => salvage.edits(header.first_seq, &payload),
                    RecordKind::Skip => {}
                }
                at = end;
            }
            position += at as u64;
            salvage.segments_end = (number + 1, position.max(salvage.segments_end.1));
        }
        if position < durable && known {
            let what = "the log ends here, and was longer";
            let last = file_name(salvage.segments_end.0.saturating_sub(1));
            repair.watch.problem(Error::corruption(last, 0, what).into());
        }
        salvage.write_again(repair)?;
        Ok(salvage)
    }

    /// Writes blob files again to which tables will point, and which may not be durable ([`Disk::rewrite_log`]). All of
    /// each: tables may point behind what the log does.
    ///
    /// [`Disk::rewrite_log`]: crate::disk::Disk::rewrite_log
    fn write_again(&self, repair: &Repair<'_>) -> Result<()> {
        self.unsure.iter().try_for_each(|file| write_again(repair.disk.as_ref(), *file, None))
    }

    /// Takes what the log tells of volumes that the shape does not say yet, as far as it fits.
    fn edits(&mut self, seq: SeqNo, payload: &[u8]) {
        if seq <= self.state.absorbed || seq > MAX_SEQ {
            return;
        }
        let edits = Edit::decode_all(payload).unwrap_or_default();
        for edit in edits.into_iter().filter(Edit::is_of_log) {
            let fork = match &edit {
                Edit::Fork { from, to, seq, .. } => Some((*from, *to, *seq)),
                _ => None,
            };
            if let Edit::Delete(id) = &edit {
                self.deleted.insert(*id);
            }
            let mut next = self.state.clone();
            if next.apply_all([edit]).is_err() {
                continue;
            }
            *self.state = next;
            if let Some((from, to, seq)) = fork {
                self.forks.insert(to, (from, seq));
                if let Some(memtables) = self.memtables.get_mut(&from) {
                    // Both go on in one of their own.
                    let mut shared = memtables.clone();
                    memtables.push(Arc::new(Memtable::new()));
                    shared.push(Arc::new(Memtable::new()));
                    self.memtables.insert(to, shared);
                }
            }
        }
        self.state.absorbed = seq;
        self.last_seq = self.last_seq.max(seq);
    }

    /// Is a volume's number one that the shape may have missed?
    pub fn is_new(&self, id: VolumeId) -> bool {
        id >= self.first_new && !self.deleted.contains(&id)
    }

    /// Is it a volume of which nothing tells that it was made?
    fn is_unheard_of(&self, id: VolumeId) -> bool {
        self.is_new(id) && !self.state.volumes.contains_key(&id)
    }

    /// The volumes that a write up to `last` to `volume` is for, and that have it in no table.
    fn readers(&self, volume: VolumeId, last: SeqNo) -> Vec<VolumeId> {
        let reads = |id: VolumeId, state: &VolumeState| {
            let inherits = |(from, up_to): &(VolumeId, SeqNo)| *from == volume && last <= *up_to;
            (id == volume || state.inherits.iter().any(inherits)) && last > state.flushed
        };
        let volumes = self.state.volumes.iter();
        volumes.filter(|(id, state)| reads(**id, state)).map(|(id, _)| *id).collect()
    }

    /// Takes a batch. False if the log ends here: it points to what never came.
    fn batch(
        &mut self,
        repair: &mut Repair<'_>,
        record: &Record<'_>,
        first_seq: SeqNo,
        payload: &Bytes,
        blobs: &BlobReader,
    ) -> Result<bool> {
        let (Some(writes), Some(pointers)) = (Writes::new(payload), pointers_in(payload)) else {
            record.tell(repair, "a batch is malformed");
            return Ok(true);
        };
        let (volume, count) = (writes.volume, u64::from(writes.left()));
        let last = first_seq.saturating_add(count).saturating_sub(1);
        if count == 0 || last > MAX_SEQ || first_seq == 0 {
            record.tell(repair, "a batch that no volume can have");
            return Ok(true);
        }
        // The volume itself may be gone, and forks still need what was written to it. What a batch points to that nobody
        // needs may be gone.
        if !self.is_unheard_of(volume) && self.readers(volume, last).is_empty() {
            return Ok(true);
        }
        let (mut files, mut unreadable) = (BTreeSet::new(), BTreeSet::new());
        for pointer in &pointers {
            let Pointer { file, offset, .. } = *pointer;
            if blobs.checks_out(pointer)? {
                files.insert(file);
                continue;
            }
            if record.may_end {
                let blob = blob::file_name(file);
                record.tell(repair, format!("the log ends here: {blob} never got the value at {offset}"));
                return Ok(false);
            }
            unreadable.insert((file, offset));
        }
        if !record.is_durable {
            self.unsure.append(&mut files);
        }
        if self.is_unheard_of(volume) {
            // If a table knows its name it gets that.
            let _ = self.state.apply_all([Edit::Volume { id: volume, name: nameless(volume) }]);
        }
        let readers = self.readers(volume, last);
        if readers.is_empty() {
            return Ok(true);
        }
        let payload = match unreadable.is_empty() {
            true => payload.to_vec(),
            false => self.without(repair, record, payload, &unreadable),
        };
        for reader in readers {
            let memtables = self.memtables.entry(reader).or_insert_with(|| vec![Arc::new(Memtable::new())]);
            let Some(memtable) = memtables.last() else { continue };
            memtable.note(first_seq, last);
            match memtable.insert_batch(first_seq, payload.clone(), 0) {
                Ok(inserted) => memtable.count(inserted.tally),
                Err(()) => record.tell(repair, "a batch is malformed"),
            }
        }
        self.last_seq = self.last_seq.max(last);
        repair.done.brought_back += count;
        Ok(true)
    }

    /// A batch with tombstones in the place of values that cannot be read: no older ones may come up.
    fn without(
        &self,
        repair: &mut Repair<'_>,
        record: &Record<'_>,
        payload: &[u8],
        unreadable: &BTreeSet<(u64, u64)>,
    ) -> Vec<u8> {
        let mut next = payload[..BATCH_HEADER_LEN].to_vec();
        let Some(mut writes) = Writes::new(payload) else { return next };
        for write in writes.by_ref().map_while(std::result::Result::ok) {
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
                let error = Error::corruption(record.name, record.offset, what);
                repair.watch.problem(Problem { error, keys: Some((key.clone(), Some(key))) });
            }
        }
        next.extend_from_slice(writes.rest());
        next
    }
}

/// Where a record stands, and what is known of it.
struct Record<'a> {
    /// The segment's file.
    name: &'a str,
    offset: u64,
    is_durable: bool,
    /// Is the log taken to end here if something is missing?
    may_end: bool,
}

impl Record<'_> {
    fn tell(&self, repair: &mut Repair<'_>, what: impl Into<String>) {
        repair.watch.problem(Error::corruption(self.name, self.offset, what.into()).into());
    }
}

/// The contents of segments. What they state of it moves on how much of the log is known to be `durable`.
fn read_segments(
    repair: &Repair<'_>,
    framing: Option<Framing>,
    numbers: &[u64],
    durable: &mut u64,
) -> Result<Vec<(u64, Bytes)>> {
    let read = |number: &u64| {
        let object = repair.disk.open(&file_name(*number))?;
        let bytes = object.read_at(0, object.len()? as usize)?;
        let stated = framing.and_then(|framing| reader::highest_synced(&bytes, &framing, *number));
        *durable = (*durable).max(stated.unwrap_or(0));
        Ok((*number, bytes))
    };
    numbers.iter().map(read).collect()
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
