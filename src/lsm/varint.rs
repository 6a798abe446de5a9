//! Variable-length integers: 7 bits a byte, low bits first, the top bit set on all but the last.

/// Appends `n`; 1 to 10 bytes.
pub fn put(out: &mut impl Extend<u8>, mut n: u64) {
    while n >= 0x80 {
        out.extend([n as u8 | 0x80]);
        n >>= 7;
    }
    out.extend([n as u8]);
}

/// Takes a number off the front of `input`; `None` (and `input` in an unspecified place) if it is
/// cut short or does not fit 64 bits.
pub fn take(input: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

/// Takes a number that fits a `usize` off the front of `input`.
pub fn take_usize(input: &mut &[u8]) -> Option<usize> {
    take(input)?.try_into().ok()
}

/// Takes `len` bytes off the front of `input`.
pub fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

/// Takes bytes that are preceded by their length off the front of `input`.
pub fn take_prefixed<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_usize(input)?;
    take_bytes(input, len)
}

/// Appends bytes preceded by their length.
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(n: u64, rest: Vec<u8>) {
            let mut buf = Vec::new();
            put(&mut buf, n);
            buf.extend_from_slice(&rest);
            let mut input = buf.as_slice();
            prop_assert_eq!(take(&mut input), Some(n));
            prop_assert_eq!(input, rest.as_slice());
        }

        #[test]
        fn garbage_does_not_panic(bytes: Vec<u8>) {
            let _ = take_prefixed(&mut bytes.as_slice());
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(take(&mut [0xff; 10].as_slice()), None);
        assert_eq!(take(&mut [0x80; 3].as_slice()), None);
    }
}
