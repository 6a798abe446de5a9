//! What fuzzing puts into what the command line reads and prints (see [`crate::fuzzing`]).

use crate::cli::control::frame::{Kind, receive, send};
use crate::cli::print::escape;
use crate::cli::request::Request;
use crate::cli::request::batch::Lines;
use crate::cli::shell::command::Command;
use crate::fuzzing::Target;

pub(crate) const TARGETS: &[(&str, Target)] =
    &[("shell_line", shell_line), ("operations", operations), ("escape", escapes), ("control", control)];

fn shell_line(input: &[u8]) {
    match Command::parse(input) {
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

/// What a batch is read from.
fn operations(input: &[u8]) {
    if let Err(error) = Lines::read(&mut &*input) {
        assert!(error.to_string().lines().count() == 1);
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

/// What a client sends over the control socket: frames, and the requests in them.
fn control(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some((kind, payload))) = receive(&mut rest) {
        let mut again = Vec::new();
        send(&mut again, kind, [&payload, b""]).expect("memory takes it");
        assert_eq!(receive(&again[..]).expect("it was just sent"), Some((kind, payload.clone())));
        if kind == Kind::Request {
            request(payload.get(1..).unwrap_or_default());
        }
    }
    request(input);
}

fn request(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()).expect("what was encoded decodes"), request);
    }
}
