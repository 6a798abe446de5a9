//! The replay of the log on the manifest's state: which of its records count, and what they give.
//!
//! The log is replayed from the manifest's log start. It ends at the first record that is not whole,
//! unless the next segment begins right there; what a later record, or the manifest, proves to have been
//! durable makes that damage instead, and the open refuses ([`crate::lsm::log::reader`]). A missing
//! segment counts as a bad record at its start. So does a record with a pointer to a blob file whose
//! bytes do not check out, past what is known to be durable; below it the file must be there, long
//! enough, and what is damaged in it a reader will learn. Records about volumes are replayed on the
//! manifest's state, in their place among the writes ([`super::streams`]).
//!
//! Nothing is written but at its end, which makes the blob files durable that are not known to be.

use super::streams::Streams;
use super::{families, first_bytes};
use crate::disk::Disk;
use crate::lsm::batch::Writes;
use crate::lsm::blob::Pointer;
use crate::lsm::blob::found::{FoundBlobs, pointers_in};
use crate::lsm::graveyard::Graveyard;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::levels;
use crate::lsm::log::reader::{Record, SegmentReader, highest_synced};
use crate::lsm::log::record::{RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::log::{self, Segment};
use crate::lsm::manifest::{Edit, State, VolumeId, VolumeState};
use crate::lsm::volume::Born;
use crate::lsm::{Error, Options, Result, SeqNo};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the log and the manifest give together.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub volumes: Vec<Born>,
    /// The segments that count, whole.
    pub segments: Vec<Segment>,
    /// What counts of those whose length the manifest does not know yet.
    pub unsealed: Vec<(u64, Bytes)>,
    /// The log position after the last whole record.
    pub position: u64,
    pub last_seq: SeqNo,
}

/// A replay that runs.
pub(super) struct Replay<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    /// What the manifest says, and the log of volumes since.
    state: State,
    streams: Streams,
    /// The segments from the log's start on that are there.
    numbers: BTreeSet<u64>,
    log: Replayed,
    /// The largest sequence number in the log, as far as it is read.
    logged: SeqNo,
    blobs: FoundBlobs,
    /// The position up to which the log is known to have been durable, once somebody asked.
    durable: Option<u64>,
}

