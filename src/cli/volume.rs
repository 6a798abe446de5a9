//! The commands about volumes: volume, fork, snapshot, restore. The store must not be mounted.

use crate::cli::error::{CliError, Result};
use crate::cli::kv::{output, written};
use crate::cli::print::escape;
use crate::cli::store;
use crate::fs::{engine_options, restore_volume};
use crate::lsm::{Error, Store};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Make, list, rename or delete volumes: the named trees of files in a store
///
/// A store has the volume main from the start; commands and mounts work on it unless --volume names
/// another. The store must not be mounted.
#[derive(Debug, Args)]
pub struct VolumeArgs {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
enum VolumeCommand {
    /// Make an empty volume; makes the store if there is none
    Create {
        /// The store's directory; made if it is missing
        store: PathBuf,
        /// The volume's name: up to 255 bytes, no slash, no @, no dot in front
        name: String,
    },
    /// List the volumes, and with each its snapshots
    ///
    /// A line is a volume's name, or a volume's and a snapshot's with @ between them.
    List {
        /// The store's directory
        store: PathBuf,
    },
    /// Give a volume another name
    Rename {
        /// The store's directory
        store: PathBuf,
        /// The volume
        name: String,
        /// Its new name
        new_name: String,
    },
    /// Delete a volume, all that is in it, and its snapshots
    Delete {
        /// The store's directory
        store: PathBuf,
        /// The volume
        name: String,
    },
}

/// Make a volume that starts as another is now
///
/// It shares all of the other's data and costs nothing until one of the two changes, however large it is. Each
/// sees its own changes only. The store must not be mounted.
#[derive(Debug, Args)]
pub struct ForkArgs {
    /// The store's directory
    store: PathBuf,
    /// The volume, or VOLUME@SNAPSHOT
    from: String,
    /// The new volume's name
    to: String,
}

/// Keep what a volume holds now, under a name
///
/// A snapshot is read as VOLUME@SNAPSHOT: by get, ls, scan and mount with --volume, and by fork. The store
/// must not be mounted.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Take a snapshot
    Create {
        /// The store's directory
        store: PathBuf,
        /// The volume
        volume: String,
        /// The snapshot's name
        name: String,
    },
    /// List a volume's snapshots, oldest first
    List {
        /// The store's directory
        store: PathBuf,
        /// The volume
        volume: String,
    },
    /// Delete a snapshot
    Delete {
        /// The store's directory
        store: PathBuf,
        /// The volume
        volume: String,
        /// The snapshot's name
        name: String,
    },
}

/// Set a volume back to one of its snapshots
///
/// What the volume held since is gone; its snapshots stay. The store must not be mounted.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The store's directory
    store: PathBuf,
    /// The volume
    volume: String,
    /// The snapshot's name
    snapshot: String,
}

/// Does `work` on the store of a directory, and closes it. What was done is on the disk then.
fn on_store(dir: &Path, make: bool, work: impl FnOnce(&Store) -> crate::lsm::Result<()>) -> Result<()> {
    let disk = Arc::new(if make { store::lock_or_create(dir)? } else { store::lock(dir)? });
    let failed = |error: Error| CliError::engine(disk.path(), error);
    let store = Store::open(disk.clone(), engine_options()).map_err(failed)?;
    let done = work(&store).map_err(failed);
    let said = disk.lock().set_closing().map_err(|error| CliError::Open(error.into()));
    let closed = store.close().map_err(failed);
    done.and(said).and(closed)
}

/// Makes, lists, renames or deletes volumes.
pub fn volume(args: &VolumeArgs) -> Result<()> {
    match &args.command {
        VolumeCommand::Create { store, name } => {
            on_store(store, true, |store| store.create_volume(name).map(drop))
        }
        VolumeCommand::List { store } => list(store, |store| {
            let mut names = Vec::new();
            for volume in store.volumes()? {
                names.push(volume.name());
                let snapshots = store.snapshots(&volume)?;
                names.extend(snapshots.iter().map(|s| format!("{}@{}", volume.name(), s.name())));
            }
            Ok(names)
        }),
        VolumeCommand::Rename { store, name, new_name } => {
            on_store(store, false, |store| store.rename_volume(name, new_name))
        }
        VolumeCommand::Delete { store, name } => on_store(store, false, |store| store.delete_volume(name)),
    }
}

/// Prints the names that `names` finds.
fn list(store: &Path, names: impl FnOnce(&Store) -> crate::lsm::Result<Vec<String>>) -> Result<()> {
    let mut found = Vec::new();
    on_store(store, false, |store| names(store).map(|names| found = names))?;
    let mut out = output();
    found.iter().try_for_each(|name| written(writeln!(out, "{}", escape(name.as_bytes()))))?;
    written(out.flush())
}

/// Forks a volume or a snapshot.
pub fn fork(args: &ForkArgs) -> Result<()> {
    on_store(&args.store, false, |store| {
        let from = store::find_volume(store, &args.from)?;
        store.fork(&from, &args.to).map(drop)
    })
}

/// Takes, lists or deletes snapshots.
pub fn snapshot(args: &SnapshotArgs) -> Result<()> {
    match &args.command {
        SnapshotCommand::Create { store, volume, name } => {
            on_store(store, false, |store| store.create_snapshot(&*store.volume(volume)?, name).map(drop))
        }
        SnapshotCommand::List { store, volume } => list(store, |store| {
            let snapshots = store.snapshots(&*store.volume(volume)?)?;
            Ok(snapshots.iter().map(|snapshot| snapshot.name()).collect())
        }),
        SnapshotCommand::Delete { store, volume, name } => {
            on_store(store, false, |store| store.delete_snapshot(&*store.volume(volume)?, name))
        }
    }
}

/// Sets a volume back.
pub fn restore(args: &RestoreArgs) -> Result<()> {
    on_store(&args.store, false, |store| restore_volume(store, &args.volume, &args.snapshot).map(drop))
}
