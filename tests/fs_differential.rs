//! The same random operations on a mount and on a directory of the file system below it, which must answer
//! alike: values, errors, and in the end all that can be seen of the trees.
//!
//! What may differ is left out of the answers: sizes and blocks of directories, where holes are, times that
//! nobody set. As root, operations are done as root or as another user.

mod common;

use common::Mount;
use proptest::prelude::*;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The user that is not root.
const STRANGER: u32 = 54321;

/// Files that are open at once.
const OPEN_MAX: usize = 4;

/// The largest offset and size.
const FAR: u64 = 200_000;

/// A time that nobody gets by the clock is before this: 2020.
const LONG_AGO: i64 = 1_577_836_800;

#[derive(Debug, Clone)]
enum Op {
    Open { path: PathBuf, flags: OFlags, mode: u32 },
    Close { file: usize },
    Write { file: usize, len: usize, byte: u8 },
    WriteAt { file: usize, offset: u64, len: usize, byte: u8 },
    ReadAt { file: usize, offset: u64, len: usize },
    Resize { file: usize, size: u64 },
    Allocate { file: usize, offset: u64, len: u64, mode: FallocateFlags },
    Seek { file: usize, offset: u64, data: bool },
    Copy { from: (usize, u64), to: (usize, u64), len: usize },
    StatOpen { file: usize },
    Mkdir { path: PathBuf, mode: u32 },
    Mknod { path: PathBuf, kind: FileType, mode: u32 },
    Symlink { target: PathBuf, path: PathBuf },
    Link { from: PathBuf, to: PathBuf, follow: bool },
    Unlink { path: PathBuf },
    Rmdir { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, flags: RenameFlags },
    Chmod { path: PathBuf, mode: u32 },
    Chown { path: PathBuf, uid: Option<u32>, gid: Option<u32>, follow: bool },
    SetTimes { path: PathBuf, times: [(i64, i64); 2], follow: bool },
    Truncate { path: PathBuf, size: u64 },
    SetXattr { path: PathBuf, name: &'static str, len: usize, flags: XattrFlags },
    GetXattr { path: PathBuf, name: &'static str },
    ListXattrs { path: PathBuf },
    RemoveXattr { path: PathBuf, name: &'static str },
    Access { path: PathBuf, mode: u32 },
    List { path: PathBuf },
    ReadLink { path: PathBuf },
    Stat { path: PathBuf, follow: bool },
}

/// What an operation said: words for its value.
type Answer = Result<String, Errno>;

/// Paths of few names, so that they meet. None has `..`: nothing leaves the directory.
fn paths() -> impl Strategy<Value = PathBuf> {
    let name = prop_oneof![
        30 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_string),
        1 => Just(".".to_string()),
        1 => Just("n".repeat(255)),
        1 => Just("n".repeat(256)),
    ];
    let joined = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    (joined, prop::bool::weighted(0.05))
        .prop_map(|(path, slash)| PathBuf::from(if slash { path + "/" } else { path }))
}

fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 4000..4200u64, 65_400..65_700u64, 0..FAR]
}

fn lens() -> impl Strategy<Value = usize> {
    prop_oneof![0..100usize, 4000..4200usize, 0..FAR as usize / 2]
}

/// Modes. Setgid comes with execution by the group: without it, it grants nothing, and whether a write takes
/// it away depends on the writer's other groups, which FUSE does not tell.
fn modes() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0o755u32), 2 => Just(0o1777u32), 1 => Just(0o6755u32), 2 => 0..0o10000u32]
        .prop_map(|mode| if mode & 0o2000 != 0 { mode | 0o010 } else { mode })
}

fn open_flags() -> impl Strategy<Value = OFlags> {
    let access = prop_oneof![1 => Just(OFlags::RDONLY), 2 => Just(OFlags::WRONLY), 6 => Just(OFlags::RDWR)];
    let more = [
        (OFlags::CREATE, 0.7),
        (OFlags::EXCL, 0.1),
        (OFlags::TRUNC, 0.2),
        (OFlags::APPEND, 0.2),
        (OFlags::NOFOLLOW, 0.1),
        (OFlags::DIRECTORY, 0.05),
        (OFlags::DSYNC, 0.03),
    ];
    let more = more.map(|(flag, often)| {
        prop::bool::weighted(often).prop_map(move |on| if on { flag } else { OFlags::empty() })
    });
    // A fifo must not wait for its other end.
    (access, more).prop_map(|(access, more)| {
        more.into_iter().fold(access | OFlags::NONBLOCK | OFlags::CLOEXEC, |all, flag| all | flag)
    })
}

