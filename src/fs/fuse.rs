//! The kernel's face: each request becomes one call of [`Views`].
//!
//! What is agreed with the kernel, and why:
//!
//! - This process is the only writer, so names, absent names and attributes stay valid for ever: the kernel sees
//!   every change pass through itself, or is told of it (`notices.rs`). The store's figures (`control.rs`) are looked up each
//!   time.
//! - OPEN and FLUSH are answered with `ENOSYS`, once: from then on opening and closing a file costs no
//!   request and keeps its pages cached. `FUSE_ATOMIC_O_TRUNC` is not asked for, so that `O_TRUNC` comes
//!   as a change of size. An unlinked file may be open: it lives until it is forgotten.
//! - CREATE is answered with `ENOSYS`, too: it would open a handle, and the kernel send a RELEASE for it. What
//!   it sends instead, MKNOD, makes the file and no handle; the kernel opens it as it opens any other.
//! - OPENDIR is answered with `ENOSYS`, too, and the kernel keeps a listing that was read to its end until the
//!   directory changes: whoever lists it once more asks for nothing at all. (Where somebody stopped half-way before
//!   that change, it keeps none until it forgets the directory.) What it asks for goes on where a listing stopped
//!   (`listings.rs`), or behind the name that it was shown last (`shown.rs`). Where reading is noted OPENDIR is real,
//!   and nothing is kept.
//! - Every listing that it asks for brings the attributes along (READDIRPLUS), and makes the kernel know the inodes,
//!   until it knows too many (`notices.rs`): then it brings the names.
//! - `FUSE_HANDLE_KILLPRIV_V2`: setuid and setgid are cleared here, on the writes that say so, on changes
//!   of owner and of size.
//! - `FUSE_POSIX_ACL` with `FUSE_DONT_MASK`: the kernel checks permissions by access control lists, and
//!   remembers where there are none; the umask is applied here, where a directory's default list overrides
//!   it. Not `FUSE_SETXATTR_EXT`, of whose longer requests fuser reads the short form.
//! - Locks stay in the kernel; its write-back cache is not used, for it would lose answered writes when
//!   this process is killed.
//!
//! Where that was asked for, requests come over io_uring instead of the device (`ring.rs`). What follows is of the device.
//!
//! A handler answers on the thread that read the request, except for syncs of several callers: their replies move to
//! the store, which answers many at once. Who reads while handlers are held up, and how every request gets
//! its answer in time, is in `readers.rs`. A panic in a handler is logged and answered with `EIO`.
//!
//! A handler whose request was answered with an error at its deadline may succeed yet. Then the kernel
//! believes what is not so: references that it was not told of are given back, and `notices.rs` has it
//! forget the names and attributes that the request changed. An answer is never lost otherwise: the kernel
//! keeps a request that it has handed out until it is answered, whoever is killed meanwhile, and gives back
//! itself what it cannot use of a listing. (fuser would not say so: it logs what it cannot send.)

mod answer;
mod company;
mod convert;
mod kept;
mod late;
mod list;
mod listings;
mod nearby;
mod notices;
mod pace;
mod prune;
mod readers;
mod requests;
mod ring;
mod session;
mod shown;
mod under_way;

pub use late::NoLateAnswers;
pub use session::{ServeOptions, Session, Stopper};

use crate::fs::attr::{Attr, Ino};
use crate::fs::control;
use crate::fs::errno::errno_logged;
use crate::fs::error::Result;
use crate::fs::fuse::answer::{Claim, Refuse, Reply};
use crate::fs::fuse::kept::Kept;
use crate::fs::fuse::listings::Listings;
use crate::fs::fuse::notices::{Notice, Notices};
use crate::fs::fuse::readers::Readers;
use crate::fs::fuse::ring::Forgetting;
use crate::fs::fuse::shown::Shown;
use crate::fs::rename::RenameMode;
use crate::fs::views::{self, OpenDir, Views};
use fuser::{Errno, Generation, InitFlags, Notifier, ReplyEmpty, Request};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long the kernel may keep what it was told: for ever (136 years).
const TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the kernel may keep what it was told of an inode.
fn ttl(ino: Ino) -> &'static Duration {
    if control::is_rendering(views::inner(ino)) { &Duration::ZERO } else { &TTL }
}

