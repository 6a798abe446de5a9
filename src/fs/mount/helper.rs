//! Mounting and unmounting without root, through the set-user-id program `fusermount3`.
//!
//! It opens `/dev/fuse`, mounts it, and hands the open device back over a Unix socket whose
//! descriptor number it finds in the environment. The socket is its standard input, so that no
//! other descriptor has to be inherited.

use super::{MountError, MountOptions, Result};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = "fusermount3";

/// Mounts on `dir`; returns the device on which the kernel's requests arrive.
pub fn mount(source: &Path, dir: &Path, options: &MountOptions) -> Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| MountError::system("make a socket for", dir, error))?;
    let mut command = Command::new(PROGRAM);
    command.arg("-o").arg(option_list(source, options)).arg("--").arg(dir);
    command.env("_FUSE_COMMFD", "0").stdin(Stdio::from(theirs));
    let child = spawn(&mut command)?;
    // The parent's copy of the other end goes, so that a helper that fails ends the read below.
    drop(command);
    let device = receive_device(&ours);
    match (finish(child, dir), device) {
        (Ok(()), Ok(Some(device))) => Ok(device),
        (Ok(()), Ok(None)) => Err(MountError::Helper { message: "it sent no device".to_string() }),
        (Ok(()), Err(error)) => Err(MountError::system("receive the device of", dir, error)),
        (Err(error), _) => Err(error),
    }
}

/// Unmounts `dir`; with `lazy` even while it is in use.
pub fn unmount(dir: &Path, lazy: bool) -> Result<()> {
    let mut command = Command::new(PROGRAM);
    command.args(if lazy { ["-u", "-z"].as_slice() } else { ["-u"].as_slice() });
    let child = spawn(command.arg("--").arg(dir).stdin(Stdio::null()))?;
    finish(child, dir)
}

fn spawn(command: &mut Command) -> Result<Child> {
    // Its messages are looked into: they must not be translated.
    command.env("LC_ALL", "C").stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MountError::NoHelper,
        _ => MountError::Helper { message: error.to_string() },
    })
}

fn finish(child: Child, dir: &Path) -> Result<()> {
    let output = child.wait_with_output().map_err(|error| MountError::system("wait for", dir, error))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("Device or resource busy") {
        return Err(MountError::Busy { dir: dir.to_path_buf() });
    }
    let line = text.lines().next().unwrap_or("it failed without a word");
    let message = line.trim_start_matches(PROGRAM).trim_start_matches(": ").to_string();
    Err(MountError::Helper { message })
}

/// The option list; in the source, commas and backslashes are escaped.
fn option_list(source: &Path, options: &MountOptions) -> OsString {
    let mut list = b"fsname=".to_vec();
    for &byte in source.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\') {
            list.push(b'\\');
        }
        list.push(byte);
    }
    list.extend_from_slice(b",subtype=lsmfs,default_permissions");
    if options.allow_other {
        list.extend_from_slice(b",allow_other");
    }
    for word in options.flag_words() {
        list.push(b',');
        list.extend_from_slice(word.as_bytes());
    }
    OsString::from_vec(list)
}

/// The descriptor that comes with the helper's one message; `None` if it closes the socket
/// without one.
fn receive_device(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8];
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return Ok(descriptors.next());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_list_escapes_the_source() {
        let mut options = MountOptions::parse(&["ro,noatime,allow_other".to_string()]).unwrap();
        let list = option_list(Path::new("/a,b\\c"), &options).into_string().unwrap();
        assert!(list.starts_with("fsname=/a\\,b\\\\c,subtype=lsmfs,default_permissions,allow_other,ro"));
        assert!(list.ends_with(",noatime"));
        options.allow_other = false;
        assert!(!option_list(Path::new("/a"), &options).into_string().unwrap().contains("allow_other"));
    }

    #[test]
    fn a_closed_socket_is_no_device() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        drop(theirs);
        assert!(receive_device(&ours).unwrap().is_none());
    }
}
