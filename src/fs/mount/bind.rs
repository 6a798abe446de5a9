//! Showing a mount, or a directory in it, at a second place: a bind mount, for which root's rights are needed.
//!
//! What is bound is held before it is looked at, so that it is what was meant, whoever unmounts it meanwhile.

use super::table::DeviceNumber;
use super::{MountError, MountOptions, Result, Unmount, unmount_path};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree};
use std::path::Path;

/// The flags that a place has of its own.
const OF_A_PLACE: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME)
    .union(MountFlags::NODIRATIME)
    .union(MountFlags::RELATIME);

/// Binds `from`, which is on the file system `device`, on `dir`. False if something else is at `from` by now.
pub fn bind(from: &Path, device: DeviceNumber, dir: &Path, options: &MountOptions) -> Result<bool> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = match open_tree(CWD, from, flags) {
        Ok(tree) => tree,
        Err(Errno::NOENT | Errno::NOTCONN | Errno::STALE) => return Ok(false),
        Err(Errno::PERM) => {
            return Err(MountError::OnlyRootBinds { dir: dir.to_path_buf(), mounted: from.to_path_buf() });
        }
        Err(error) => return Err(MountError::system("bind", from, error)),
    };
    let look = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(&tree, "", look, StatxFlags::empty());
    let found = found.map_err(|error| MountError::system("look at", from, error))?;
    if (found.stx_dev_major, found.stx_dev_minor) != device {
        return Ok(false);
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, dir, flags).map_err(|error| MountError::system("mount on", dir, error))?;
    let flags = MountFlags::BIND | (options.flags & OF_A_PLACE);
    if let Err(error) = mount_remount(dir, flags, c"") {
        // The first error is the one that tells more.
        let _ = unmount_path(dir, Unmount::Lazy);
        return Err(MountError::system("set the options of", dir, error));
    }
    Ok(true)
}
