//! What fuzzing puts into what the command line reads and prints (see [`crate::fuzzing`]).

use crate::cli::print::escape;
use crate::cli::shell::command::Command;
use crate::fuzzing::Target;

pub(crate) const TARGETS: &[(&str, Target)] = &[("shell_line", shell_line), ("escape", escapes)];

fn shell_line(input: &[u8]) {
    match Command::parse(input) {
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

/// What is printed is one line, and means the same bytes when it is typed.
fn escapes(input: &[u8]) {
    let printed = escape(input);
    assert!(!printed.contains(['\n', '\t', '\r', '\x1b']));
    let line = format!("put a \"{}\"", printed.replace('"', "\\\""));
    match Command::parse(line.as_bytes()) {
        Ok(Some(Command::Put { value, .. })) => assert_eq!(value, input),
        other => panic!("{line}: {other:?}"),
    }
}
