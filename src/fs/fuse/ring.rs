//! Requests over io_uring (Linux 6.14 and later), instead of the device.
//!
//! The device has one queue, from which whoever reads takes the next request: with several callers on several processors
//! a request is mostly served elsewhere than where its caller runs, and each goes to and fro. Over io_uring the kernel keeps
//! a queue a processor, and the threads that serve it run there, too: they share the request's memory with the caller,
//! wake him without an interrupt, and what is asked on several processors is served on all of them. Whether the kernel
//! offers that root decides (`enable_uring` of the module `fuse`).
//!
//! A thread serves one request at a time, from its own [`Entry`]. The kernel takes the entry that became free last, so that
//! few threads run while all goes fast; where one is held up another one of that processor's takes the next request. So
//! nobody watches for it, as for the device's (`readers.rs`), and a request has no deadline. Also syncs hold their threads.
//!
//! Over the device still comes what the kernel forgets, which is gathered (`forgetting.rs`), and that somebody who waits got
//! a signal, of which there is nothing to be done. What the kernel is told goes there, too.
//!
//! # Starting
//! When it was agreed that requests come over rings, the kernel holds all of them back until each queue has an entry. So
//! the entries are made before, and none is shown to the kernel before all threads are there ([`Gate`]). Should the kernel
//! not take one, requests come over the device after all, where as many threads as ever are ready for them.
//!
//! # Locks
//! The gate's, a leaf.

mod entry;
mod forgetting;
mod memory;
mod opcode;
mod serve;
mod wire;

use crate::fs::fuse::{Face, MAX_WRITE, guard, nearby};
use entry::Entry;
use fuser::Errno;
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno as SystemErrno;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use forgetting::Forgetting;
pub use wire::Answer;

/// Threads of a processor that this process may use, at least: some of them may be held up.
const THREADS_MIN: usize = 4;

/// Where root says whether the kernel offers io_uring for requests.
const OFFERED: &str = "/sys/module/fuse/parameters/enable_uring";

/// The entries of a mount, one for each thread that serves them.
pub struct Ring {
    entries: Vec<Entry>,
    /// The processors that this process may use.
    processors: CpuSet,
}

impl Ring {
    /// For a mount whose device this is a duplicate of, with about `threads` threads in all.
    ///
    /// # Errors
    /// If the kernel offers no rings, or this process may not have them.
    pub fn new(device: OwnedFd, threads: usize) -> io::Result<Ring> {
        match fs::read_to_string(OFFERED).map(|said| said.trim() == "Y") {
            Ok(true) => {}
            Ok(false) => {
                return Err(io::Error::other(format!("root has not allowed it (echo Y > {OFFERED})")));
            }
            Err(_) => return Err(io::Error::other(format!("no {OFFERED}: Linux before 6.14, or no /sys"))),
        }
        let possible = fs::read_to_string("/sys/devices/system/cpu/possible")?;
        let queues = count(&possible).ok_or_else(|| io::Error::other("the processors cannot be counted"))?;
        let (device, processors) = (Arc::new(device), sched_getaffinity(None)?);
        let each = (threads / (processors.count() as usize).max(1)).max(THREADS_MIN);
        // Where nobody calls from, as this process sees it, one is enough.
        let threads_of = |queue: &u16| if processors.is_set(usize::from(*queue)) { each } else { 1 };
        let queues = (0..queues).flat_map(|queue| std::iter::repeat_n(queue, threads_of(&queue)));
        let entries = queues.map(|queue| Entry::new(device.clone(), queue, MAX_WRITE as usize));
        Ok(Ring { entries: entries.collect::<io::Result<_>>()?, processors })
    }

    /// What each thread does, until the mount is gone.
    pub fn threads<'a>(
        self,
        face: &'a Face,
        gate: &'a Gate,
    ) -> impl Iterator<Item = impl FnOnce() + Send + 'a> {
        let processors = self.processors;
        self.entries.into_iter().map(move |entry| {
            move || {
                if gate.pass() {
                    bind_to(&processors, entry.queue());
                    serve(face, entry);
                }
            }
        })
    }
}

/// Lets threads go on, when all are there.
#[derive(Debug, Default)]
pub struct Gate {
    opened: Mutex<Option<bool>>,
    moved: Condvar,
}

impl Gate {
    /// The threads go on, or (not `on`) end. Only the first word counts.
    pub fn open(&self, on: bool) {
        self.opened.lock().get_or_insert(on);
        self.moved.notify_all();
    }

    fn pass(&self) -> bool {
        let mut opened = self.opened.lock();
        loop {
            match *opened {
                Some(on) => return on,
                None => self.moved.wait(&mut opened),
            }
        }
    }
}

/// Serves an entry until the mount is gone.
fn serve(face: &Face, mut entry: Entry) {
    let queue = entry.queue();
    let mut came = entry.register();
    while came.is_ok() {
        let (who, reply) = match entry.request() {
            Some(request) => {
                let reply = guard("a request", || {
                    face.readers.nearby.note_at(queue.into(), request.header.pid, request.len());
                    face.serve_ring(&request)
                });
                ((request.header.ino, request.header.pid), reply.unwrap_or(Err(Errno::EIO)))
            }
            None => ((0, 0), Err(Errno::EINVAL)),
        };
        entry.put(|answer| {
            let put = guard("an answer", || face.put_reply(who, reply, answer));
            put.unwrap_or(Errno::EIO.code())
        });
        face.notices.look_at(face.fs.referenced());
        came = entry.answer();
    }
    if let Err(e) = came
        && e.raw_os_error() != Some(SystemErrno::NOTCONN.raw_os_error())
    {
        tracing::error!("the requests of processor {queue} have a thread less: {e}");
        // If it was the first one, nothing comes over rings.
        face.leave_ring();
    }
}

/// Has this thread run on the processor whose requests it serves. Not where this process may not run there.
fn bind_to(processors: &CpuSet, queue: u16) {
    let processor = usize::from(queue);
    if processors.is_set(processor) {
        nearby::bind(&nearby::only(processor));
    }
}

/// How many processors are in a list such as `0-3` or `0,2-7`. Each has a queue.
fn count(list: &str) -> Option<u16> {
    let len = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u16>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.trim().split(',').map(len).try_fold(0u16, |sum, len| sum.checked_add(len?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        assert_eq!(["0\n", "0-1\n", "0,2-7", "0-3,8-11"].map(count), [Some(1), Some(2), Some(7), Some(8)]);
        assert_eq!(["", "x", "3-1", "0-65535", "1,"].map(count), [None; 5]);
    }

    #[test]
    fn the_first_word_opens_the_gate() {
        for on in [true, false] {
            let gate = Gate::default();
            std::thread::scope(|scope| {
                let passed: Vec<_> = (0..3).map(|_| scope.spawn(|| gate.pass())).collect();
                gate.open(on);
                gate.open(!on);
                passed.into_iter().for_each(|passed| assert_eq!(passed.join().unwrap(), on));
            });
        }
    }
}
