//! Other users of a mount, and bad ones: permissions hold, nothing of the store is theirs, and what they open,
//! flood or interrupt takes nothing down. Needs root.

mod common;

use common::{Mount, Place, run, wait_until};
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user who owns nothing here, and another.
const STRANGER: u32 = 65534;
const OWNER: u32 = 12_345;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root to be somebody else");
    }
    root
}

/// Does a shell command as a user; its exit status.
fn as_user(user: u32, dir: &Path, script: &str) -> i32 {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir("/").env("D", dir).uid(user).gid(user);
    run(&mut command).status
}

/// The place's own directory lets others through to the mount.
fn open_to_all(place: &Place) -> PathBuf {
    let dir = place.dir();
    fs::set_permissions(dir.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn permissions_hold_for_other_users() {
    if !is_root() {
        return;
    }
    let mount = Mount::new();
    let dir = open_to_all(&mount.place);
    let make = |name: &str, mode: u32, owner: u32| {
        fs::write(dir.join(name), name).unwrap();
        chown(dir.join(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    };
    make("secret", 0o600, OWNER);
    make("public", 0o644, OWNER);
    fs::create_dir(dir.join("closed")).unwrap();
    make("closed/inner", 0o666, OWNER);
    fs::set_permissions(dir.join("closed"), Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(dir.join("sticky")).unwrap();
    make("sticky/theirs", 0o666, OWNER);
    fs::set_permissions(dir.join("sticky"), Permissions::from_mode(0o1777)).unwrap();

    let refused = [
        "cat $D/secret",
        "echo x >> $D/secret",
        "echo x >> $D/public",
        "cat $D/closed/inner",
        "ls $D/closed",
        "touch $D/new",
        "rm -f $D/public",
        "mv $D/public $D/moved",
        "ln -s x $D/link",
        "mkdir $D/sub",
        "chmod 666 $D/public",
        "chown $(id -u) $D/public",
        "truncate -s 0 $D/public",
        "rm -f $D/sticky/theirs",
        "mv $D/sticky/theirs $D/sticky/mine",
        "mknod $D/sticky/disk b 8 0",
        "cat $D/.lsmfs/stats",
        "rmdir $D/closed",
    ];
    for script in refused {
        assert_ne!(as_user(STRANGER, &dir, script), 0, "a stranger may: {script}");
    }
    for script in
        ["cat $D/public", "echo x > $D/sticky/mine && rm $D/sticky/mine", "echo x >> $D/sticky/theirs"]
    {
        assert_eq!(as_user(STRANGER, &dir, script), 0, "a stranger may not: {script}");
    }
    for script in ["cat $D/secret", "chmod 644 $D/secret", "rm $D/sticky/theirs"] {
        assert_eq!(as_user(OWNER, &dir, script), 0, "the owner may not: {script}");
    }
    assert_eq!(fs::read(dir.join("public")).unwrap(), b"public");
    assert_eq!(fs::metadata(dir.join("public")).unwrap().uid(), OWNER);
}

#[test]
fn nothing_of_the_store_is_for_others() {
    let place = Place::new();
    place.mount(&[]).ok();
    fs::write(place.dir().join("file"), vec![7; 300_000]).unwrap();
    File::open(place.dir().join("file")).unwrap().sync_all().unwrap();
    let modes = |store: &Path| -> Vec<(String, u32)> {
        let entries = fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|e| {
                (e.file_name().into_string().unwrap(), e.metadata().unwrap().permissions().mode() & 0o777)
            })
            .collect()
    };
    let store_mode = fs::metadata(place.store()).unwrap().permissions().mode() & 0o777;
    assert_eq!(store_mode, 0o700);
    let files = modes(&place.store());
    assert!(files.len() >= 5, "{files:?}");
    for (name, mode) in files {
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
    place.umount().ok();
    for (name, mode) in modes(&place.store()) {
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
}

/// Does something on a thread that is the stranger's.
fn as_stranger<R: Send>(what: impl FnOnce() -> R + Send) -> R {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (user, group) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
    let change = || {
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)
    };
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            change().unwrap();
            what()
        });
        stranger.join().unwrap()
    })
}

#[test]
fn a_store_its_socket_and_its_mount_are_refused_to_others() {
    if !is_root() {
        return;
    }
    let mount = Mount::new();
    let dir = open_to_all(&mount.place);
    fs::write(dir.join("file"), "root's").unwrap();
    let (lsmfs, store) = (mount.place.join("lsmfs"), mount.place.store());
    fs::copy(common::LSMFS, &lsmfs).unwrap();
    let commands = [
        "get $S file",
        "put $S file --value x",
        "rm $S file",
        "ls $S",
        "scan $S",
        "stats $S",
        "flush $S",
        "volume create $S other",
        "volume delete $S main",
        "fork $S main other",
        "snapshot create $S main one",
        "export $S",
        "check $S",
        "repair $S",
        "shell $S",
        "mount $S $S.dir",
        "umount $D",
        "umount --lazy $D",
    ];
    // Neither as it was made, nor where root has opened the directory and with it the way to the socket.
    for mode in [0o700, 0o755] {
        fs::set_permissions(&store, Permissions::from_mode(mode)).unwrap();
        for command in commands {
            let script = format!("S={}; exec {} {command}", store.display(), lsmfs.display());
            assert_eq!(as_user(STRANGER, &dir, &script), 1, "a stranger may, with mode {mode:o}: {command}");
        }
        for name in fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()) {
            let refused = as_stranger(|| match name.ends_with("control") {
                true => UnixStream::connect(&name).map(drop),
                false => File::open(&name).map(drop),
            });
            let refused = refused.expect_err(&format!("a stranger opens {}, mode {mode:o}", name.display()));
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{}", name.display());
        }
    }
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"root's");
    assert_eq!(mount.place.lsmfs("get", &["file"]).ok(), "root's");
}

