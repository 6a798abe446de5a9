//! Opening a store for a command.

use crate::cli::error::{CliError, Result};
use crate::disk::LOCK_FILE;
use crate::disk::OpenError;
use crate::disk::real::RealDisk;
use crate::fs::FileSystem;
use crate::lsm::{Options, Store};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for another process that closes the store.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// A store and the files in it.
pub struct OpenStore {
    disk: Arc<RealDisk>,
    store: Arc<Store>,
    files: Arc<FileSystem>,
}
