//! Variable-length integers: seven bits a byte, the lowest first; the top bit says that more follow.

/// The most bytes that a number takes.
pub(crate) const MAX_LEN: usize = 10;

/// Appends `n`.
pub(crate) fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends the length of `bytes`, then `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a number off the front of `input`; `None` if `input` ends in it or it exceeds 64 bits.
#[inline]
pub(crate) fn take(input: &mut &[u8]) -> Option<u64> {
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
pub(crate) fn take_u32(input: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(input)?).ok()
}

/// Takes what [`put_bytes`] wrote.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
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
                for cut in 0..buf.len() {
                    assert_eq!(take(&mut &buf[..cut]), None);
                }
                buf.push(7);
                let mut input = buf.as_slice();
                assert_eq!(take(&mut input), Some(n));
                assert_eq!(input, [7]);
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let mut eleven = vec![0x80; 10];
        eleven.push(0);
        assert_eq!(take(&mut eleven.as_slice()), None);
        let mut too_large = vec![0xff; 9];
        too_large.push(2);
        assert_eq!(take(&mut too_large.as_slice()), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut input = bytes.as_slice();
            while take_bytes(&mut input).is_some() && !input.is_empty() {}
        }
    }
}