/// Inode numbers are never used again.
const GENERATION: Generation = Generation(0);

/// The largest write request.
const MAX_WRITE: u32 = 1 << 20;

/// Requests that the kernel may have under way for itself, as readahead.
const MAX_BACKGROUND: u16 = 64;

/// What is asked of the kernel; what it does not know is left out.
const WANTED: [InitFlags; 5] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_ASYNC_DIO,
];

/// Does what must not end its thread. `None` if it panics, which is logged.
fn guard<T>(op: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work)).inspect_err(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!("{op} panicked: {}", said.unwrap_or("without a word"));
    });
    done.ok()
}

/// What is shown to the kernel.
#[derive(Debug)]
struct Face {
    fs: Arc<Views>,
    stopped: Arc<AtomicBool>,
    xattrs: bool,
    agreed: Agreed,
    forgetting: Arc<Forgetting>,
    listings: Arc<Listings<(OpenDir, Kept)>>,
    shown: Shown,
    readers: Arc<Readers>,
    notices: Arc<Notices>,
    /// To tell the kernel something at once. Set before requests are answered.
    kernel: OnceLock<Notifier>,
    /// Held by the handler that has the kernel drop entries.
    dropping: Mutex<()>,
}

/// What was agreed with the kernel at the start.
#[derive(Debug, Default)]
struct Agreed {
    /// Directories are opened and closed without a word.
    opens_silently: AtomicBool,
    /// Requests come over io_uring (`ring.rs`): wanted, then so agreed.
    ring: AtomicBool,
}

impl Face {
    /// Are directories opened and closed without a word?
    fn opens_silently(&self) -> bool {
        self.agreed.opens_silently.load(Ordering::Relaxed)
    }

    /// Renames, and has the kernel forget what that makes wrong of what moved.
    fn move_name(
        &self,
        (parent, name): (Ino, &[u8]),
        (new_parent, new_name): (Ino, &[u8]),
        mode: RenameMode,
        fs: &Views,
    ) -> Result<()> {
        let moved = fs.rename(parent, name, new_parent, new_name, mode)?;
        moved.into_iter().for_each(|dir| self.forget_names(&[(dir, b"..")]));
        Ok(())
    }

    /// Asks the file system; what goes wrong becomes a number.
    fn ask<T>(
        &self,
        op: &'static str,
        question: impl FnOnce(&Views) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        match guard(op, || question(&self.fs)) {
            Some(answer) => answer.map_err(|e| Errno::from_i32(errno_logged(&e))),
            None => Err(Errno::EIO),
        }
    }

    /// Does what nobody waits for.
    fn quietly(&self, op: &'static str, work: impl FnOnce(&Views)) {
        let _ = self.ask(op, |fs| {
            work(fs);
            Ok(())
        });
    }

    /// Handles a request that changes nothing and leaves nothing behind.
    fn serve<R: Reply>(
        &self,
        op: &'static str,
        reply: R,
        question: impl FnOnce(&Views) -> Result<R::Answer>,
    ) {
        self.serve_or(op, reply, question, |_| ());
    }

    /// Handles a request. `late` is called with an answer that nobody waits for any more.
    fn serve_or<R: Reply>(
        &self,
        op: &'static str,
        reply: R,
        question: impl FnOnce(&Views) -> Result<R::Answer>,
        late: impl FnOnce(R::Answer),
    ) {
        let answer = |reply: R, answer| match answer {
            Ok(answer) => reply.give(answer),
            Err(e) => reply.refuse(e),
        };
        self.serve_claimed(&Claim::new(op, reply), op, question, answer, late);
    }

