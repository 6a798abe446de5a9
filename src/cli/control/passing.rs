//! Passing an open device from one process to the other, along with bytes on their connection.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Sends bytes, and with them a device.
pub fn send(mut stream: &UnixStream, bytes: &[u8], device: &OwnedFd) -> io::Result<()> {
    let devices = [device.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&devices));
    let parts = [IoSlice::new(bytes)];
    let sent = rustix::io::retry_on_intr(|| sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL))?;
    // The device went with the first of them.
    stream.write_all(&bytes[sent..])
}

/// Receives one byte, or none at the end, and the device that comes with it, if one does.
pub fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut device = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut devices) = message {
            device = devices.next();
        }
    }
    Ok((byte[..received.bytes].to_vec(), device))
}
