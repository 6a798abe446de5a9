//! The manifest's copy, and what is known of a store whose manifest cannot be read.
//!
//! A generation's snapshot is written twice, the second time as `copy-NNNNNN`. That one is not needed: where it
//! cannot be written or read, the store does without.

use super::{SNAPSHOT_HEADER_LEN, State};
use super::{apply_all, decode_snapshot, edits_framing, edits_name, read_whole, snapshot_name, snapshot_of};
use crate::disk::Disk;
use crate::lsm::log::reader::SegmentReader;
use crate::lsm::manifest::Edit;
use crate::lsm::names;
use crate::lsm::{Error, Result};

/// The name of a generation's copy.
pub(super) fn name(generation: u64) -> String {
    format!("copy-{generation:06}")
}

/// The generation of a copy's name.
pub(super) fn generation_of(name: &str) -> Option<u64> {
    names::parse(name, "copy-", "")
}

/// Writes a snapshot's bytes once more.
pub(super) fn write(disk: &dyn Disk, generation: u64, snapshot: &[u8]) {
    let written = disk.create(&name(generation)).and_then(|mut writer| {
        writer.write(snapshot)?;
        writer.finish()
    });
    if let Err(e) = written {
        tracing::warn!("the manifest has no copy: {e}");
    }
}

/// Compares copies with what they are copies of. A generation may have none.
pub(crate) fn differences(disk: &dyn Disk, names: &[String]) -> Result<Vec<Error>> {
    let mut found = Vec::new();
    for copy in names.iter().filter(|copy| generation_of(copy).is_some()) {
        let original = generation_of(copy).map(snapshot_name).filter(|name| names.contains(name));
        let Some(original) = original else { continue };
        let (bytes, wanted) = (read_whole(disk, copy)?, read_whole(disk, &original)?);
        if bytes != wanted {
            let same = bytes.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            found.push(Error::corruption(copy, same as u64, format!("differs from {original}")));
        }
    }
    Ok(found)
}

/// The newest state that a snapshot, or its copy, gives together with as many of its edits as can be read. What
/// came after that is not in it: tables that it names may be gone, and others be there.
pub(crate) fn last_known(disk: &dyn Disk, names: &[String]) -> Result<Option<State>> {
    let mut generations: Vec<u64> =
        names.iter().filter_map(|n| snapshot_of(n).or_else(|| generation_of(n))).collect();
    generations.sort_unstable_by(|a, b| b.cmp(a));
    generations.dedup();
    for generation in generations {
        for name in [snapshot_name(generation), name(generation)] {
            if !names.contains(&name) {
                continue;
            }
            let bytes = read_whole(disk, &name)?;
            let mut state = State::default();
            let edits = match decode_snapshot(&bytes, &name, generation) {
                Ok((_, edits)) => edits,
                // What a later version wrote is not to be rebuilt by this one, which does not know all of it.
                Err(newer @ Error::NewerFormat { .. }) => return Err(newer),
                Err(_) => continue,
            };
            if apply_all(&mut state, edits, &name, SNAPSHOT_HEADER_LEN as u64).is_err() {
                continue;
            }
            go_on(disk, names, generation, &mut state)?;
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// Applies the edits up to the first that cannot be read or does not fit.
fn go_on(disk: &dyn Disk, names: &[String], generation: u64, state: &mut State) -> Result<()> {
    let name = edits_name(generation);
    if !names.contains(&name) {
        return Ok(());
    }
    let bytes = read_whole(disk, &name)?;
    let reader = SegmentReader::new(bytes, edits_framing(state), &name, generation, Some(0));
    for record in reader.ok().flatten().into_iter().flatten() {
        let mut next = state.clone();
        let Some(edits) = Edit::decode_all(&record.payload) else { break };
        if next.apply_all(edits).is_err() {
            break;
        }
        *state = next;
    }
    Ok(())
}