fn times() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![
        1 => Just((0, UTIME_NOW)),
        1 => Just((0, UTIME_OMIT)),
        // Before 1901 and after 2446 the file system below may not keep a time.
        4 => (-2_000_000_000..LONG_AGO, 0..1_000_000_000i64),
        1 => Just((-1, 500_000_000)),
        1 => (1i64 << 31..1 << 33, 0..1_000_000_000i64),
        // No time at all.
        1 => Just((5, 1_000_000_000)),
    ]
}

fn xattr_names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["user.a", "user.b", "trusted.t", "nowhere.x", "user."])
}

fn owners() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(prop::sample::select(vec![0, STRANGER, 7]))
}

fn file_ops() -> impl Strategy<Value = Op> {
    let file = || 0..OPEN_MAX;
    let allocations = prop::sample::select(vec![
        FallocateFlags::empty(),
        FallocateFlags::KEEP_SIZE,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::PUNCH_HOLE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
    ]);
    prop_oneof![
        12 => (paths(), open_flags(), modes())
            .prop_map(|(path, flags, mode)| Op::Open { path, flags, mode }),
        2 => file().prop_map(|file| Op::Close { file }),
        4 => (file(), lens(), 0..4u8).prop_map(|(file, len, byte)| Op::Write { file, len, byte }),
        5 => (file(), offsets(), lens(), 0..4u8)
            .prop_map(|(file, offset, len, byte)| Op::WriteAt { file, offset, len, byte }),
        4 => (file(), offsets(), lens()).prop_map(|(file, offset, len)| Op::ReadAt { file, offset, len }),
        3 => (file(), offsets()).prop_map(|(file, size)| Op::Resize { file, size }),
        5 => (file(), offsets(), lens(), allocations)
            .prop_map(|(file, offset, len, mode)| Op::Allocate { file, offset, len: len as u64, mode }),
        3 => (file(), offsets(), any::<bool>())
            .prop_map(|(file, offset, data)| Op::Seek { file, offset, data }),
        3 => ((file(), offsets()), (file(), offsets()), lens())
            .prop_map(|(from, to, len)| Op::Copy { from, to, len }),
        2 => file().prop_map(|file| Op::StatOpen { file }),
    ]
}

fn path_ops() -> impl Strategy<Value = Op> {
    let kinds = prop::sample::select(vec![
        FileType::Fifo,
        FileType::Socket,
        FileType::RegularFile,
        FileType::CharacterDevice,
    ]);
    let renames = prop_oneof![
        4 => Just(RenameFlags::empty()),
        1 => Just(RenameFlags::NOREPLACE),
        1 => Just(RenameFlags::EXCHANGE),
        1 => Just(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE),
    ];
    let xattr_flags =
        prop::sample::select(vec![XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE]);
    prop_oneof![
        8 => (paths(), modes()).prop_map(|(path, mode)| Op::Mkdir { path, mode }),
        2 => (paths(), kinds, modes()).prop_map(|(path, kind, mode)| Op::Mknod { path, kind, mode }),
        3 => (paths(), paths()).prop_map(|(target, path)| Op::Symlink { target, path }),
        5 => (paths(), paths(), any::<bool>())
            .prop_map(|(from, to, follow)| Op::Link { from, to, follow }),
        4 => paths().prop_map(|path| Op::Unlink { path }),
        3 => paths().prop_map(|path| Op::Rmdir { path }),
        7 => (paths(), paths(), renames).prop_map(|(from, to, flags)| Op::Rename { from, to, flags }),
        3 => (paths(), modes()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
        3 => (paths(), owners(), owners(), any::<bool>())
            .prop_map(|(path, uid, gid, follow)| Op::Chown { path, uid, gid, follow }),
        3 => (paths(), [times(), times()], any::<bool>())
            .prop_map(|(path, times, follow)| Op::SetTimes { path, times, follow }),
        2 => (paths(), offsets()).prop_map(|(path, size)| Op::Truncate { path, size }),
        3 => (paths(), xattr_names(), 0..100usize, xattr_flags)
            .prop_map(|(path, name, len, flags)| Op::SetXattr { path, name, len, flags }),
        1 => (paths(), xattr_names()).prop_map(|(path, name)| Op::GetXattr { path, name }),
        1 => paths().prop_map(|path| Op::ListXattrs { path }),
        1 => (paths(), xattr_names()).prop_map(|(path, name)| Op::RemoveXattr { path, name }),
        1 => (paths(), 0..8u32).prop_map(|(path, mode)| Op::Access { path, mode }),
        1 => paths().prop_map(|path| Op::List { path }),
        1 => paths().prop_map(|path| Op::ReadLink { path }),
        2 => (paths(), any::<bool>()).prop_map(|(path, follow)| Op::Stat { path, follow }),
    ]
}

/// An operation, and whether a stranger does it. Not a change to the same owner: it fails where it would
/// clear setuid, and FUSE does not tell it from other requests that should not fail.
fn ops() -> impl Strategy<Value = (Op, bool)> {
    let nothing = |op: &Op| matches!(op, Op::Chown { uid: None, gid: None, .. });
    (prop_oneof![4 => file_ops(), 5 => path_ops()], prop::bool::weighted(0.3))
        .prop_map(move |(op, stranger)| if nothing(&op) { (op, false) } else { (op, stranger) })
}

/// Does something as another user; only files know: this thread's own rights over processes stay.
fn as_user<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            set_fs_ids(0);
        }
    }
    let _back = (uid != 0).then(|| {
        set_fs_ids(uid);
        Back
    });
    work()
}

