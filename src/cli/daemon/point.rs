//! The mount point: what is asked of it before anything is made.

use crate::cli::daemon::Task;
use crate::cli::error::{CliError, Result};
use crate::fs::mount::{self, MountError};
use std::io;
use std::path::{Path, PathBuf};

/// Checks the mount point, before anything is made, and clears dead mounts from it. Returns how many.
pub fn check(task: &Task<'_>) -> Result<usize> {
    let dir = resolve(task.dir)?;
    let store = resolve(task.store)?;
    if dir.starts_with(&store) || store.starts_with(&dir) {
        let (dir, store) = (dir.display(), store.display());
        let hint = "keep the store beside the directory that it is mounted on";
        return Err(CliError::Refused(format!("{dir} and the store {store} lie within each other: {hint}")));
    }
    // Before anything else asks the directory a question, which a dead or hanging mount would not answer.
    let cleared = match mount::clear_dead(&dir) {
        Err(MountError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(0),
        cleared => cleared?,
    };
    match dir.is_dir() {
        true => Ok(cleared),
        false => Err(MountError::NotADirectory { dir }.into()),
    }
}

/// The path without symlinks; what is missing at its end stays as it is.
fn resolve(path: &Path) -> Result<PathBuf> {
    let failed = |error| CliError::system(path.display().to_string(), error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    for existing in absolute.ancestors() {
        match existing.canonicalize() {
            Ok(found) => {
                let missing = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
                return Ok(found.components().chain(missing.components()).collect());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(absolute)
}

/// Makes the mount point if it is missing. Returns it without symlinks.
pub fn make(dir: &Path) -> Result<PathBuf> {
    let failed = |error| CliError::system(format!("make {}", dir.display()), error);
    match std::fs::create_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(MountError::NotADirectory { dir: dir.to_path_buf() }.into())
        }
        made => made.and_then(|()| dir.canonicalize()).map_err(failed),
    }
}

/// Asks the mount one question, as any program would.
pub fn check_answers(dir: &Path) -> Result<()> {
    match mount::answers(dir)? {
        true => Ok(()),
        false => Err(CliError::Refused(format!("{}: the mount was gone before it answered", dir.display()))),
    }
}
