//! The memory that small batches are encoded in, used again: whoever writes one batch after the other needs no
//! allocation for them, nor finds out each time how large they get.
//!
//! Each thread keeps one buffer, of at most [`KEPT_MAX`] bytes.

use std::cell::Cell;

/// A thread keeps no more than this.
const KEPT_MAX: usize = 16 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer with room for at least `capacity` bytes.
pub(super) fn take(capacity: usize) -> Vec<u8> {
    if capacity > KEPT_MAX {
        return Vec::with_capacity(capacity);
    }
    // A thread that ends has none.
    let mut buffer = SPARE.try_with(Cell::take).unwrap_or_default();
    buffer.reserve_exact(capacity);
    buffer
}

/// Keeps a buffer that is not needed any more.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_MAX {
        buffer.clear();
        // A thread that ends keeps none.
        let _ = SPARE.try_with(|spare| spare.set(buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_comes_back_empty_and_a_large_one_does_not() {
        let mut buffer = take(1000);
        buffer.extend_from_slice(b"batch");
        let memory = buffer.as_ptr();
        give_back(buffer);
        let again = take(10);
        assert_eq!((again.len(), again.as_ptr()), (0, memory));
        let other = take(10);
        assert!(other.as_ptr() != memory, "that one is in use");
        give_back(again);
        let large = take(KEPT_MAX + 1);
        give_back(large);
        assert!(take(0).capacity() <= KEPT_MAX);
    }
}
