//! Where a key's node stands: who reads one key finds it, or that there is none, with one look, instead of a walk
//! down the skip list, whose every step is a cache miss or two; and so does who writes to a key once more.
//!
//! # Invariants
//! A version is within the index's reach as soon as its writer is done: of several who write to a new key at once,
//! each takes the key's node in if it is not there yet, whoever has made it.
//!
//! # Soundness
//! The index points to nodes of its memtable's skip list. They neither move nor go before the list does, which
//! the memtable drops after the index: it removes none.
//!
//! # Locks
//! Each part has one. It also keeps writers of one node apart. Below it comes the arena's alone.

use super::node::Node;
use hashbrown::HashTable;
use parking_lot::Mutex;
use std::ptr::NonNull;
use xxhash_rust::xxh3::xxh3_64;

/// Parts of the index, each with a lock of its own.
const PARTS: usize = 16;

/// What a node takes in the index, on average: a part is between seven sixteenths and seven eighths full.
pub(super) const OVERHEAD: usize = (size_of::<Slot>() + 1) * 8 / 5;

/// The node of each key.
#[derive(Debug, Default)]
pub(super) struct Index {
    parts: [Mutex<HashTable<Slot>>; PARTS],
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    node: NonNull<Node>,
}

// SAFETY: it points to a node, which any thread may read (see the module's header and `Node`).
unsafe impl Send for Slot {}

/// A key to look for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    bytes: &'a [u8],
    hash: u64,
}

impl<'a> Key<'a> {
    pub fn new(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: xxh3_64(bytes) }
    }
}

impl Index {
    fn part(&self, key: Key<'_>) -> &Mutex<HashTable<Slot>> {
        // The table places a key by the hash's lowest bits, and tells keys apart by its highest.
        &self.parts[(key.hash >> 40) as usize % PARTS]
    }

    fn find(&self, part: &HashTable<Slot>, key: Key<'_>) -> Option<&Node> {
        // SAFETY: the node outlives the index, as the caller of `insert` saw to, and so the reference.
        let node = |slot: &Slot| unsafe { slot.node.as_ref() };
        part.find(key.hash, |slot| slot.hash == key.hash && node(slot).key() == key.bytes).map(node)
    }

    /// A key's node.
    pub fn node(&self, key: Key<'_>) -> Option<&Node> {
        self.find(&self.part(key).lock(), key)
    }

    /// Runs `write` on a key's node, while nobody else writes to it. False if it has none.
    pub fn write(&self, key: Key<'_>, write: impl FnOnce(&Node)) -> bool {
        let part = self.part(key).lock();
        self.find(&part, key).map(write).is_some()
    }

    /// Runs `write` on a key's node, which the skip list has, while nobody else writes to it. Takes the node in
    /// before, unless somebody else has.
    ///
    /// # Safety
    /// The node must be the key's only one, and stay where it is for as long as the index lives.
    pub unsafe fn insert(&self, key: Key<'_>, node: &Node, write: impl FnOnce(&Node)) {
        let mut part = self.part(key).lock();
        if self.find(&part, key).is_none() {
            let slot = Slot { hash: key.hash, node: NonNull::from(node) };
            part.insert_unique(key.hash, slot, |slot| slot.hash);
        }
        write(node);
    }
}
