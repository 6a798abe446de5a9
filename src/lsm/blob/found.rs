//! The blob files that an open finds, and those of them that tables and the log refer to.

use super::{BlobReader, LiveBlob, LiveBlobs, Pointer, file_name};
use crate::disk::{Disk, Listed};
use crate::lsm::batch::Writes;
use crate::lsm::manifest::State;
use crate::lsm::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Blob files while a store opens.
pub(crate) struct FoundBlobs {
    reader: Arc<BlobReader>,
    /// Those that something refers to.
    pub live: Arc<LiveBlobs>,
    /// Held until memtables and tables do.
    held: BTreeMap<u64, Arc<LiveBlob>>,
    /// The files' lengths, by their numbers.
    lens: BTreeMap<u64, u64>,
    /// The end of what is referred to in each.
    ends: BTreeMap<u64, u64>,
    /// Files that a record points to which is not known to be durable.
    unsure: BTreeSet<u64>,
}

impl FoundBlobs {
    /// The files of a listing. Those that the manifest's tables refer to must be there, and long enough.
    pub fn among(state: &State, listed: &[Listed], reader: &Arc<BlobReader>) -> Result<FoundBlobs> {
        let number = |listed: &Listed| Some((super::parse_file_name(&listed.name)?, listed.len));
        let mut found = FoundBlobs {
            reader: reader.clone(),
            live: Arc::default(),
            held: BTreeMap::new(),
            lens: listed.iter().filter_map(number).collect(),
            ends: BTreeMap::new(),
            unsure: BTreeSet::new(),
        };
        let uses = state.live_tables().flat_map(|table| &table.blobs);
        uses.into_iter().try_for_each(|used| found.refer_up_to(used.file, used.end))?;
        Ok(found)
    }

    /// A record points there.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the file is missing or too short.
    pub fn refer(&mut self, pointer: &Pointer) -> Result<()> {
        self.refer_up_to(pointer.file, pointer.end())
    }

    /// A record points there that may never have become durable. False, and nothing is referred to, if not
    /// all of it checks out.
    pub fn check(&mut self, pointers: &[Pointer]) -> Result<bool> {
        for pointer in pointers {
            if !self.reader.checks_out(pointer)? {
                let (file, offset) = (file_name(pointer.file), pointer.offset);
                tracing::warn!(
                    "the log ends: {file} never got the value at {offset} that the next record points to"
                );
                return Ok(false);
            }
        }
        for pointer in pointers {
            self.refer(pointer)?;
            self.unsure.insert(pointer.file);
        }
        Ok(true)
    }

    fn refer_up_to(&mut self, file: u64, end: u64) -> Result<()> {
        let Some(&len) = self.lens.get(&file) else {
            return Err(Error::corruption(file_name(file), 0, "it is missing"));
        };
        if len < end {
            let what = format!("it has {len} bytes and should have {end} at least");
            return Err(Error::corruption(file_name(file), len, what));
        }
        let known = self.ends.entry(file).or_default();
        *known = end.max(*known);
        self.held.entry(file).or_insert_with(|| self.live.add(file, len, true));
        Ok(())
    }

    /// Writes what is referred to in the files that may not be durable again, cuts them behind it, and syncs
    /// them. (A sync alone would not make durable what an earlier, failed sync passed over.)
    pub fn write_again(&self, disk: &dyn Disk) -> Result<()> {
        for file in &self.unsure {
            let end = self.ends.get(file).copied().unwrap_or(0);
            write_again(disk, *file, Some(end))?;
            if let Some(blob) = self.held.get(file) {
                blob.set_len(end);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for FoundBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoundBlobs").field("unsure", &self.unsure).finish_non_exhaustive()
    }
}

/// Writes a blob file again, cuts it at `end`, if one is given, and syncs it: see [`Disk::rewrite_log`].
pub(crate) fn write_again(disk: &dyn Disk, file: u64, end: Option<u64>) -> Result<()> {
    let name = file_name(file);
    let object = disk.open(&name)?;
    let end = end.map_or_else(|| object.len(), Ok)?;
    let contents = object.read_at(0, end as usize)?;
    Ok(disk.rewrite_log(&name, &contents)?)
}

/// The blob pointers of a batch, as the log has it; `None` if it is malformed.
pub(crate) fn pointers_in(payload: &[u8]) -> Option<Vec<Pointer>> {
    let mut pointers = Vec::new();
    for write in Writes::new(payload)? {
        let write = write.ok()?;
        if write.kind.is_blob() {
            pointers.push(Pointer::decode(write.tail())?);
        }
    }
    Some(pointers)
}
