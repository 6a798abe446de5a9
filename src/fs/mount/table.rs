//! The kernel's mount table, `/proc/self/mountinfo`.
//!
//! A line reads `id parent major:minor root mount-point options [tags…] - type source options`;
//! in paths and sources, space, tab, newline and backslash are written as `\` and three octal
//! digits.
//!
//! Which mount a path leads to is asked of the kernel (`statx` gives the mount's id), not guessed
//! from the order of lines: mounts can lie over each other, and over each other's parents. The
//! question sends nothing to the file system, so it is answered for dead and hanging mounts too.

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The file system type that the table shows for our mounts.
pub const FS_TYPE: &str = "fuse.lsmfs";

/// The device number of a mounted file system: unique while that file system lives.
pub type DeviceNumber = (u32, u32);

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The mount's id: unique while the mount lives.
    pub id: u64,
    /// The file system's device number: bind mounts of one file system share it.
    pub device: DeviceNumber,
    /// What of the file system it shows: `/`, or a directory in it that was bound.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The file system's type.
    pub fs_type: String,
    /// What is mounted: for our mounts, the store.
    pub source: PathBuf,
}

impl Entry {
    /// Is it a mount of lsmfs?
    pub fn is_lsmfs(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Where `path`, from the file system's own root, is found by way of this mount; `None` if it does not show it.
    pub fn find(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root).ok()?;
        // Joined with nothing, a path would end in a slash.
        Some(self.mount_point.join(below).components().collect())
    }

    /// Does its mount point lead to it? Not where another mount hides it.
    pub fn is_reached(&self) -> bool {
        at(&self.mount_point).is_ok_and(|found| found.is_some_and(|found| found.id == self.id))
    }
}

/// All mounts that this process sees.
pub fn read() -> io::Result<Vec<Entry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(parse(&table))
}

/// The mount whose root is `path` (which has no symlinks in it): the topmost, where several lie
/// over each other.
pub fn at(path: &Path) -> io::Result<Option<Entry>> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(CWD, path, flags, StatxFlags::empty())?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "needs Linux 5.8 or later"));
    }
    let mut table = read()?;
    table.retain(|entry| entry.id == found.stx_mnt_id && entry.mount_point == path);
    Ok(table.pop())
}

/// Lines that do not parse are left out: the kernel may add forms that are of no use here.
pub(in crate::fs) fn parse(table: &[u8]) -> Vec<Entry> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let mut device = fields.next()?.splitn(2, |&byte| byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    fields.find(|&field| field == b"-")?;
    let fs_type = String::from_utf8(unescape(fields.next()?)).ok()?;
    let source = unescape(fields.next()?);
    let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
    let (root, mount_point, source) = (path(root), path(mount_point), path(source));
    Some(Entry { id, device, root, mount_point, fs_type, source })
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| first == b'\\').and_then(octal);
        plain.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0u8, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 8)?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line =
            br"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let entry = parse_line(line).unwrap();
        assert_eq!((entry.id, entry.device), (36, (98, 0)));
        assert_eq!((&*entry.root, &*entry.mount_point), (Path::new("/mnt1"), Path::new("/mnt2")));
        assert_eq!(entry.fs_type, "ext3");
        assert_eq!(entry.source, Path::new("/dev/root"));
        assert!(!entry.is_lsmfs());
    }

    #[test]
    fn a_path_is_found_where_a_mount_shows_it() {
        let find = |root: &str, path: &str| {
            let line = format!(r"1 0 0:50 {root} /mnt rw - fuse.lsmfs /store rw");
            parse_line(line.as_bytes()).unwrap().find(Path::new(path)).map(PathBuf::into_os_string)
        };
        assert_eq!(find("/", "/"), Some("/mnt".into()));
        assert_eq!(find("/", "/a b"), Some("/mnt/a b".into()));
        assert_eq!(find(r"/a\040b", "/a b"), Some("/mnt".into()));
        assert_eq!(find("/a", "/"), None);
        assert_eq!(find("/a", "/ab"), None);
        assert_eq!(find("/a/b", "/a"), None);
        assert_eq!(find("/a//deleted", "/a"), None);
        assert_eq!(find("/a//deleted", "/deleted"), None);
    }

    #[test]
    fn escapes_are_undone() {
        let line =
            br"1 0 0:50 / /with\040space\011tab\134back\012line rw - fuse.lsmfs /a\040store rw,user_id=0";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.mount_point, Path::new("/with space\ttab\\back\nline"));
        assert_eq!(entry.source, Path::new("/a store"));
        assert!(entry.is_lsmfs());
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(unescape(br"\9\04"), br"\9\04");
        assert_eq!(unescape(br"\777"), br"\777");
        assert_eq!(unescape(b"\\"), b"\\");
    }

    #[test]
    fn broken_lines_are_left_out() {
        assert_eq!(parse(b"\n1 2\n36 35 98 / / rw - a b\n36 35 9:8 / / rw x\n-\n"), []);
    }

    #[test]
    fn the_root_is_a_mount_and_a_fresh_directory_is_none() {
        let root = at(Path::new("/")).unwrap().expect("something is mounted on /");
        assert_eq!(root.mount_point, Path::new("/"));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(at(&dir.path().canonicalize().unwrap()).unwrap(), None);
    }
}
