//! A store as a command reaches it: the command opens it, or the daemon that has it open does what is asked.

use crate::cli::control::client::{self, Sent};
use crate::cli::error::{CliError, Result};
use crate::cli::print::{output, written};
use crate::cli::request::{Job, Request};
use crate::cli::store::{self, LOCK_WAIT, OpenStore};
use crate::disk::OpenError;
use crate::disk::lock::StoreLock;
use crate::disk::real::RealDisk;
use crate::fs::Caller;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often to look again whether a daemon that is ending has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a daemon may take from its mount to its first command.
const START_WAIT: Duration = Duration::from_secs(5);

/// A store within reach.
#[derive(Debug)]
pub enum Access {
    /// This process has it open.
    Own(OpenStore),
    /// A daemon has: its directory.
    Daemon(PathBuf),
}

/// Has a daemon that takes commands the store open?
fn has_daemon(dir: &Path) -> bool {
    // Should this fail, whoever then tries to open the store says why.
    let owner = StoreLock::owner(dir).ok().flatten();
    owner.is_some_and(|owner| owner.serving && !owner.closing)
}

/// Has a request executed that reads nothing; prints on standard output.
pub fn run(store: &Path, request: &Request) -> Result<()> {
    run_fed(store, request, &mut io::empty())
}

/// Has a request executed; prints on standard output.
pub fn run_fed(store: &Path, request: &Request, input: &mut dyn Read) -> Result<()> {
    run_to(store, request, input, &mut output())
}

/// Has a request executed; prints on `out`.
pub fn run_to(store: &Path, request: &Request, input: &mut dyn Read, out: &mut dyn Write) -> Result<()> {
    Access::open(store, request.makes_store())?.finish_after(|store| {
        let done = store.run(request, input, out);
        done.and(written(out.flush()))
    })
}

/// Who has a store.
#[derive(Debug)]
pub enum Reach {
    /// Nobody: it is ours.
    Free(RealDisk),
    /// A daemon that takes commands.
    Daemon,
}

/// Takes hold of a store's directory, or finds that a daemon has it. With `make` it is made where there is none.
pub fn reach(dir: &Path, make: bool) -> Result<Reach> {
    let started = Instant::now();
    loop {
        if has_daemon(dir) {
            return Ok(Reach::Daemon);
        }
        match if make { store::lock_or_create(dir) } else { store::lock(dir) } {
            Ok(disk) => return Ok(Reach::Free(disk)),
            // It may have begun to take commands, or to end, since it was asked.
            Err(CliError::Open(OpenError::InUse { closing: false, mount: Some(_), .. }))
                if started.elapsed() < START_WAIT => {}
            Err(error) => return Err(error),
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Lets a daemon end that was found to be ending, and was asked first at `started`.
pub fn pause(dir: &Path, started: Instant) -> Result<()> {
    if started.elapsed() < LOCK_WAIT {
        thread::sleep(POLL_INTERVAL);
        return Ok(());
    }
    let dir = dir.display();
    Err(CliError::Refused(format!(
        "{dir}: the daemon that has the store open does not answer: see {dir}/daemon.log"
    )))
}

impl Access {
    /// Opens the store of a directory, or finds the daemon that has it open. With `make` it is made where there
    /// is none.
    pub fn open(dir: &Path, make: bool) -> Result<Access> {
        Ok(match reach(dir, make)? {
            Reach::Free(disk) => Access::Own(OpenStore::open(disk)?),
            Reach::Daemon => Access::Daemon(dir.to_path_buf()),
        })
    }

    /// Has a request executed, here or there.
    pub fn run(&mut self, request: &Request, input: &mut dyn Read, output: &mut dyn Write) -> Result<()> {
        let started = Instant::now();
        loop {
            match self {
                Access::Own(store) => {
                    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
                    let caller = Caller::new(uid.as_raw(), gid.as_raw());
                    return request.execute(Job { store, mounts: Vec::new(), caller, input, output });
                }
                Access::Daemon(dir) => match client::send(dir, request, input, output)? {
                    Sent::Done => return Ok(()),
                    // The daemon has ended, or is ending, and did nothing.
                    Sent::Unheard => {
                        let dir = dir.clone();
                        pause(&dir, started)?;
                        *self = Access::open(&dir, false)?;
                    }
                },
            }
        }
    }

    /// Does `work`, then closes the store if this process has it open, however the work ended.
    pub fn finish_after(mut self, work: impl FnOnce(&mut Access) -> Result<()>) -> Result<()> {
        let done = work(&mut self);
        let closed = match self {
            Access::Own(store) => store.close(),
            Access::Daemon(_) => Ok(()),
        };
        done.and(closed)
    }
}
