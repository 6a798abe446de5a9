//! What a command asks of a store: one type, with one executor, wherever the store is open.
//!
//! A command that finds the store free opens it and executes its request itself; one that finds it open in a
//! daemon sends the request there ([`crate::cli::control`]), where the same code executes it. What the request
//! reads and prints passes through in both cases ([`Job::input`], [`Job::output`]), and what goes wrong is one
//! line and an exit status.
//!
//! # To add one
//! 1. A variant of [`Request`]. Fields are what the user typed, parsed: names, [`TreePath`]s, flags. Contents
//!    do not belong here but in the job's input: a request has at most [`Request::MAX_BYTES`].
//! 2. Its arm in [`Request::execute`], a call of a function in a file of this folder. It gets the [`Job`]: the
//!    open store, on whose behalf, input and output. It prints what the user is to see, nothing else, and
//!    returns errors with all that is to be said, hints too. It runs beside the mounts of the store and other
//!    requests; what it changes in files it changes through [`Tree`](crate::fs::tree::Tree) or another part of
//!    `fs/`, which tells the kernel.
//! 3. The command: a file in `cli/` with the arguments, which makes the request and hands it to
//!    [`crate::cli::access::run`] (or to an [`Access`](crate::cli::access::Access), if it has several).
//! 4. A line in `tests/control_socket.rs`: on a mounted store it does what it does on a closed one.
//!
//! Requests are JSON, so that a client and a daemon of different versions understand each other as far as they
//! can: fields with `#[serde(default)]` may be added, and a request that the daemon does not know is refused.

mod archive;
pub mod batch;
mod diff;
mod execute;
pub mod files;
mod shell;
mod stats;
mod usage;
mod volumes;

pub use execute::Job;

use crate::cli::shell::command::Command;
use crate::fs::tree::TreePath;
use serde::{Deserialize, Serialize};

/// What a command asks of a store. A `volume` is the name of one, or a snapshot's: `VOLUME@SNAPSHOT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named for what they are")]
pub enum Request {
    /// Print a file's contents.
    Get { volume: String, path: TreePath },
    /// Print a path's version.
    Version { volume: String, path: TreePath },
    /// Apply the operations that the input holds, in one step.
    Batch { volume: String },
    /// Import the tar archive that is the input into a directory; for root with the owners that it says.
    Import { volume: String, at: TreePath },
    /// Print a tar archive of a directory or file.
    Export { volume: String, path: TreePath },
    /// Store the input under a path; makes missing directories.
    Put { volume: String, path: TreePath },
    /// Remove a file, or with `recursive` a directory and all below it. With `force` a path without a file is no
    /// error. Durable after the next [`Request::Sync`].
    Remove { volume: String, path: TreePath, recursive: bool, force: bool },
    /// List a directory, with `long` as `ls -l`.
    List { volume: String, path: TreePath, long: bool },
    /// Print the paths, and with `values` the contents, of the files between two paths.
    Scan { volume: String, from: Option<TreePath>, to: Option<TreePath>, values: bool },
    /// Print the store's figures, and the number of a volume's files.
    Stats { volume: String, json: bool },
    /// Make durable what was answered.
    Sync,
    /// Print the mounts, each on a line: its device's number, which another one may have when it has ended, and its own,
    /// as `MAJOR:MINOR NUMBER`.
    Mounts,
    /// Write all memtables out as tables.
    Flush,
    /// Merge all tables down to the deepest level.
    Compact,
    /// Make an empty volume.
    CreateVolume { name: String },
    /// Print the names of volumes and snapshots.
    ListVolumes,
    /// Print what volumes and snapshots hold, or one of them; with `quotas` what volumes hold and may hold.
    ShowUsage { volume: Option<String>, quotas: bool, json: bool },
    /// Set how much a volume may hold; what is `None` stays.
    SetQuota { volume: String, files: Option<Limit>, bytes: Option<Limit> },
    /// Print the paths that differ between two volumes or snapshots.
    Diff { from: String, to: String },
    /// Give a volume another name.
    RenameVolume { name: String, new_name: String },
    /// Delete a volume with its snapshots.
    DeleteVolume { name: String },
    /// Make a volume that starts as another one, or a snapshot, is.
    Fork { from: String, to: String },
    /// Take a snapshot.
    CreateSnapshot { volume: String, name: String },
    /// Print the names of a volume's snapshots.
    ListSnapshots { volume: String },
    /// Delete a snapshot.
    DeleteSnapshot { volume: String, name: String },
    /// Set a volume back to one of its snapshots.
    Restore { volume: String, snapshot: String },
    /// Do a command of the shell; with `confirm`, say what was done. Durable after the next [`Request::Sync`].
    Shell { volume: String, command: Command, confirm: bool },
}

/// How much of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// As much as there is room for.
    None,
    /// So much.
    AtMost(u64),
}

/// Bytes that are no request, and why.
#[derive(Debug, thiserror::Error)]
#[error("not a request that this lsmfs knows: {0}")]
pub struct BadRequest(String);

impl Request {
    /// The most bytes of a request.
    pub const MAX_BYTES: usize = 1 << 20;

    /// The request as bytes; too many for what no system hands to a program as arguments.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names, paths and flags can be written as JSON")
    }

    /// Reads what [`Request::encode`] wrote. Nothing else is taken, whoever sent it: the bytes come from
    /// another process.
    pub fn decode(bytes: &[u8]) -> Result<Request, BadRequest> {
        if bytes.len() > Request::MAX_BYTES {
            return Err(BadRequest(format!("{} bytes", bytes.len())));
        }
        serde_json::from_slice(bytes).map_err(|error| BadRequest(error.to_string()))
    }

    /// Is the store made for it, where there is none?
    pub fn makes_store(&self) -> bool {
        matches!(
            self,
            Request::Put { .. }
                | Request::Batch { .. }
                | Request::Import { .. }
                | Request::CreateVolume { .. }
                | Request::Shell { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(bytes: &[u8]) -> TreePath {
        TreePath::parse(bytes).unwrap()
    }

    #[test]
    fn requests_come_back_as_they_were() {
        let volume = || "main@x".to_string();
        for request in [
            Request::Get { volume: volume(), path: path(b"a/\xff\n/c") },
            Request::Scan { volume: volume(), from: None, to: Some(path(b"/")), values: true },
            Request::Flush,
            Request::Fork { from: "\"".to_string(), to: "größe".to_string() },
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let deep = "[".repeat(100_000);
        let dots = r#"{"Get":{"volume":"main","path":[46,46]}}"#;
        let long = format!(r#"{{"CreateVolume":{{"name":"{}"}}}}"#, "x".repeat(Request::MAX_BYTES));
        for bad in ["", "{", "\"flush\"", "\"Flush\" 1", "{\"Get\":{}}", &deep, dots, &long] {
            assert!(Request::decode(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(50)]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::decode(&bytes);
        }

        #[test]
        fn no_change_of_a_request_is_a_panic(at in 0usize..60, byte in any::<u8>()) {
            let mut bytes = Request::Get { volume: "main".to_string(), path: path(b"a/b") }.encode();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Request::decode(&bytes);
        }
    }
}
