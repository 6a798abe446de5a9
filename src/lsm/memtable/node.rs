//! A memtable's node: a key, and everything that was written to it.
//!
//! There is one node for each key. The write that made it is described in it; every other one is a [`Link`] of a
//! chain, from the newest to the oldest. So whoever writes to a key that the memtable has already (a directory
//! whose entries change, a file that is appended to) need not search the skip list.
//!
//! The node's own version mostly is the oldest, but need not be: batches are inserted side by side. Hence a
//! version is always sought by its trailer, in both places. Each link also has a *jump* to one further down, such
//! that any is found in a number of steps that grows as the logarithm of the chain's length (Myers, "An
//! applicative random-access stack", 1983): a reader of an old snapshot does not walk over 100,000 later writes.
//!
//! # Soundness
//! Keys, values and links stand in the memtable's arena, where nothing moves and nothing goes before the nodes
//! do. Bytes are never written again. A link is filled before a pointer to it is stored (release), and readers
//! load pointers so that they see that (acquire). Writers of one node exclude each other: see `index.rs`.

use super::arena::Arena;
use crate::lsm::batch::Write;
use crate::lsm::key::{KeyRef, Kind, KindOrBound, SeqNo};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ptr::NonNull;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A key, and what was written to it.
///
/// Nodes are only made of slices of an arena, and live in that arena's memtable, which hands out no copy of them:
/// whoever has a reference to one holds the memtable, and so the arena.
#[derive(Debug)]
pub(super) struct Node {
    /// The key's first bytes, which tell most keys apart without a look at the arena.
    prefix: Prefix,
    key: NonNull<u8>,
    key_len: u32,
    /// The version that made the node.
    own: Place,
    /// The newest of the others.
    others: AtomicPtr<Link>,
}

/// The first bytes of a key, zeros behind them, so that numbers compare as the bytes do.
type Prefix = [u64; 2];

/// What was written to a key with one write: where its head and its tail stand, end to end; their lengths (a batch
/// is shorter than 4 GiB); and the internal key's trailer.
#[derive(Debug, Clone, Copy)]
struct Place {
    trailer: u64,
    head: NonNull<u8>,
    head_len: u32,
    tail_len: u32,
}

/// A version in a node's chain.
#[derive(Debug)]
pub(super) struct Link {
    place: Place,
    older: AtomicPtr<Link>,
    /// An older one, further down; null for none.
    jump: *const Link,
    /// How many are below it, as far as jumps need to know.
    rank: u32,
}

// SAFETY: all pointers lead into the arena, whose contents any thread may read, and only `others` and `older`
// change, which are atomic (see the module's header).
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

/// One version of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version<'a> {
    /// The sequence number and the kind.
    pub trailer: u64,
    pub head: &'a [u8],
    pub tail: &'a [u8],
}

impl Version<'_> {
    pub fn seq(&self) -> SeqNo {
        self.trailer >> 8
    }

    pub fn kind(&self) -> Kind {
        Kind::from_u8(self.trailer as u8).expect("it was made of a kind")
    }
}

impl Place {
    fn new(seq: SeqNo, write: &Write<'_>) -> Place {
        Place {
            trailer: KeyRef::new(write.key(), seq, write.kind).trailer(),
            head: NonNull::from(write.head()).cast(),
            head_len: write.head_len as u32,
            tail_len: write.tail().len() as u32,
        }
    }

    /// # Safety
    /// The arena must outlive `'a`.
    unsafe fn version<'a>(self) -> Version<'a> {
        // SAFETY: head and tail stand end to end in the arena (the write that this was made of did), which outlives
        // `'a`, and where no byte is written again.
        let (head, tail) = unsafe {
            let tail = self.head.add(self.head_len as usize);
            (
                std::slice::from_raw_parts(self.head.as_ptr(), self.head_len as usize),
                std::slice::from_raw_parts(tail.as_ptr(), self.tail_len as usize),
            )
        };
        Version { trailer: self.trailer, head, tail }
    }
}

