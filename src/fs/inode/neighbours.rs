//! A hash of inode numbers that leaves neighbours together.
//!
//! Files of one directory have consecutive numbers, in runs ([`number`](crate::fs::number)), and mostly are listed, read
//! and removed one after the other. In a table that throws them about each of them is a cache miss or two. So numbers
//! that differ in their lowest bits alone have consecutive places; where such a block stands is as random as with any
//! other hash, so that nobody can make them collide.

use std::hash::{BuildHasher, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Numbers in a block.
pub const BLOCK: u64 = 16;

/// Where the bits begin by which a hash map tells apart what is in neighbouring places: the highest seven.
const TAG_SHIFT: u32 = 57;

/// Makes the hashes of one table.
#[derive(Debug, Clone)]
pub struct Neighbours {
    seed: u64,
}

/// The hash of one number.
#[derive(Debug)]
pub struct NumberHasher {
    seed: u64,
    number: u64,
}

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours { seed: RandomState::new().hash_one(BLOCK) }
    }
}

impl BuildHasher for Neighbours {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher { seed: self.seed, number: 0 }
    }
}

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        self.number = number;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.number = self.number << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        let (block, within) = (self.number / BLOCK, self.number % BLOCK);
        let place = xxh3_64_with_seed(&block.to_le_bytes(), self.seed).wrapping_mul(BLOCK) + within;
        place ^ within << TAG_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_block_has_consecutive_places_and_blocks_are_anywhere() {
        let hashes = Neighbours::default();
        let place = |number: u64| hashes.hash_one(number) & ((1 << TAG_SHIFT) - 1);
        let firsts: HashSet<u64> = (0..1000).map(|block| place(block * BLOCK)).collect();
        assert_eq!(firsts.len(), 1000);
        for block in 0..1000 {
            let first = place(block * BLOCK);
            assert!((0..BLOCK).all(|n| place(block * BLOCK + n) == first + n));
        }
        // Blocks fill a table of 4096 places as evenly as chance does: 1000 of them in 256 parts.
        let parts: HashSet<u64> = firsts.iter().map(|place| place % 4096).collect();
        assert!(parts.len() > 230, "{}", parts.len());
        let tags: HashSet<u64> = (0..BLOCK).map(|n| hashes.hash_one(n) >> TAG_SHIFT).collect();
        assert_eq!(tags.len() as u64, BLOCK, "each has a tag of its own");
    }
}
