//! `lsmfs umount`.

use crate::cli::control::client::{self, Sent};
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
        return Ok(mount::unmount(&dir, Unmount::Lazy)?);
    }
    let entry = mount::find(&dir)?;
    let (store, device) = (&entry.source, entry.device);
    let owner = lock_owner(store)?;
    // As long as it is mounted its device's number is not another one's.
    let others = others(&entry)?;
    let served = match &owner {
        Some(owner) if owner.serving && !owner.closing => served_as(store, device)?,
        _ => words_of(device),
    };
    mount::unmount(&dir, Unmount::Idle)?;
    let stays = still_there(&others)?;
    if let Some(place) = stays {
        eprintln!("lsmfs: the store stays mounted on {}", place.display());
    }
    match owner {
        // One that takes no commands can't be asked to sync, and does not close the store now.
        Some(Owner { serving: false, .. }) if stays.is_some() => Ok(()),
        Some(Owner { pid: Some(pid), .. }) => wait_durable(store, pid, &served, stays.is_some()),
        _ => Ok(()),
    }
}

/// Other places where the same mount is visible (bind mounts).
fn others(mount: &Entry) -> Result<Vec<Entry>> {
    let mut table = read_table()?;
    table.retain(|entry| entry.is_lsmfs() && entry.device == mount.device && entry.id != mount.id);
    Ok(table)
}

/// The first of these places where it is visible yet.
fn still_there(places: &[Entry]) -> Result<Option<&Path>> {
    let table = read_table()?;
    Ok(places.iter().find(|place| table.contains(place)).map(|place| &*place.mount_point))
}

fn read_table() -> Result<Vec<Entry>> {
    table::read().map_err(|e| CliError::system("read the mount table", e))
}

/// The process that has the store open.
fn lock_owner(store: &Path) -> Result<Option<Owner>> {
    StoreLock::owner(store).map_err(|e| CliError::Refused(e.to_string()))
}

/// Waits until the process `daemon` has let go of the store (another one may have it by then), or, where it serves
/// other mounts too, until this one, which it served as `served`, has ended and all is on the disk. One that `stays` at
/// another place does not end.
fn wait_durable(store: &Path, daemon: u32, served: &str, stays: bool) -> Result<()> {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while let Some(owner) = lock_owner(store)?.filter(|owner| owner.pid == Some(daemon)) {
        let goes_on = owner.serving && !owner.closing && (stays || serves_others_only(store, served)?);
        // What stayed may have gone since: a daemon that ends hears nobody, and closes the store.
        if goes_on && sync(store)? == Sent::Done {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (store, waited) = (store.display(), CLOSE_TIMEOUT.as_secs());
            return Err(CliError::Refused(format!(
                "{store}: unmounted, but process {daemon} has neither synced nor closed the store within {waited} s: see {store}/daemon.log"
            )));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Has all that was done brought to the disk.
fn sync(store: &Path) -> Result<Sent> {
    client::send(store, &Request::Sync, &mut io::empty(), &mut io::sink())
}

/// What the daemon says of the mount of this device. Another mount may have the device's number when this one has ended.
fn served_as(store: &Path, device: DeviceNumber) -> Result<String> {
    let (served, words) = (served(store)?, words_of(device));
    let said = served.split_inclusive('\n').find(|line| line.starts_with(&words)).map(str::to_string);
    Ok(said.unwrap_or(words))
}

/// What it says of any mount of this device begins so.
fn words_of((major, minor): DeviceNumber) -> String {
    format!("{major}:{minor} ")
}

/// Does the daemon serve other mounts, and not this one any more?
fn serves_others_only(store: &Path, this: &str) -> Result<bool> {
    let served = served(store)?;
    Ok(!served.is_empty() && served.split_inclusive('\n').all(|line| !line.starts_with(this)))
}

/// The mounts that the daemon serves, each on a line.
fn served(store: &Path) -> Result<String> {
    let mut served = Vec::new();
    client::send(store, &Request::Mounts, &mut io::empty(), &mut served)?;
    Ok(String::from_utf8_lossy(&served).into_owned())
}