impl Node {
    /// The node of a key that is written for the first time.
    ///
    /// # Safety
    /// The write must stand in an arena that outlives the node.
    pub unsafe fn new(seq: SeqNo, write: &Write<'_>) -> Node {
        let key = write.key();
        Node {
            prefix: prefix(key),
            key: NonNull::from(key).cast(),
            key_len: key.len() as u32,
            own: Place::new(seq, write),
            others: AtomicPtr::default(),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        // SAFETY: the key stands in an arena that outlives `self`, as the caller of `new` saw to, and is not written.
        unsafe { std::slice::from_raw_parts(self.key.as_ptr(), self.key_len as usize) }
    }

    /// The internal key of a version.
    pub fn internal_key(&self, version: &Version<'_>) -> KeyRef<'_> {
        KeyRef { user: self.key(), seq: version.seq(), kind: KindOrBound::Kind(version.kind()) }
    }

    /// Was it made by the write with this sequence number?
    pub fn is_made_by(&self, seq: SeqNo) -> bool {
        self.own.trailer >> 8 == seq
    }

    /// The newest version whose trailer is not above `bound`.
    pub fn at_most(&self, bound: u64) -> Option<Version<'_>> {
        let own = Some(self.own).filter(|own| own.trailer <= bound);
        let mut next = self.newest_link();
        while let Some(link) = next.filter(|link| link.place.trailer > bound) {
            next = link.jump_if(|far| far.place.trailer > bound).or_else(|| link.older());
        }
        let found = own.into_iter().chain(next.map(|link| link.place)).max_by_key(|place| place.trailer);
        // SAFETY: the arena outlives `self`.
        found.map(|place| unsafe { place.version() })
    }

    /// The oldest version whose trailer is not below `bound`.
    pub fn at_least(&self, bound: u64) -> Option<Version<'_>> {
        let own = Some(self.own).filter(|own| own.trailer >= bound);
        let (mut found, mut next) = (None, self.newest_link());
        while let Some(link) = next.filter(|link| link.place.trailer >= bound) {
            found = Some(link.place);
            next = link.jump_if(|far| far.place.trailer >= bound).or_else(|| link.older());
        }
        let found = own.into_iter().chain(found).min_by_key(|place| place.trailer);
        // SAFETY: the arena outlives `self`.
        found.map(|place| unsafe { place.version() })
    }

    fn newest_link(&self) -> Option<&Link> {
        // SAFETY: what was stored there stands in the arena, which outlives `self`.
        unsafe { self.others.load(Acquire).as_ref() }
    }

    /// Adds a version.
    ///
    /// # Safety
    /// The write must stand in `arena`, which must be the one that the node's key stands in. Nobody else may push to
    /// the node meanwhile.
    pub unsafe fn push(&self, arena: &Arena, seq: SeqNo, write: &Write<'_>) {
        let place = Place::new(seq, write);
        let newer = |link: &&Link| link.place.trailer > place.trailer;
        let Some(mut above) = self.newest_link().filter(newer) else {
            let link = Link::above(self.newest_link(), place);
            return self.others.store(arena.place(link).as_ptr(), Release);
        };
        // A batch that is inserted late: near the top.
        while let Some(link) = above.older().filter(newer) {
            above = link;
        }
        let older = AtomicPtr::new(above.older.load(Relaxed));
        let link = Link { place, older, jump: std::ptr::null(), rank: above.rank };
        above.older.store(arena.place(link).as_ptr(), Release);
    }
}

impl Link {
    /// The newest link, above the one that was.
    fn above(top: Option<&Link>, place: Place) -> Link {
        let Some(top) = top else {
            return Link { place, older: AtomicPtr::default(), jump: std::ptr::null(), rank: 0 };
        };
        // Two jumps of one length below become one over both.
        let over_both = top.jump().and_then(|near| {
            let far = near.jump()?;
            (top.rank - near.rank == near.rank - far.rank).then_some(far)
        });
        let older = AtomicPtr::new(std::ptr::from_ref(top).cast_mut());
        Link { place, older, jump: over_both.unwrap_or(top), rank: top.rank + 1 }
    }

    fn older(&self) -> Option<&Link> {
        // SAFETY: what was stored there stands in the arena, where `self` stands too.
        unsafe { self.older.load(Acquire).as_ref() }
    }

    fn jump(&self) -> Option<&Link> {
        // SAFETY: as above; it does not change.
        unsafe { self.jump.as_ref() }
    }

    fn jump_if(&self, fits: impl FnOnce(&Link) -> bool) -> Option<&Link> {
        self.jump().filter(|far| fits(far))
    }
}

fn prefix(key: &[u8]) -> Prefix {
    let mut bytes = [0; size_of::<Prefix>()];
    let len = key.len().min(bytes.len());
    bytes[..len].copy_from_slice(&key[..len]);
    let (high, low) = bytes.split_at(size_of::<u64>());
    [high, low].map(|half| u64::from_be_bytes(half.try_into().expect("half of the bytes")))
}

impl Borrow<[u8]> for Node {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl Ord for Node {
    /// As their keys, byte by byte.
    fn cmp(&self, other: &Self) -> Ordering {
        // Where keys of different lengths have the same prefix, zeros of one may stand where the other ends.
        self.prefix.cmp(&other.prefix).then_with(|| self.key().cmp(other.key()))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Node {}

#[cfg(test)]
mod tests;
