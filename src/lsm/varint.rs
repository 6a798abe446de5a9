//! Variable-length integers: 7 bits a byte, low bits first, the top bit set on all but the last.

/// The most bytes that a number takes.
pub const MAX_LEN: usize = 10;

/// Appends `n`.
pub fn put(out: &mut impl Extend<u8>, mut n: u64) {
    while n >= 0x80 {
        out.extend([n as u8 | 0x80]);
        n >>= 7;
    }
    out.extend([n as u8]);
}

/// The bytes that [`put`] appends.
pub fn len(n: u64) -> usize {
    (70 - (n | 1).leading_zeros() as usize) / 7
}

/// Appends bytes preceded by their length.
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a number off the front of `input`; `None` if `input` ends in it or it exceeds 64 bits.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = input.split_first()?;
    if first < 0x80 {
        *input = rest;
        return Some(u64::from(first));
    }
    take_long(input)
}

fn take_long(input: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for (i, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_LEN - 1 && bits > 1 {
            return None;
        }
        n |= bits << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return Some(n);
        }
    }
    None
}

/// As [`take`], for a number that must fit 32 bits.
#[inline]
pub fn take_u32(input: &mut &[u8]) -> Option<u32> {
    take(input)?.try_into().ok()
}

/// As [`take`], for a number that must fit a `usize`.
pub fn take_usize(input: &mut &[u8]) -> Option<usize> {
    take(input)?.try_into().ok()
}

/// Takes `len` bytes off the front of `input`.
pub fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

/// Takes what [`put_prefixed`] wrote.
pub fn take_prefixed<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_usize(input)?;
    take_bytes(input, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_read_back_and_cut_ones_do_not() {
        for shift in 0..64 {
            for n in [(1u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut buf = Vec::new();
                put(&mut buf, n);
                assert!(buf.len() <= MAX_LEN);
                assert_eq!(len(n), buf.len());
                for cut in 0..buf.len() {
                    assert_eq!(take(&mut &buf[..cut]), None);
                }
                buf.extend_from_slice(b"rest");
                let mut input = buf.as_slice();
                assert_eq!(take(&mut input), Some(n));
                assert_eq!(input, b"rest");
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(take(&mut [0xff; 10].as_slice()), None);
        assert_eq!(take(&mut [0x80; 3].as_slice()), None);
        assert_eq!(take_u32(&mut [0x80, 0x80, 0x80, 0x80, 0x10].as_slice()), None);
    }

    proptest! {
        #[test]
        fn prefixed_bytes_read_back_and_garbage_does_not_panic(bytes: Vec<u8>) {
            let _ = take_prefixed(&mut bytes.as_slice());
            let mut buf = Vec::new();
            put_prefixed(&mut buf, &bytes);
            prop_assert_eq!(take_prefixed(&mut &buf[..buf.len() - usize::from(!bytes.is_empty())]).is_some(), bytes.is_empty());
            prop_assert_eq!(take_prefixed(&mut buf.as_slice()), Some(bytes.as_slice()));
        }
    }
}
