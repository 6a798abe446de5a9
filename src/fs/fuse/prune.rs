//! Having the kernel forget inodes that nobody uses.
//!
//! Since Linux 6.18 it is told their numbers (`FUSE_NOTIFY_PRUNE`), many at a time: it drops what names them in its
//! cache, and with that the inodes, unless they are in use. An older kernel refuses that; it is told names instead
//! (`FUSE_NOTIFY_INVAL_ENTRY`), one at a time, and takes the directory's lock for each: while somebody lists that
//! directory, it forgets little. A name is dropped then though its file is in use, so no directory's name is told:
//! it may be somebody's working directory. (To a program that has such a file open, the kernel shows its name as
//! deleted in `/proc`; nothing else changes.)
//!
//! What it keeps of the directories' listings goes too: whoever lists one next would be shown names, and ask for the
//! attributes of each. A new listing brings them all.
//!
//! Either way the kernel's answers come as FORGET.

use crate::fs::attr::Ino;
use crate::fs::fuse::notices::Notice;
use crate::fs::views::Views;
use fuser::Notifier;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// The notification's number.
const NOTIFY_PRUNE: u32 = 9;

/// Bytes before the inode numbers: the header that all notifications have, and this one's own.
const HEAD: usize = 16 + 16;

/// Inode numbers in one notification.
const MOST: usize = 4096;

/// Has the kernel of one mount forget.
#[derive(Debug)]
pub(super) struct Pruner {
    /// The connection, of which this is a duplicate.
    device: OwnedFd,
    /// Does the kernel know inodes' numbers to forget?
    by_number: bool,
}

impl Pruner {
    /// For the kernel at the other end of `device`; `by_number` is to be tried.
    pub fn new(device: OwnedFd, by_number: bool) -> Pruner {
        Pruner { device, by_number }
    }

    /// Has it forget those of `inodes` that are not in use.
    pub fn forget(&mut self, fs: &Views, kernel: &Notifier, inodes: &[Ino]) {
        for some in inodes.chunks(MOST) {
            let names: Vec<_> = some.iter().filter_map(|ino| fs.name_to_forget(*ino)).collect();
            if self.by_number {
                match rustix::io::write(&self.device, &notification(some)) {
                    Ok(_) => {}
                    Err(Errno::INVAL) => self.by_number = false,
                    // The mount may be gone.
                    Err(e) => return tracing::debug!("the kernel was not told to forget: {e}"),
                }
            }
            let dirs: BTreeSet<Ino> = names.iter().map(|(parent, _)| *parent).collect();
            if !self.by_number {
                names
                    .into_iter()
                    .for_each(|(parent, name)| Notice::Name(parent, name[..].into()).tell(fs, kernel));
            }
            dirs.into_iter().for_each(|dir| Notice::Inode(dir).tell(fs, kernel));
        }
    }
}

/// The message: its length, its number where replies have an error's, no request; then how many inodes, room that is
/// not used, and their numbers.
fn notification(inodes: &[Ino]) -> Vec<u8> {
    let len = HEAD + size_of_val(inodes);
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(NOTIFY_PRUNE.to_ne_bytes());
    message.extend(0u64.to_ne_bytes());
    message.extend((inodes.len() as u32).to_ne_bytes());
    message.resize(HEAD, 0);
    inodes.iter().for_each(|ino| message.extend(ino.to_ne_bytes()));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_says_how_long_it_is_and_of_how_many_inodes() {
        let message = notification(&[7, 1 << 40]);
        let number = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!(message.len(), 48);
        assert_eq!((number(0), number(4), number(16)), (48, 9, 2));
        assert!(message[8..16].iter().chain(&message[20..32]).all(|byte| *byte == 0));
        assert_eq!(message[32..40], 7u64.to_ne_bytes());
        assert_eq!(message[40..48], (1u64 << 40).to_ne_bytes());
    }
}
