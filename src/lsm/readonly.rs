//! Why a store takes no more writes.
//!
//! A failure after which a write could be lost, or come back though it was refused, makes the whole
//! store read-only: a log record that cannot be cut off again, a failed sync of the log or of the
//! manifest. The first such failure is the answer to every later write, until the store is opened again.

use crate::lsm::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Whether a store is read-only. Clones speak of the same store.
#[derive(Debug, Clone, Default)]
pub struct ReadOnly {
    cause: Arc<OnceLock<Error>>,
}

impl ReadOnly {
    /// Makes the store read-only, because of `error`, which is returned.
    pub(crate) fn set(&self, error: Error) -> Error {
        if self.cause.set(error.clone()).is_ok() {
            tracing::error!("the store takes no more writes: {error}");
        }
        error
    }

    /// [`Error::ReadOnly`] if the store is.
    pub(crate) fn check(&self) -> Result<()> {
        self.cause.get().map_or(Ok(()), |e| Err(Error::ReadOnly(Arc::new(e.clone()))))
    }
}
