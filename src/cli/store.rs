//! A store that a command, or a daemon, has open.

use crate::cli::error::{CliError, Result};
use crate::disk::real::RealDisk;
use crate::disk::{LOCK_FILE, OpenError};
use crate::fs::{Files, FsOptions, Host, engine_options};
use crate::lsm::options::CompactionMode;
use crate::lsm::{Options, Store};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for another process that closes the store.
pub const LOCK_WAIT: Duration = Duration::from_secs(30);

/// The volume that commands and mounts work on, unless they are told another.
pub const MAIN: &str = "main";

/// Which volume a command works on.
#[derive(Debug, Args)]
pub struct VolumeArg {
    /// The volume to work on, or a snapshot to read: VOLUME@SNAPSHOT
    #[arg(id = "volume", long = "volume", value_name = "NAME", default_value = MAIN, hide_default_value = true)]
    name: String,
}

impl VolumeArg {
    /// Its name.
    pub fn name(&self) -> String {
        self.name.clone()
    }
}

/// An open store, and the files in its volumes. May be used by several threads.
#[derive(Debug)]
pub struct OpenStore {
    disk: Arc<RealDisk>,
    host: Arc<Host>,
}

impl OpenStore {
    /// Opens the store of a directory that is there and locked.
    pub fn open(disk: RealDisk) -> Result<OpenStore> {
        OpenStore::open_with(disk, engine_options())
    }

    /// As [`OpenStore::open`], with other settings than usual.
    pub fn open_with(disk: RealDisk, options: Options) -> Result<OpenStore> {
        let disk = Arc::new(disk);
        let store = Store::open(disk.clone(), options).map_err(|e| CliError::engine(disk.path(), e))?;
        Ok(OpenStore { disk, host: Host::new(Arc::new(store), FsOptions::default()) })
    }

    /// The store's directory, absolute and without symlinks.
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// The store's directory, locked.
    pub fn disk(&self) -> &RealDisk {
        &self.disk
    }

    /// The volumes in use.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The files of a volume, or of a snapshot.
    pub fn files(&self, volume: &str) -> Result<Files> {
        let volume = self.host.volume(volume).map_err(|error| CliError::engine(self.path(), error))?;
        Ok(self.host.files_of(volume)?)
    }

    /// The engine.
    pub fn engine(&self) -> &Store {
        self.host.store()
    }

    /// Makes everything durable that was answered.
    pub fn sync(&self) -> Result<()> {
        self.engine().sync().map_err(|error| CliError::engine(self.path(), error))
    }

    /// Closes the store, whose files nobody uses any more. Who waits for it sees that it is closing, and gets it
    /// when this is done and `self` is dropped.
    pub fn close(&self) -> Result<()> {
        let said = self.disk.lock().set_closing().map_err(|error| CliError::Open(error.into()));
        let closed = self.engine().close().map_err(|error| CliError::engine(self.path(), error));
        said.and(closed)
    }

    /// Does `work`, then closes the store, however the work ended.
    pub fn finish_after(self, work: impl FnOnce(&OpenStore) -> Result<()>) -> Result<()> {
        let done = work(&self);
        let closed = self.close();
        done.and(closed)
    }
}

/// The engine's settings for a store of files that is compacted in this way, if one is given.
pub fn options(compaction: Option<CompactionMode>) -> Options {
    let usual = engine_options();
    Options { compaction: compaction.unwrap_or(usual.compaction), ..usual }
}

/// Reads the name of a way of compaction.
pub fn compaction_parser() -> impl TypedValueParser<Value = CompactionMode> {
    let names = PossibleValuesParser::new(CompactionMode::NAMES.map(|(name, _)| name));
    names.try_map(|name| CompactionMode::from_name(&name).ok_or("not a way of compaction"))
}

/// The locked directory of a store.
pub fn lock(dir: &Path) -> Result<RealDisk> {
    Ok(RealDisk::open(dir, LOCK_WAIT)?)
}

/// The locked directory of a store; made where there is nothing.
pub fn lock_or_create(dir: &Path) -> Result<RealDisk> {
    if holds_other_files(dir) {
        return Err(OpenError::NotAStore { dir: dir.to_path_buf() }.into());
    }
    Ok(RealDisk::open_or_create(dir, LOCK_WAIT)?)
}

/// Does the directory hold files, but no store? A store must not be made between them. What can't be
/// looked at is left to the one who opens it.
fn holds_other_files(dir: &Path) -> bool {
    let exists = |path: &Path| path.symlink_metadata().map_err(|error| error.kind());
    if exists(&dir.join(LOCK_FILE)).err() != Some(io::ErrorKind::NotFound) {
        return false;
    }
    let Ok(mut entries) = dir.read_dir() else { return false };
    // A fresh file system has a directory of its own at its root.
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found"))
}
