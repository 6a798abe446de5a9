//! A real mount, used with the shell's tools. Needs root and `/dev/fuse`; without them it is skipped.

use lsmfs::disk::real::RealDisk;
use lsmfs::fs::fuse::{ServeOptions, Session, Stopper};
use lsmfs::fs::{FileSystem, FsOptions, Views};
use lsmfs::lsm::Store;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A mounted store; unmounted and closed when dropped.
struct Mounted {
    dir: PathBuf,
    fs: Arc<FileSystem>,
    store: Arc<Store>,
    stopper: Stopper,
    server: Option<JoinHandle<lsmfs::fs::Result<()>>>,
}

impl Mounted {
    fn new(home: &Path) -> Mounted {
        let (store_dir, dir) = (home.join("store"), home.join("mnt"));
        fs::create_dir_all(&dir).unwrap();
        let disk = RealDisk::open_or_create(&store_dir, Duration::from_secs(10)).unwrap();
        let store = Arc::new(Store::open(Arc::new(disk), lsmfs::fs::engine_options()).unwrap());
        let fs = Arc::new(FileSystem::open(store.clone(), "main", FsOptions::default()).unwrap());
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            device.as_raw_fd()
        );
        let data = CString::new(data).unwrap();
        mount("lsmfs", &dir, "fuse.lsmfs", MountFlags::empty(), data.as_c_str()).unwrap();
        let session = match Session::start(Views::alone(fs.clone()), device, &ServeOptions::default()) {
            Ok(session) => session,
            Err(e) => {
                let _ = unmount(&dir, UnmountFlags::DETACH);
                panic!("{e}");
            }
        };
        let stopper = session.stopper();
        let server = Some(std::thread::spawn(move || session.run()));
        Mounted { dir, fs, store, stopper, server }
    }

    /// Runs a shell script in the mount and returns what it prints.
    fn sh(&self, script: &str) -> String {
        let script = format!("set -e; {script}");
        let out = Command::new("bash").args(["-c", &script]).current_dir(&self.dir).output().unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{script}\n{said}\n{wrong}");
        said.trim_end().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = unmount(&self.dir, UnmountFlags::DETACH);
        if let (Ok(()), Some(server)) = (unmounted, self.server.take()) {
            let served = server.join();
            let closed = self.fs.close().map_err(|e| e.to_string());
            let closed = closed.and(self.store.close().map_err(|e| e.to_string()));
            if !std::thread::panicking() {
                served.unwrap().unwrap();
                closed.unwrap();
            }
        }
    }
}

/// A place for a store and its mount, if this process may mount.
fn home() -> Option<tempfile::TempDir> {
    if !rustix::process::getuid().is_root() || !Path::new("/dev/fuse").exists() {
        eprintln!("skipped: needs root and /dev/fuse");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

#[test]
fn the_shells_tools_work_and_find_everything_again() {
    let Some(home) = home() else { return };
    let m = Mounted::new(home.path());
    m.sh("echo hello > a; echo world >> a; test \"$(cat a)\" = $'hello\\nworld'");
    m.sh("mkdir -p d/e/f; for i in $(seq 300); do echo $i > d/e/$i; done; mv d/e/7 d/seven");
    m.sh(
        "ln -s ../a d/link; test \"$(cat d/link)\" = \"$(cat a)\"; mkfifo pipe; mknod dev c 1 3; ln a d/hard",
    );
    m.sh("truncate -s 5G sparse; echo end >> sparse; test $(du -k sparse | cut -f1) -le 64");
    m.sh("head -c 3000000 /dev/urandom > big; cp big copy; cmp big copy; chown 5:6 copy; chmod 4750 copy");
    m.sh("touch -d '1950-02-03 04:05:06.25 UTC' a; touch -d @20000000000.5 d");
    let facts = "find . -printf '%p %y %m %U:%G %n %s %l %T@\\n' | sort; md5sum big copy a d/e/*[0-9]";
    let before = m.sh(facts);
    assert!(before.contains("./a f 644 0:0 2 12  -628286094.2500000000"), "{before}");
    assert!(before.contains("./d d 755 0:0 3 4096  20000000000.5000000000"), "{before}");
    assert_eq!(m.sh("ls d/e | wc -l"), "300");
    drop(m);
    let m = Mounted::new(home.path());
    assert_eq!(m.sh(facts), before);
    m.sh("test a -ef d/hard; rm -r d big; mv copy b; test $(stat -c %a:%u:%g b) = 4750:5:6; test ! -e d");
    assert_eq!(m.sh("ls"), "a\nb\ndev\npipe\nsparse");
}

#[test]
fn an_open_file_outlives_its_name() {
    let Some(home) = home() else { return };
    let m = Mounted::new(home.path());
    for len in [10, 1_000_000] {
        let mut file = fs::File::create_new(m.path("f")).unwrap();
        file.write_all(&vec![7; len]).unwrap();
        let mut file = fs::File::options().read(true).write(true).open(m.path("f")).unwrap();
        fs::remove_file(m.path("f")).unwrap();
        assert_eq!(fs::read_dir(&m.dir).unwrap().count(), 0);
        assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().nlink()), (len as u64, 0));
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"more").unwrap();
        let mut all = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), &all[len..]), (len + 4, &b"more"[..]));
        file.set_len(3).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3);
        file.sync_all().unwrap();
    }
    // The kernel forgets in its own time: what is left is only what it still knows.
    m.sh("sync; echo 2 > /proc/sys/vm/drop_caches");
}

