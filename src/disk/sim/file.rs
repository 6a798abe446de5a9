//! One file's contents: what processes see, and what a power cut may leave of it.
//!
//! Of each 4 KiB block that changed since it was last synced the file keeps what the disk had
//! before. A power cut leaves, by chance and for each such block alone, the new contents, the old
//! ones, or a torn block: new up to a 512-byte boundary, old behind it. Where the disk had nothing
//! there are zeros. The length is the synced one or the new one; if the file grew, any in between.
//!
//! A block that is written again while it is dirty may have been written back in the meantime; then
//! its older unsynced contents are what the disk has, and the file is as long there. So it is with one that is cut off.
//!
//! After a failed sync the changed blocks are clean though they never reached the disk: a later
//! sync does not write them and succeeds. Only writing a block again makes it dirty again.
//!
//! Invariant: a block without an entry in `unsynced` is on the disk as `data` has it, up to
//! `durable_len`.

use super::rng::Rng;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the disk writes or loses as one, unless it tears it.
pub(super) const BLOCK_BYTES: usize = 4096;

/// What the disk never tears.
pub(super) const SECTOR_BYTES: usize = 512;

/// How often a dirty block was written back before it is written again.
const WRITTEN_BACK_PERCENT: usize = 5;

/// How often a block that the power cut caught is torn.
const TORN_PERCENT: usize = 15;

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    data: Vec<u8>,
    durable_len: usize,
    unsynced: BTreeMap<usize, Block>,
}

/// A block that differs from what the disk has.
#[derive(Debug, Clone)]
struct Block {
    /// What the disk has; zeros behind it.
    before: Vec<u8>,
    /// Will the next sync write it?
    dirty: bool,
}

impl File {
    /// A file that is on the disk as it is.
    pub(super) fn durable(data: Vec<u8>) -> File {
        File { durable_len: data.len(), data, unsynced: BTreeMap::new() }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn write(&mut self, rng: &mut Rng, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        self.touch(rng, offset..end);
        if end > self.data.len() {
            self.data.resize(end, 0);
        }
        self.data[offset..end].copy_from_slice(bytes);
    }

    pub(super) fn truncate(&mut self, rng: &mut Rng, len: usize) {
        self.touch(rng, len..self.data.len());
        self.data.resize(len, 0);
    }

    /// Everything reaches the disk, but what an earlier failed sync passed over.
    pub(super) fn sync(&mut self) {
        let len = self.data.len();
        self.unsynced.retain(|number, block| !block.dirty && number * BLOCK_BYTES < len);
        self.durable_len = len;
    }

    /// A sync that fails.
    pub(super) fn fail_sync(&mut self) {
        for block in self.unsynced.values_mut() {
            block.dirty = false;
        }
    }

    /// Keeps what the disk has of the blocks that `changing` touches, before they change or go.
    fn touch(&mut self, rng: &mut Rng, changing: Range<usize>) {
        if changing.is_empty() {
            return;
        }
        for number in changing.start / BLOCK_BYTES..changing.end.div_ceil(BLOCK_BYTES) {
            let Some(block) = self.unsynced.get_mut(&number) else {
                let before = block_of(&self.data[..self.durable_len.min(self.data.len())], number).to_vec();
                self.unsynced.insert(number, Block { before, dirty: true });
                continue;
            };
            if block.dirty && rng.percent(WRITTEN_BACK_PERCENT) {
                block.before = block_of(&self.data, number).to_vec();
                let end = self.data.len().min((number + 1) * BLOCK_BYTES);
                self.durable_len = self.durable_len.max(end);
            }
            block.dirty = true;
        }
    }

    /// What a power cut leaves.
    pub(super) fn after_power_cut(&self, rng: &mut Rng) -> Vec<u8> {
        let mut found = self.data.clone();
        found.resize(self.len_after_power_cut(rng), 0);
        let survival_percent = rng.survival_percent();
        for (&number, block) in &self.unsynced {
            let was_cut_off = number * BLOCK_BYTES >= self.data.len();
            let new_bytes = if was_cut_off || !rng.percent(survival_percent) {
                0
            } else if rng.percent(TORN_PERCENT) {
                SECTOR_BYTES * (1 + rng.below(BLOCK_BYTES / SECTOR_BYTES - 1))
            } else {
                BLOCK_BYTES
            };
            let start = (number * BLOCK_BYTES).min(found.len());
            let end = (start + BLOCK_BYTES).min(found.len());
            for (offset, byte) in found[start..end].iter_mut().enumerate().skip(new_bytes) {
                *byte = block.before.get(offset).copied().unwrap_or(0);
            }
        }
        found
    }

    fn len_after_power_cut(&self, rng: &mut Rng) -> usize {
        let (synced, new) = (self.durable_len, self.data.len());
        match rng.below(4) {
            0 => synced,
            1 => new,
            _ if new > synced => synced + rng.below(new - synced + 1),
            choice => [synced, new][choice % 2],
        }
    }

    /// Flips a bit, on the disk too.
    pub(super) fn flip_bit(&mut self, offset: usize, bit: u8) {
        let mask = 1 << (bit % 8);
        if let Some(byte) = self.data.get_mut(offset) {
            *byte ^= mask;
        }
        if let Some(block) = self.unsynced.get_mut(&(offset / BLOCK_BYTES))
            && let Some(byte) = block.before.get_mut(offset % BLOCK_BYTES)
        {
            *byte ^= mask;
        }
    }

    /// Loses the end of the file, on the disk too.
    pub(super) fn lose_end(&mut self, len: usize) {
        self.data.truncate(len);
        self.durable_len = self.durable_len.min(len);
        self.unsynced.retain(|number, _| number * BLOCK_BYTES < len);
    }
}

/// The part of `data` in a block; nothing behind the end.
fn block_of(data: &[u8], number: usize) -> &[u8] {
    let start = (number * BLOCK_BYTES).min(data.len());
    &data[start..(start + BLOCK_BYTES).min(data.len())]
}
