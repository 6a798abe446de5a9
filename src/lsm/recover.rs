//! Opening a store: from the files on the disk to volumes with memtables and tables.
//!
//! 1. The manifest is read whole, or the open refuses; so it does unless every table that the manifest
//!    refers to is there in its length.
//! 2. The log is replayed from the manifest's log start. It ends at the first record that is not
//!    whole, unless the next segment begins right there; what a later record, or the manifest, proves to have been durable makes that damage
//!    instead, and the open refuses ([`crate::lsm::log::reader`]). A missing segment counts as a bad
//!    record at its start.
//! 3. What was read of the last session's segments is written again, cut behind its end and synced, and
//!    the names are synced. (A sync alone would not make durable what an earlier, failed sync passed over.)
//!    Then a new manifest generation says where each segment ends: from now on that is firm.
//! 4. Only then are files deleted: log segments before the start and after the end, and tables
//!    that no volume refers to and whose number was handed out. What is neither, nor the manifest's,
//!    moves to `lost/`.

use crate::disk::{Disk, LOST_DIR, Listed};
use crate::lsm::batch::Writes;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::levels::{Graveyard, Levels};
use crate::lsm::log::reader::{Record, SegmentReader, highest_synced, may_be_segment};
use crate::lsm::log::record::{RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::log::{self, Log, Resume, Segment};
use crate::lsm::manifest::{self, Manifest, State, VolumeId, VolumeState};
use crate::lsm::readonly::ReadOnly;
use crate::lsm::volume::Tree;
use crate::lsm::{Error, Options, Result, SeqNo, table};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// The volume that every store has from its birth.
pub const FIRST_VOLUME: &str = "main";

/// What an open found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub manifest: Manifest,
    pub log: Log,
    pub last_seq: SeqNo,
    pub trees: BTreeMap<VolumeId, (String, Tree)>,
}

/// Opens what is on `disk`; an empty disk becomes a new store.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    options: &Options,
    graveyard: &Arc<Graveyard>,
    read_only: &ReadOnly,
) -> Result<Recovered> {
    let listed = disk.list()?;
    let names: Vec<String> = listed.iter().map(|listed| listed.name.clone()).collect();
    let mut state = match manifest::read(disk.as_ref(), &names)? {
        Some(state) => state,
        None => new_state(&names)?,
    };
    check_tables(&state, &listed)?;
    let mut replay = Replay::run(disk.as_ref(), options, &state, graveyard, &names)?.log;
    for (number, contents) in std::mem::take(&mut replay.unsealed) {
        disk.rewrite_log(&log::file_name(number), &contents)?;
        state.sealed.insert(number, contents.len() as u64);
    }
    disk.sync_dir()?;
    state.log_durable = replay.position;
    let manifest =
        Manifest::start(disk.clone(), manifest::next_generation(&names)?, state, read_only.clone())?;
    let kept: BTreeSet<u64> = replay.segments.iter().map(|s| s.number).collect();
    clean_up(disk.as_ref(), &names, manifest.state(), &kept)?;
    let next = replay.segments.last().map_or(manifest.state().log_start.0, |s| s.number + 1);
    let resume = Resume { segments: replay.segments, next_number: next, position: replay.position };
    let store = manifest.state().store;
    let log = Log::new(disk.clone(), store, options, resume, read_only.clone());
    Ok(Recovered { manifest, log, last_seq: replay.last_seq, trees: replay.trees })
}

/// The state of a new store, if nothing of a store (or of anybody else) is here.
fn new_state(names: &[String]) -> Result<State> {
    let ours = |name: &String| log::parse_file_name(name).is_some() || table::parse_file_name(name).is_some();
    if names.iter().any(ours) {
        return Err(Error::corruption(
            "manifest",
            0,
            "it is missing, but the store's tables or log are here",
        ));
    }
    if let Some(stranger) = names.iter().find(|name| !manifest::is_manifest_file(name)) {
        return Err(Error::NotAStore(format!(
            "the directory holds other files ({stranger}) and no manifest"
        )));
    }
    let main = VolumeState { name: FIRST_VOLUME.to_string(), ..VolumeState::default() };
    Ok(State {
        store: random_id(),
        files: 1,
        log_start: (1, 0),
        volumes: BTreeMap::from([(1, main)]),
        ..State::default()
    })
}