/// A link in the mount is the kernel's to follow, and the commands follow none: no path of a client's choosing
/// makes the daemon, or a command, read or write outside of the store.
#[test]
fn no_path_leads_out_of_the_store() {
    let mount = Mount::new();
    let outside = mount.place.join("outside");
    fs::write(&outside, "outside").unwrap();
    symlink(&outside, mount.dir().join("link")).unwrap();
    symlink("..", mount.dir().join("up")).unwrap();
    fs::create_dir(mount.dir().join("dir")).unwrap();
    for mounted in [true, false] {
        for path in ["link", "up/outside", "../outside", "dir/../../outside", "/../outside"] {
            let got = mount.place.lsmfs("get", &[path]);
            assert!(got.status != 0 && !got.text().contains("outside\n"), "get {path}: {got:?}");
            let put = mount.place.lsmfs("put", &[path, "--value", "changed"]);
            assert_eq!(fs::read_to_string(&outside).unwrap(), "outside", "put {path}: {put:?}");
        }
        if mounted {
            mount.place.umount().ok();
        }
    }
}

/// How much memory the daemon has in use, in bytes.
fn resident(place: &Place) -> u64 {
    let pid = place.daemon().expect("it runs");
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn clients_that_flood_and_die_leave_the_daemon_as_it_was() {
    let mount = Mount::new();
    let dir = mount.dir();
    let threads = 48;
    // Open files, of which many are removed.
    let open: Vec<File> = (0..3000)
        .map_while(|n| {
            let path = dir.join(format!("open{n}"));
            let file = File::options().read(true).write(true).create_new(true).open(&path).ok()?;
            file.write_at(b"contents", 0).unwrap();
            if n % 2 == 0 {
                fs::remove_file(&path).unwrap();
            }
            Some(file)
        })
        .collect();
    assert!(open.len() > 400, "{} files", open.len());
    // Requests of all sizes at once, while clients among them are killed.
    std::thread::scope(|scope| {
        for who in 0..threads {
            let dir = &dir;
            scope.spawn(move || {
                let own = dir.join(format!("dir{who}"));
                fs::create_dir(&own).unwrap();
                for n in 0..40 {
                    let mut file = File::create(own.join(format!("{}", n % 7))).unwrap();
                    file.write_all(&vec![n as u8; [10, 5000, 1 << 20][n % 3]]).unwrap();
                    assert!(fs::read_dir(&own).unwrap().count() > 0);
                    assert!(fs::metadata(own.join("missing")).is_err());
                }
            });
        }
        for n in 0..40 {
            let script =
                "while :; do dd if=/dev/zero of=$D/killed$N bs=1M count=4 conv=fsync; ls -lR $D; done";
            let mut client = Command::new("sh")
                .args(["-c", script])
                .env("D", &dir)
                .env("N", (n % 4).to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            fs::write(dir.join(format!("between{n}")), "x").unwrap();
            run(Command::new("kill").args(["-9", "--", &format!("-{}", client.id())])).ok();
            client.wait().unwrap();
        }
    });
    for (n, file) in open.iter().enumerate() {
        let mut read = [0; 8];
        file.read_exact_at(&mut read, 0).unwrap_or_else(|e| panic!("open{n}: {e}"));
        assert_eq!(&read, b"contents");
    }
    drop(open);
    // A gigabyte of budgets and caches is not reached by this; a buffer for each request kept would be.
    assert!(resident(&mount.place) < 800 << 20, "{} bytes", resident(&mount.place));
    for who in 0..threads {
        assert_eq!(fs::read(dir.join(format!("dir{who}/4"))).unwrap().len(), [10, 5000, 1 << 20][39 % 3]);
    }
    for word in ["panic", " ERROR "] {
        assert!(!mount.place.daemon_log().contains(word), "{}", mount.place.daemon_log());
    }
    mount.place.umount().ok();
    wait_until("the store is closed", || mount.place.daemon().is_none());
    mount.place.lsmfs("check", &[]).ok();
}
