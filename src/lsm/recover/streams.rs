//! The memtables that a log's replay makes, and whose they are.
//!
//! The log names the volume that each batch was written to: its *stream*. What a volume has in memtables
//! is its own stream past what its tables hold, and of the volumes that it was forked from, directly or not,
//! each one's stream up to the fork. That a parent was deleted later changes nothing: its stream is
//! replayed as long as a fork needs it.
//!
//! A memtable ends at each fork of its stream's volume, so that of every memtable a volume has all or
//! nothing, and forks share memtables as they did before. (They were flushed in all of them at once, too: where
//! one volume's tables end, no other's memtable goes on.)

use crate::lsm::SeqNo;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::levels::Levels;
use crate::lsm::manifest::{State, VolumeId, VolumeState};
use crate::lsm::memtable::Memtable;
use crate::lsm::volume::Tree;
use std::collections::HashMap;
use std::sync::Arc;

/// A volume that needs some of a stream: what is past `flushed`, and no later than `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    flushed: SeqNo,
    up_to: SeqNo,
}

#[derive(Debug, Default)]
struct Stream {
    needs: Vec<Need>,
    memtable: Arc<Memtable>,
    /// Newest first.
    frozen: Vec<Arc<Memtable>>,
}

/// The streams, by volume.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: HashMap<VolumeId, Stream>,
}

impl Streams {
    /// Those that the volumes of a manifest need.
    pub fn of(state: &State) -> Streams {
        let mut streams = Streams::default();
        for (&id, volume) in &state.volumes {
            streams.open(id, volume.flushed);
            for &(from, up_to) in &volume.inherits {
                streams.need(from, Need { flushed: volume.flushed, up_to });
            }
        }
        streams
    }

    /// A volume starts, or goes on, whose own writes up to `flushed` are in tables.
    pub fn open(&mut self, id: VolumeId, flushed: SeqNo) {
        self.need(id, Need { flushed, up_to: MAX_SEQ });
    }

    fn need(&mut self, id: VolumeId, need: Need) {
        let needs = &mut self.streams.entry(id).or_default().needs;
        // A thousand forks that need the same are one.
        match needs.iter_mut().find(|other| other.flushed == need.flushed) {
            Some(other) => other.up_to = other.up_to.max(need.up_to),
            None => needs.push(need),
        }
    }

    /// Does some volume need these writes? `Err` if one has some of them in tables and not the others.
    pub fn needs(&self, id: VolumeId, first: SeqNo, last: SeqNo) -> Result<bool, ()> {
        let Some(stream) = self.streams.get(&id) else { return Ok(false) };
        if stream.needs.iter().any(|need| first <= need.flushed && need.flushed < last) {
            return Err(());
        }
        Ok(stream.needs.iter().any(|need| need.flushed < first && first <= need.up_to))
    }

    /// Takes the stream's next writes.
    pub fn memtable(&mut self, id: VolumeId) -> &Memtable {
        &self.streams.entry(id).or_default().memtable
    }

    /// Ends the stream's memtable.
    pub fn freeze(&mut self, id: VolumeId) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.memtable.is_empty()) {
            stream.frozen.insert(0, std::mem::take(&mut stream.memtable));
        }
    }

    /// The tree of a volume with these tables.
    pub fn tree(&self, id: VolumeId, volume: &VolumeState, levels: Levels) -> Tree {
        let empty = Stream::default();
        let own = self.streams.get(&id).unwrap_or(&empty);
        let is_due = |memtable: &&Arc<Memtable>, up_to: SeqNo| {
            memtable.first_seq().is_some_and(|first| volume.flushed < first && first <= up_to)
        };
        let mut immutable: Vec<Arc<Memtable>> = own.frozen.clone();
        for (from, up_to) in &volume.inherits {
            let stream = self.streams.get(from).unwrap_or(&empty);
            let memtables = std::iter::once(&stream.memtable).chain(&stream.frozen);
            immutable.extend(memtables.filter(|memtable| is_due(memtable, *up_to)).cloned());
        }
        immutable.retain(|memtable| is_due(&memtable, MAX_SEQ));
        immutable.sort_by_key(|memtable| std::cmp::Reverse(memtable.first_seq()));
        Tree {
            memtable: own.memtable.clone(),
            immutable,
            levels,
            flushed: volume.flushed,
            tally: volume.tally,
            uncounted: volume.uncounted,
        }
    }
}
