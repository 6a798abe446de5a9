//! A name in the table of inodes: most are short, and such a one takes no memory of its own. A million small
//! pieces would cost their headers too, and, as they come and go, holes between larger ones.

use std::fmt;
use std::ops::Deref;

/// Bytes of a name that has no memory of its own.
const SHORT: usize = 22;

/// A name of up to 255 bytes.
#[derive(Clone)]
pub struct Name(Kept);

#[derive(Clone)]
enum Kept {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Kept::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Name {
        let mut bytes = [0; SHORT];
        Name(match bytes.get_mut(..name.len()) {
            Some(short) => {
                short.copy_from_slice(name);
                Kept::Short(name.len() as u8, bytes)
            }
            None => Kept::Long(name.into()),
        })
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.escape_ascii().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_lengths_are_kept() {
        assert_eq!(size_of::<Name>(), 24);
        for len in [0, 1, SHORT - 1, SHORT, SHORT + 1, 255] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8 ^ 0xa5).collect();
            let name = Name::from(&bytes[..]);
            assert_eq!(*name, bytes[..]);
            assert_eq!(name.clone(), name);
            assert_eq!(matches!(name.0, Kept::Short(..)), len <= SHORT);
        }
        assert_ne!(Name::from(&b"a"[..]), Name::from(&b"a\0"[..]));
    }
}