/// The keys of hash maps are the system's random numbers: so is what they make of nothing.
fn random_id() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Every table that the manifest refers to must be there, whole.
fn check_tables(state: &State, listed: &[Listed]) -> Result<()> {
    let lens: HashMap<&str, u64> = listed.iter().map(|listed| (listed.name.as_str(), listed.len)).collect();
    for table in state.live_tables() {
        let name = table::file_name(table.number);
        match lens.get(name.as_str()) {
            Some(len) if *len == table.size => {}
            Some(len) => {
                let what = format!("it has {len} bytes and should have {}", table.size);
                return Err(Error::corruption(name, *len, what));
            }
            None => return Err(Error::corruption(name, 0, "it is missing")),
        }
    }
    Ok(())
}

/// What the log and the manifest give together.
#[derive(Debug, Default)]
struct Replayed {
    trees: BTreeMap<VolumeId, (String, Tree)>,
    /// The segments that count, whole.
    segments: Vec<Segment>,
    /// What counts of those whose length the manifest does not know yet.
    unsealed: Vec<(u64, Bytes)>,
    /// The log position after the last whole record.
    position: u64,
    last_seq: SeqNo,
}

/// A replay that runs.
struct Replay<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    state: &'a State,
    /// The segments from the log's start on that are there.
    numbers: BTreeSet<u64>,
    log: Replayed,
    /// The largest sequence number in the log, as far as it is read.
    logged: SeqNo,
}