#[test]
fn requests_are_answered_after_a_stop() {
    let Some(home) = home() else { return };
    let m = Mounted::new(home.path());
    fs::write(m.path("f"), b"x").unwrap();
    m.stopper.stop();
    let failed = fs::write(m.path("g"), b"x").unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::EIO));
}

#[test]
fn the_kernel_hands_on_what_it_should() {
    let Some(home) = home() else { return };
    let m = Mounted::new(home.path());
    let file = fs::File::create_new(m.path("f")).unwrap();
    file.write_all_at(&[1; 100_000], 0).unwrap();
    // O_TRUNC comes as a change of size, now that opening costs no request.
    drop(fs::File::create(m.path("f")).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 0);
    file.set_permissions(fs::Permissions::from_mode(0o6755)).unwrap();
    m.sh("chmod 777 .; chown 65534 f; chmod 6777 f; setpriv --reuid 65534 --clear-groups bash -c 'echo x >> f'");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o777);
    let exists = fs::create_dir(m.path("f")).unwrap_err();
    assert_eq!(exists.kind(), ErrorKind::AlreadyExists);
    let long = fs::write(m.path(&"x".repeat(256)), b"").unwrap_err();
    assert_eq!(long.raw_os_error(), Some(libc::ENAMETOOLONG));
    let stat = rustix::fs::statvfs(&m.dir).unwrap();
    assert_eq!((stat.f_frsize, stat.f_namemax), (4096, 255));
}

#[test]
fn attributes_and_access_lists_reach_the_kernel() {
    use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
    let Some(home) = home() else { return };
    let m = Mounted::new(home.path());
    let path = m.path("f");
    fs::write(&path, b"secret").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    setxattr(&path, "user.a", b"value", XattrFlags::CREATE).unwrap();
    let again = setxattr(&path, "user.a", b"", XattrFlags::CREATE);
    assert_eq!(again, Err(rustix::io::Errno::EXIST));
    let mut room = [0; 16];
    assert_eq!(getxattr(&path, "user.a", &mut room[..4]), Err(rustix::io::Errno::RANGE));
    assert_eq!((getxattr(&path, "user.a", &mut room), &room[..5]), (Ok(5), &b"value"[..]));
    assert_eq!((listxattr(&path, &mut room), &room[..7]), (Ok(7), &b"user.a\0"[..]));
    m.sh("cp -a f copy");
    assert_eq!((getxattr(m.path("copy"), "user.a", &mut room), &room[..5]), (Ok(5), &b"value"[..]));
    // The list lets a stranger read.
    let as_nobody = "setpriv --reuid 65534 --clear-groups cat f";
    m.sh(&format!("chmod 755 .; ! {as_nobody} 2> /dev/null"));
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let any = u32::MAX;
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, any),
        entry(2, 4, 65534),
        entry(4, 0, any),
        entry(0x10, 4, any),
        entry(0x20, 0, any),
    ];
    setxattr(&path, "system.posix_acl_access", &list.concat(), XattrFlags::empty()).unwrap();
    assert_eq!(m.sh(&format!("stat -c %a f; {as_nobody}")), "640\nsecret");
    assert_eq!(m.sh(&format!("chmod 600 f; ! {as_nobody} 2> /dev/null; stat -c %a f")), "600");
    assert_eq!(m.sh("umask 027; touch g; mkdir e; stat -c %a g e"), "640\n750");
}
