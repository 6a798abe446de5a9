//! `lsmfs umount`.

use crate::cli::error::{CliError, Result};
use crate::disk::lock::StoreLock;
use crate::fs::mount::table::{self, Entry};
use crate::fs::mount::{self, Unmount};
use clap::Args;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Unmount, and return when the store is closed: then everything is on the disk
///
/// Where a program still has a file open in DIR or works in it, this says so and changes nothing.
#[derive(Debug, Args)]
pub struct UmountArgs {
    /// The directory that a store is mounted on
    pub dir: PathBuf,
    /// Detach DIR at once even if it is in use, and do not wait: the store is closed when the last
    /// program that uses it is done
    #[arg(short, long)]
    pub lazy: bool,
}

/// How long the daemon may take to close the store.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often to look whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Unmounts.
pub fn run(args: &UmountArgs) -> Result<()> {
    let dir = args.dir.canonicalize().map_err(|e| CliError::system(args.dir.display().to_string(), e))?;
    if args.lazy {
        mount::unmount(&dir, Unmount::Lazy)?;
        return Ok(());
    }
    let store = mount::find(&dir)?.source;
    let daemon = lock_owner(&store)?;
    let entry = mount::unmount(&dir, Unmount::Idle)?;
    match (daemon, elsewhere(&entry)?) {
        (_, Some(place)) => eprintln!("lsmfs: the store stays mounted on {}", place.display()),
        (Some(pid), None) => wait_closed(&store, pid)?,
        (None, None) => (),
    }
    Ok(())
}

/// Another place where the same mount is visible (a bind mount).
fn elsewhere(unmounted: &Entry) -> Result<Option<PathBuf>> {
    let table = table::read().map_err(|e| CliError::system("read the mount table", e))?;
    let other = table.into_iter().find(|entry| entry.is_lsmfs() && entry.device == unmounted.device);
    Ok(other.map(|entry| entry.mount_point))
}

/// The process that has the store open.
fn lock_owner(store: &Path) -> Result<Option<u32>> {
    let owner = StoreLock::owner(store).map_err(|e| CliError::Refused(e.to_string()))?;
    Ok(owner.and_then(|owner| owner.pid))
}

/// Waits until the process `daemon` has let go of the store; another one may have it by then.
fn wait_closed(store: &Path, daemon: u32) -> Result<()> {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while lock_owner(store)? == Some(daemon) {
        if Instant::now() >= deadline {
            let (store, waited) = (store.display(), CLOSE_TIMEOUT.as_secs());
            return Err(CliError::Refused(format!(
                "{store}: unmounted, but process {daemon} has not closed the store within {waited} s: see {store}/daemon.log"
            )));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
