//! The block cache: one for all tables and blob files of a store, weighed in bytes.
//!
//! It holds the contents of data, index, filter and value blocks, and the values that readers asked blob files
//! for, so that everything that reading keeps in memory counts against one budget. A block that several threads miss at once is
//! read by one of them; the others wait for it. If that read fails, the next one tries.
//!
//! Locks: the shards of `quick_cache`, never held while a block is read.

use crate::lsm::Result;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, GuardResult};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which block: the number of its file, and its offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// The file's number.
    pub file: u64,
    /// The block's offset in the file.
    pub offset: u64,
}

/// What a block takes besides its bytes: its key and slot in the cache (entry, hash table, room
/// for ghosts), and the allocation's header and reference count.
const BLOCK_OVERHEAD: u64 = 160;

/// A guess at the mean block, from which the cache sizes its table of ghosts.
const MEAN_BLOCK_LEN: u64 = 8 << 10;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<BlockKey, Bytes> for ByBytes {
    fn weight(&self, _: &BlockKey, block: &Bytes) -> u64 {
        block.len() as u64 + BLOCK_OVERHEAD
    }
}

/// The block cache. May be used from any thread.
pub struct BlockCache {
    blocks: Cache<BlockKey, Bytes, ByBytes>,
    hits: Counter,
    misses: Counter,
}

/// A counter on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The cache's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheStats {
    /// Blocks that were asked for and found; one that another thread was reading counts as found.
    pub hits: u64,
    /// Blocks that were asked for and had to be read.
    pub misses: u64,
    /// Blocks in the cache.
    pub blocks: u64,
    /// The bytes that they take.
    pub bytes: u64,
    /// The bytes that they may take.
    pub capacity: u64,
}

impl BlockCache {
    /// A cache of about `capacity` bytes. One of 0 keeps nothing, and works.
    pub fn new(capacity: u64) -> BlockCache {
        let blocks = usize::try_from(capacity / MEAN_BLOCK_LEN).unwrap_or(usize::MAX);
        BlockCache {
            blocks: Cache::with_weighter(blocks, capacity, ByBytes),
            hits: Counter::default(),
            misses: Counter::default(),
        }
    }

    /// A block; `read` reads it if it is not here, and runs once for all that ask meanwhile.
    pub fn get_or_load(&self, key: BlockKey, read: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        match self.blocks.get_value_or_guard(&key, None) {
            GuardResult::Value(block) => {
                self.hits.add();
                Ok(block)
            }
            GuardResult::Guard(guard) => {
                self.misses.add();
                let block = read()?;
                // Refused if the key was removed meanwhile: then it just is not cached.
                let _ = guard.insert(block.clone());
                Ok(block)
            }
            GuardResult::Timeout => unreachable!("no timeout was set"),
        }
    }

    /// A block if it is here; leaves what is kept, and the counters, as they are.
    pub fn peek(&self, key: BlockKey) -> Option<Bytes> {
        self.blocks.peek(&key)
    }

    /// The cache's figures now.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            blocks: self.blocks.len() as u64,
            bytes: self.blocks.weight(),
            capacity: self.blocks.capacity(),
        }
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BlockCache").field(&self.stats()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::Error;
    use std::sync::Barrier;
    use std::thread;

    fn key(offset: u64) -> BlockKey {
        BlockKey { file: 1, offset }
    }

    #[test]
    fn threads_that_miss_one_block_at_once_read_it_once() {
        const THREADS: usize = 4;
        let cache = BlockCache::new(1 << 20);
        let (reads, arrived) = (AtomicU64::new(0), AtomicU64::new(0));
        let barrier = Barrier::new(THREADS);
        for round in 0..100 {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        barrier.wait();
                        arrived.fetch_add(1, Ordering::SeqCst);
                        let block = cache.get_or_load(key(round), || {
                            // The read lasts until every thread is at its own call.
                            while arrived.load(Ordering::SeqCst) < (round + 1) * THREADS as u64 {
                                thread::yield_now();
                            }
                            reads.fetch_add(1, Ordering::SeqCst);
                            Ok(Bytes::from(round.to_le_bytes().to_vec()))
                        });
                        assert_eq!(block.unwrap(), round.to_le_bytes().as_slice());
                    });
                }
            });
            assert_eq!(reads.load(Ordering::SeqCst), round + 1);
        }
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.hits, stats.blocks), (100, 300, 100));
    }

    #[test]
    fn a_failed_read_is_tried_again_by_the_next() {
        let cache = BlockCache::new(1 << 20);
        assert!(cache.get_or_load(key(0), || Err(Error::Closed)).is_err());
        assert_eq!(cache.get_or_load(key(0), || Ok(Bytes::from_static(b"x"))).unwrap(), "x");
        assert_eq!(cache.get_or_load(key(0), || panic!("it is cached")).unwrap(), "x");
    }

    #[test]
    fn a_cache_of_nothing_reads_every_time() {
        let cache = BlockCache::new(0);
        for _ in 0..3 {
            assert_eq!(cache.get_or_load(key(0), || Ok(Bytes::from_static(b"x"))).unwrap(), "x");
        }
        assert_eq!((cache.stats().misses, cache.stats().bytes), (3, 0));
    }

    #[test]
    fn the_budget_is_in_bytes() {
        let cache = BlockCache::new(1 << 20);
        for offset in 0..1000 {
            cache.get_or_load(key(offset), || Ok(Bytes::from(vec![0; 10_000]))).unwrap();
            let stats = cache.stats();
            assert!(stats.bytes <= stats.capacity, "{stats:?}");
        }
        assert!((90..=105).contains(&cache.stats().blocks), "{:?}", cache.stats());
        cache.get_or_load(key(5000), || Ok(Bytes::from(vec![0; 2 << 20]))).unwrap();
        assert!(cache.peek(key(5000)).is_none(), "a block larger than the cache is not kept");
    }
}
