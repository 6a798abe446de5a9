//! Finding a store's id when its manifest cannot be read: the headers of log segments and blob files are
//! checked with it.

use super::unless_damaged;
use crate::disk::Disk;
use crate::lsm::blob;
use crate::lsm::cache::BlockCache;
use crate::lsm::log::record::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::lsm::log::{self, framing};
use crate::lsm::manifest;
use crate::lsm::recover::random_id;
use crate::lsm::table::cache::open_object;
use crate::lsm::table::pack::tables_in;
use crate::lsm::table::{self, Table};
use crate::lsm::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;

/// The id, if a table states it, or a damaged manifest and some header agrees.
pub(super) fn find(disk: &dyn Disk, names: &[String]) -> Result<Option<u64>> {
    for name in names {
        let Some(file) = table::parse_name(name) else { continue };
        let Some(tables) = unless_damaged(tables_in(disk, file))? else { continue };
        for meta in tables {
            let open = |object| Table::open(object, meta.place(), meta.size, Arc::new(BlockCache::new(0)));
            let table = open_object(disk, &meta).and_then(open);
            let properties = table.and_then(|table| table.properties());
            if let Some(properties) = properties.ok().filter(|properties| properties.store != 0) {
                return Ok(Some(properties.store));
            }
        }
    }
    let mut stated = Vec::new();
    for name in names {
        let bytes = read_some(disk, name)?;
        stated.extend(manifest::stated_store(name, &bytes));
    }
    // One bit of it may be what is damaged.
    let candidates = || stated.iter().flat_map(|id| (0..64).map(move |bit| id ^ 1 << bit).chain([*id]));
    for name in names.iter().filter(|name| log::parse_file_name(name).is_some()) {
        let start = read_some(disk, name)?;
        for id in candidates() {
            if matches!(SegmentHeader::decode(&start, &framing(id), name), Ok(Some(_))) {
                return Ok(Some(id));
            }
        }
    }
    for number in names.iter().filter_map(|name| blob::parse_file_name(name)) {
        let object = disk.open(&blob::file_name(number))?;
        if let Some(id) = candidates().find(|id| blob::check_file_header(&*object, number, *id).is_ok()) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// A new id, with which blob files are marked: there was no trace of the old one.
pub(super) fn make_new(disk: &dyn Disk, names: &[String]) -> Result<u64> {
    let id = random_id();
    for name in names {
        let Some(number) = blob::parse_file_name(name) else { continue };
        let object = disk.open(name)?;
        let mut contents = object.read_at(0, object.len()? as usize)?.to_vec();
        if let Some(start) = contents.first_chunk_mut() {
            *start = blob::file_header(number, id);
            disk.rewrite_log(name, &contents)?;
        }
    }
    Ok(id)
}

/// As much of a file's start as a header needs, with the manifest's first edit.
fn read_some(disk: &dyn Disk, name: &str) -> Result<Bytes> {
    let object = disk.open(name)?;
    let len = object.len()?.min(2 * SEGMENT_HEADER_LEN as u64);
    object.read_at(0, len as usize).map_err(Error::from)
}
