//! Pinning to one processor.

use crate::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Calls `start`; where it is to be pinned, this thread and all processes that it starts meanwhile run on
/// the first processor that it may use.
pub fn pinned<T>(pin: bool, start: impl FnOnce() -> T) -> Result<T> {
    let before = sched_getaffinity(None)?;
    if pin {
        let first = (0..CpuSet::MAX_CPU).find(|processor| before.is_set(*processor));
        let mut one = CpuSet::new();
        one.set(first.ok_or("no processor to run on")?);
        sched_setaffinity(None, &one)?;
    }
    let started = start();
    sched_setaffinity(None, &before)?;
    Ok(started)
}
