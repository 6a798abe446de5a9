//! The commands about volumes: volume, fork, snapshot, restore.

use crate::cli::access;
use crate::cli::error::Result;
use crate::cli::request::Request;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Make, list, rename or delete volumes: the named trees of files in a store
///
/// A store has the volume main from the start; commands and mounts work on it unless --volume names
/// another.
#[derive(Debug, Clone, Args)]
pub struct VolumeArgs {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Debug, Clone, Subcommand)]
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
    /// A line is a volume's name, or a volume's and a snapshot's with @ between them. With --long come what it
    /// holds, files and bytes (see lsmfs quota), and on the disk bytes of its own, which its deletion would
    /// free, and bytes that it shares with others.
    List {
        /// The store's directory
        store: PathBuf,
        /// Show what they hold
        #[arg(short, long)]
        long: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
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
/// sees its own changes only.
#[derive(Debug, Clone, Args)]
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
/// A snapshot is read as VOLUME@SNAPSHOT: by get, ls, scan and mount with --volume, and by fork.
#[derive(Debug, Clone, Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Clone, Subcommand)]
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
/// What the volume held since is gone; its snapshots stay.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The store's directory
    store: PathBuf,
    /// The volume
    volume: String,
    /// The snapshot's name
    snapshot: String,
}

/// Makes, lists, renames or deletes volumes.
pub fn volume(args: &VolumeArgs) -> Result<()> {
    match args.command.clone() {
        VolumeCommand::Create { store, name } => access::run(&store, &Request::CreateVolume { name }),
        VolumeCommand::List { store, long, json } => {
            let usage = Request::ShowUsage { volume: None, quotas: false, json };
            access::run(&store, if long || json { &usage } else { &Request::ListVolumes })
        }
        VolumeCommand::Rename { store, name, new_name } => {
            access::run(&store, &Request::RenameVolume { name, new_name })
        }
        VolumeCommand::Delete { store, name } => access::run(&store, &Request::DeleteVolume { name }),
    }
}

/// Forks a volume or a snapshot.
pub fn fork(args: &ForkArgs) -> Result<()> {
    let ForkArgs { store, from, to } = args.clone();
    access::run(&store, &Request::Fork { from, to })
}

/// Takes, lists or deletes snapshots.
pub fn snapshot(args: &SnapshotArgs) -> Result<()> {
    match args.command.clone() {
        SnapshotCommand::Create { store, volume, name } => {
            access::run(&store, &Request::CreateSnapshot { volume, name })
        }
        SnapshotCommand::List { store, volume } => access::run(&store, &Request::ListSnapshots { volume }),
        SnapshotCommand::Delete { store, volume, name } => {
            access::run(&store, &Request::DeleteSnapshot { volume, name })
        }
    }
}

/// Sets a volume back.
pub fn restore(args: &RestoreArgs) -> Result<()> {
    let RestoreArgs { store, volume, snapshot } = args.clone();
    access::run(&store, &Request::Restore { volume, snapshot })
}
