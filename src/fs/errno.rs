//! The one place where an error becomes the number that a system call returns.

use crate::fs::error::{Cause, Error};
use crate::lsm;

/// The number for an error.
pub fn errno(error: &Error) -> i32 {
    match &error.cause {
        Cause::NotFound => libc::ENOENT,
        Cause::Exists | Cause::NameTaken(_) => libc::EEXIST,
        Cause::NotDirectory => libc::ENOTDIR,
        Cause::IsDirectory => libc::EISDIR,
        Cause::NotEmpty => libc::ENOTEMPTY,
        Cause::Invalid(_) | Cause::Archive(_) => libc::EINVAL,
        Cause::Output(e) => e.raw_os_error().unwrap_or(libc::EIO),
        Cause::NotPermitted(_) => libc::EPERM,
        Cause::NotAllowed => libc::EACCES,
        Cause::NotSupported => libc::EOPNOTSUPP,
        Cause::NoAttribute => libc::ENODATA,
        Cause::TooLong | Cause::TooMany { .. } => libc::E2BIG,
        Cause::Unexpected { .. } => libc::ECANCELED,
        Cause::NoRoom | Cause::DiskFull => libc::ENOSPC,
        Cause::PastEnd => libc::ENXIO,
        Cause::NameTooLong => libc::ENAMETOOLONG,
        Cause::FileTooLarge => libc::EFBIG,
        Cause::TooManyLinks => libc::EMLINK,
        Cause::ReadOnly => libc::EROFS,
        Cause::NoInodes => libc::ENOSPC,
        Cause::OtherVolume => libc::EXDEV,
        Cause::Mounted(_) => libc::EBUSY,
        Cause::Stale => libc::ESTALE,
        Cause::BadRecord { .. } => libc::EIO,
        Cause::System { errno, .. } => errno.raw_os_error(),
        Cause::Engine(e) => engine_errno(e),
    }
}

/// The number for an engine's error.
fn engine_errno(error: &lsm::Error) -> i32 {
    match error {
        lsm::Error::Disk(e) => match e.source.raw_os_error() {
            Some(n @ (libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::ENOMEM)) => n,
            _ => libc::EIO,
        },
        lsm::Error::OverQuota { .. } => libc::EDQUOT,
        lsm::Error::IsSnapshot(_) => libc::EROFS,
        lsm::Error::ReadOnly(_) => libc::EROFS,
        // It was deleted while somebody worked in it.
        lsm::Error::NoVolume(_) => libc::ESTALE,
        lsm::Error::VolumeExists(_) => libc::EEXIST,
        lsm::Error::BadVolumeName(_) => libc::EINVAL,
        _ => libc::EIO,
    }
}

/// The number for an error; one that a user could not make sense of is logged with its cause.
pub fn errno_logged(error: &Error) -> i32 {
    let number = errno(error);
    if number == libc::EIO {
        tracing::error!("{error}");
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskError;
    use crate::fs::error::Subject;
    use std::io;
    use std::sync::Arc;

    fn number(cause: impl Into<Cause>) -> i32 {
        errno(&cause.into().of("test", Subject::FileSystem))
    }

    fn disk(errno: i32) -> lsm::Error {
        DiskError::new("write", "f", io::Error::from_raw_os_error(errno)).into()
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        assert_eq!(number(disk(libc::ENOSPC)), libc::ENOSPC);
        assert_eq!(number(disk(libc::EDQUOT)), libc::EDQUOT);
        assert_eq!(number(disk(libc::EIO)), libc::EIO);
        assert_eq!(number(disk(libc::EBADF)), libc::EIO);
    }

    #[test]
    fn what_the_engine_says_is_mapped() {
        assert_eq!(number(lsm::Error::ReadOnly(Arc::new(disk(libc::EIO)))), libc::EROFS);
        assert_eq!(number(lsm::Error::corruption("t", 0, "bad")), libc::EIO);
        assert_eq!(number(lsm::Error::Closed), libc::EIO);
        let over = lsm::Error::OverQuota { volume: "v".into(), what: "bytes", limit: 1 };
        assert_eq!(number(over), libc::EDQUOT);
        assert_eq!(number(Cause::bad_record(b"k", "bad")), libc::EIO);
    }
}