impl<'a> Replay<'a> {
    fn run(
        disk: &'a dyn Disk,
        options: &'a Options,
        state: &'a State,
        graveyard: &Arc<Graveyard>,
        names: &[String],
    ) -> Result<Replay<'a>> {
        let levels = |v: &VolumeState| Levels::from_manifest(&v.levels, graveyard);
        let tree = |v: &VolumeState| Tree { levels: levels(v), ..Tree::default() };
        let trees = state.volumes.iter().map(|(&id, v)| (id, (v.name.clone(), tree(v)))).collect();
        let in_tables =
            state.volumes.values().map(|v| v.flushed).chain(state.live_tables().map(|t| t.largest_seq));
        let last_seq = in_tables.max().unwrap_or(0);
        let (first, position) = state.log_start;
        let log = Replayed { trees, position, last_seq, ..Replayed::default() };
        let numbers: BTreeSet<u64> =
            names.iter().filter_map(|n| log::parse_file_name(n)).filter(|n| *n >= first).collect();
        let last = numbers.last().copied();
        let mut replay = Replay { disk, options, state, numbers, log, logged: 0 };
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
        for record in reader.by_ref() {
            self.record(&name, record)?;
        }
        let last_seq = if self.logged > before { self.logged } else { 0 };
        self.log.segments.push(Segment::sealed(number, self.log.position, reader.offset(), last_seq));
        if sealed.is_none() {
            self.log.unsealed.push((number, bytes.slice(..reader.offset() as usize)));
        }
        self.log.position += reader.offset();
        match (reader.at_end(), sealed) {
            (true, _) => Ok(true),
            (false, None) => self.goes_on_in(number + 1),
            (false, Some(_)) => Err(Error::corruption(name, reader.offset(), "a record is damaged")),
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

    fn record(&mut self, name: &str, record: Record) -> Result<()> {
        let damaged = |what: &str| Error::corruption(name, record.offset, what);
        match record.header.kind {
            RecordKind::Skip => return Ok(()),
            RecordKind::Edits => return Err(damaged("a record does not belong in a log")),
            RecordKind::Batch => {}
        }
        // A copy: a slice would keep the whole segment in memory.
        let payload = Bytes::copy_from_slice(&record.payload);
        let writes = Writes::new(payload).ok_or_else(|| damaged("a batch is malformed"))?;
        let first = record.header.first_seq;
        let last = u64::from(writes.left()).checked_sub(1).and_then(|more| first.checked_add(more));
        let last = last.filter(|last| *last <= MAX_SEQ).ok_or_else(|| damaged("no such sequence numbers"))?;
        let volume = self.state.volumes.get(&writes.volume).ok_or_else(|| damaged("no such volume"))?;
        if first <= self.logged || (first <= volume.flushed && last > volume.flushed) {
            return Err(damaged("its sequence numbers are out of order"));
        }
        self.logged = last;
        self.log.last_seq = self.log.last_seq.max(last);
        if last <= volume.flushed {
            return Ok(());
        }
        let (_, tree) = self.log.trees.get_mut(&writes.volume).ok_or_else(|| damaged("no such volume"))?;
        tree.memtable.note(first, last);
        let inserted = tree.memtable.insert_all(first, writes, record.payload.len());
        inserted.map_err(|()| damaged("a batch is malformed"))?;
        if tree.memtable.size() >= self.options.memtable_size {
            tree.immutable.insert(0, std::mem::take(&mut tree.memtable));
        }
        Ok(())
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

/// Deletes what nothing needs; moves away what nothing explains.
fn clean_up(disk: &dyn Disk, names: &[String], state: &State, segments: &BTreeSet<u64>) -> Result<()> {
    let live: BTreeSet<u64> = state.live_tables().map(|t| t.number).collect();
    let mut changed = false;
    for name in names {
        let is_ours = if let Some(number) = log::parse_file_name(name) {
            if segments.contains(&number) {
                continue;
            }
            may_be_segment(&first_bytes(disk, name, SEGMENT_HEADER_LEN)?, &log::framing(state.store))
        } else if let Some(number) = table::parse_file_name(name) {
            if live.contains(&number) {
                continue;
            }
            number < state.files
        } else if manifest::is_manifest_file(name) {
            continue;
        } else {
            false
        };
        changed = true;
        if is_ours {
            disk.delete(name)?;
        } else if let Err(e) = disk.move_to_lost(name) {
            // No reason to keep anybody from the store.
            tracing::warn!("{name} is not this store's, and could not be moved to {LOST_DIR}/: {e}");
        } else {
            tracing::warn!("{name} is not this store's: it was moved to {LOST_DIR}/");
        }
    }
    // The numbers of deleted segments are used again: their names must be gone for good.
    if changed { Ok(disk.sync_dir()?) } else { Ok(()) }
}

/// The first `len` bytes of a file, or all if it is shorter.
fn first_bytes(disk: &dyn Disk, name: &str, len: usize) -> Result<Bytes> {
    let object = disk.open(name)?;
    let len = object.len()?.min(len as u64);
    Ok(object.read_at(0, len as usize)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::Store;
    use crate::lsm::log::record::{HEADER_LEN, Header};

    /// Opens a store whose log is one record of two writes, the first with this sequence number.
    fn open_with_record(first_seq: SeqNo) -> Result<Store> {
        let disk = Arc::new(SimDisk::new(1));
        let options = Options { background: false, ..Options::default() };
        drop(Store::open(disk.clone(), options.clone())?);
        let names: Vec<String> = disk.list()?.into_iter().map(|listed| listed.name).collect();
        let store = manifest::read(&*disk, &names)?.map_or(0, |state| state.store);
        let framing = log::framing(store);
        let mut record = vec![0; HEADER_LEN];
        record.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b']);
        let payload_len = (record.len() - HEADER_LEN) as u32;
        let header = Header { kind: RecordKind::Batch, payload_len, file: 1, first_seq, synced: 0 };
        header.fill(&framing, &mut record);
        let header = SegmentHeader { file: 1, base: 0 }.encode(&framing);
        disk.write_file(&log::file_name(1), &[&header[..], &record].concat())?;
        Store::open(disk, options)
    }

    #[test]
    fn sequence_numbers_that_cannot_be_are_damage() {
        for first_seq in [0, MAX_SEQ, MAX_SEQ + 1, u64::MAX] {
            let refused = open_with_record(first_seq).unwrap_err();
            assert!(matches!(refused, Error::Corruption { .. }), "{first_seq}: {refused}");
        }
        let store = open_with_record(MAX_SEQ - 1).unwrap();
        let mut batch = crate::lsm::Batch::new();
        batch.put(b"c", b"");
        let refused = store.volume("main").unwrap().write(batch).unwrap_err();
        assert!(matches!(refused, Error::NoSequenceNumbers), "{refused}");
    }
}