fn set_fs_ids(id: u32) {
    // SAFETY: they take numbers only, and change this thread alone.
    unsafe {
        libc::setfsgid(id);
        libc::setfsuid(id);
    }
}

/// One of the two trees.
struct Side {
    root: File,
    open: Vec<Option<OwnedFd>>,
}

impl Side {
    fn new(root: &Path) -> Side {
        Side { root: File::open(root).unwrap(), open: (0..OPEN_MAX).map(|_| None).collect() }
    }

    fn run(&mut self, op: &Op, uid: u32) -> Answer {
        rustix::process::fchdir(&self.root).unwrap();
        as_user(uid, || self.apply(op))
    }

    fn file(&self, file: usize) -> Result<&OwnedFd, Errno> {
        self.open[file].as_ref().ok_or(Errno::BADF)
    }

    fn apply(&mut self, op: &Op) -> Answer {
        let done = |()| String::new();
        let no_follow = |follow: bool| if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match op {
            Op::Open { path, flags, mode } => {
                let file = rustix::fs::openat(CWD, path, *flags, Mode::from_raw_mode(*mode))?;
                let said = seen_of(&file)?;
                let slot = self.open.iter().position(Option::is_none).unwrap_or(0);
                self.open[slot] = Some(file);
                Ok(said)
            }
            Op::Close { file } => Ok(format!("{}", self.open[*file].take().is_some())),
            Op::Write { file, len, byte } => {
                let file = self.file(*file)?;
                let written = rustix::io::write(file, &vec![*byte; *len])?;
                // In a fifo there is no place.
                Ok(format!("{written} {:?}", rustix::fs::tell(file)))
            }
            Op::WriteAt { file, offset, len, byte } => {
                Ok(rustix::io::pwrite(self.file(*file)?, &vec![*byte; *len], *offset)?.to_string())
            }
            Op::ReadAt { file, offset, len } => {
                let mut buffer = vec![0xee; *len];
                let read = rustix::io::pread(self.file(*file)?, &mut buffer, *offset)?;
                Ok(digest(&buffer[..read]))
            }
            Op::Resize { file, size } => rustix::fs::ftruncate(self.file(*file)?, *size).map(done),
            Op::Allocate { file, offset, len, mode } => {
                rustix::fs::fallocate(self.file(*file)?, *mode, *offset, *len).map(done)
            }
            Op::Seek { file, offset, data } => seek(self.file(*file)?, *offset, *data),
            Op::Copy { from, to, len } => {
                let (mut start, mut end) = (from.1, to.1);
                let (source, target) = (self.file(from.0)?, self.file(to.0)?);
                let copied =
                    rustix::fs::copy_file_range(source, Some(&mut start), target, Some(&mut end), *len)?;
                Ok(format!("{copied} {start} {end}"))
            }
            Op::StatOpen { file } => seen_of(self.file(*file)?),
            Op::Mkdir { path, mode } => rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(*mode)).map(done),
            Op::Mknod { path, kind, mode } => {
                rustix::fs::mknodat(CWD, path, *kind, Mode::from_raw_mode(*mode), 0x103).map(done)
            }
            Op::Symlink { target, path } => rustix::fs::symlinkat(target, CWD, path).map(done),
            Op::Link { from, to, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(CWD, from, CWD, to, flags).map(done)
            }
            Op::Unlink { path } => rustix::fs::unlinkat(CWD, path, AtFlags::empty()).map(done),
            Op::Rmdir { path } => rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR).map(done),
            Op::Rename { from, to, flags } => rustix::fs::renameat_with(CWD, from, CWD, to, *flags).map(done),
            Op::Chmod { path, mode } => {
                rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(*mode), AtFlags::empty()).map(done)
            }
            Op::Chown { path, uid, gid, follow } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                rustix::fs::chownat(CWD, path, uid, gid, no_follow(*follow)).map(done)
            }
            Op::SetTimes { path, times, follow } => {
                let [last_access, last_modification] =
                    times.map(|(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec });
                let times = Timestamps { last_access, last_modification };
                rustix::fs::utimensat(CWD, path, &times, no_follow(*follow))?;
                let stat = rustix::fs::statat(CWD, path, no_follow(*follow))?;
                Ok(format!("{:?} {:?}", set_time(stat.st_atime, stat.st_atime_nsec), mtime(&stat)))
            }
            Op::Truncate { path, size } => {
                let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
                rustix::fs::ftruncate(file, *size).map(done)
            }
            Op::SetXattr { path, name, len, flags } => {
                rustix::fs::lsetxattr(path, *name, &vec![7; *len], *flags).map(done)
            }
            Op::GetXattr { path, name } => {
                let mut value = [0; 200];
                let len = rustix::fs::lgetxattr(path, *name, &mut value[..])?;
                Ok(digest(&value[..len]))
            }
            Op::ListXattrs { path } => xattrs(path),
            Op::RemoveXattr { path, name } => rustix::fs::lremovexattr(path, *name).map(done),
            Op::Access { path, mode } => {
                let mode = rustix::fs::Access::from_bits_retain(*mode);
                rustix::fs::accessat(CWD, path, mode, AtFlags::EACCESS).map(done)
            }
            Op::List { path } => Ok(format!("{:?}", list(path)?)),
            Op::ReadLink { path } => Ok(format!("{:?}", rustix::fs::readlinkat(CWD, path, Vec::new())?)),
            Op::Stat { path, follow } => Ok(seen(&rustix::fs::statat(CWD, path, no_follow(*follow))?)),
        }
    }

    /// All that can be seen, by path.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        rustix::process::fchdir(&self.root).unwrap();
        let mut found = BTreeMap::new();
        let mut ways = vec![PathBuf::from(".")];
        while let Some(path) = ways.pop() {
            let stat = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let mut words = format!("{} {:?} {:?}", seen(&stat), mtime(&stat), xattrs(&path));
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    ways.extend(list(&path).unwrap().into_keys().map(|name| path.join(name)));
                }
                FileType::RegularFile => words += &digest(&std::fs::read(&path).unwrap()),
                FileType::Symlink => words += &format!("{:?}", std::fs::read_link(&path).unwrap()),
                _ => {}
            }
            // The directory itself was made beside the test.
            if path != Path::new(".") {
                found.insert(path, words);
            }
        }
        found
    }
}

