//! What a file is to those who ask: its kind, its attributes, and a request to change them.

use crate::fs::entry::Record;
use std::time::{SystemTime, UNIX_EPOCH};

/// An inode number. 40 bits are used, so that a mount can put a view's number above them.
pub type Ino = u64;

/// The root directory's inode number.
pub const ROOT: Ino = 1;

/// Files' inode numbers are below this; those from here to 2^40 are `control.rs`'s.
pub const INO_LIMIT: Ino = (1 << 40) - (1 << 24);

/// The longest name, in bytes.
pub const NAME_MAX: usize = 255;

/// The longest target of a symbolic link, in bytes (Linux's `PATH_MAX` without the final zero).
pub const SYMLINK_MAX: usize = 4095;

/// The mode's bits that are kept: permissions, setuid, setgid and sticky.
pub const MODE_BITS: u32 = 0o7777;

/// The setuid bit.
pub const SETUID: u32 = 0o4000;

/// The setgid bit.
pub const SETGID: u32 = 0o2000;

/// The length that is shown of a directory: it says nothing, but programs expect one.
const DIRECTORY_SIZE: u64 = 4096;

/// Execution by the group.
const GROUP_EXEC: u32 = 0o0010;

/// What a file is. The numbers are part of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileKind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A socket.
    Socket = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl FileKind {
    /// The kind of a number, if there is one.
    pub fn from_u8(n: u8) -> Option<FileKind> {
        Some(match n {
            1 => FileKind::File,
            2 => FileKind::Directory,
            3 => FileKind::Symlink,
            4 => FileKind::Fifo,
            5 => FileKind::Socket,
            6 => FileKind::CharDevice,
            7 => FileKind::BlockDevice,
            _ => return None,
        })
    }
}

/// A point in time: seconds since 1970 (negative before it) and the nanoseconds that follow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The present.
    pub fn now() -> Timestamp {
        Timestamp::from(SystemTime::now())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Timestamp { secs: 0i64.saturating_add_unsigned(after.as_secs()), nanos: after.subsec_nanos() }
            }
            Err(before) => {
                let before = before.duration();
                let secs = 0i64.saturating_sub_unsigned(before.as_secs());
                match before.subsec_nanos() {
                    0 => Timestamp { secs, nanos: 0 },
                    n => Timestamp { secs: secs.saturating_sub(1), nanos: 1_000_000_000 - n },
                }
            }
        }
    }
}

/// A file's attributes, as `stat` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub ino: Ino,
    /// What the file is.
    pub kind: FileKind,
    /// Permissions, setuid, setgid and sticky: [`MODE_BITS`].
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Names of a file; 2 and the number of subdirectories of a directory; 0 once removed.
    pub nlink: u32,
    /// The length of the contents, in bytes.
    pub size: u64,
    /// What the contents take, in units of 512 bytes; holes take nothing.
    pub blocks: u64,
    /// The device's number, of device files.
    pub rdev: u32,
    /// The last access. It moves only when it is set.
    pub atime: Timestamp,
    /// The last change of the contents.
    pub mtime: Timestamp,
    /// The last change of the contents or the attributes.
    pub ctime: Timestamp,
}

impl From<&Record> for Attr {
    fn from(r: &Record) -> Attr {
        Attr {
            ino: r.ino,
            kind: r.kind,
            mode: r.mode,
            uid: r.uid,
            gid: r.gid,
            nlink: r.nlink,
            size: if r.kind == FileKind::Directory { DIRECTORY_SIZE } else { r.size },
            blocks: r.blocks(),
            rdev: r.rdev,
            atime: r.atime,
            mtime: r.mtime,
            ctime: r.ctime,
        }
    }
}

/// A new value for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The present.
    Now,
    /// This time.
    At(Timestamp),
}

impl SetTime {
    /// The time meant, `now` being the present.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            SetTime::Now => now,
            SetTime::At(time) => time,
        }
    }
}

/// Attributes to change; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permissions, setuid, setgid and sticky; other bits are ignored.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The length of a regular file: cuts it, or extends it with a hole.
    pub size: Option<u64>,
    /// The last access.
    pub atime: Option<SetTime>,
    /// The last change of the contents.
    pub mtime: Option<SetTime>,
    /// The last change of the attributes; without it every change sets the present.
    pub ctime: Option<Timestamp>,
}

/// On whose behalf something is done. Permissions are checked by the kernel, not here: the caller owns
/// what is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permissions that what is made does not get, unless its directory has a default access control list.
    pub umask: u32,
}

impl Caller {
    /// A user and a group, without a umask.
    pub fn new(uid: u32, gid: u32) -> Caller {
        Caller { uid, gid, umask: 0 }
    }

    /// The caller, with a umask.
    pub(super) fn with_umask(self, umask: u32) -> Caller {
        Caller { umask: umask & 0o777, ..self }
    }

    /// May the caller change a file and leave its setuid and setgid bits (`CAP_FSETID`)? The kernel does
    /// not say in a change of size, so that root stands for it.
    pub(super) fn keeps_setid(&self) -> bool {
        self.uid == 0
    }
}

/// A mode without setuid, and without setgid where the group may execute: without that, setgid on a
/// file asks for mandatory locking and grants nothing.
pub(super) fn without_setid(mode: u32) -> u32 {
    let setgid = if mode & GROUP_EXEC != 0 { SETGID } else { 0 };
    mode & !(SETUID | setgid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_before_1970_round_seconds_down() {
        let cases = [
            (UNIX_EPOCH, (0, 0)),
            (UNIX_EPOCH + Duration::new(1, 5), (1, 5)),
            (UNIX_EPOCH - Duration::new(1, 0), (-1, 0)),
            (UNIX_EPOCH - Duration::new(0, 1), (-1, 999_999_999)),
            (UNIX_EPOCH - Duration::new(1, 200_000_000), (-2, 800_000_000)),
            (UNIX_EPOCH + Duration::new(1 << 33, 7), (1 << 33, 7)),
        ];
        for (time, (secs, nanos)) in cases {
            assert_eq!(Timestamp::from(time), Timestamp { secs, nanos });
        }
    }

    #[test]
    fn setgid_without_group_execution_is_kept() {
        assert_eq!(without_setid(0o6755), 0o755);
        assert_eq!(without_setid(0o6745), 0o2745);
        assert_eq!(without_setid(0o1777), 0o1777);
    }

    #[test]
    fn kinds_read_back_from_their_numbers() {
        for n in 0..=u8::MAX {
            assert!(FileKind::from_u8(n).is_none_or(|kind| kind as u8 == n));
        }
    }
}
