//! `lsmfs quota`.

use crate::cli::access;
use crate::cli::error::Result;
use crate::cli::quantity::{bytes_limit, files_limit};
use crate::cli::request::{Limit, Request};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Limit what a volume may hold, or show the limits
///
/// Files count as inodes, directories among them; bytes as du counts them (holes are free, compression does not
/// count), and extended attributes on top. A write that would take a volume past its quota fails with EDQUOT (disk
/// quota exceeded), as a whole; removing, shrinking and overwriting always work. In a mount df shows the quota as
/// the size. A fork starts with the quota of what it is made of; a restore leaves a volume's quota as it is.
#[derive(Debug, Clone, Args)]
pub struct QuotaArgs {
    #[command(subcommand)]
    command: QuotaCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum QuotaCommand {
    /// Set how much a volume may hold; what it holds already may be more
    Set {
        /// The store's directory
        store: PathBuf,
        /// The volume
        volume: String,
        /// The most bytes: 500, 64K, 10G, 1.5T; or none
        #[arg(long, value_name = "SIZE|none", value_parser = bytes_limit, required_unless_present = "files")]
        bytes: Option<Limit>,
        /// The most files and directories; or none
        #[arg(long, value_name = "N|none", value_parser = files_limit)]
        files: Option<Limit>,
    },
    /// Show what volumes hold, and how much they may
    Show {
        /// The store's directory
        store: PathBuf,
        /// The volume; all of them without
        volume: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Sets or shows quotas.
pub fn run(args: &QuotaArgs) -> Result<()> {
    match args.command.clone() {
        QuotaCommand::Set { store, volume, bytes, files } => {
            access::run(&store, &Request::SetQuota { volume, files, bytes })
        }
        QuotaCommand::Show { store, volume, json } => {
            access::run(&store, &Request::ShowUsage { volume, quotas: true, json })
        }
    }
}
