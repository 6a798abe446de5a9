//! Frames: what goes over the control socket.
//!
//! ```text
//! offset  size
//! 0       1    kind
//! 1       4    length of what follows, little-endian; at most [`MAX_BYTES`]
//! 5       …    payload
//! ```
//!
//! REQUEST and MOUNT begin with a byte that says the version of all this, then comes what is asked. DONE begins with the
//! exit status. Other payloads are plain bytes.

use std::io::{self, Read, Write};

/// The version of the conversation.
pub const VERSION: u8 = 1;

/// The most bytes of a payload: a request and its version.
pub const MAX_BYTES: usize = crate::cli::request::Request::MAX_BYTES + 1;

/// The bytes of contents that go into one frame.
pub const PIECE_BYTES: usize = 256 << 10;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// From the client: the version, and a request.
    Request = 1,
    /// From the client: a piece of input, not empty.
    Data = 2,
    /// From the client: there is no more input.
    End = 3,
    /// From the client: the input could not be read, and why.
    Failed = 4,
    /// From the client: the version, and what it wants to mount.
    Mount = 5,
    /// From the client: the device of a mount comes with this frame.
    Device = 6,
    /// From the daemon: the request is being executed.
    Accepted = 16,
    /// From the daemon: input is wanted.
    Want = 17,
    /// From the daemon: a piece of output.
    Output = 18,
    /// From the daemon: the exit status, and the line to print if it is not 0.
    Done = 19,
    /// From the daemon: how a mount is to be made.
    Plan = 20,
    /// From the daemon: it, or a mount in the way, is ending: ask again in a moment.
    Later = 21,
}

const KINDS: [Kind; 12] = [
    Kind::Request,
    Kind::Data,
    Kind::End,
    Kind::Failed,
    Kind::Mount,
    Kind::Device,
    Kind::Accepted,
    Kind::Want,
    Kind::Output,
    Kind::Done,
    Kind::Plan,
    Kind::Later,
];

/// A frame's first bytes, read: its kind and the length of its payload. An error says what is wrong with them.
pub fn decode_header(header: [u8; HEADER_BYTES]) -> Result<(Kind, usize), &'static str> {
    let [kind, length @ ..] = header;
    let kind = KINDS.into_iter().find(|known| *known as u8 == kind).ok_or("a frame of an unknown kind")?;
    match u32::from_le_bytes(length) as usize {
        length if length <= MAX_BYTES => Ok((kind, length)),
        _ => Err("a frame that is too long"),
    }
}

/// A frame's first bytes.
fn encode_header(kind: Kind, length: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(length <= MAX_BYTES);
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// A frame whose payload is `parts`, one after the other.
pub fn encode(kind: Kind, parts: [&[u8]; 2]) -> Vec<u8> {
    let length = parts[0].len() + parts[1].len();
    let mut frame = Vec::with_capacity(HEADER_BYTES + length);
    frame.extend_from_slice(&encode_header(kind, length));
    parts.into_iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// Sends a frame, in one piece: each write wakes whoever reads.
pub fn send(mut to: impl Write, kind: Kind, parts: [&[u8]; 2]) -> io::Result<()> {
    to.write_all(&encode(kind, parts))
}

/// Receives a frame; `None` if the other side has ended the conversation before it.
pub fn receive(mut from: impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    let first = loop {
        match from.read(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[first..])?;
    let (kind, length) = decode_header(header).map_err(malformed)?;
    let mut payload = Vec::new();
    // Grows with what comes, not with what is promised.
    from.take(length as u64).read_to_end(&mut payload)?;
    if payload.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((kind, payload)))
}

/// The error for what does not belong into a conversation.
pub fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_come_back_as_they_were() {
        let mut bytes = Vec::new();
        send(&mut bytes, Kind::Done, [&[1], b"no"]).unwrap();
        send(&mut bytes, Kind::Want, [b"", b""]).unwrap();
        let mut rest = &bytes[..];
        assert_eq!(receive(&mut rest).unwrap(), Some((Kind::Done, b"\x01no".to_vec())));
        assert_eq!(receive(&mut rest).unwrap(), Some((Kind::Want, Vec::new())));
        assert_eq!(receive(&mut rest).unwrap(), None);
    }

    #[test]
    fn what_is_too_long_cut_off_or_unknown_is_refused() {
        for bad in [
            &[2, 0, 0, 0, 1][..],
            &[2, 255, 255, 255, 255, 0],
            &[0, 0, 0, 0, 0],
            &[7, 0, 0, 0, 0],
            &[2, 3, 0, 0, 0, 1, 2],
            &[2],
        ] {
            assert!(receive(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut rest = &bytes[..];
            while let Ok(Some((_, payload))) = receive(&mut rest) {
                prop_assert!(payload.len() <= bytes.len());
            }
        }
    }
}
