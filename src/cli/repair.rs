//! `lsmfs repair`.

use crate::cli::check::{check, problem_line};
use crate::cli::error::{CliError, Result};
use crate::cli::print::escape;
use crate::cli::store;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, LOST_DIR};
use crate::fs::check::mend;
use crate::fs::engine_options;
use crate::fs::host::volumes_and_snapshots;
use crate::lsm::check::{Problem, Watch};
use crate::lsm::repair::repair;
use crate::lsm::{self, Store};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

/// Bring back what can be read of a damaged store
///
/// Rebuilds a lost manifest, copies what can be read of damaged tables and of the log, and mends the tree of
/// files. Says what could not be read: files and offsets, and the keys that are lost (d 7 0 is the first chunk
/// of inode 7, e 1 "notes" the entry of notes in the root); and what was mended, by its path. Files and
/// directories that lost their names are in the root as lost+found.INODE. The damaged files of the store
/// are kept in its folder lost; remove them when you do not need them any more. The store must not be mounted.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The store's directory
    store: PathBuf,
}

/// Repairs a store.
pub fn run(args: &RepairArgs) -> Result<()> {
    let disk = Arc::new(store::lock(&args.store)?);
    let (_, problems) = check(&disk, false)?;
    if problems == 0 {
        println!("sound: there is nothing to repair");
        return Ok(());
    }
    let failed = |error| CliError::engine(disk.path(), error);
    let locked: Arc<dyn Disk> = disk.clone();
    let done = repair(&locked, &engine_options(), &mut Lines).map_err(failed)?;
    if done.rebuilt {
        println!("the manifest was rebuilt; files that were removed of late may be back");
    }
    for name in &done.uncertain {
        let name = escape(name.as_bytes());
        println!(
            "{name} may lack files: what it shared with other volumes is not known, for the manifest's copy is lost, too"
        );
    }
    done.moved.iter().for_each(|name| println!("{name} was moved to {LOST_DIR}/"));
    // Closing a store lets go of its lock: the check that follows takes it again.
    let mut left = mend_files(locked).map_err(failed)??;
    drop(disk);
    left += check(&Arc::new(RealDisk::open(&args.store, store::LOCK_WAIT)?), true)?.1;
    match left {
        0 => {
            println!("sound");
            Ok(())
        }
        _ => Err(CliError::Refused(format!("{left} problems are left"))),
    }
}

/// Mends the files of all volumes; how much could not be mended.
fn mend_files(disk: Arc<dyn Disk>) -> lsm::Result<Result<u64>> {
    let store = Store::open(disk, engine_options())?;
    let mut left = 0;
    for (name, volume) in volumes_and_snapshots(&store)? {
        let name = escape(name.as_bytes());
        let mended = match mend(&store, &volume) {
            Ok(mended) => mended,
            Err(error) => return Ok(Err(error.into())),
        };
        mended.mended.iter().for_each(|finding| println!("mended: {name}: {finding}"));
        mended.left.iter().for_each(|finding| println!("not mended: {name}: {finding}"));
        left += mended.left.len() as u64;
    }
    store.close()?;
    Ok(Ok(left))
}

/// Prints what could not be read.
struct Lines;

impl Watch for Lines {
    fn problem(&mut self, problem: Problem) {
        println!("lost: {}", problem_line(&problem));
    }
}
