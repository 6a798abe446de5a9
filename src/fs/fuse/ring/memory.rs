//! Memory that the system makes when it is used, and takes back when it is not needed any more.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::io;
use std::ptr::{NonNull, null_mut, slice_from_raw_parts_mut};

/// Zeros, to be written over.
#[derive(Debug)]
pub struct Memory {
    bytes: NonNull<[u8]>,
}

// SAFETY: it owns its bytes, as a `Box<[u8]>` does.
unsafe impl Send for Memory {}

impl Memory {
    /// So many bytes, more than none.
    pub fn new(len: usize) -> io::Result<Memory> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the address is the system's choice, so that nobody else's memory is touched.
        let start = unsafe { mmap_anonymous(null_mut(), len, rights, MapFlags::PRIVATE) }?;
        let bytes = slice_from_raw_parts_mut(start.cast::<u8>(), len);
        NonNull::new(bytes)
            .map(|bytes| Memory { bytes })
            .ok_or_else(|| io::Error::other("memory at address 0"))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading and writing, initialised (zeros, at first), and this value's own until it is dropped.
        unsafe { self.bytes.as_ref() }
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; whoever has the value to himself has the bytes.
        unsafe { self.bytes.as_mut() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let start: *mut c_void = self.bytes.as_ptr().cast();
        // SAFETY: the mapping that was made, whole, which nobody refers to any more.
        if let Err(e) = unsafe { munmap(start, self.bytes.len()) } {
            tracing::debug!("memory is not given back: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeros_until_it_is_written_and_goes_from_thread_to_thread() {
        let mut memory = Memory::new(10_000).unwrap();
        assert!(memory.bytes() == [0; 10_000]);
        memory.bytes_mut()[9_999] = 7;
        let memory = std::thread::spawn(move || memory).join().unwrap();
        assert_eq!(memory.bytes()[9_998..], [0, 7]);
    }
}
