//! The end of an opening: the files that nothing needs.

use super::first_bytes;
use crate::disk::{Disk, LOST_DIR};
use crate::lsm::Result;
use crate::lsm::blob::{self, BlobReader, LiveBlobs};
use crate::lsm::log;
use crate::lsm::log::reader::may_be_segment;
use crate::lsm::log::record::SEGMENT_HEADER_LEN;
use crate::lsm::manifest::{self, State};
use crate::lsm::table::{self, TableFile};
use std::collections::BTreeSet;

/// Deletes what nothing needs; moves away what nothing explains.
pub(super) fn clean_up(
    disk: &dyn Disk,
    names: &[String],
    state: &State,
    segments: &BTreeSet<u64>,
    blobs: &LiveBlobs,
    reader: &BlobReader,
) -> Result<()> {
    let live: BTreeSet<TableFile> = state.live_tables().map(|t| t.file()).collect();
    let mut changed = false;
    for name in names {
        let is_ours = if let Some(number) = log::parse_file_name(name) {
            if segments.contains(&number) {
                continue;
            }
            may_be_segment(&first_bytes(disk, name, SEGMENT_HEADER_LEN)?, &log::framing(state.store))
        } else if let Some(file) = table::parse_name(name) {
            if live.contains(&file) {
                continue;
            }
            file.number() < state.files
        } else if let Some(number) = blob::parse_file_name(name) {
            if blobs.get(number).is_some() {
                continue;
            }
            // Replay may have looked into it: an open file would keep its room.
            reader.evict(number);
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
