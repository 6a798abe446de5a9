//! Room for the answers to large reads: memory that is used again.
//!
//! Fresh memory would have to be zeroed before anything can be read into it. What was used before holds what was
//! read then, of whatever file: who takes room writes all of it.
//!
//! # Bounds
//! Of what is given back [`KEPT`] pieces of at most [`LONGEST`] bytes are kept, for the whole process.
//!
//! # Locks
//! That of what is kept: a leaf, held for a few instructions.

use parking_lot::Mutex;
use std::ops::{Deref, DerefMut};

/// So many pieces are kept: as many as there are large reads at a time, mostly.
const KEPT: usize = 4;

/// The longest that is kept: as much as the kernel asks for at most.
const LONGEST: usize = 1 << 20;

static SPARE: Spare = Spare(Mutex::new(Vec::new()));

/// What is kept.
struct Spare(Mutex<Vec<Vec<u8>>>);

/// Room, given back when it is dropped.
pub(super) struct Room {
    /// Only grows.
    bytes: Vec<u8>,
    /// So much of it is wanted.
    len: usize,
    home: &'static Spare,
}

impl Room {
    /// Room for `len` bytes, all of which the caller is to write.
    pub fn take(len: usize) -> Room {
        SPARE.take(len)
    }
}

impl Spare {
    fn take(&'static self, len: usize) -> Room {
        let mut bytes = self.0.lock().pop().unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Room { bytes, len, home: self }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() > LONGEST {
            return;
        }
        let mut spare = self.home.0.lock();
        if spare.len() < KEPT {
            spare.push(bytes);
        }
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_pieces_are_used_again() {
        static OWN: Spare = Spare(Mutex::new(Vec::new()));
        let kept = || OWN.0.lock().iter().map(Vec::len).collect::<Vec<_>>();
        let mut room = OWN.take(100);
        room.fill(1);
        let place = room.as_ptr();
        drop(room);
        let again = OWN.take(10);
        assert_eq!((again.as_ptr(), &again[..]), (place, &[1; 10][..]));
        drop(again);
        assert_eq!(kept(), [100]);
        let many: Vec<Room> = (0..2 * KEPT).map(|_| OWN.take(200)).collect();
        assert!(many.iter().all(|room| room.len() == 200) && kept().is_empty());
        drop(many);
        assert_eq!(kept(), [200; KEPT]);
        drop(OWN.take(LONGEST + 1));
        assert_eq!(kept(), [200; KEPT - 1], "too long a piece is not kept");
    }
}
