//! Waiting for the end of a mount that another process serves.

use super::table::{self, DeviceNumber};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io;
use std::path::Path;

/// Waits until the file system `device` is not mounted on `dir` any more, or until the process of a pidfd, who serves
/// it, has ended while it is. Says whether it is unmounted.
pub fn wait_until_gone(dir: &Path, device: DeviceNumber, server: &OwnedFd) -> io::Result<bool> {
    // The kernel tells who has it open of each change.
    let changes = File::open("/proc/self/mountinfo")?;
    let is_mounted = || -> io::Result<bool> {
        Ok(table::read()?.iter().any(|entry| entry.device == device && entry.mount_point == dir))
    };
    while is_mounted()? {
        let mut events = [PollFd::new(&changes, PollFlags::PRI), PollFd::new(server, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut events, None))?;
        if !events[1].revents().is_empty() {
            return Ok(!is_mounted()?);
        }
    }
    Ok(true)
}
