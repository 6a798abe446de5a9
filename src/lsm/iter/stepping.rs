//! A cursor over another, which steps forward in its own way.

use crate::lsm::Result;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::KeyRef;
use bytes::Bytes;

/// A cursor over `source`, of which `step` is what `next` does.
#[derive(Debug)]
pub(crate) struct Stepping<I, F> {
    source: I,
    step: F,
}

impl<I: InternalIterator, F: FnMut(&mut I) -> Result<()>> Stepping<I, F> {
    pub fn new(source: I, step: F) -> Stepping<I, F> {
        Stepping { source, step }
    }
}

impl<I: InternalIterator, F: FnMut(&mut I) -> Result<()>> InternalIterator for Stepping<I, F> {
    fn valid(&self) -> bool {
        self.source.valid()
    }
    fn key(&self) -> KeyRef<'_> {
        self.source.key()
    }
    fn head(&self) -> &[u8] {
        self.source.head()
    }
    fn tail(&self) -> Result<Bytes> {
        self.source.tail()
    }
    fn seek(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.source.seek(target)
    }
    fn seek_before(&mut self, target: KeyRef<'_>) -> Result<()> {
        self.source.seek_before(target)
    }
    fn seek_to_first(&mut self) -> Result<()> {
        self.source.seek_to_first()
    }
    fn seek_to_last(&mut self) -> Result<()> {
        self.source.seek_to_last()
    }
    fn next(&mut self) -> Result<()> {
        (self.step)(&mut self.source)
    }
    fn prev(&mut self) -> Result<()> {
        self.source.prev()
    }
}