/// What `stat` says that must be alike.
fn seen(stat: &rustix::fs::Stat) -> String {
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let size = if is_dir { 0 } else { stat.st_size };
    let (mode, nlink, uid, gid, rdev) = (stat.st_mode, stat.st_nlink, stat.st_uid, stat.st_gid, stat.st_rdev);
    format!("mode {mode:o} links {nlink} owner {uid}:{gid} size {size} device {rdev:x}")
}

fn seen_of(file: impl AsFd) -> Answer {
    Ok(seen(&rustix::fs::fstat(file)?))
}

/// A time that was set; the clock's say nothing.
fn set_time(secs: i64, nanos: u64) -> Option<(i64, u64)> {
    (!(LONG_AGO..1 << 31).contains(&secs)).then_some((secs, nanos))
}

fn mtime(stat: &rustix::fs::Stat) -> Option<(i64, u64)> {
    set_time(stat.st_mtime, stat.st_mtime_nsec)
}

/// Contents, in few words.
fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!(" {} bytes {hash:x}", bytes.len())
}

fn list(path: &Path) -> Result<BTreeMap<String, FileType>, Errno> {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut names = BTreeMap::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_str().unwrap().to_string();
        if name != "." && name != ".." {
            assert!(names.insert(name, entry.file_type()).is_none(), "a name was listed twice");
        }
    }
    Ok(names)
}

