//! The command line: one file a command.

use std::process::ExitCode;

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
