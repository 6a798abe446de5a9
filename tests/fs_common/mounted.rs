//! A real mount of a store on a simulated disk. Needs root and `/dev/fuse`.

use super::Fixture;
use super::gate::Gate;
use lsmfs::disk::sim::{Op, SimDisk};
use lsmfs::fs::Views;
use lsmfs::fs::fuse::{ServeOptions, Session};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A mounted store on a simulated disk.
pub struct Mounted {
    pub store: Fixture,
    dir: tempfile::TempDir,
    /// Where the kernel tells of its connections, and the number of this one.
    connections: tempfile::TempDir,
    device: u64,
    gates: Vec<Arc<Gate>>,
    server: Option<JoinHandle<lsmfs::fs::Result<()>>>,
}

impl Mounted {
    /// `None` if this process may not mount.
    pub fn new(store: Fixture, options: &ServeOptions) -> Option<Mounted> {
        if !rustix::process::getuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("skipped: needs root and /dev/fuse");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions");
        let data = CString::new(data).unwrap();
        mount("lsmfs", dir.path(), "fuse.lsmfs", MountFlags::empty(), data.as_c_str()).unwrap();
        let session = Session::start(Views::alone(store.fs.clone()), device, options);
        if session.is_err() {
            let _ = unmount(dir.path(), UnmountFlags::DETACH);
        }
        let session = session.unwrap();
        let server = Some(thread::spawn(move || session.run()));
        let device = fs::metadata(dir.path()).unwrap().dev();
        let connections = tempfile::tempdir().unwrap();
        mount("fusectl", connections.path(), "fusectl", MountFlags::empty(), c"").unwrap();
        Some(Mounted { store, dir, connections, device, gates: Vec::new(), server })
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Cuts the power under the mount: the disk as it is found afterwards. The mount is gone then.
    pub fn cut_power(mut self) -> SimDisk {
        let found = self.store.sim.crash();
        unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
        // It cannot close the store on a dead disk.
        let _ = self.server.take().map(|server| server.join().unwrap());
        found
    }

    /// From now on these operations of the disk hang until the gate is opened.
    pub fn hang(&mut self, op: Op) -> Arc<Gate> {
        let gate = Gate::shut_at(&self.store.sim, op);
        self.gates.push(gate.clone());
        gate
    }

    /// The number of requests that are not answered, as the kernel counts.
    pub fn unanswered(&self) -> usize {
        let path = self.connections.path().join(self.device.to_string()).join("waiting");
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.store.sim.clear_hooks();
        self.gates.iter().for_each(|gate| gate.set(false));
        let _ = unmount(self.connections.path(), UnmountFlags::DETACH);
        let unmounted = unmount(self.dir.path(), UnmountFlags::DETACH);
        if let (Ok(()), Some(server)) = (unmounted, self.server.take()) {
            let served = server.join();
            if !thread::panicking() {
                served.unwrap().unwrap();
                self.store.fs.close().unwrap();
                self.store.store.close().unwrap();
            }
        }
    }
}
