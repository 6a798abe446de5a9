//! Requests over io_uring (`-o uring`), on a real mount. `LSMFS_MOUNT_OPTIONS=uring` has the other tests of mounts go that
//! way.

mod common;

use common::{Mount, Place, change_and_list_together, has, names, sh};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where root allows it.
const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// The switch, set for a test; as it was afterwards.
struct Switch(String);

impl Switch {
    /// `None`, and a word about it, where it cannot be set.
    fn set(to: &str) -> Option<Switch> {
        let was = fs::read_to_string(SWITCH);
        match was.and_then(|was| fs::write(SWITCH, to).map(|()| was)) {
            Ok(was) => Some(Switch(was)),
            Err(e) => {
                eprintln!("not tried with {SWITCH} at {to}: {e}");
                None
            }
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        fs::write(SWITCH, &self.0).unwrap();
    }
}

/// Threads of the daemon that serve rings.
fn ring_threads(place: &Place) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", place.daemon().unwrap())).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(name).filter(|name| name == "ring\n").count()
}

/// All sorts of requests, each from a program that a user might run, or with its longest arguments.
fn use_it(dir: &Path) {
    sh(
        dir,
        "mkdir -p tree/a/b; for i in $(seq 300); do echo \"$i\" > tree/a/$i; done; head -c 5000000 /dev/urandom > tree/large
         cp -a tree copy; diff -r tree copy; tar cf tree.tar tree; mkdir out; tar xf tree.tar -C out; diff -r tree out/tree
         mv copy/a/1 copy/a/b/moved; test ! -e copy/a/1; test \"$(cat copy/a/b/moved)\" = 1
         ln tree/a/2 hard; test $(stat -c %h hard) = 2; ln -s tree/a/3 soft; test \"$(cat soft)\" = 3
         chmod 640 hard; truncate -s 7777 hard; touch -d '1960-01-02 03:04:05.5 UTC' hard
         test \"$(TZ=UTC stat -c '%a %y %s' hard)\" = '640 1960-01-02 03:04:05.500000000 +0000 7777'
         mkfifo pipe; test -p pipe; fallocate -l 100000 room; test $(stat -c %s room) = 100000
         test $(ls out/tree/a | wc -l) = 301; rm -r out; test ! -e out; df . > /dev/null; sync; sync -d tree/large
         exec 3< tree/a/5; rm tree/a/5; test \"$(cat <&3)\" = 5; exec 3<&-
         cat .lsmfs/stats.json > /dev/null; if mkdir tree 2> /dev/null; then exit 1; fi; if rmdir tree 2> /dev/null; then exit 1; fi",
    );
    let target = "t".repeat(4095);
    symlink(&target, dir.join("longest")).unwrap();
    assert_eq!(fs::read_link(dir.join("longest")).unwrap().to_str(), Some(&target[..]));
    let (value, mut read) = (vec![7; 60_000], vec![0; 65_536]);
    let file = dir.join("hard");
    setxattr(&file, "user.long", &value, XattrFlags::CREATE).unwrap();
    assert_eq!(getxattr(&file, "user.long", &mut read).unwrap(), value.len());
    assert!(read[..value.len()] == value);
    assert_eq!(getxattr(&file, "user.none", &mut read), Err(rustix::io::Errno::NODATA));
    assert_eq!(getxattr(&file, "user.long", &mut read[..10]), Err(rustix::io::Errno::RANGE));
}

#[test]
fn requests_come_over_io_uring_where_root_allows_it() {
    if let Some(_off) = Switch::set("N") {
        let mount = Mount::with(&["-o", "uring"]);
        assert_eq!(ring_threads(&mount.place), 0);
        fs::write(mount.dir().join("file"), "over the device").unwrap();
        let log = mount.place.daemon_log();
        assert!(log.contains("over the device, not over io_uring") && log.contains(SWITCH), "{log}");
    }
    let Some(_on) = Switch::set("Y") else { return };
    for options in ["uring", "uring,threads=1", "uring,noxattr", "uring,strictatime"] {
        let mount = Mount::with(&["-o", options]);
        assert!(ring_threads(&mount.place) >= 2, "{options}: {}", mount.place.daemon_log());
        if options != "uring,noxattr" {
            use_it(&mount.dir());
        }
        change_and_list_together(&mount.dir().join("together"));
        if has("git") {
            sh(
                &mount.dir(),
                "git init -q repo && cd repo && cp -r ../together files && git add . && git -c user.name=a -c user.email=b commit -qm c && git fsck --no-progress && git status --porcelain | wc -l",
            );
        }
        let left = names(&mount.dir().join("together"));
        mount.place.umount().ok();
        mount.place.mount(&["-o", options]).ok();
        assert_eq!(names(&mount.dir().join("together")), left, "{options}");
        // A dead daemon leaves what was answered, and a mount that can be cleared.
        fs::write(mount.dir().join("last"), options).unwrap();
        mount.place.signal("KILL");
        mount.place.wait_closed();
        mount.place.mount(&["-o", options]).ok();
        assert_eq!(fs::read_to_string(mount.dir().join("last")).unwrap(), options);
        mount.place.umount().ok();
        mount.place.wait_closed();
        assert_eq!(mount.place.lsmfs("check", &[]).status, 0);
    }
}
