//! The client's side of a conversation.

use crate::cli::control::frame::{self, Kind, PIECE_BYTES, VERSION, malformed};
use crate::cli::control::socket;
use crate::cli::error::{CliError, Result};
use crate::cli::print::written;
use crate::cli::request::Request;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was executed.
    Done,
    /// Nobody heard it: nothing was done, and nothing of the input taken.
    Unheard,
}

/// Has the daemon that has the store `dir` open execute a request.
pub fn send(dir: &Path, request: &Request, input: &mut dyn Read, output: &mut dyn Write) -> Result<Sent> {
    let failed = |error| CliError::system(format!("ask the daemon of {}", dir.display()), error);
    let bytes = request.encode();
    if bytes.len() > Request::MAX_BYTES {
        return Err(CliError::Refused("the paths are too long to be handed to the daemon".to_string()));
    }
    let Some(stream) = socket::connect(dir).map_err(failed)? else { return Ok(Sent::Unheard) };
    // A daemon that refuses at once may have gone before it has read all: what it said is read below.
    let _ = frame::send(&stream, Kind::Request, [&[VERSION], &bytes]);
    match frame::receive(&stream) {
        Ok(Some((Kind::Accepted, _))) => converse(&stream, input, output, failed).map(|()| Sent::Done),
        Ok(Some((Kind::Done, said))) => done(&said).map(|()| Sent::Done),
        Ok(Some(_)) => Err(failed(malformed("an answer out of turn"))),
        Ok(None) => Ok(Sent::Unheard),
        Err(error) if is_gone(&error) => Ok(Sent::Unheard),
        Err(error) => Err(failed(error)),
    }
}

/// Feeds what is wanted and prints what comes, until the request is done.
fn converse(
    stream: &UnixStream,
    input: &mut dyn Read,
    output: &mut dyn Write,
    failed: impl Fn(io::Error) -> CliError,
) -> Result<()> {
    loop {
        match frame::receive(stream).map_err(&failed)? {
            Some((Kind::Want, _)) => feed(stream, input).map_err(&failed)?,
            Some((Kind::Output, piece)) => written(output.write_all(&piece))?,
            Some((Kind::Done, said)) => return done(&said),
            Some(_) => return Err(failed(malformed("an answer out of turn"))),
            None => {
                let gone = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before it was done");
                return Err(failed(gone));
            }
        }
    }
}

/// Sends a piece of the input.
fn feed(stream: &UnixStream, input: &mut dyn Read) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let read = loop {
        match input.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            read => break read,
        }
    };
    match read {
        Ok(0) => frame::send(stream, Kind::End, [b"", b""]),
        Ok(length) => frame::send(stream, Kind::Data, [&piece[..length], b""]),
        Err(error) => frame::send(stream, Kind::Failed, [error.to_string().as_bytes(), b""]),
    }
}

/// What the daemon said at the end.
fn done(said: &[u8]) -> Result<()> {
    match said.split_first() {
        None | Some((0, _)) => Ok(()),
        Some((status, message)) => {
            let message = String::from_utf8_lossy(message).into_owned();
            Err(CliError::Answer { status: *status, message })
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}