fn xattrs(path: &Path) -> Answer {
    let mut names = vec![0u8; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut names: Vec<_> = names[..len].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    names.sort();
    Ok(format!("{names:?}"))
}

/// Holes may be found in other places. Where one is found, or passed over, there are zeros.
fn seek(file: &OwnedFd, offset: u64, data: bool) -> Answer {
    let stat = rustix::fs::fstat(file)?;
    let size = stat.st_size as u64;
    let to = if data { SeekFrom::Data(offset) } else { SeekFrom::Hole(offset) };
    let found = rustix::fs::seek(file, to);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        // A directory's positions are each file system's own.
        FileType::Directory => return Ok(String::new()),
        _ => return Ok(found?.to_string()),
    }
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    match found {
        Err(Errno::NXIO) if offset < size && data => check_zeros(file, offset, size),
        Ok(at) if data => check_zeros(file, offset, at),
        Ok(at) => {
            assert!(at >= offset && at <= size);
            check_zeros(file, at, size.min(at + 1))
        }
        Err(e) => Err(e),
    }
}

fn check_zeros(file: &OwnedFd, from: u64, to: u64) -> Answer {
    let mut passed = vec![0xee; (to - from) as usize];
    match rustix::io::pread(file, &mut passed, from) {
        Ok(read) => assert!(passed[..read].iter().all(|byte| *byte == 0), "data at {from}..{to}"),
        // Open for writing alone.
        Err(Errno::BADF) => {}
        Err(e) => panic!("{e}"),
    }
    Ok(String::new())
}

/// Both trees, and the directories in them that were used.
struct Pair {
    mount: Mount,
    twin: PathBuf,
    case: Cell<u32>,
}

impl Pair {
    fn new() -> Pair {
        let mount = Mount::new();
        let twin = mount.place.join("twin");
        std::fs::create_dir(&twin).unwrap();
        Pair { mount, twin, case: Cell::new(0) }
    }

    fn check(&self, ops: &[(Op, bool)]) -> Result<(), TestCaseError> {
        let case = self.case.replace(self.case.get() + 1).to_string();
        let roots = [self.mount.dir().join(&case), self.twin.join(&case)];
        for root in &roots {
            std::fs::create_dir(root).unwrap();
            rustix::fs::chmod(root, Mode::from_raw_mode(0o777)).unwrap();
        }
        let [mut ours, mut theirs] = [Side::new(&roots[0]), Side::new(&roots[1])];
        let root = rustix::process::geteuid().is_root();
        let mut compared = true;
        for (i, (op, stranger)) in ops.iter().enumerate() {
            let uid = if *stranger && root { STRANGER } else { 0 };
            let (our, their) = (ours.run(op, uid), theirs.run(op, uid));
            if their == Err(Errno::OPNOTSUPP) && our.is_ok() {
                // The file system below lacks it: from here on there is nothing to compare.
                compared = false;
                break;
            }
            prop_assert_eq!(our, their, "step {}, {:?} by {}", i, op, uid);
        }
        if compared {
            prop_assert_eq!(ours.tree(), theirs.tree());
        }
        drop((ours, theirs));
        rustix::process::chdir("/").unwrap();
        roots.iter().for_each(|root| std::fs::remove_dir_all(root).unwrap());
        Ok(())
    }
}

/// A working directory and a umask of this thread's own.
fn stand_alone() {
    // SAFETY: it takes a number only, and changes this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0);
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

#[test]
fn a_mount_answers_as_the_file_system_below_it() {
    stand_alone();
    let pair = Pair::new();
    let cases = std::env::var("PROPTEST_CASES").map_or(100, |cases| cases.parse().unwrap());
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(ops in prop::collection::vec(ops(), 1..80))| pair.check(&ops)?);
    rustix::process::chdir("/").unwrap();
}
