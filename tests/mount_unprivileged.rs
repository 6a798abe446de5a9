//! A user who is not root: mounts a store of his own with the help of `fusermount3`. Needs root, to become that user.

mod common;

use common::{Done, LSMFS, has, run, wait_until};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The user, and one who has nothing to do with him.
const USER: u32 = 65534;
const OTHER: u32 = 12_345;

/// A mount namespace in which any user may open `/dev/fuse` (as on most systems), and a directory of the user's.
/// Gone at the end of the test, with whatever is mounted in it.
struct Namespace {
    root: TempDir,
    holder: Child,
}

impl Namespace {
    /// None, and says why, where it cannot be had.
    fn new() -> Option<Namespace> {
        let tools = ["fusermount3", "unshare", "nsenter", "setpriv"];
        if let Some(missing) = tools.into_iter().find(|tool| !has(tool)) {
            eprintln!("skipped: no {missing} here");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root to be somebody else");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        fs::copy(LSMFS, root.path().join("lsmfs")).unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        chown(root.path().join("home"), Some(USER), Some(USER)).unwrap();
        fs::write(root.path().join("fuse.conf"), "").unwrap();
        let script = "mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse && \
                      { test ! -e /etc/fuse.conf || mount --bind fuse.conf /etc/fuse.conf; } && echo ready && cat";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).current_dir(root.path());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let namespace = Namespace { root, holder };
        if line != "ready\n" {
            eprintln!("skipped: no device can be made here");
            return None;
        }
        Some(namespace)
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Runs a program of the namespace in the user's directory.
    fn run_as(&self, user: u32, program: &[&str]) -> Done {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), "--"]);
        let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
        command.args(["setpriv", &user, &group, "--clear-groups", "--"]);
        run(command.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(self.home()).args(program))
    }

    /// Runs lsmfs as the user.
    fn lsmfs(&self, args: &[&str]) -> Done {
        let program = self.root.path().join("lsmfs");
        self.run_as(USER, &[&[program.to_str().unwrap()], args].concat())
    }

    fn sh(&self, user: u32, script: &str) -> Done {
        self.run_as(user, &["sh", "-euc", script])
    }

    /// The process that has the user's store open.
    fn daemon(&self) -> Option<u32> {
        let owner = lsmfs::disk::lock::StoreLock::owner(&self.home().join("store")).unwrap();
        owner.and_then(|owner| owner.pid)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon() {
            run(Command::new("kill").args(["-9", &pid.to_string()]));
        }
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[test]
fn a_user_mounts_a_store_of_his_own() {
    let Some(space) = Namespace::new() else { return };
    space.lsmfs(&["mount", "store", "dir"]).ok();
    let table = space.sh(USER, "grep $PWD/dir /proc/self/mounts").ok();
    let options: Vec<&str> = table.split([' ', ',']).collect();
    for word in ["fuse.lsmfs", "nosuid", "nodev", "user_id=65534", "default_permissions"] {
        assert!(options.contains(&word), "no {word} in {table}");
    }
    space
        .sh(USER, "mkdir dir/sub; echo one > dir/sub/a; ln dir/sub/a dir/b; chmod 640 dir/b; sync dir/b")
        .ok();
    assert_eq!(space.sh(USER, "stat -c '%u %g %a %h' dir/sub/a").ok(), "65534 65534 640 2\n");
    // The commands work on the mounted store, through the daemon.
    space.lsmfs(&["put", "store", "c", "--value", "two"]).ok();
    assert_eq!(space.sh(USER, "cat dir/c; grep -q writes dir/.lsmfs/stats").ok(), "two");
    space.lsmfs(&["fork", "store", "main", "twin"]).ok();
    space.lsmfs(&["mount", "--volume", "twin", "store", "twin"]).ok();
    assert_eq!(space.sh(USER, "cat twin/sub/a").ok(), "one\n");
    // Nobody else comes in, not even root: so the kernel has it.
    for user in [OTHER, 0] {
        assert_ne!(space.sh(user, "ls dir/").status, 0, "user {user}");
    }
    // What only root may do he may not do in his own mount either.
    for script in ["chown 0 dir/b", "mknod dir/null c 1 3 && cat dir/null"] {
        assert_ne!(space.sh(USER, script).status, 0, "{script}");
    }
    space.lsmfs(&["umount", "twin"]).ok();
    space.lsmfs(&["umount", "dir"]).ok();
    assert_eq!(space.daemon(), None);
    space.lsmfs(&["check", "store"]).ok();
    for file in fs::read_dir(space.home().join("store")).unwrap() {
        let meta = file.unwrap().metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o077), (USER, 0));
    }
}

#[test]
fn a_killed_daemon_of_a_user_leaves_a_mount_that_he_can_mount_over() {
    let Some(space) = Namespace::new() else { return };
    space.lsmfs(&["mount", "store", "dir"]).ok();
    space.sh(USER, "echo answered > dir/a").ok();
    run(Command::new("kill").args(["-9", &space.daemon().unwrap().to_string()])).ok();
    wait_until("the daemon is dead", || space.daemon().is_none());
    assert_ne!(space.sh(USER, "cat dir/a").status, 0);
    space.lsmfs(&["mount", "store", "dir"]).ok();
    assert_eq!(space.sh(USER, "cat dir/a; grep -c $PWD/dir /proc/self/mounts").ok(), "answered\n1\n");
    space.lsmfs(&["umount", "dir"]).ok();
}

#[test]
fn what_a_user_may_not_mount_is_an_error_in_one_line() {
    let Some(space) = Namespace::new() else { return };
    space.lsmfs(&["mount", "-o", "allow_other", "store", "dir"]).fails(1, &["user_allow_other"]);
    space.lsmfs(&["mount", "store", "/etc"]).fails(1, &["/etc"]);
    space.lsmfs(&["mount", "/store", "dir"]).fails(1, &["/store", "denied"]);
    assert_eq!(space.daemon(), None);
    assert!(!space.sh(USER, "grep $PWD/ /proc/self/mounts").text().contains("lsmfs"));
    space.lsmfs(&["mount", "store", "dir"]).ok();
    space.lsmfs(&["umount", "dir"]).ok();
}
