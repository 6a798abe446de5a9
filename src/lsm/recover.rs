//! Opening a store: from the files on the disk to volumes with memtables and tables.
//!
//! 1. The manifest is read whole, or the open refuses; so it does unless every table that the manifest
//!    refers to is there in its length, and every blob file as long as the tables say.
//! 2. The log is replayed from the manifest's log start ([`replay`]).
//! 3. What was read of the last session's segments, and the blob files that records past the durable ones
//!    point to, is written again, cut behind its end and synced, and the names are synced. (A sync alone
//!    would not make durable what an earlier, failed sync passed over.) Then a new manifest generation says
//!    where each segment ends: from now on that is firm.
//! 4. Only then are files deleted: log segments before the start and after the end, and tables and blob
//!    files that nothing refers to and whose number was handed out. What is neither, nor the manifest's,
//!    moves to `lost/`.

mod clean;
mod families;
mod replay;
mod streams;

use self::clean::clean_up;
use self::replay::Replay;
use crate::disk::{Disk, Listed};
use crate::lsm::blob::found::FoundBlobs;
use crate::lsm::blob::{self, BlobReader, BlobWriter, LiveBlobs};
use crate::lsm::cache::BlockCache;
use crate::lsm::graveyard::Graveyard;
use crate::lsm::log::{self, Log, Resume};
use crate::lsm::manifest::{self, Manifest, State, VolumeId, VolumeState};
use crate::lsm::readonly::ReadOnly;
use crate::lsm::table::{self, TableFile};
use crate::lsm::volume::Born;
use crate::lsm::{Error, Options, Result, SeqNo};
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
    pub volumes: Vec<Born>,
    pub next_volume: VolumeId,
    pub live_blobs: Arc<LiveBlobs>,
    pub blobs: Arc<BlobReader>,
    pub blob_writer: Arc<BlobWriter>,
}

/// Opens what is on `disk`; an empty disk becomes a new store.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    options: &Options,
    graveyard: &Arc<Graveyard>,
    cache: &Arc<BlockCache>,
    read_only: &ReadOnly,
) -> Result<Recovered> {
    let listed = disk.list()?;
    let names: Vec<String> = listed.iter().map(|listed| listed.name.clone()).collect();
    let state = match manifest::read(disk.as_ref(), &names)? {
        Some(state) => state,
        None => new_state(&names)?,
    };
    check_tables(&state, &listed)?;
    let store = state.store;
    let blobs = Arc::new(BlobReader::new(disk.clone(), cache.clone(), store, options.open_files.div_ceil(2)));
    let found = FoundBlobs::among(&state, &listed, &blobs)?;
    let live_blobs = found.live.clone();
    let (mut replay, mut state) =
        Replay::run(disk.as_ref(), options, state, &names, found)?.finish(graveyard)?;
    for (number, contents) in std::mem::take(&mut replay.unsealed) {
        disk.rewrite_log(&log::file_name(number), &contents)?;
        state.sealed.insert(number, contents.len() as u64);
    }
    disk.sync_dir()?;
    state.log_durable = replay.position;
    let manifest =
        Manifest::start(disk.clone(), manifest::next_generation(&names)?, state, read_only.clone())?;
    let kept: BTreeSet<u64> = replay.segments.iter().map(|s| s.number).collect();
    clean_up(disk.as_ref(), &names, manifest.state(), &kept, &live_blobs, &blobs)?;
    let next = replay.segments.last().map_or(manifest.state().log_start.0, |s| s.number + 1);
    let resume = Resume { segments: replay.segments, next_number: next, position: replay.position };
    let (compression, file_size) = (options.compression, options.blob_file_size);
    let blob_writer = BlobWriter::new(disk.clone(), live_blobs.clone(), store, file_size, compression);
    let blob_writer = Arc::new(blob_writer);
    let log = Log::new(disk.clone(), store, options, resume, read_only.clone());
    let log = log.after(blob_writer.clone());
    let (last_seq, volumes) = (replay.last_seq, replay.volumes);
    let next_volume = manifest.state().next_volume;
    Ok(Recovered { manifest, log, last_seq, volumes, next_volume, live_blobs, blobs, blob_writer })
}

/// The state of a new store, if nothing of a store (or of anybody else) is here.
fn new_state(names: &[String]) -> Result<State> {
    let ours = |name: &String| {
        log::parse_file_name(name).is_some()
            || table::parse_name(name).is_some()
            || blob::parse_file_name(name).is_some()
    };
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
        next_volume: 2,
        volumes: BTreeMap::from([(1, main.into())]),
        ..State::default()
    })
}

/// The keys of hash maps are the system's random numbers: so is what they make of nothing.
pub(crate) fn random_id() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Every table that the manifest refers to must be there, whole, or its pack.
fn check_tables(state: &State, listed: &[Listed]) -> Result<()> {
    let lens: HashMap<&str, u64> = listed.iter().map(|listed| (listed.name.as_str(), listed.len)).collect();
    let expected: BTreeMap<TableFile, u64> =
        state.live_tables().map(|table| (table.file(), table.file_len())).collect();
    for (file, expected) in expected {
        let name = file.name();
        match lens.get(name.as_str()) {
            Some(len) if *len == expected => {}
            Some(len) => {
                let what = format!("it has {len} bytes and should have {expected}");
                return Err(Error::corruption(name, *len, what));
            }
            None => return Err(Error::corruption(name, 0, "it is missing")),
        }
    }
    Ok(())
}

/// The first `len` bytes of a file, or all if it is shorter.
fn first_bytes(disk: &dyn Disk, name: &str, len: usize) -> Result<Bytes> {
    let object = disk.open(name)?;
    let len = object.len()?.min(len as u64);
    Ok(object.read_at(0, len as usize)?)
}

#[cfg(test)]
mod tests;
