//! An entry: room for one request at a time that the kernel shares with one thread of this process, and the io_uring by
//! which that one asks for the next one.
//!
//! The thread asks, and sleeps in the kernel until a request is there. While it handles that, the
//! entry is its own; its answer and the question for the next one are one system call.
//!
//! # Memory
//! The kernel writes into the two pieces of memory, and reads them, in this thread's own system calls only: it copies a
//! request in when the thread that asked for it is there to take it, and the answer out when that is handed over. So
//! between calls they belong to this thread alone. They must live as long as the kernel may do so: until it has said that
//! it is done with the entry. Where an entry ends in another way they are not freed.

use crate::fs::fuse::ring::memory::Memory;
use crate::fs::fuse::ring::wire::{self, Answer, HEADERS_LEN, Request};
use io_uring::squeue::Entry128;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, types};
use rustix::fd::{AsRawFd, OwnedFd};
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// What the kernel is told (`enum fuse_uring_cmd`).
const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;

/// Pieces of memory that an entry has.
const PIECES: usize = 2;

/// Where a submission has its length, in bytes.
const LEN_AT: usize = 24;

/// An io_uring with long submissions.
type Submissions = IoUring<Entry128, cqueue::Entry>;

/// An entry of a processor's queue.
pub struct Entry {
    device: Arc<OwnedFd>,
    queue: u16,
    ring: ManuallyDrop<Submissions>,
    shared: ManuallyDrop<Box<Shared>>,
    /// The kernel knows nothing of what is shared, or is done with it.
    is_over: bool,
}

struct Shared {
    headers: [u8; HEADERS_LEN],
    payload: Memory,
    /// Where the two are, and how long: as two of `struct iovec`.
    pieces: [usize; 2 * PIECES],
}

impl Entry {
    /// An entry for the requests of a processor; the largest one has `payload_max` bytes beside its first argument. The
    /// kernel knows of it when the first request is asked for.
    pub fn new(device: Arc<OwnedFd>, queue: u16, payload_max: usize) -> io::Result<Entry> {
        let mut builder = IoUring::<Entry128, cqueue::Entry>::builder();
        builder.setup_coop_taskrun();
        // One submission at a time.
        let ring = builder.build(2)?;
        let payload = Memory::new(payload_max)?;
        let mut shared = Box::new(Shared { headers: [0; HEADERS_LEN], payload, pieces: [0; 2 * PIECES] });
        let (headers, payload) =
            (shared.headers.as_mut_ptr().expose_provenance(), shared.payload.bytes_mut());
        shared.pieces = [headers, HEADERS_LEN, payload.as_mut_ptr().expose_provenance(), payload.len()];
        Ok(Entry {
            device,
            queue,
            ring: ManuallyDrop::new(ring),
            shared: ManuallyDrop::new(shared),
            is_over: true,
        })
    }

    /// The number of its processor.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Makes the entry known, and waits for its first request.
    ///
    /// # Errors
    /// As [`Entry::answer`].
    pub fn register(&mut self) -> io::Result<()> {
        let command = self.command(0);
        let submission = opcode::UringCmd80::new(types::Fd(self.device.as_raw_fd()), REGISTER)
            .cmd(command)
            .addr(Some((&raw const self.shared.pieces).expose_provenance() as u64))
            .build();
        self.submit(with_len(submission, PIECES as u32))
    }

    /// Hands over the answer, and waits for the next request.
    ///
    /// # Errors
    /// `ENOTCONN` if the mount is gone. In any case the entry is over.
    pub fn answer(&mut self) -> io::Result<()> {
        let command = self.command(wire::commit_id(&self.shared.headers));
        let device = types::Fd(self.device.as_raw_fd());
        self.submit(opcode::UringCmd80::new(device, COMMIT_AND_FETCH).cmd(command).build())
    }

    /// The request that is there. `None` if it breaks the kernel's own rules.
    pub fn request(&self) -> Option<Request<'_>> {
        Request::decode(&self.shared.headers, self.shared.payload.bytes())
    }

    /// Puts down an error's number as the answer; or 0, after `put` has put down what belongs to it.
    pub fn put(&mut self, put: impl FnOnce(&mut Answer<'_>) -> i32) {
        let Shared { headers, payload, .. } = &mut **self.shared;
        let mut answer = Answer::new(payload.bytes_mut());
        let error = put(&mut answer);
        let len = if error == 0 { answer.len() } else { 0 };
        wire::put_answer(headers, error, len);
    }

    /// `struct fuse_uring_cmd_req`: flags, the commit id, the queue's number.
    fn command(&self, commit_id: u64) -> [u8; 80] {
        let mut command = [0; 80];
        command[8..16].copy_from_slice(&commit_id.to_ne_bytes());
        command[16..18].copy_from_slice(&self.queue.to_ne_bytes());
        command
    }

    /// Submits a command and waits for what comes of it.
    fn submit(&mut self, submission: Entry128) -> io::Result<()> {
        self.is_over = false;
        // SAFETY: what the submission points to is in `self.shared`, which lives until the kernel is done with the entry,
        // and `self.device` is open as long as `self` lives.
        let pushed = unsafe { self.ring.submission().push(&submission) };
        pushed.map_err(io::Error::other)?;
        // Else the system would take whoever waits for a request for one that waits for a disk.
        let flags = match self.ring.params().is_feature_no_iowait() {
            true => EnterFlags::NO_IOWAIT,
            false => EnterFlags::empty(),
        };
        loop {
            match self.ring.submitter().submit_with_args_and_flags(1, &types::SubmitArgs::new(), flags) {
                Err(e) if is_passing(&e) => {}
                Err(e) => return Err(e),
                Ok(_) => {}
            }
            let Some(came) = self.ring.completion().next() else { continue };
            let result = came.result();
            if result >= 0 {
                return Ok(());
            }
            // The mount is gone. Otherwise the entry may be there yet.
            self.is_over = result == -libc::ENOTCONN;
            return Err(io::Error::from_raw_os_error(-result));
        }
    }
}

/// May it work when it is tried again?
fn is_passing(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM))
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: it is not used any more, here or later.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if self.is_over {
            // SAFETY: as above, and the kernel is done with it.
            unsafe { ManuallyDrop::drop(&mut self.shared) };
        }
    }
}

/// A submission with another length, which the library has no word for.
fn with_len(submission: Entry128, len: u32) -> Entry128 {
    // SAFETY: the type is the kernel's `struct io_uring_sqe` of 128 bytes (both are checked to be as long), numbers without
    // padding between them, for which any bytes are valid.
    let mut bytes = unsafe { std::mem::transmute::<Entry128, [u8; 128]>(submission) };
    bytes[LEN_AT..LEN_AT + 4].copy_from_slice(&len.to_ne_bytes());
    // SAFETY: as above.
    unsafe { std::mem::transmute::<[u8; 128], Entry128>(bytes) }
}
