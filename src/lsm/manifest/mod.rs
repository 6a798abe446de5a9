//! The manifest: the durable record of a store's shape (volumes, levels, tables, log segments).
//!
//! It is kept in *generations*. `manifest-NNNNNN` is an immutable object with the whole state;
//! `edits-NNNNNN` is a log of what changed since, one record of edits for each atomic change, framed
//! like the write-ahead log's ([`crate::lsm::log::record`]).
//!
//! ```text
//! manifest-NNNNNN
//! offset  size
//! 0       8    magic "lsmfsman"
//! 8       4    format version
//! 12      4    zero
//! 16      8    generation
//! 24      8    length of the edits
//! 32      8    checksum (xxh3) of everything else, in order
//! 40      …    edits that build the state from nothing (see edit.rs)
//! ```
//!
//! `copy-NNNNNN` has the same bytes as the snapshot. Nothing reads it but a repair that finds no manifest which can
//! be read: [`copy`] says what such a repair starts from.
//!
//! # Invariants
//! - Each open writes a new generation, and so does a log of edits that has grown long. The one
//!   before is deleted when the new one is durable. Its log of edits is durable before its snapshot has
//!   a name: a snapshot without one is damage.
//! - A record of edits is synced before its effect is used. So only the last may be torn, and the
//!   "synced" position in each record's header is its own offset: a bad record before a whole one
//!   is damage, and open refuses.
//! - File numbers are reserved in blocks before use, so that a file no edit speaks of is known to
//!   be an unfinished or obsolete one (and may be deleted) when its number is below the mark; any
//!   other is a stranger and is moved to `lost/`.
//!
//! # Locks
//! None inside: [`Manifest`] is used under one mutex, held over its I/O.

pub(crate) mod copy;
pub mod edit;
pub mod state;
#[cfg(test)]
mod tests;

pub use edit::{Edit, VolumeId};
pub use state::{State, VolumeState};

