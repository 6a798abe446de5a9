//! The kernel's words and ours: kinds, times, attributes, flags.

use crate::fs::allocate::{Allocate, Seek};
use crate::fs::attr::{Attr, Caller, FileKind, Ino, MODE_BITS, SetTime, Timestamp};
use crate::fs::filesystem::BLOCK_SIZE;
use crate::fs::rename::RenameMode;
use crate::fs::xattr::XattrMode;
use fuser::{FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who made a request.
pub(super) fn caller(request: &Request) -> Caller {
    Caller::new(request.uid(), request.gid())
}

/// Who asks for something to be made.
pub(super) fn maker(request: &Request, umask: u32) -> Caller {
    caller(request).with_umask(umask)
}

/// A kind in the kernel's words.
pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind that `mknod` asks for.
pub(super) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    Some(match mode & libc::S_IFMT {
        0 | libc::S_IFREG => FileKind::File,
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::CharDevice,
        libc::S_IFBLK => FileKind::BlockDevice,
        _ => return None,
    })
}

/// A time in the kernel's words; what these cannot say is 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { UNIX_EPOCH.checked_sub(secs) } else { UNIX_EPOCH.checked_add(secs) };
    whole.and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// A time of a request. fuser takes the nanoseconds of a time before 1970 as going further back: here they
/// are put right.
pub(super) fn requested_time(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => Timestamp::from(time),
        Err(before) => {
            let misread = before.duration();
            Timestamp { secs: (misread.as_secs() as i64).wrapping_neg(), nanos: misread.subsec_nanos() }
        }
    }
}

/// A new value for a time.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(requested_time(time)),
    }
}

/// Attributes in the kernel's words.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.mode & MODE_BITS) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// Attributes that the kernel does not take from a listing, for there is no such size: it shows the name, and gives
/// the reference back at once (FORGET). Who wants to know more of the file has it looked up.
pub(super) fn refused(attr: Attr) -> Attr {
    Attr { size: u64::MAX, ..attr }
}

/// Attributes that say no more than an inode number and a kind: with number 0 an absent name, else `.`
/// or `..`, whose attributes the kernel does not take from a listing.
pub(super) fn nothing(ino: Ino, kind: FileKind) -> Attr {
    let zero = Timestamp::default();
    Attr {
        ino,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        size: 0,
        blocks: 0,
        rdev: 0,
        atime: zero,
        mtime: zero,
        ctime: zero,
    }
}

/// What a rename does where the new name is taken; `None` for flags that are not known.
pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    match flags {
        _ if flags.is_empty() => Some(RenameMode::Replace),
        RenameFlags::RENAME_NOREPLACE => Some(RenameMode::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Some(RenameMode::Exchange),
        _ => None,
    }
}

/// What `fallocate` is to do, and whether the size stays; `None` for what is not offered.
pub(super) fn allocation(mode: i32) -> Option<(Allocate, bool)> {
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    let what = match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Allocate::Reserve,
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => Allocate::PunchHole,
        libc::FALLOC_FL_ZERO_RANGE => Allocate::Zero,
        _ => return None,
    };
    Some((what, keep_size))
}

/// What to look for. The kernel asks for nothing else.
pub(super) fn seek(whence: i32) -> Option<Seek> {
    match whence {
        libc::SEEK_DATA => Some(Seek::Data),
        libc::SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

/// Whether an attribute must be there to be set; `None` for flags that are not known.
pub(super) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuser makes of the seconds and nanoseconds of a request.
    fn as_fuser_reads(secs: i64, nanos: u32) -> SystemTime {
        match u64::try_from(secs) {
            Ok(secs) => UNIX_EPOCH + Duration::new(secs, nanos),
            Err(_) => UNIX_EPOCH - Duration::new(secs.unsigned_abs(), nanos),
        }
    }

    #[test]
    fn requested_times_are_read_right() {
        let times = [(0, 0), (5, 7), (-1, 500_000_000), (-1, 0), (-100, 1), (1 << 34, 999_999_999)];
        for (secs, nanos) in times {
            let time = Timestamp { secs, nanos };
            assert_eq!(requested_time(as_fuser_reads(secs, nanos)), time);
            assert_eq!(Timestamp::from(system_time(time)), time);
        }
    }

    #[test]
    fn the_ends_of_time_are_not_a_panic() {
        for secs in [i64::MIN, i64::MIN + 1, i64::MAX] {
            let time = Timestamp { secs, nanos: 0 };
            assert_eq!(Timestamp::from(system_time(time)).secs, secs);
        }
    }

    #[test]
    fn allocations_that_are_not_offered_are_refused() {
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        assert_eq!(allocation(0), Some((Allocate::Reserve, false)));
        assert_eq!(allocation(keep), Some((Allocate::Reserve, true)));
        assert_eq!(allocation(libc::FALLOC_FL_PUNCH_HOLE | keep), Some((Allocate::PunchHole, true)));
        assert_eq!(allocation(libc::FALLOC_FL_ZERO_RANGE), Some((Allocate::Zero, false)));
        for mode in [
            libc::FALLOC_FL_PUNCH_HOLE,
            libc::FALLOC_FL_COLLAPSE_RANGE,
            libc::FALLOC_FL_INSERT_RANGE,
            libc::FALLOC_FL_UNSHARE_RANGE,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE | keep,
            1 << 20,
        ] {
            assert_eq!(allocation(mode), None, "{mode:#x}");
        }
    }

    #[test]
    fn unknown_rename_flags_are_refused() {
        assert_eq!(rename_mode(RenameFlags::empty()), Some(RenameMode::Replace));
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE), Some(RenameMode::Exchange));
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_NOREPLACE), None);
    }
}
