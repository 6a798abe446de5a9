//! Packing: a directory of the system's as a tar archive, for `import`.
//!
//! Nothing is followed but directories: symbolic links are packed as what they are. What cannot be read fails the
//! whole, for an import is all or nothing. A file that grows meanwhile is packed up to the length that it had,
//! one that shrinks is filled up with zeros.
//!
//! # Bounds
//! An open directory for each level, [`NAMES_AT_ONCE`] names of each, a piece of contents, the extents of one sparse
//! file, and a path for each file with several names whose last name has not come yet.

use crate::fs::Timestamp;
use crate::fs::archive::{Member, MemberKind, Writer};
use crate::fs::xattr::is_kept;
use rustix::buffer::{SpareCapacity, spare_capacity};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, fgetxattr, flistxattr, fstat, lgetxattr,
    llistxattr, major, minor, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names of a directory that are taken at once, and then in the order in which their files are on the disk.
const NAMES_AT_ONCE: usize = 4096;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// The most parts of a sparse file; one in more is read as a whole.
const EXTENTS_MAX: usize = 1 << 20;

/// What a packing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    /// Members.
    pub members: u64,
    /// Sockets, which were left out.
    pub sockets: u64,
}

/// Why a directory could not be packed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct PackError {
    /// On what.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

type Result<T> = std::result::Result<T, PackError>;

/// Writes an archive of what is in a directory. Names in it are below `./`, which stands for the directory.
pub fn pack(dir: &Path, out: impl Write) -> Result<Packed> {
    let mut pack = Pack {
        out: Writer::new(out),
        root: dir,
        links: HashMap::new(),
        piece: vec![0; PIECE],
        attributes: Attributes::default(),
        done: Packed::default(),
    };
    let fd = openat(CWD, dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let fd = fd.map_err(|e| pack.failed(b"", e))?;
    let stat = fstat(&fd).map_err(|e| pack.failed(b"", e))?;
    pack.directory(b"./", &fd, &stat)?;
    pack.tree(fd)?;
    let Pack { out, done, .. } = pack;
    out.finish().map_err(|source| PackError { path: dir.to_path_buf(), source })?;
    Ok(done)
}

/// A directory that is being read.
struct Level {
    /// Its path in the archive, with a slash at its end.
    path: Vec<u8>,
    fd: OwnedFd,
    dir: Dir,
    /// The names taken from it, the next one last.
    names: Vec<(u64, Vec<u8>)>,
}

struct Pack<'a, W: Write> {
    out: Writer<W>,
    root: &'a Path,
    /// Files with names that have not come yet, by device and inode: the path of the first, and how many are left.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    piece: Vec<u8>,
    attributes: Attributes,
    done: Packed,
}

impl<W: Write> Pack<'_, W> {
    fn failed(&self, path: &[u8], source: impl Into<io::Error>) -> PackError {
        let below = path.strip_prefix(b"./").unwrap_or(path);
        PackError { path: self.root.join(std::ffi::OsStr::from_bytes(below)), source: source.into() }
    }

    fn tree(&mut self, root: OwnedFd) -> Result<()> {
        let mut levels = vec![self.level(b"./".to_vec(), root)?];
        while let Some(level) = levels.last_mut() {
            let Some((_, name)) = level.names.pop() else {
                if !self.take_names(level)? {
                    levels.pop();
                }
                continue;
            };
            let path = [&level.path[..], &name].concat();
            let stat =
                statat(&level.fd, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.failed(&path, e))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd =
                    openat(&level.fd, &*name, flags, Mode::empty()).map_err(|e| self.failed(&path, e))?;
                let path = [&path[..], b"/"].concat();
                self.directory(&path, &fd, &stat)?;
                levels.push(self.level(path, fd)?);
            } else {
                let fd = &level.fd;
                self.file(&path, fd.as_fd(), &name, &stat)?;
            }
        }
        Ok(())
    }

    fn level(&self, path: Vec<u8>, fd: OwnedFd) -> Result<Level> {
        let dir = Dir::read_from(&fd).map_err(|e| self.failed(&path, e))?;
        Ok(Level { path, fd, dir, names: Vec::new() })
    }

    /// Takes the next names of a directory; false if there are none.
    fn take_names(&self, level: &mut Level) -> Result<bool> {
        while level.names.len() < NAMES_AT_ONCE {
            let Some(entry) = level.dir.read() else { break };
            let entry = entry.map_err(|e| self.failed(&level.path, e))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                level.names.push((entry.ino(), name.to_vec()));
            }
        }
        level.names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(!level.names.is_empty())
    }

    fn directory(&mut self, path: &[u8], fd: &OwnedFd, stat: &Stat) -> Result<()> {
        let mut member = member(path, MemberKind::Directory, stat);
        member.xattrs = self.attributes.of_open(fd).map_err(|e| self.failed(path, e))?;
        self.write(&member)
    }

    fn write(&mut self, member: &Member) -> Result<()> {
        self.done.members += 1;
        self.out.member(member).map_err(|e| self.failed(&member.path, e))
    }

    fn file(&mut self, path: &[u8], dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<()> {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Socket {
            self.done.sockets += 1;
            return Ok(());
        }
        if let Some(first) = self.other_name(path, stat) {
            return self.write(&member(path, MemberKind::HardLink(first), stat));
        }
        let kind = match file_type {
            FileType::Symlink => {
                let target = readlinkat(dir, name, Vec::new()).map_err(|e| self.failed(path, e))?;
                MemberKind::Symlink(target.into_bytes())
            }
            FileType::Fifo => MemberKind::Fifo,
            FileType::CharacterDevice => MemberKind::CharDevice(major(stat.st_rdev), minor(stat.st_rdev)),
            FileType::BlockDevice => MemberKind::BlockDevice(major(stat.st_rdev), minor(stat.st_rdev)),
            _ => return self.regular(path, dir, name),
        };
        let mut member = member(path, kind, stat);
        member.xattrs = self.attributes.of_name(dir, name).map_err(|e| self.failed(path, e))?;
        self.write(&member)
    }

    /// The path by which a file with several names was packed already.
    fn other_name(&mut self, path: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let key = (stat.st_dev, stat.st_ino);
        let Some((first, left)) = self.links.get_mut(&key) else {
            self.links.insert(key, (path.to_vec(), stat.st_nlink - 1));
            return None;
        };
        *left -= 1;
        let (first, left) = (first.clone(), *left);
        if left == 0 {
            self.links.remove(&key);
        }
        Some(first)
    }

    fn regular(&mut self, path: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat(dir, name, flags, Mode::empty()).map_err(|e| self.failed(path, e))?;
        let stat = fstat(&fd).map_err(|e| self.failed(path, e))?;
        let mut member = member(path, MemberKind::File, &stat);
        member.size = stat.st_size as u64;
        member.xattrs = self.attributes.of_open(&fd).map_err(|e| self.failed(path, e))?;
        member.extents = extents(&fd, &stat).map_err(|e| self.failed(path, e))?;
        self.write(&member)?;
        let mut file = File::from(fd);
        let whole = [(0, member.size)];
        for &(offset, len) in member.extents.as_deref().unwrap_or(&whole) {
            self.data(&mut file, offset, len).map_err(|e| self.failed(path, e))?;
        }
        Ok(())
    }

    fn data(&mut self, file: &mut File, offset: u64, len: u64) -> io::Result<()> {
        if offset > 0 {
            io::Seek::seek(file, io::SeekFrom::Start(offset))?;
        }
        let mut left = len;
        while left > 0 {
            let most = left.min(PIECE as u64) as usize;
            let read = file.read(&mut self.piece[..most])?;
            if read == 0 {
                // It was cut meanwhile.
                self.piece[..most].fill(0);
            }
            let read = if read == 0 { most } else { read };
            self.out.data(&self.piece[..read])?;
            left -= read as u64;
        }
        Ok(())
    }
}

