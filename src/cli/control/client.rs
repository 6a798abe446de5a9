//! The client's side of a conversation.

use crate::cli::control::frame::{self, Kind, PIECE_BYTES, VERSION, malformed};
use crate::cli::control::mounting::{self, MountRequest, Plan};
use crate::cli::control::{passing, socket};
use crate::cli::error::{CliError, Result};
use crate::cli::print::written;
use crate::cli::request::Request;
use crate::fs::mount::table::DeviceNumber;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, pidfd_open};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

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

/// A conversation about a mount, after the daemon has said how it is made.
pub struct Conversation {
    stream: UnixStream,
    store: PathBuf,
}

/// Asks the daemon that has the store `dir` open to serve a mount. `None` if there is none, or it is ending.
pub fn ask_for_mount(dir: &Path, request: &MountRequest) -> Result<Option<(Conversation, Plan)>> {
    let failed = |error| CliError::system(format!("ask the daemon of {}", dir.display()), error);
    let Some(stream) = socket::connect(dir).map_err(failed)? else { return Ok(None) };
    let bytes = mounting::encode(request).map_err(failed)?;
    let _ = frame::send(&stream, Kind::Mount, [&[VERSION], &bytes]);
    match frame::receive(&stream) {
        Ok(Some((Kind::Plan, plan))) => {
            let plan = mounting::decode(&plan).map_err(failed)?;
            Ok(Some((Conversation { stream, store: dir.to_path_buf() }, plan)))
        }
        Ok(Some((Kind::Done, said))) => done(&said).map(|()| None),
        Ok(Some((Kind::Later, _)) | None) => Ok(None),
        Ok(Some(_)) => Err(failed(malformed("an answer out of turn"))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Conversation {
    /// What ends with the daemon.
    pub fn daemon(&self) -> io::Result<OwnedFd> {
        let daemon = socket_peercred(&self.stream)?;
        Ok(pidfd_open(daemon.pid, PidfdFlags::empty())?)
    }

    /// Hands over the device of a mount, whose file system has this number. Returns when it is served.
    pub fn hand_over(self, device: &OwnedFd, number: DeviceNumber) -> Result<()> {
        let send = || {
            let frame = frame::encode(Kind::Device, [&mounting::encode(&number)?, b""]);
            passing::send(&self.stream, &frame, device)
        };
        send().map_err(|error| self.failed(error))?;
        self.finish()
    }

    /// Waits until the daemon is done.
    pub fn finish(self) -> Result<()> {
        match frame::receive(&self.stream) {
            Ok(Some((Kind::Done, said))) => done(&said),
            Ok(Some(_)) => Err(self.failed(malformed("an answer out of turn"))),
            Ok(None) => Err(self.failed(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended"))),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> CliError {
        CliError::system(format!("ask the daemon of {}", self.store.display()), error)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}
