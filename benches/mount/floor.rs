//! The floor: a FUSE file system that keeps everything in memory and does no I/O. What it costs is what the
//! round trips between kernel and process cost; none that asks the kernel for the same can be faster.
//!
//! *Plain*, it sets no option: every open, flush and release is a request, and the kernel chooses how it
//! lists directories. *Tuned*, it asks the kernel for what lsmfs asks it for (see `src/fs/fuse.rs`).
//!
//! The process is this program, started anew with `serve-floor`. It says `ready` on standard output when the
//! mount answers, and unmounts when its standard input ends.

mod nodes;

use crate::Result;
use clap::Args;
use fuser::{
    Config, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, SessionACL, TimeOrNow, WriteFlags,
};
use nodes::{Node, Nodes};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long the kernel may keep what it was told, where lsmfs tells it so.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How long it may otherwise: as long as a bench runs, or else the plain floor would be asked more than file
/// systems commonly are.
const A_WHILE: Duration = Duration::from_secs(3600);

const GENERATION: Generation = Generation(0);

/// How the floor is served.
#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    /// The mount point
    dir: PathBuf,
    /// Ask the kernel for what lsmfs asks it for
    #[arg(long)]
    tuned: bool,
    /// Threads that read requests, each with a descriptor of its own
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Mounts a floor and serves it until standard input ends.
pub fn serve(args: &FloorArgs) -> Result<()> {
    let mut config = Config::default();
    let name = "lsmfs-floor".to_string();
    config.mount_options =
        vec![MountOption::FSName(name.clone()), MountOption::Subtype(name), MountOption::DefaultPermissions];
    config.acl = SessionACL::All;
    config.n_threads = Some(args.threads);
    config.clone_fd = args.threads > 1;
    let floor = Floor { nodes: Nodes::new(), tuned: args.tuned };
    let mut session = fuser::Session::new(floor, &args.dir, &config)?;
    let mut unmounter = session.unmount_callable();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = unmounter.unmount();
    });
    println!("ready");
    std::io::stdout().flush()?;
    Ok(session.run()?)
}

struct Floor {
    nodes: Nodes,
    tuned: bool,
}

impl Floor {
    fn ttl(&self) -> &'static Duration {
        if self.tuned { &FOR_EVER } else { &A_WHILE }
    }

    fn answer_entry(&self, made: Option<Arc<Node>>, reply: ReplyEntry) {
        match made {
            Some(node) => reply.entry(self.ttl(), &node.attr(), GENERATION),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Calls `add` with each entry of a directory from the `offset`th on, until it says that there is no
    /// more room. False if there is no such directory.
    fn list(&self, ino: INodeNo, offset: u64, mut add: impl FnMut(&OsStr, &Node, u64) -> bool) -> bool {
        let Some(dir) = self.nodes.get(ino.0) else { return false };
        for (index, (name, child)) in dir.children.read().iter().enumerate().skip(offset as usize) {
            let Some(child) = self.nodes.get(*child) else { continue };
            if add(name, &child, index as u64 + 1) {
                break;
            }
        }
        true
    }
}

impl Filesystem for Floor {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = match self.tuned {
            true => {
                InitFlags::FUSE_DO_READDIRPLUS
                    | InitFlags::FUSE_PARALLEL_DIROPS
                    | InitFlags::FUSE_CACHE_SYMLINKS
                    | InitFlags::FUSE_HANDLE_KILLPRIV_V2
                    | InitFlags::FUSE_ASYNC_DIO
                    | InitFlags::FUSE_POSIX_ACL
                    | InitFlags::FUSE_DONT_MASK
            }
            false => InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO,
        };
        for flag in wanted.iter() {
            let _ = config.add_capabilities(flag);
        }
        if self.tuned {
            let _ = config.set_max_write(1 << 20);
            let _ = config.set_max_background(64);
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.nodes.find(parent.0, name) {
            Some(node) => reply.entry(self.ttl(), &node.attr(), GENERATION),
            None if self.tuned => reply.entry(self.ttl(), &Node::absent(), GENERATION),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes.get(ino.0) {
            Some(node) => reply.attr(self.ttl(), &node.attr()),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _checked: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let Some(node) = self.nodes.get(ino.0) else { return reply.error(Errno::ENOENT) };
        if let Some(size) = size {
            node.resize(size as usize);
        }
        node.change(|attr| {
            attr.perm = mode.map_or(attr.perm, |mode| (mode & 0o7777) as u16);
            attr.uid = uid.unwrap_or(attr.uid);
            attr.gid = gid.unwrap_or(attr.gid);
            attr.mtime = match modified {
                Some(TimeOrNow::SpecificTime(time)) => time,
                Some(TimeOrNow::Now) => SystemTime::now(),
                None => attr.mtime,
            };
        });
        reply.attr(self.ttl(), &node.attr());
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.nodes.add(parent.0, name, FileType::Directory, mode, request);
        self.answer_entry(made, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.nodes.add(parent.0, name, FileType::Symlink, 0o777, request);
        if let Some(link) = &made {
            link.write(0, target.as_os_str().as_bytes());
        }
        self.answer_entry(made, reply);
    }

    fn link(&self, _request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.answer_entry(self.nodes.link(ino.0, parent.0, name), reply);
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.nodes.get(ino.0) {
            Some(node) => reply.data(&node.data.read()),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = match self.tuned {
            true => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
            false => FopenFlags::empty(),
        };
        match self.nodes.add(parent.0, name, FileType::RegularFile, mode, request) {
            Some(node) => reply.created(self.ttl(), &node.attr(), GENERATION, FileHandle(0), flags),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.tuned {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::empty()),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(node) = self.nodes.get(ino.0) else { return reply.error(Errno::ENOENT) };
        let data = node.data.read();
        let start = (offset as usize).min(data.len());
        let end = (start + size as usize).min(data.len());
        reply.data(&data[start..end]);
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(node) = self.nodes.get(ino.0) else { return reply.error(Errno::ENOENT) };
        node.write(offset as usize, data);
        reply.written(data.len() as u32);
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        if self.tuned { reply.error(Errno::ENOSYS) } else { reply.ok() }
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _data: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::NO_XATTR);
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.tuned {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::empty()),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let add = |name: &OsStr, node: &Node, next| {
            let attr = node.attr();
            reply.add(attr.ino, next, attr.kind, name)
        };
        if self.list(ino, offset, add) { reply.ok() } else { reply.error(Errno::ENOENT) }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let add = |name: &OsStr, node: &Node, next| {
            let attr = node.attr();
            reply.add(attr.ino, next, name, self.ttl(), &attr, GENERATION)
        };
        if self.list(ino, offset, add) { reply.ok() } else { reply.error(Errno::ENOENT) }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.nodes.remove(parent.0, name) { reply.ok() } else { reply.error(Errno::ENOENT) }
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.nodes.remove(parent.0, name) { reply.ok() } else { reply.error(Errno::ENOENT) }
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.nodes.rename((parent.0, name), (new_parent.0, new_name));
        if renamed { reply.ok() } else { reply.error(Errno::ENOENT) }
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let many = 1 << 30;
        reply.statfs(many, many, many, many, many, 4096, 255, 4096);
    }
}
