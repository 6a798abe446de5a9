//! The `lsmfs` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lsmfs::cli::main()
}