use crate::disk::{Disk, LogFile};
use crate::lsm::log::reader::SegmentReader;
use crate::lsm::log::record::{Framing, HEADER_LEN, Header, RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::names::{self, MAX_NUMBER};
use crate::lsm::readonly::ReadOnly;
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3Default;

/// The version of the format that this program writes, and the newest that it reads. From 2 on, tables may point
/// to blob files, which an earlier program would take for a stranger's; from 3 on, the log may tell of volumes; from 4 on,
/// tables may stand in packs; from 5 on, batches and the manifest keep tallies;
/// from 6 on, volumes have a lineage and tables tell of newer values apart; from 7 on, patches may have a head.
pub const VERSION: u32 = 7;
/// The first version that keeps tallies.
const TALLIES: u32 = 5;
/// The first version that keeps lineages.
const LINEAGES: u32 = 6;
const MAGIC: &[u8; 8] = b"lsmfsman";
const SNAPSHOT_HEADER_LEN: usize = 40;
/// A log of edits longer than this is followed by a new generation.
const EDITS_LIMIT: u64 = 1 << 20;
/// File numbers reserved at once.
const FILE_BLOCK: u64 = 256;

pub(crate) fn edits_framing(state: &State) -> Framing {
    Framing { magic: b"lsmfsedt", store: state.store }
}

pub(crate) fn snapshot_name(generation: u64) -> String {
    format!("manifest-{generation:06}")
}

pub(crate) fn edits_name(generation: u64) -> String {
    format!("edits-{generation:06}")
}

fn snapshot_of(name: &str) -> Option<u64> {
    names::parse(name, "manifest-", "")
}

fn generation_of(name: &str) -> Option<u64> {
    snapshot_of(name).or_else(|| names::parse(name, "edits-", "")).or_else(|| copy::generation_of(name))
}

/// Is `name` a manifest's file?
pub fn is_manifest_file(name: &str) -> bool {
    generation_of(name).is_some()
}

/// An open manifest.
#[derive(Debug)]
pub struct Manifest {
    disk: Arc<dyn Disk>,
    generation: u64,
    state: State,
    edits: Arc<dyn LogFile>,
    edits_len: u64,
    /// The log of edits is to be followed by a new generation when it is longer than this.
    rotate_at: u64,
    next_file: u64,
    /// Commits so far, in this session.
    commits: u64,
    /// An append failed: what the file holds from here on is unknown.
    failed: bool,
    read_only: ReadOnly,
}

/// A generation number that no file among `names` has.
///
/// # Errors
/// [`Error::Corruption`] if there is none.
pub fn next_generation(names: &[String]) -> Result<u64> {
    let last = names.iter().filter_map(|n| generation_of(n)).max().unwrap_or(0);
    if last >= MAX_NUMBER {
        return Err(Error::corruption(snapshot_name(last), 0, "no generation can follow it"));
    }
    Ok(last + 1)
}

/// Reads the newest generation; `None` if `names` has none.
///
/// # Errors
/// [`Error::Corruption`] if it is damaged, [`Error::NewerFormat`] if a later version wrote it.
pub fn read(disk: &dyn Disk, names: &[String]) -> Result<Option<State>> {
    let newest = names.iter().filter_map(|n| snapshot_of(n)).max();
    let Some(generation) = newest else { return Ok(None) };
    let name = snapshot_name(generation);
    let mut state = State::default();
    let bytes = read_whole(disk, &name)?;
    let (version, edits) = decode_snapshot(&bytes, &name, generation)?;
    state.keeps_no_tallies = version < TALLIES;
    apply_all(&mut state, edits, &name, SNAPSHOT_HEADER_LEN as u64)?;
    let name = edits_name(generation);
    if !names.contains(&name) {
        return Err(Error::corruption(name, 0, "it is missing"));
    }
    let bytes = read_whole(disk, &name)?;
    replay_edits(&mut state, bytes, &name, generation)?;
    if version < LINEAGES {
        state.forget_lineages();
    }
    Ok(Some(state))
}

fn read_whole(disk: &dyn Disk, name: &str) -> Result<Bytes> {
    let object = disk.open(name)?;
    let len = object.len()? as usize;
    Ok(object.read_at(0, len)?)
}

fn apply_all(state: &mut State, payload: &[u8], name: &str, offset: u64) -> Result<()> {
    let edits = Edit::decode_all(payload)
        .ok_or_else(|| Error::corruption(name, offset, "its edits are malformed"))?;
    state.apply_all(edits).map_err(|what| Error::corruption(name, offset, what))
}

fn snapshot_checksum(header: &[u8], edits: &[u8]) -> [u8; 8] {
    let mut hash = Xxh3Default::new();
    hash.update(header);
    hash.update(edits);
    hash.digest().to_be_bytes()
}

fn encode_snapshot(state: &State, generation: u64) -> Vec<u8> {
    let mut edits = Vec::new();
    state.to_edits().iter().for_each(|edit| edit.encode(&mut edits));
    frame_snapshot(&edits, generation)
}

/// Encoded edits as a snapshot.
pub(crate) fn frame_snapshot(edits: &[u8], generation: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(&(edits.len() as u64).to_be_bytes());
    let sum = snapshot_checksum(&out, edits);
    out.extend_from_slice(&sum);
    out.extend_from_slice(edits);
    out
}

fn decode_snapshot<'a>(bytes: &'a [u8], name: &str, generation: u64) -> Result<(u32, &'a [u8])> {
    let damaged = |offset, what: &str| Error::corruption(name, offset, what);
    let Some((header, edits)) = bytes.split_at_checked(SNAPSHOT_HEADER_LEN) else {
        return Err(damaged(0, "it is shorter than its header"));
    };
    if header[..8] != *MAGIC {
        return Err(damaged(0, "it does not begin as a manifest"));
    }
    if header[32..40] != snapshot_checksum(&header[..32], edits) {
        return Err(damaged(32, "its checksum does not match"));
    }
    let found = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    if found > VERSION {
        return Err(Error::NewerFormat { file: name.to_string(), found, supported: VERSION });
    }
    if header[16..24] != generation.to_be_bytes() || header[24..32] != (edits.len() as u64).to_be_bytes() {
        return Err(damaged(16, "it belongs to another file"));
    }
    Ok((found, edits))
}

fn replay_edits(state: &mut State, bytes: Bytes, name: &str, generation: u64) -> Result<()> {
    let damaged = |offset| Error::corruption(name, offset, "a record is damaged that was once durable");
    let framing = edits_framing(state);
    let reader = SegmentReader::new(bytes, framing, name, generation, Some(0))?;
    let mut reader = reader.ok_or_else(|| Error::corruption(name, 0, "its header is damaged"))?;
    for record in reader.by_ref() {
        apply_all(state, &record.payload, name, record.offset)?;
    }
    match reader.synced_after() {
        Some(synced) if synced > reader.offset() => Err(damaged(reader.offset())),
        _ => Ok(()),
    }
}

/// The store's id as the start of a snapshot that may be damaged says it.
pub(crate) fn stated_store(name: &str, start: &[u8]) -> Option<u64> {
    snapshot_of(name)?;
    // The first edit: tag, length, id.
    let id = start.get(SNAPSHOT_HEADER_LEN + 2..)?.first_chunk()?;
    Some(u64::from_be_bytes(*id))
}

/// Writes a generation and leaves the older ones.
pub(crate) fn write_new(disk: &dyn Disk, generation: u64, state: &State) -> Result<()> {
    write_generation(disk, generation, state).map(drop)
}

impl Manifest {
    /// Writes `state` as generation `generation` and goes on from it. The generation before, if
    /// any, is deleted.
    pub fn start(
        disk: Arc<dyn Disk>,
        generation: u64,
        state: State,
        read_only: ReadOnly,
    ) -> Result<Manifest> {
        let (edits, edits_len) = write_generation(disk.as_ref(), generation, &state)?;
        let next_file = state.files;
        let manifest = Manifest {
            disk,
            generation,
            state,
            edits,
            edits_len,
            rotate_at: EDITS_LIMIT,
            next_file,
            commits: 0,
            failed: false,
            read_only,
        };
        manifest.delete_older();
        Ok(manifest)
    }

