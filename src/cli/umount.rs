//! `lsmfs umount`.

use crate::cli::control::client;
use crate::cli::error::{CliError, Result};
use crate::cli::request::Request;
use crate::disk::lock::{Owner, StoreLock};
use crate::fs::mount::table::{self, DeviceNumber, Entry};
use crate::fs::mount::{self, Unmount};
use clap::Args;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Unmount, and return when everything is on the disk
///
/// When the last mount of a store goes, that is when the store is closed. Where a program still has a file open in DIR or works in it, this says so and changes nothing.
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
    let daemon = lock_owner(&store)?.and_then(|owner| owner.pid);
    let entry = mount::unmount(&dir, Unmount::Idle)?;
    match (daemon, elsewhere(&entry)?) {
        (_, Some(place)) => eprintln!("lsmfs: the store stays mounted on {}", place.display()),
        (Some(pid), None) => wait_closed(&store, pid, entry.device)?,
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
fn lock_owner(store: &Path) -> Result<Option<Owner>> {
    StoreLock::owner(store).map_err(|e| CliError::Refused(e.to_string()))
}

/// Waits until the process `daemon` has let go of the store (another one may have it by then), or, where it serves
/// other mounts too, until this one has ended and all is on the disk.
fn wait_closed(store: &Path, daemon: u32, device: DeviceNumber) -> Result<()> {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while let Some(owner) = lock_owner(store)?.filter(|owner| owner.pid == Some(daemon)) {
        if owner.serving && !owner.closing && serves_others_only(store, device)? {
            client::send(store, &Request::Sync, &mut io::empty(), &mut io::sink())?;
            return Ok(());
        }
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

/// Does the daemon serve other mounts, and not this one any more?
fn serves_others_only(store: &Path, (major, minor): DeviceNumber) -> Result<bool> {
    let mut served = Vec::new();
    client::send(store, &Request::Mounts, &mut io::empty(), &mut served)?;
    let this = format!("{major}:{minor}");
    let served = String::from_utf8_lossy(&served);
    Ok(!served.is_empty() && served.lines().all(|line| line != this))
}
