//! The executor: each request is a call.

use crate::cli::error::{CliError, Result};
use crate::cli::print::written;
use crate::cli::request::{Request, archive, batch, diff, files, shell, stats, usage, volumes};
use crate::cli::store::OpenStore;
use crate::fs::mount::table::DeviceNumber;
use crate::fs::{Caller, Files};
use crate::lsm;
use std::io::{Read, Write};

/// What a request is executed with.
pub struct Job<'a> {
    /// The store, which others may be using.
    pub store: &'a OpenStore,
    /// The mounts that this process serves: the number of each one's device, and its own.
    pub mounts: Vec<(DeviceNumber, u64)>,
    /// On whose behalf: who owns what is made.
    pub caller: Caller,
    /// What the user feeds to the command.
    pub input: &'a mut dyn Read,
    /// What the user is to see. Who writes little at a time keeps it together first.
    pub output: &'a mut dyn Write,
}

impl Job<'_> {
    /// The files of a volume, or of a snapshot.
    pub fn files(&self, volume: &str) -> Result<Files> {
        self.store.files(volume)
    }

    /// The engine's answer on this store.
    pub fn engine<T>(&self, answer: lsm::Result<T>) -> Result<T> {
        answer.map_err(|error| CliError::engine(self.store.path(), error))
    }
}

fn print_mounts(job: &mut Job<'_>) -> Result<()> {
    let line = |((major, minor), number): &(DeviceNumber, u64)| format!("{major}:{minor} {number}\n");
    let lines: String = job.mounts.iter().map(line).collect();
    written(job.output.write_all(lines.as_bytes()))
}

impl Request {
    /// Does what is asked.
    pub fn execute(&self, mut job: Job<'_>) -> Result<()> {
        let job = &mut job;
        match self {
            Request::Get { volume, path } => files::get(job, volume, path),
            Request::Version { volume, path } => files::version(job, volume, path),
            Request::Batch { volume } => batch::apply(job, volume),
            Request::Import { volume, at } => archive::import(job, volume, at),
            Request::Export { volume, path } => archive::export(job, volume, path),
            Request::Put { volume, path } => files::put(job, volume, path),
            Request::Remove { volume, path, recursive, force } => {
                files::remove(job, volume, path, *recursive, *force)
            }
            Request::List { volume, path, long } => files::list(job, volume, path, *long),
            Request::Scan { volume, from, to, values } => {
                files::scan(job, volume, from.as_ref(), to.as_ref(), *values)
            }
            Request::Stats { volume, json } => stats::print(job, volume, *json),
            Request::Sync => job.store.sync(),
            Request::Mounts => print_mounts(job),
            Request::Flush => job.engine(job.store.engine().flush()),
            Request::Compact => job.engine(job.store.engine().compact()),
            Request::CreateVolume { name } => volumes::create(job, name),
            Request::ListVolumes => volumes::list(job),
            Request::ShowUsage { volume, quotas, json } => {
                usage::show(job, volume.as_deref(), *quotas, *json)
            }
            Request::SetQuota { volume, files, bytes } => usage::set_quota(job, volume, *files, *bytes),
            Request::Diff { from, to } => diff::print(job, from, to),
            Request::RenameVolume { name, new_name } => volumes::rename(job, name, new_name),
            Request::DeleteVolume { name } => volumes::delete(job, name),
            Request::Fork { from, to } => volumes::fork(job, from, to),
            Request::CreateSnapshot { volume, name } => volumes::create_snapshot(job, volume, name),
            Request::ListSnapshots { volume } => volumes::list_snapshots(job, volume),
            Request::DeleteSnapshot { volume, name } => volumes::delete_snapshot(job, volume, name),
            Request::Restore { volume, snapshot } => volumes::restore(job, volume, snapshot),
            Request::Shell { volume, command, confirm } => shell::obey(job, volume, command, *confirm),
        }
    }
}