fn member(path: &[u8], kind: MemberKind, stat: &Stat) -> Member {
    Member {
        path: path.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
        atime: Some(Timestamp { secs: stat.st_atime, nanos: stat.st_atime_nsec as u32 }),
        xattrs: Vec::new(),
        size: 0,
        extents: None,
    }
}

/// Where a file has data, if it has holes.
fn extents(fd: &OwnedFd, stat: &Stat) -> io::Result<Option<Vec<(u64, u64)>>> {
    let size = stat.st_size as u64;
    if stat.st_blocks as u64 * 512 >= size {
        return Ok(None);
    }
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(fd, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // The file system cannot tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return rewound(fd, None),
            Err(e) => return Err(e.into()),
        };
        let end = seek(fd, SeekFrom::Hole(start))?.min(size);
        if start >= end || extents.len() == EXTENTS_MAX {
            break;
        }
        extents.push((start, end - start));
        at = end;
    }
    match extents.len() {
        EXTENTS_MAX => rewound(fd, None),
        _ => rewound(fd, Some(extents)),
    }
}

fn rewound<T>(fd: &OwnedFd, found: T) -> io::Result<T> {
    seek(fd, SeekFrom::Start(0))?;
    Ok(found)
}

/// Reads the extended attributes that an import takes.
#[derive(Debug, Default)]
struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

/// The longest list of names, and the longest value (Linux's limits).
const ATTRIBUTE_MAX: usize = 64 << 10;

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

impl Attributes {
    /// Of an open file.
    fn of_open(&mut self, fd: &OwnedFd) -> io::Result<Xattrs> {
        self.read(|names| flistxattr(fd, names), |name, value| fgetxattr(fd, name, value))
    }

    /// Of what has a name in an open directory, whatever it is.
    fn of_name(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Xattrs> {
        let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        let path = path.as_slice();
        self.read(|names| llistxattr(path, names), |name, value| lgetxattr(path, name, value))
    }

    fn read(
        &mut self,
        list: impl Fn(SpareCapacity<'_, u8>) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], SpareCapacity<'_, u8>) -> rustix::io::Result<usize>,
    ) -> io::Result<Xattrs> {
        self.names.clear();
        self.names.reserve(ATTRIBUTE_MAX);
        match list(spare_capacity(&mut self.names)) {
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            listed => listed?,
        };
        let mut found = Vec::new();
        for name in self.names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
            self.value.clear();
            self.value.reserve(ATTRIBUTE_MAX);
            match get(name, spare_capacity(&mut self.value)) {
                // Gone meanwhile.
                Err(Errno::NODATA) => continue,
                read => read?,
            };
            found.push((name.to_vec(), self.value.clone()));
        }
        Ok(found)
    }
}