    /// Handles a request whose reply is used while it is being handled.
    fn serve_claimed<R: Refuse, T>(
        &self,
        claim: &Arc<Claim<R>>,
        op: &'static str,
        question: impl FnOnce(&Views) -> Result<T>,
        answer: impl FnOnce(R, std::result::Result<T, Errno>),
        late: impl FnOnce(T),
    ) {
        let turn = self.readers.enter(Some(claim.clone()));
        if turn.goes {
            let answered = self.ask(op, question);
            match (claim.take(), answered) {
                (Some(reply), answered) => answer(reply, answered),
                (None, Ok(unwanted)) => self.quietly(op, |_| late(unwanted)),
                (None, Err(_)) => {}
            }
        }
        self.readers.leave(turn, false);
        self.notices.look_at(self.fs.referenced());
    }

    /// The kernel gives references back. It does so in batches, of which fuser makes a call each.
    fn forgotten(&self, ino: Ino, count: u64) {
        let turn = self.readers.enter(None);
        match turn.goes {
            true => self.quietly("forget", |fs| fs.forget(ino, count)),
            false => self.notices.push(Notice::Forget(ino, count)),
        }
        self.readers.go_on(turn);
        if self.agreed.ring.load(Ordering::Relaxed) {
            self.forgetting.gather(&self.agreed.ring);
        }
    }

    /// Requests come over the device after all.
    fn leave_ring(&self) {
        self.agreed.ring.store(false, Ordering::Relaxed);
        self.forgetting.end();
        self.readers.nearby.free();
    }

    /// Has the kernel forget what it believes of an inode.
    fn forget_inode(&self, ino: Ino) {
        self.notices.push(Notice::Inode(ino));
    }

    /// Has the kernel forget what it believes of these names.
    fn forget_names(&self, names: &[(Ino, &[u8])]) {
        for (parent, name) in names {
            Notice::of_name(*parent, name).into_iter().for_each(|notice| self.notices.push(notice));
        }
    }

    /// A small request: whoever makes many of them is followed.
    fn follow(&self, request: &Request) {
        self.readers.nearby.note(request.pid(), 0);
    }

    /// An inode's name was found, too late to tell: its reference is given back, and what the kernel
    /// believes of the name forgotten.
    fn found_late(&self, parent: Ino, name: &[u8], found: Option<Attr>) {
        if let Some(attr) = found {
            self.fs.forget(attr.ino, 1);
        }
        self.forget_names(&[(parent, name)]);
    }

    /// Answers when everything answered before is durable.
    ///
    /// For a caller who is alone this thread does it: to wake the store's, which then wakes the caller, would take as
    /// long as a third of a sync. Whoever comes meanwhile waits for the watch at most (`readers.rs`). Several are
    /// answered by the store's thread, together.
    fn sync(&self, request: &Request, reply: ReplyEmpty) {
        if self.readers.can_spare_a_thread(request.pid()) {
            return self.serve("fsync", reply, Views::fsync);
        }
        let claim = Claim::new("fsync", reply);
        let turn = self.readers.enter(Some(claim.clone()));
        if turn.goes {
            let (readers, id) = (self.readers.clone(), turn.id);
            let waiting = claim.clone();
            let asked = self.ask("fsync", |fs| {
                fs.fsync_then(Box::new(move |synced| {
                    match (waiting.take(), synced) {
                        (Some(reply), Ok(())) => reply.ok(),
                        (Some(reply), Err(e)) => reply.error(Errno::from_i32(errno_logged(&e))),
                        (None, _) => {}
                    }
                    readers.answered(id);
                }));
                Ok(())
            });
            match asked {
                Ok(()) => return self.readers.leave(turn, true),
                Err(e) => drop(claim.take().map(|reply| reply.refuse(e))),
            }
        }
        self.readers.leave(turn, false);
    }
}
