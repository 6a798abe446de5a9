//! The daemon's end of one connection: nothing on it waits for ever, and how long it has waited can be seen.

use crate::cli::control::frame::{self, Kind, PIECE_BYTES, malformed};
use crate::cli::control::mounting::{self, Plan};
use crate::cli::control::passing;
use crate::cli::error::{CliError, Result};
use crate::fs::mount::table::DeviceNumber;
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A connection to a client.
pub struct Line {
    stream: UnixStream,
    wait: Mutex<Wait>,
}

#[derive(Debug)]
struct Wait {
    /// How long the client may take for a frame.
    timeout: Duration,
    /// Since when a frame has been under way; `None` while the client is not waited for.
    since: Option<Instant>,
}

impl Line {
    /// The client may take so long for a frame.
    pub fn new(stream: UnixStream, timeout: Duration) -> Line {
        Line { stream, wait: Mutex::new(Wait { timeout, since: Some(Instant::now()) }) }
    }

    /// From now on the client may take so long for a frame.
    pub fn set_timeout(&self, timeout: Duration) {
        *self.wait.lock() = Wait { timeout, since: None };
    }

    /// How long the client has been waited for.
    pub fn waited(&self) -> Duration {
        self.wait.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Ends the connection, whoever waits on it.
    pub fn cut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// A frame begins.
    fn begin(&self) {
        self.wait.lock().since = Some(Instant::now());
    }

    /// The client is not waited for.
    fn rest(&self) {
        self.wait.lock().since = None;
    }

    /// What is left of the time for this frame.
    fn left(&self) -> io::Result<Duration> {
        let wait = self.wait.lock();
        let used = wait.since.map_or(Duration::ZERO, |since| since.elapsed());
        wait.timeout.checked_sub(used).filter(|left| !left.is_zero()).ok_or_else(too_slow)
    }

    /// Sends a frame.
    pub fn send(&self, kind: Kind, parts: [&[u8]; 2]) -> io::Result<()> {
        self.begin();
        let sent = frame::send(self, kind, parts);
        self.rest();
        sent
    }

    /// Receives a frame.
    pub fn receive(&self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        self.begin();
        let received = frame::receive(self);
        self.rest();
        received
    }

    /// Answers a request that is not executed. Waits for nobody.
    pub fn refuse(&self, error: &CliError) {
        // What does not fit into an empty socket is lost, with a client that is gone anyway.
        let _ = self.stream.set_nonblocking(true);
        let _ = self.finish(&Err(CliError::Answer { status: error.status(), message: error.to_string() }));
    }

    /// Says how a request ended.
    pub fn finish(&self, done: &Result<()>) -> io::Result<()> {
        match done {
            Ok(()) => self.send(Kind::Done, [&[0], b""]),
            Err(error) => self.send(Kind::Done, [&[error.status()], error.to_string().as_bytes()]),
        }
    }

    /// Says how a mount is to be made.
    pub fn send_plan(&self, plan: &Plan) -> io::Result<()> {
        self.send(Kind::Plan, [&mounting::encode(plan)?, b""])
    }

    /// Receives the device of a mount, with the file system's number.
    pub fn receive_device(&self) -> io::Result<(OwnedFd, DeviceNumber)> {
        self.begin();
        let received = self.try_receive_device();
        self.rest();
        received
    }

    fn try_receive_device(&self) -> io::Result<(OwnedFd, DeviceNumber)> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let (first, device) = passing::receive(&self.stream).map_err(timed_out)?;
        match frame::receive((&first[..]).chain(self))? {
            Some((Kind::Device, number)) => {
                Ok((device.ok_or_else(|| malformed("no device came along"))?, mounting::decode(&number)?))
            }
            Some(_) => Err(malformed("a device out of turn")),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client is gone")),
        }
    }

    /// What the client feeds to its request.
    pub fn input(&self) -> Input<'_> {
        Input { line: self, piece: io::Cursor::default(), ended: false }
    }

    /// What the client is to print.
    pub fn output(&self) -> Output<'_> {
        Output { line: self }
    }
}

impl Read for &Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        (&self.stream).read(buffer).map_err(timed_out)
    }
}

impl Write for &Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&self.stream).write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { too_slow() } else { error }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
}

/// Input, asked for piece by piece.
pub struct Input<'a> {
    line: &'a Line,
    piece: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended {
            return Ok(0);
        }
        let read = self.piece.read(buffer)?;
        if read > 0 {
            return Ok(read);
        }
        self.line.send(Kind::Want, [b"", b""])?;
        match self.line.receive()? {
            Some((Kind::Data, piece)) if !piece.is_empty() => {
                self.piece = io::Cursor::new(piece);
                self.piece.read(buffer)
            }
            Some((Kind::End, _)) => {
                self.ended = true;
                Ok(0)
            }
            Some((Kind::Failed, why)) => Err(io::Error::other(String::from_utf8_lossy(&why).into_owned())),
            Some(_) => Err(malformed("an input out of turn")),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client is gone")),
        }
    }
}

/// Output, sent as it comes.
pub struct Output<'a> {
    line: &'a Line,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        if !piece.is_empty() {
            self.line.send(Kind::Output, [piece, b""])?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
