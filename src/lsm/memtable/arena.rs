//! Where a memtable's bytes stand: large chunks of memory, filled from front to back.
//!
//! A batch is copied in whole, once, and its keys and values are read where they stand. So a small write takes
//! no allocation of its own, neighbours in time are neighbours in memory, and a flushed memtable is freed in a
//! few pieces. A large batch is not copied: its own memory becomes a chunk. Small values that need no dropping
//! are placed there too.
//!
//! # Soundness
//! A chunk neither moves nor goes before the arena does. Room in it is handed out once, under the lock `chunks`
//! (a leaf), and filled under it before anybody gets to see it; from then on it is never written again. So a
//! shared slice of it is good for as long as the arena lives.

use crate::lsm::batch::buffer;
use bytes::Bytes;
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

/// The first chunk has this size, so that a volume that is hardly used takes little; each further one is
/// twice as large …
const FIRST_CHUNK_LEN: usize = 4 << 10;
/// … up to this size.
const LARGEST_CHUNK_LEN: usize = 256 << 10;

/// A batch of at least this many bytes keeps its own memory.
const OWN_CHUNK_MIN: usize = 16 << 10;

/// A reader's value of up to this many bytes is a copy; a longer one holds the arena.
const COPIED_MAX: usize = 4 << 10;

/// Memory that only grows, and goes all at once.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Mutex<Chunks>,
}

#[derive(Debug, Default)]
struct Chunks {
    /// The chunk that is being filled, and how much of it is.
    filling: Option<(Chunk, usize)>,
    full: Vec<Chunk>,
}

/// A vector's memory, which is read and written through pointers only.
#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a chunk owns its memory, as the vector did that it was made of; who may touch which part of it, and
// when, is the arena's concern (see the module's header).
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(memory: Vec<u8>) -> Chunk {
        let mut memory = ManuallyDrop::new(memory);
        let start = NonNull::new(memory.as_mut_ptr()).expect("a vector's pointer is never null");
        Chunk { start, capacity: memory.capacity() }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: pointer and capacity are those of the vector that `new` took apart, nothing else frees it, and
        // bytes need not be initialised for a length of 0.
        drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), 0, self.capacity) });
    }
}

impl Arena {
    /// Keeps `bytes` from `from` on.
    pub fn keep(&self, bytes: Vec<u8>, from: usize) -> &[u8] {
        let len = bytes[from..].len();
        let start = match len {
            OWN_CHUNK_MIN.. => self.adopt(bytes, from),
            _ => {
                let start = self.copy(&bytes[from..]);
                buffer::give_back(bytes);
                start
            }
        };
        // SAFETY: `start` points to `len` bytes of a chunk that were written before and never will be again, and
        // chunks live as long as `self`.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// Makes the memory of `bytes` a chunk; a pointer to what stands at `from`.
    fn adopt(&self, mut bytes: Vec<u8>, from: usize) -> NonNull<u8> {
        bytes.shrink_to_fit();
        let chunk = Chunk::new(bytes);
        // SAFETY: `from` is within the vector's length (`keep` has sliced there).
        let start = unsafe { chunk.start.add(from) };
        self.chunks.lock().full.push(chunk);
        start
    }

    fn copy(&self, bytes: &[u8]) -> NonNull<u8> {
        let mut chunks = self.chunks.lock();
        let start = chunks.room(bytes.len(), 1);
        // SAFETY: the room is as long as the bytes and nobody else's, and `bytes` are a caller's, not the arena's.
        unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        start
    }

    /// Keeps a value, which is not dropped in the end.
    pub fn place<T>(&self, value: T) -> NonNull<T> {
        const { assert!(!std::mem::needs_drop::<T>()) };
        let mut chunks = self.chunks.lock();
        let start = chunks.room(size_of::<T>(), align_of::<T>()).cast();
        // SAFETY: the room is large enough for a `T`, aligned for one, and nobody else's.
        unsafe { start.write(value) };
        start
    }

    /// The bytes of `part`, which stand in this arena.
    pub fn bytes(self: &Arc<Self>, part: &[u8]) -> Bytes {
        if part.len() <= COPIED_MAX {
            return Bytes::copy_from_slice(part);
        }
        Bytes::from_owner(Part { start: NonNull::from(part).cast(), len: part.len(), _arena: self.clone() })
    }
}

impl Chunks {
    /// Hands out room for `len` bytes, at a multiple of `align`. The caller holds the lock until it is filled.
    fn room(&mut self, len: usize, align: usize) -> NonNull<u8> {
        // Wherever it begins.
        let most = len + align - 1;
        let (chunk, used) = self.with_room_for(most);
        // SAFETY: so much of the chunk is used: the pointer stays within it, or one behind.
        let free = unsafe { chunk.start.add(*used) };
        let padding = free.align_offset(align);
        assert!(padding < align, "an address can be aligned");
        *used += padding + len;
        // SAFETY: `with_room_for` says that `most` bytes are free here.
        unsafe { free.add(padding) }
    }