impl<'a> Replay<'a> {
    pub fn run(
        disk: &'a dyn Disk,
        options: &'a Options,
        state: State,
        names: &[String],
        blobs: FoundBlobs,
    ) -> Result<Replay<'a>> {
        let in_tables =
            state.volumes.values().map(|v| v.flushed).chain(state.live_tables().map(|t| t.largest_seq));
        let last_seq = in_tables.max().unwrap_or(0).max(state.absorbed);
        let (first, position) = state.log_start;
        let log = Replayed { position, last_seq, ..Replayed::default() };
        let numbers: BTreeSet<u64> =
            names.iter().filter_map(|n| log::parse_file_name(n)).filter(|n| *n >= first).collect();
        let last = numbers.last().copied();
        let streams = Streams::of(&state);
        let mut replay =
            Replay { disk, options, state, streams, numbers, log, logged: 0, blobs, durable: None };
        let Some(last) = last else {
            replay.none_may_be_missing()?;
            replay.durable_part_is_there()?;
            return Ok(replay);
        };
        for number in first..=last {
            if !replay.numbers.contains(&number) || !replay.segment(number)? {
                replay.check_end(number)?;
                break;
            }
        }
        replay.none_may_be_missing()?;
        replay.durable_part_is_there()?;
        Ok(replay)
    }

    /// Replays one segment; false if the log ends in it.
    fn segment(&mut self, number: u64) -> Result<bool> {
        let name = log::file_name(number);
        let bytes = self.read(&name)?;
        let sealed = self.state.sealed.get(&number).copied();
        let bytes = match sealed {
            Some(len) if (bytes.len() as u64) < len => {
                return Err(Error::corruption(
                    name,
                    bytes.len() as u64,
                    format!("it should have {len} bytes"),
                ));
            }
            Some(len) => bytes.slice(..len as usize),
            None => bytes,
        };
        let base = Some(self.log.position);
        let Some(mut reader) =
            SegmentReader::new(bytes.clone(), log::framing(self.state.store), &name, number, base)?
        else {
            return if sealed.is_some() {
                Err(Error::corruption(name, 0, "its header is damaged"))
            } else {
                Ok(false)
            };
        };
        let before = self.logged;
        let mut end = reader.offset();
        let mut points_nowhere = false;
        while let Some(record) = reader.next() {
            if !self.record(&name, record, reader.offset())? {
                points_nowhere = true;
                break;
            }
            end = reader.offset();
        }
        let last_seq = if self.logged > before { self.logged } else { 0 };
        self.log.segments.push(Segment::sealed(number, self.log.position, end, last_seq));
        if sealed.is_none() {
            self.log.unsealed.push((number, bytes.slice(..end as usize)));
        }
        self.log.position += end;
        match (reader.at_end() && !points_nowhere, sealed) {
            (true, _) => Ok(true),
            // Before a record that points nowhere the log ends, whatever follows it.
            (false, None) => Ok(!points_nowhere && self.goes_on_in(number + 1)?),
            (false, Some(_)) => Err(Error::corruption(name, end, "a record is damaged")),
        }
    }

    /// Does segment `number` begin where what is read so far ends? Then that was all of its
    /// predecessor: what follows there was left of the file's earlier life.
    fn goes_on_in(&self, number: u64) -> Result<bool> {
        let name = log::file_name(number);
        if !self.numbers.contains(&number) {
            return Ok(false);
        }
        let start = first_bytes(self.disk, &name, SEGMENT_HEADER_LEN)?;
        let header = SegmentHeader::decode(&start, &log::framing(self.state.store), &name)?;
        Ok(header == Some(SegmentHeader { file: number, base: self.log.position }))
    }

    fn read(&self, name: &str) -> Result<Bytes> {
        let object = self.disk.open(name)?;
        Ok(object.read_at(0, object.len()? as usize)?)
    }

    /// Replays a record that ends at `end` of its segment; false if the log ends before it, because it
    /// points to what never reached the disk.
    fn record(&mut self, name: &str, record: Record, end: u64) -> Result<bool> {
        let damaged = |what: &str| Error::corruption(name, record.offset, what);
        let writes = match record.header.kind {
            RecordKind::Skip => return Ok(true),
            RecordKind::Edits => return self.volume_edits(name, &record).map(|()| true),
            RecordKind::Batch => {
                Writes::new(&record.payload).ok_or_else(|| damaged("a batch is malformed"))?
            }
        };
        let first = record.header.first_seq;
        let last = u64::from(writes.left()).checked_sub(1).and_then(|more| first.checked_add(more));
        let last = last.filter(|last| *last <= MAX_SEQ).ok_or_else(|| damaged("no such sequence numbers"))?;
        if writes.volume == 0 || writes.volume >= self.state.next_volume {
            return Err(damaged("no such volume"));
        }
        if first <= self.logged {
            return Err(damaged("its sequence numbers are out of order"));
        }
        let needed = self.streams.needs(writes.volume, first, last);
        let flushed = !needed.map_err(|()| damaged("its sequence numbers are out of order"))?;
        let pointers = match flushed {
            true => Vec::new(),
            false => pointers_in(&record.payload).ok_or_else(|| damaged("a batch is malformed"))?,
        };
        if !self.check_pointers(&pointers, self.log.position + end)? {
            return Ok(false);
        }
        self.logged = last;
        self.log.last_seq = self.log.last_seq.max(last);
        if flushed {
            return Ok(true);
        }
        let memtable = self.streams.memtable(writes.volume);
        memtable.note(first, last);
        let inserted = memtable.insert_batch(first, record.payload.to_vec(), 0);
        memtable.count(inserted.map_err(|()| damaged("a batch is malformed"))?.tally);
        for pointer in &pointers {
            let blob =
                self.blobs.live.get(pointer.file).ok_or_else(|| damaged("it points to no blob file"))?;
            memtable.refer(blob, pointer.framed_len() as u64);
        }
        let options = self.options;
        if memtable.size() >= options.memtable_size || memtable.blob_bytes() >= options.blob_file_size {
            self.streams.freeze(writes.volume);
        }
        Ok(true)
    }

    /// Replays a record about volumes. Those that the manifest has absorbed only say where memtables end.
    fn volume_edits(&mut self, name: &str, record: &Record) -> Result<()> {
        let damaged = |what: &str| Error::corruption(name, record.offset, what);
        let seq = record.header.first_seq;
        if seq <= self.logged || seq > MAX_SEQ {
            return Err(damaged("its sequence numbers are out of order"));
        }
        let edits = Edit::decode_all(&record.payload).filter(|edits| edits.iter().all(Edit::is_of_log));
        let edits = edits.ok_or_else(|| damaged("its edits are malformed"))?;
        (self.logged, self.log.last_seq) = (seq, self.log.last_seq.max(seq));
        let is_new = seq > self.state.absorbed;
        for edit in &edits {
            match edit {
                Edit::Fork { from, .. } => self.streams.freeze(*from),
                Edit::Volume { id, .. } if is_new => self.streams.open(*id, 0),
                _ => {}
            }
        }
        if is_new {
            let made = |edit: &Edit| match edit {
                Edit::Fork { to, from, .. } => Some((*to, *from)),
                _ => None,
            };
            let forks: Vec<_> = edits.iter().filter_map(made).collect();
            self.state.apply_all(edits).map_err(|what| damaged(&what))?;
            self.state.absorbed = seq;
            for (to, _) in forks {
                let flushed = self.state.volumes.get(&to).map_or(0, |volume| volume.flushed);
                self.streams.open(to, flushed);
            }
        }
        Ok(())
    }

    /// Does what the pointers of a record that ends at `position` point to check out?
    ///
    /// # Errors
    /// [`Error::Corruption`] if the record was durable and they point to what is not there.
    fn check_pointers(&mut self, pointers: &[Pointer], position: u64) -> Result<bool> {
        if pointers.is_empty() {
            return Ok(true);
        }
        if position <= self.state.log_durable || position <= self.durable_position()? {
            pointers.iter().try_for_each(|pointer| self.blobs.refer(pointer))?;
            return Ok(true);
        }
        self.blobs.check(pointers)
    }

    /// What the manifest or any record of the log says was durable.
    fn durable_position(&mut self) -> Result<u64> {
        if let Some(durable) = self.durable {
            return Ok(durable);
        }
        let mut durable = self.state.log_durable;
        let framing = log::framing(self.state.store);
        for &number in &self.numbers {
            let name = log::file_name(number);
            let bytes = self.read(&name)?;
            let after = match SegmentReader::new(bytes.clone(), framing, &name, number, None)? {
                Some(mut reader) => {
                    reader.by_ref().for_each(|record| durable = durable.max(record.header.synced));
                    reader.synced_after()
                }
                None => highest_synced(&bytes, &framing, number),
            };
            durable = durable.max(after.unwrap_or(0));
        }
        self.durable = Some(durable);
        Ok(durable)
    }

    /// Makes the blob files durable that are not known to be.
    pub fn finish(mut self, graveyard: &Arc<Graveyard>) -> Result<(Replayed, State)> {
        self.state.find_uncounted();
        let mut listed = levels::Listed::new(graveyard, &self.blobs.live);
        let born = |(&id, volume): (&VolumeId, &Arc<VolumeState>)| Born {
            id,
            name: volume.name.clone(),
            owner: volume.owner,
            lineage: volume.lineage,
            family: id,
            quota: volume.quota,
            tree: self.streams.tree(id, volume, listed.levels(&volume.levels)),
        };
        let mut volumes: Vec<Born> = self.state.volumes.iter().map(born).collect();
        families::assign(&mut volumes);
        self.blobs.write_again(self.disk)?;
        Ok((Replayed { volumes, ..self.log }, self.state))
    }

    /// The log ends in or before segment `first`: unless it or a later one proves that more was durable.
    fn check_end(&self, first: u64) -> Result<()> {
        for &number in self.numbers.range(first..) {
            let name = log::file_name(number);
            let bytes = self.read(&name)?;
            if highest_synced(&bytes, &log::framing(self.state.store), number)
                .is_some_and(|synced| synced > self.log.position)
            {
                return Err(self.breaks_off(&name));
            }
        }
        Ok(())
    }

    /// What the manifest knows to be durable must have been read.
    fn durable_part_is_there(&self) -> Result<()> {
        if self.log.position < self.state.log_durable { Err(self.breaks_off("the manifest")) } else { Ok(()) }
    }

    fn breaks_off(&self, witness: &str) -> Error {
        let what = format!("the log breaks off here, but {witness} shows that more was durable");
        let (file, offset) = match self.log.segments.last() {
            Some(segment) => (log::file_name(segment.number), segment.len),
            None => (log::file_name(self.state.log_start.0), 0),
        };
        Error::corruption(file, offset, what)
    }

    /// Every segment that the manifest knows to be durable must have been there.
    fn none_may_be_missing(&self) -> Result<()> {
        let found = |number: &u64| self.log.segments.iter().any(|s| s.number == *number);
        match self.state.sealed.keys().find(|number| !found(number)) {
            Some(&number) => Err(Error::corruption(log::file_name(number), 0, "it is missing")),
            None => Ok(()),
        }
    }
}
