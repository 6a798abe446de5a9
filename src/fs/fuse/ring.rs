//! Requests over io_uring (Linux 6.14 and later), instead of the device.
//!
//! The device has one queue, from which whoever reads takes the next request: with several callers on several processors
//! a request is mostly served elsewhere than where its caller runs, and each goes to and fro. Over io_uring the kernel keeps
//! a queue a processor, and the threads that serve it run there, too: they share the request's memory with the caller,
//! wake him without an interrupt, and what is asked on several processors is served on all of them. Whether the kernel
//! offers that root decides (`enable_uring` of the module `fuse`).
//!
//! A thread serves one request at a time, from its own [`Entry`]. The kernel takes the entry that became free last, so that
//! few threads run while all goes fast, and where one is held up another one takes the next request. So no watch is
//! needed, nor anything else of `readers.rs`; a request has no deadline.
//!
//! What the kernel forgets still comes over the device, and what it is told goes there.

mod entry;
mod opcode;
mod serve;
mod wire;

use crate::fs::fuse::{Face, MAX_WRITE, guard};
use entry::Entry;
use fuser::Errno;
use rustix::fd::AsFd;
use rustix::io::Errno as SystemErrno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

pub(super) use serve::valid;
pub use wire::Answer;

/// Threads of a queue, at least: one of them may be held up.
const THREADS_MIN: usize = 2;

/// Where the kernel says whether it offers io_uring for requests, and where root says whether it may.
const OFFERED: &str = "/sys/module/fuse/parameters/enable_uring";

/// How often what the kernel forgets is taken from it: what comes in between is taken together.
const FORGETTING: Duration = Duration::from_millis(1);

/// Does the kernel offer rings, and may this process have one?
pub fn probe() -> io::Result<()> {
    match fs::read_to_string(OFFERED).map(|said| said.trim() == "Y") {
        Ok(true) => entry::probe(),
        Ok(false) => Err(io::Error::other(format!("root has not allowed it (echo Y > {OFFERED})"))),
        Err(_) => Err(io::Error::other("this kernel does not offer it (Linux 6.14 and later do)")),
    }
}

/// The queues of a mount, and what serves them.
#[derive(Debug)]
pub struct Ring {
    device: OwnedFd,
    queues: u16,
    threads: usize,
    /// The processors that this process may use.
    processors: Option<CpuSet>,
}

thread_local! {
    /// When this thread last waited for more to be forgotten.
    static WAITED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The thread that reads from the device waits for more of what the kernel forgets: each time it is woken for one
/// inode it would take a processor from those who call.
pub fn gather_forgets() {
    if WAITED.get().is_none_or(|waited| waited.elapsed() >= FORGETTING) {
        std::thread::sleep(FORGETTING);
        WAITED.set(Some(Instant::now()));
    }
}

impl Ring {
    /// For a mount whose device this is a duplicate of, with `threads` threads in all, if they are enough.
    pub fn new(device: OwnedFd, threads: usize) -> io::Result<Ring> {
        let queues = queues(&fs::read_to_string("/sys/devices/system/cpu/possible")?)
            .ok_or_else(|| io::Error::other("the processors cannot be counted"))?;
        let threads = (threads / usize::from(queues)).max(THREADS_MIN);
        Ok(Ring { device, queues, threads, processors: sched_getaffinity(None).ok() })
    }

    /// The queue of each thread that it takes. The kernel holds every request back until each queue has one.
    pub fn threads(&self) -> impl Iterator<Item = u16> {
        (0..self.threads).flat_map(|_| 0..self.queues)
    }

    /// A thread, until the mount is gone.
    pub fn serve(&self, face: &Face, queue: u16) {
        self.bind(queue);
        if let Err(e) = self.serve_all(face, queue)
            && e.raw_os_error() != Some(SystemErrno::NOTCONN.raw_os_error())
        {
            tracing::error!("requests of processor {queue} have a thread less: {e}");
        }
    }

    fn serve_all(&self, face: &Face, queue: u16) -> io::Result<()> {
        let mut entry = Entry::new(self.device.as_fd(), queue, MAX_WRITE as usize)?;
        entry.register()?;
        loop {
            let (who, reply) = match entry.request() {
                Some(request) => {
                    let (ino, pid) = (request.header.ino, request.header.pid);
                    face.readers.nearby.note_at(queue.into(), pid, request.payload.0.len());
                    let reply = guard("a request", || face.serve_ring(&request));
                    ((ino, pid), reply.unwrap_or(Err(Errno::EIO)))
                }
                None => ((0, 0), Err(Errno::EINVAL)),
            };
            entry.put(|answer| {
                guard("an answer", || face.put_reply(who, reply, answer)).unwrap_or(Errno::EIO.code())
            });
            face.notices.look_at(face.fs.referenced());
            entry.answer()?;
        }
    }

    /// Has this thread run on the processor whose requests it serves. Not where this process may not run there.
    fn bind(&self, queue: u16) {
        let processor = usize::from(queue);
        if self.processors.as_ref().is_some_and(|processors| processors.is_set(processor)) {
            let mut only = CpuSet::new();
            only.set(processor);
            if let Err(e) = sched_setaffinity(None, &only) {
                tracing::debug!("a thread stays where it is: {e}");
            }
        }
    }
}

/// How many queues there are: one for each processor that there may be, of lists such as `0-3` or `0,2-7`.
fn queues(possible: &str) -> Option<u16> {
    let last = possible.trim().rsplit([',', '-']).next()?;
    last.parse::<u16>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_that_may_be_has_a_queue() {
        assert_eq!(["0\n", "0-1\n", "0,2-7"].map(queues), [Some(1), Some(2), Some(8)]);
        assert_eq!(["", "x", "0-65535"].map(queues), [None, None, None]);
    }
}