    /// The state now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of commits in this session. A new generation counts as one.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Did a commit fail in a way that leaves open whether the next open will see it?
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// A file number that no file has had.
    pub fn next_file_number(&mut self) -> Result<u64> {
        if self.next_file >= self.state.files {
            self.commit(vec![Edit::Files(self.next_file + FILE_BLOCK)])?;
        }
        self.next_file += 1;
        Ok(self.next_file - 1)
    }

    /// Makes a change durable: all of its edits or, after a crash, none.
    ///
    /// # Errors
    /// The change did not happen, or ([`Manifest::has_failed`]) the next open decides whether it did,
    /// and the store is read-only.
    pub fn commit(&mut self, edits: Vec<Edit>) -> Result<()> {
        self.read_only.check()?;
        let mut next = self.state.clone();
        let mut record = vec![0; HEADER_LEN];
        edits.iter().for_each(|edit| edit.encode(&mut record));
        // What does not fit here would not fit at the next open either.
        next.apply_all(edits).map_err(Error::Internal)?;
        let header = Header {
            kind: RecordKind::Edits,
            payload_len: (record.len() - HEADER_LEN) as u32,
            file: self.generation,
            first_seq: 0,
            synced: self.edits_len,
        };
        header.fill(&edits_framing(&self.state), &mut record);
        if let Err(e) = self.edits.write_at(self.edits_len, &record) {
            return Err(self.undo(e.into()));
        }
        self.edits.sync().map_err(|e| self.poison(e.into()))?;
        self.edits_len += record.len() as u64;
        self.state = next;
        self.commits += 1;
        if self.edits_len > self.rotate_at
            && let Err(e) = self.rotate()
        {
            // The change itself is durable. Not at once again: it takes the whole state.
            self.rotate_at = self.edits_len + EDITS_LIMIT;
            tracing::warn!("the manifest's edits could not be gathered: {e}");
        }
        Ok(())
    }

    /// Cuts a record off again that could not be written, durably: what it speaks of is discarded.
    fn undo(&mut self, error: Error) -> Error {
        match self.edits.truncate(self.edits_len).and_then(|()| self.edits.sync()) {
            Ok(()) => error,
            Err(_) => self.poison(error),
        }
    }

    fn poison(&mut self, error: Error) -> Error {
        self.failed = true;
        self.read_only.set(error)
    }

    /// Starts the next generation, so that the whole state stands under one checksum.
    ///
    /// # Errors
    /// The present generation goes on (a full disk), unless what there is of the next one cannot be
    /// removed: then the store is read-only.
    pub fn rotate(&mut self) -> Result<()> {
        self.read_only.check()?;
        let generation = self.generation + 1;
        match write_generation(self.disk.as_ref(), generation, &self.state) {
            Ok((edits, len)) => {
                (self.generation, self.edits, self.edits_len) = (generation, edits, len);
                self.rotate_at = EDITS_LIMIT;
                self.commits += 1;
                self.delete_older();
                Ok(())
            }
            Err(e) => self.abandon(generation).map_err(|_| self.poison(e)),
        }
    }

    /// Removes what there is of a generation that could not be written: left behind, it would be
    /// read in place of this one.
    fn abandon(&self, generation: u64) -> Result<()> {
        for name in [snapshot_name(generation), edits_name(generation), copy::name(generation)] {
            match self.disk.delete(&name) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(self.disk.sync_dir()?)
    }

    /// Deletes the generations before this one. What cannot be deleted is tried again after the next
    /// generation: nobody reads it.
    fn delete_older(&self) {
        let delete = || -> Result<()> {
            for listed in self.disk.list()? {
                if generation_of(&listed.name).is_some_and(|g| g < self.generation) {
                    self.disk.delete(&listed.name)?;
                }
            }
            Ok(())
        };
        if let Err(e) = delete() {
            tracing::warn!("an older manifest stays for now: {e}");
        }
    }
}

/// Writes a generation, durably: its empty log of edits, then the snapshot, which makes it one.
fn write_generation(disk: &dyn Disk, generation: u64, state: &State) -> Result<(Arc<dyn LogFile>, u64)> {
    let edits = disk.create_log(&edits_name(generation))?;
    edits.write_at(0, &SegmentHeader { file: generation, base: 0 }.encode(&edits_framing(state)))?;
    edits.sync()?;
    disk.sync_dir()?;
    let snapshot = encode_snapshot(state, generation);
    let mut writer = disk.create(&snapshot_name(generation))?;
    writer.write(&snapshot)?;
    writer.finish()?;
    copy::write(disk, generation, &snapshot);
    Ok((edits, SEGMENT_HEADER_LEN as u64))
}
