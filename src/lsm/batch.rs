//! Batches: several writes to one volume that happen together or not at all.

/// Writes that are applied in order and atomically.
#[derive(Debug, Default)]
pub struct Batch {}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        todo!()
    }

    /// Sets a key to a plain value (all head).
    pub fn put(&mut self, _key: &[u8], _value: &[u8]) {
        todo!()
    }

    /// Sets a key to a value of two parts.
    pub fn put_split(&mut self, _key: &[u8], _head: &[u8], _tail: &[u8]) {
        todo!()
    }

    /// Like [`Batch::put_split`], for a key that the caller knows to be absent.
    pub fn first_put(&mut self, _key: &[u8], _head: &[u8], _tail: &[u8]) {
        todo!()
    }

    /// Changes bytes of a value's tail: the parts `(offset, bytes)` are laid over it, then it is cut or
    /// extended (with zeros) to `new_len`. Over an absent key it changes an empty value.
    /// Parts end at or before `new_len` and do not overlap.
    pub fn patch(&mut self, _key: &[u8], _new_len: u32, _parts: &[(u32, &[u8])]) {
        todo!()
    }

    /// Deletes a key; deleting what is not there is fine.
    pub fn delete(&mut self, _key: &[u8]) {
        todo!()
    }

    /// The number of writes.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Has the batch no writes?
    pub fn is_empty(&self) -> bool {
        todo!()
    }
}
