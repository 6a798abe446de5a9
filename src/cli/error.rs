//! The command line's errors: one line each, and the process's exit status.

use crate::disk::OpenError;
use crate::fs::mount::{MountError, OptionError};
use crate::fs::{Cause, NAME_MAX};
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A store's directory can't be opened.
    #[error("{0}{hint}", hint = open_hint(.0))]
    Open(#[from] OpenError),
    /// The engine refused.
    #[error("{store}: {source}")]
    Engine {
        /// The store.
        store: String,
        /// The engine's words.
        source: crate::lsm::Error,
    },
    /// An operation on files failed.
    #[error("{0}{hint}", hint = files_hint(.0))]
    Files(#[from] crate::fs::Error),
    /// A mount could not be made or ended.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A mount option makes no sense.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried, and on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// What was asked for can't be done, and why.
    #[error("{0}")]
    Refused(String),
    /// The daemon's answer.
    #[error("{message}")]
    Answer {
        /// The exit status.
        status: u8,
        /// The line to print.
        message: String,
    },
    /// The user has been told already; the exit status.
    #[error("exit status {0}")]
    Told(u8),
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// The system's answer to `what`.
    pub fn system(what: impl Into<String>, source: impl Into<io::Error>) -> CliError {
        CliError::System { what: what.into(), source: source.into() }
    }

    /// The engine's answer on a store.
    pub fn engine(store: &Path, source: crate::lsm::Error) -> CliError {
        CliError::Engine { store: store.display().to_string(), source }
    }

    /// Adds what to do, where files failed for that cause.
    pub fn hint_if(self, cause: impl Fn(&Cause) -> bool, hint: &str) -> CliError {
        match self {
            CliError::Files(error) if cause(&error.cause) => CliError::Refused(format!("{error}: {hint}")),
            other => other,
        }
    }

    /// Has who reads our output gone away?
    pub fn is_broken_pipe(&self) -> bool {
        let source = match self {
            CliError::System { source, .. } => source,
            CliError::Files(crate::fs::Error { cause: Cause::Output(source), .. }) => source,
            _ => return false,
        };
        source.kind() == io::ErrorKind::BrokenPipe
    }

    /// Tells the user, in one line, and picks the exit status.
    pub fn report(&self) -> ExitCode {
        match self {
            CliError::Told(status) => ExitCode::from(*status),
            // Who reads our output has had enough of it.
            _ if self.is_broken_pipe() => ExitCode::SUCCESS,
            _ => {
                self.say();
                ExitCode::from(self.status())
            }
        }
    }

    /// The exit status that it stands for.
    pub fn status(&self) -> u8 {
        match self {
            CliError::Told(status) | CliError::Answer { status, .. } => *status,
            CliError::Option(_) => 2,
            _ => 1,
        }
    }

    /// Tells the user, in one line.
    pub fn say(&self) {
        eprintln!("lsmfs: {}", self.to_string().replace('\n', " "));
    }
}

/// What to do about a store that can't be opened.
fn open_hint(error: &OpenError) -> String {
    match error {
        OpenError::InUse { closing: false, mount: Some(dir), .. } => {
            format!(": use the files there, or unmount it first (lsmfs umount {})", dir.display())
        }
        OpenError::InUse { .. } => ": try again when it is done".to_string(),
        OpenError::Missing { .. } => " (lsmfs mount and lsmfs put make a new store)".to_string(),
        OpenError::NotAStore { .. } => ": give another directory".to_string(),
        _ => String::new(),
    }
}

/// What to do about files.
fn files_hint(error: &crate::fs::Error) -> String {
    match error.cause {
        Cause::NameTooLong => format!(" (a name has at most {NAME_MAX} bytes)"),
        _ => String::new(),
    }
}
