//! The command line's errors: one line each, and the process's exit status.

use crate::disk::OpenError;
use crate::fs::mount::{MountError, OptionError};
use std::io;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A store's directory can't be opened.
    #[error("{0}{}", hint(.0))]
    Open(#[from] OpenError),
    /// The engine refused.
    #[error("{store}: {source}")]
    Engine {
        /// The store.
        store: String,
        /// The engine's words.
        source: crate::lsm::Error,
    },
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
    /// Another process has told the user already; its exit status is passed on.
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

    /// Tells the user, in one line, and picks the exit status.
    pub fn report(&self) -> ExitCode {
        match self {
            CliError::Told(status) => ExitCode::from(*status),
            // Who reads our output has had enough of it.
            CliError::System { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            CliError::Option(_) => self.say(2),
            _ => self.say(1),
        }
    }

    fn say(&self, status: u8) -> ExitCode {
        eprintln!("lsmfs: {self}");
        ExitCode::from(status)
    }
}

/// What to do about a store that can't be opened.
fn hint(error: &OpenError) -> String {
    match error {
        OpenError::InUse { closing: true, .. } => ": try again when it is done".to_string(),
        OpenError::InUse { mount: Some(dir), .. } => {
            format!(": use the files there, or unmount it first (lsmfs umount {})", dir.display())
        }
        OpenError::InUse { .. } => ": try again when it is done".to_string(),
        OpenError::Missing { .. } => ": lsmfs mount or lsmfs put makes a new store".to_string(),
        OpenError::NotAStore { .. } => ": give another directory".to_string(),
        _ => String::new(),
    }
}
