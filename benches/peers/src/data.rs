//! The keys and values: the same for every engine, made quickly, and known again when they are read.
//!
//! A key is 16 hexadecimal digits; present keys are even numbers, absent ones the odd numbers between
//! them. A value carries its key's number and a version in its first 16 bytes, and goes on with bytes that
//! only these two determine: half of each piece is random, the other half its copy.

use crate::Result;

/// The length of a key.
pub const KEY_LEN: usize = 16;

/// The key's number and the version, little-endian.
const STAMP_LEN: usize = 16;
/// A value's pieces: half random, half a copy.
const PIECE_MAX_LEN: usize = 128;
/// The bytes that values are cut from. Larger than any compressor's window.
const POOL_LEN: usize = 4 << 20;

/// A key.
pub type Key = [u8; KEY_LEN];

/// The key of a number below 2^60.
pub fn key(number: u64) -> Key {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|i| DIGITS[(number >> (60 - 4 * i)) as usize & 15])
}

/// The `i`th key that the fill lines write.
pub fn present(i: u64) -> Key {
    key(2 * i)
}

/// A key next to the `i`th that nobody writes.
pub fn absent(i: u64) -> Key {
    key(2 * i + 1)
}

/// The number in a present key.
pub fn number_of(key: &[u8]) -> Result<u64> {
    let digits = std::str::from_utf8(key)?;
    Ok(u64::from_str_radix(digits, 16)? / 2)
}

/// A quick random generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A random order of the numbers below `n`: each comes once.
#[derive(Debug, Clone, Copy)]
pub struct Shuffle {
    n: u64,
    bits: u32,
    seed: u64,
}

impl Shuffle {
    /// The same seed gives the same order.
    pub fn new(n: u64, seed: u64) -> Shuffle {
        Shuffle { n, bits: (n.max(2) - 1).ilog2() + 1, seed: mix(seed) }
    }

    /// The `i`th number.
    pub fn at(&self, i: u64) -> u64 {
        // Steps that can be undone permute the numbers of `bits` bits; those past `n` are walked over.
        let (mask, half) = (u64::MAX >> (64 - self.bits), self.bits / 2 + 1);
        let mut x = i;
        loop {
            x = (x ^ self.seed) & mask;
            for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb, 0x9e37_79b9_7f4a_7c15] {
                x = x.wrapping_mul(factor) & mask;
                x ^= x >> half;
            }
            if x < self.n {
                return x;
            }
        }
    }
}

/// Makes values of one length, and checks them.
#[derive(Debug)]
pub struct Values {
    len: usize,
    piece: usize,
    pool: Vec<u8>,
}

impl Values {
    /// Values of `len` bytes.
    pub fn new(len: usize) -> Values {
        assert!((STAMP_LEN..POOL_LEN / 2).contains(&len), "values of {len} bytes");
        let piece = len.min(PIECE_MAX_LEN);
        let mut random = Random::new(len as u64);
        let mut pool = Vec::with_capacity(POOL_LEN + 2 * len);
        while pool.len() < POOL_LEN + len {
            let half = pool.len();
            pool.extend((0..piece / 2).map(|_| random.next() as u8));
            pool.extend_from_within(half..);
            pool.resize(half + piece, 0);
        }
        Values { len, piece, pool }
    }

    /// Room for a value.
    pub fn buffer(&self) -> Vec<u8> {
        vec![0; self.len]
    }

    /// Makes a value in `buffer`.
    pub fn fill(&self, buffer: &mut [u8], number: u64, version: u64) {
        buffer.copy_from_slice(self.source(number, version));
        buffer[..8].copy_from_slice(&number.to_le_bytes());
        buffer[8..STAMP_LEN].copy_from_slice(&version.to_le_bytes());
    }

    /// The version of a value of key `number`; an error if it is another's, or damaged.
    /// One in 16 is compared in full, of the others the ends.
    pub fn check(&self, number: u64, value: &[u8]) -> Result<u64> {
        let stamp = value.first_chunk::<STAMP_LEN>().ok_or_else(|| wrong(number, "is too short"))?;
        let (found, version) = stamp.split_at(8);
        if u64::from_le_bytes(found.try_into()?) != number {
            return Err(wrong(number, "is another key's"));
        }
        if value.len() != self.len {
            return Err(wrong(number, "has another length"));
        }
        let version = u64::from_le_bytes(version.try_into()?);
        let from = match number % 16 {
            0 => STAMP_LEN,
            _ => STAMP_LEN.max(self.len.saturating_sub(32)),
        };
        if value[from..] != self.source(number, version)[from..] {
            return Err(wrong(number, "is damaged"));
        }
        Ok(version)
    }

    fn source(&self, number: u64, version: u64) -> &[u8] {
        let pieces = (POOL_LEN / self.piece) as u64;
        let start = (mix(number ^ version << 48) % pieces) as usize * self.piece;
        &self.pool[start..start + self.len]
    }
}

fn wrong(number: u64, what: &str) -> Box<dyn std::error::Error + Send + Sync> {
    format!("wrong answer: the value of key {number} {what}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_their_numbers() {
        assert_eq!(&present(10), b"0000000000000014");
        assert!(present(7) < absent(7) && absent(7) < present(8));
        assert_eq!(number_of(&present(123_456)).unwrap(), 123_456);
    }

    #[test]
    fn a_shuffle_names_every_number_once() {
        for n in [1, 2, 3, 1000, 4096, 70_001] {
            let shuffle = Shuffle::new(n, 5);
            let mut seen: Vec<u64> = (0..n).map(|i| shuffle.at(i)).collect();
            let in_order = seen.iter().zip(seen.iter().skip(1)).filter(|(a, b)| *a + 1 == **b).count();
            assert!(n < 1000 || (in_order as u64) < n / 100, "{in_order} of {n} in order");
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..n));
        }
    }

    #[test]
    fn values_are_known_again_and_wrong_ones_noticed() {
        for len in [100, 1024, 64 << 10] {
            let values = Values::new(len);
            let mut value = values.buffer();
            values.fill(&mut value, 32, 3);
            assert_eq!(values.check(32, &value).unwrap(), 3);
            assert!(values.check(33, &value).is_err());
            assert!(values.check(32, &value[1..]).is_err());
            value[STAMP_LEN] ^= 1;
            assert!(values.check(32, &value).is_err());
        }
    }
}