    /// The chunk to fill, from where on; it has room for `len` bytes.
    fn with_room_for(&mut self, len: usize) -> (&Chunk, &mut usize) {
        let last_len = match self.filling.take_if(|(chunk, used)| chunk.capacity - *used < len) {
            Some((full, _)) => {
                let capacity = full.capacity;
                self.full.push(full);
                capacity
            }
            None => FIRST_CHUNK_LEN / 2,
        };
        let (chunk, used) = self.filling.get_or_insert_with(|| {
            let next_len = (last_len * 2).clamp(FIRST_CHUNK_LEN, LARGEST_CHUNK_LEN);
            (Chunk::new(Vec::with_capacity(next_len.max(len))), 0)
        });
        (chunk, used)
    }
}

/// A part of an arena, and a share in it.
struct Part {
    start: NonNull<u8>,
    len: usize,
    _arena: Arc<Arena>,
}

// SAFETY: what it points to is never written, and lives as long as the share in the arena that it holds.
unsafe impl Send for Part {}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: it was made of a slice of the arena that it keeps alive.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(n: usize, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + n * 7) as u8).collect()
    }

    #[test]
    fn what_is_kept_stays_as_it_was_whatever_follows() {
        let arena = Arena::default();
        let lens = [0, 1, 100, 4095, 4096, 5000, OWN_CHUNK_MIN - 1, OWN_CHUNK_MIN, 100_000, 3, 0];
        let kept: Vec<&[u8]> =
            lens.iter().enumerate().map(|(n, len)| arena.keep(pattern(n, len + 2), 2)).collect();
        for (n, (len, kept)) in lens.iter().zip(kept).enumerate() {
            assert_eq!(kept, &pattern(n, len + 2)[2..]);
        }
    }

    #[test]
    fn values_outlive_the_other_handles() {
        let arena = Arc::new(Arena::default());
        let values: Vec<Bytes> = [1, COPIED_MAX, COPIED_MAX + 1, OWN_CHUNK_MIN + 1]
            .iter()
            .map(|len| arena.bytes(arena.keep(pattern(*len, *len), 0)))
            .collect();
        drop(arena);
        assert!(values.iter().all(|value| *value == pattern(value.len(), value.len())));
    }

    #[test]
    fn placed_values_are_aligned_whatever_is_kept_between_them() {
        let arena = Arena::default();
        let placed: Vec<NonNull<(u64, u8)>> = (0..1000)
            .map(|n| {
                arena.keep(pattern(n, n % 7), 0);
                arena.place((n as u64, n as u8))
            })
            .collect();
        for (n, placed) in placed.iter().enumerate() {
            assert!(placed.is_aligned());
            // SAFETY: the arena lives.
            assert_eq!(unsafe { placed.read() }, (n as u64, n as u8));
        }
    }

    #[test]
    fn many_threads_fill_it_at_once() {
        let arena = Arena::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let arena = &arena;
                scope.spawn(move || {
                    let kept: Vec<&[u8]> =
                        (0..1000).map(|n| arena.keep(pattern(thread + n, n % 300), 0)).collect();
                    for (n, kept) in kept.iter().enumerate() {
                        assert_eq!(*kept, pattern(thread + n, n % 300));
                    }
                });
            }
        });
    }
}
