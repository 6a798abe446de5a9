//! The life of a mount: how it begins, the ways in which it ends, and what is refused.

mod common;

use common::{Mount, Place, lsmfs, run, sh, wait_until};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[test]
fn it_is_made_answers_and_is_found_again() {
    let place = Place::new();
    place.mount(&[]).ok();
    assert!(place.is_mounted());
    fs::write(place.dir().join("a"), "one").unwrap();
    place.umount().ok();
    assert!(!place.is_mounted());
    assert_eq!(place.daemon(), None, "umount returned before the store was closed");
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0);
    place.mount(&[]).ok();
    assert_eq!(fs::read_to_string(place.dir().join("a")).unwrap(), "one");
}

#[test]
fn the_table_of_mounts_shows_type_and_store() {
    let mount = Mount::new();
    let found = sh(&mount.dir(), "findmnt -no FSTYPE,SOURCE .");
    let store = mount.place.store();
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["fuse.lsmfs", store.to_str().unwrap()]);
}

#[test]
fn options_reach_the_kernel() {
    let place = Place::new();
    place.mount(&["-o", "noatime,noexec", "-o", "nosuid,x-test=1"]).ok();
    let shown = sh(&place.dir(), "findmnt -no OPTIONS .");
    for option in ["rw", "noatime", "noexec", "nosuid", "default_permissions"] {
        assert!(shown.trim().split(',').any(|word| word == option), "no {option} in {shown}");
    }
}

#[test]
fn read_only_is_read_only() {
    let place = Place::new();
    place.mount(&[]).ok();
    fs::write(place.dir().join("a"), "one").unwrap();
    place.umount().ok();
    place.mount(&["-o", "ro"]).ok();
    assert_eq!(fs::read_to_string(place.dir().join("a")).unwrap(), "one");
    let refused = fs::write(place.dir().join("b"), "two").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn extended_attributes_can_be_left_out_and_come_back() {
    let place = Place::new();
    let file = place.dir().join("a");
    let note = || {
        let mut value = [0; 16];
        rustix::fs::getxattr(&file, "user.note", &mut value).map(|len| value[..len].to_vec())
    };
    let set = |value: &[u8]| rustix::fs::setxattr(&file, "user.note", value, XattrFlags::empty());
    place.mount(&[]).ok();
    fs::write(&file, "one").unwrap();
    set(b"kept").unwrap();
    place.umount().ok();
    place.mount(&["-o", "noxattr"]).ok();
    assert_eq!(note(), Err(Errno::OPNOTSUPP));
    assert_eq!(set(b"other"), Err(Errno::OPNOTSUPP));
    fs::write(&file, "two").unwrap();
    place.umount().ok();
    place.mount(&[]).ok();
    assert_eq!(note().unwrap(), b"kept");
    assert_eq!(fs::read_to_string(&file).unwrap(), "two");
}

#[test]
fn the_foreground_stays_until_the_unmount() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground();
    fs::write(place.dir().join("a"), "one").unwrap();
    assert!(daemon.process.try_wait().unwrap().is_none());
    place.umount().ok();
    let done = daemon.finish();
    assert_eq!(done.status, 0, "{done:?}");
    assert!(done.err.contains("closed"), "{done:?}");
}

#[test]
fn plain_umount_closes_the_store_too() {
    let mount = Mount::new();
    fs::write(mount.dir().join("a"), "one").unwrap();
    run(Command::new("umount").arg(mount.dir())).ok();
    mount.place.wait_closed();
    wait_until("the log says so", || mount.place.daemon_log().contains("closed"));
    assert_eq!(mount.place.lsmfs("get", &["a"]).ok(), "one");
}

#[test]
fn fusermount_closes_the_store_too() {
    if !common::has("fusermount3") {
        eprintln!("no fusermount3 here: install fuse3 to run this test");
        return;
    }
    let mount = Mount::new();
    fs::write(mount.dir().join("a"), "one").unwrap();
    run(Command::new("fusermount3").arg("-u").arg(mount.dir())).ok();
    mount.place.wait_closed();
    assert_eq!(mount.place.lsmfs("get", &["a"]).ok(), "one");
}

#[test]
fn signals_close_an_idle_mount() {
    for signal in ["TERM", "INT", "HUP"] {
        let mount = Mount::new();
        fs::write(mount.dir().join("a"), signal).unwrap();
        mount.place.signal(signal);
        mount.place.wait_closed();
        assert!(!mount.place.is_mounted());
        // The last that the daemon does, when others have the store again.
        wait_until("the log says so", || mount.place.daemon_log().contains("closed"));
        assert_eq!(mount.place.lsmfs("get", &["a"]).ok(), signal);
    }
}

#[test]
fn a_signal_ends_the_foreground_cleanly() {
    let place = Place::new();
    let daemon = place.mount_in_foreground();
    fs::write(place.dir().join("a"), "one").unwrap();
    place.signal("INT");
    let done = daemon.finish();
    assert_eq!(done.status, 0, "{done:?}");
    assert!(!place.is_mounted());
    assert_eq!(place.lsmfs("get", &["a"]).ok(), "one");
}

#[test]
fn a_signal_detaches_a_busy_mount_and_lets_its_user_finish() {
    let mount = Mount::new();
    let path = mount.dir().join("a");
    let mut open = fs::File::create(&path).unwrap();
    mount.place.signal("TERM");
    wait_until("the mount is detached", || !mount.place.is_mounted());
    mount.place.signal("TERM");
    std::io::Write::write_all(&mut open, b"finished").unwrap();
    drop(open);
    mount.place.wait_closed();
    assert!(mount.place.daemon_log().contains("busy"));
    assert_eq!(mount.place.lsmfs("get", &["a"]).ok(), "finished");
}

#[test]
fn who_mounts_while_the_daemon_waits_for_its_last_user_gets_a_daemon_of_their_own() {
    let mount = Mount::new();
    let place = &mount.place;
    lsmfs(["volume".as_ref(), "create".as_ref(), place.store().as_os_str(), "second".as_ref()]).ok();
    let open = fs::File::create(mount.dir().join("a")).unwrap();
    let ending = place.daemon();
    place.signal("TERM");
    wait_until("the mount is detached", || !place.is_mounted());
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| place.mount(&["--volume=second"]));
        // Time enough for a daemon that would take it.
        (0..20).for_each(|_| _ = place.lsmfs("get", &["a"]).ok());
        drop(open);
        mounting.join().unwrap().ok();
    });
    assert!(place.daemon().is_some() && place.daemon() != ending);
    fs::write(mount.dir().join("f"), b"x").unwrap();
    place.umount().ok();
    assert_eq!(place.lsmfs("get", &["--volume=second", "f"]).ok(), "x");
}

#[test]
fn who_does_not_finish_is_not_waited_for() {
    let mount = Mount::new();
    let open = fs::File::create(mount.dir().join("a")).unwrap();
    mount.place.signal("TERM");
    mount.place.wait_closed();
    assert_eq!(mount.place.lsmfs("get", &["a"]).ok(), "");
    drop(open);
}

#[test]
fn umount_of_a_busy_mount_changes_nothing() {
    let mount = Mount::new();
    let open = fs::File::create(mount.dir().join("a")).unwrap();
    mount.place.umount().fails(1, &["busy", "--lazy", mount.dir().to_str().unwrap()]);
    assert!(mount.place.is_mounted());
    fs::write(mount.dir().join("b"), "still works").unwrap();
    drop(open);
    mount.place.umount().ok();
}

#[test]
fn a_lazy_umount_detaches_at_once() {
    let mount = Mount::new();
    let open = fs::File::create(mount.dir().join("a")).unwrap();
    lsmfs(["umount".as_ref(), "--lazy".as_ref(), mount.dir().as_os_str()]).ok();
    assert!(!mount.place.is_mounted());
    assert!(mount.place.daemon().is_some());
    drop(open);
    mount.place.wait_closed();
}

#[test]
fn what_was_answered_survives_a_killed_daemon_and_the_dead_mount_is_cleared() {
    let mount = Mount::new();
    for number in 0..200 {
        fs::write(mount.dir().join(number.to_string()), number.to_string()).unwrap();
    }
    mount.place.signal("KILL");
    mount.place.wait_closed();
    // Over io_uring the kernel takes the connection down a moment after the daemon's death.
    wait_until("the mount is dead", || {
        let dead = fs::read_dir(mount.dir()).unwrap_err().raw_os_error();
        assert!([libc::ENOTCONN, libc::ECONNABORTED, libc::ECANCELED].map(Some).contains(&dead), "{dead:?}");
        dead == Some(libc::ENOTCONN)
    });
    assert!(mount.place.is_mounted());
    mount.place.mount(&[]).ok();
    for number in 0..200 {
        assert_eq!(fs::read_to_string(mount.dir().join(number.to_string())).unwrap(), number.to_string());
    }
    mount.place.umount().ok();
    assert!(!mount.place.is_mounted(), "the dead mount was still below");
}

#[test]
fn a_daemon_killed_while_files_are_written_loses_none_that_was_closed() {
    let contents = |number: u32| number.to_string().repeat(1 + number as usize % 3000);
    let mount = Mount::new();
    for round in 0..3 {
        let dir = mount.dir().join(round.to_string());
        fs::create_dir(&dir).unwrap();
        let closed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Until the daemon is gone.
                while fs::write(dir.join(closed.load(Relaxed).to_string()), contents(closed.load(Relaxed)))
                    .is_ok()
                {
                    closed.fetch_add(1, Relaxed);
                }
            });
            wait_until("some files are written", || closed.load(Relaxed) > 300);
            mount.place.signal("KILL");
        });
        mount.place.wait_closed();
        mount.place.mount(&[]).ok();
        for number in 0..closed.load(Relaxed) {
            assert_eq!(fs::read_to_string(dir.join(number.to_string())).unwrap(), contents(number));
        }
    }
}

#[test]
fn a_dead_mount_can_be_unmounted() {
    let mount = Mount::new();
    mount.place.signal("KILL");
    mount.place.wait_closed();
    mount.place.umount().ok();
    assert!(!mount.place.is_mounted());
}

#[test]
fn a_remount_while_the_old_daemon_closes_waits_for_it() {
    let mount = Mount::new();
    for round in 0..20 {
        fs::write(mount.dir().join("a"), vec![round; 300_000]).unwrap();
        run(Command::new("umount").arg(mount.dir())).ok();
        mount.place.mount(&[]).ok();
        assert!(mount.place.is_mounted(), "the old daemon took the new mount down");
        assert_eq!(fs::read(mount.dir().join("a")).unwrap(), vec![round; 300_000]);
    }
}

#[test]
fn a_mount_on_top_is_left_alone_by_the_shutdown_below() {
    let mount = Mount::new();
    let other = Place::new();
    // mount(8) itself: lsmfs would refuse.
    let tmpfs = run(Command::new("mount").args(["-t", "tmpfs", "top"]).arg(mount.dir()));
    if tmpfs.status != 0 {
        eprintln!("mounting needs root: {}", tmpfs.err);
        return;
    }
    fs::write(mount.dir().join("top"), "here").unwrap();
    mount.place.signal("TERM");
    mount.place.wait_closed();
    let above = fs::read_to_string(mount.dir().join("top"));
    run(Command::new("umount").arg(mount.dir())).ok();
    assert_eq!(above.unwrap(), "here");
    drop(other);
}

#[test]
fn a_moved_mount_is_found_by_the_shutdown() {
    let mount = Mount::new();
    let bound = mount.place.join("bound");
    fs::create_dir(&bound).unwrap();
    if run(Command::new("mount").arg("--bind").arg(mount.dir()).arg(&bound)).status != 0 {
        eprintln!("mounting needs root");
        return;
    }
    let done = mount.place.umount();
    assert!(done.err.contains("stays mounted"), "{done:?}");
    fs::write(bound.join("a"), "one").unwrap();
    mount.place.signal("TERM");
    mount.place.wait_closed();
    assert_eq!(fs::read_dir(&bound).unwrap().count(), 0);
    assert_eq!(mount.place.lsmfs("get", &["a"]).ok(), "one");
}

#[test]
fn mounting_twice_in_one_place_says_so() {
    let mount = Mount::new();
    mount.place.mount(&[]).fails(1, &["mounted here already", mount.place.store().to_str().unwrap()]);
    let other = mount.place.join("other store");
    let refused = lsmfs(["mount".as_ref(), other.as_os_str(), mount.dir().as_os_str()]);
    refused.fails(1, &["mounted here already"]);
    assert!(!other.exists());
    assert!(mount.place.is_mounted());
}

#[test]
fn the_mount_point_must_be_a_directory() {
    let place = Place::new();
    fs::write(place.dir(), "a file").unwrap();
    place.mount(&[]).fails(1, &["not a directory", place.dir().to_str().unwrap()]);
    assert_eq!(fs::read_to_string(place.dir()).unwrap(), "a file");
}

#[test]
fn the_store_must_be_a_directory_of_its_own() {
    let place = Place::new();
    fs::write(place.store(), "a file").unwrap();
    place.mount(&[]).fails(1, &["not a directory", place.store().to_str().unwrap()]);
    fs::remove_file(place.store()).unwrap();
    fs::create_dir(place.store()).unwrap();
    fs::write(place.store().join("letter.txt"), "mine").unwrap();
    place.mount(&[]).fails(1, &["not an lsmfs store", place.store().to_str().unwrap()]);
    let left: Vec<_> = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["letter.txt"], "something was left in a directory that is no store");
}

#[test]
fn store_and_mount_point_must_not_lie_within_each_other() {
    let place = Place::new();
    let (store, inside) = (place.store(), place.store().join("dir"));
    let words = ["within each other"];
    lsmfs(["mount".as_ref(), store.as_os_str(), inside.as_os_str()]).fails(1, &words);
    lsmfs(["mount".as_ref(), inside.as_os_str(), store.as_os_str()]).fails(1, &words);
    lsmfs(["mount".as_ref(), store.as_os_str(), store.as_os_str()]).fails(1, &words);
    std::os::unix::fs::symlink(place.join("store"), place.join("link")).unwrap();
    fs::create_dir(&store).unwrap();
    lsmfs(["mount".as_ref(), store.as_os_str(), place.join("link").as_os_str()]).fails(1, &words);
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
}

#[test]
fn bad_options_are_wrong_usage() {
    let place = Place::new();
    place.mount(&["-o", "rw,noatme"]).fails(2, &["noatme", "unknown", "--help"]);
    place.mount(&["-o", "threads=many"]).fails(2, &["threads=many", "1 to 64"]);
    assert!(!place.store().exists());
}

#[test]
fn a_missing_fuse_device_is_named() {
    let place = Place::new();
    // In a mount namespace of its own, with little in /dev.
    let script = format!(
        "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec {:?} mount {:?} {:?} 2>&1",
        common::LSMFS,
        place.store(),
        place.dir()
    );
    let done = run(Command::new("unshare").args(["-m", "bash", "-c", &script]));
    if done.err.contains("unshare") {
        eprintln!("needs root: {}", done.err);
        return;
    }
    assert_eq!(done.status, 1, "{done:?}");
    assert!(done.text().contains("/dev/fuse") && done.text().contains("modprobe fuse"), "{done:?}");
    assert!(!place.store().exists());
}

#[test]
fn umount_wants_a_mount_of_ours() {
    let place = Place::new();
    place.umount().fails(1, &["No such file"]);
    fs::create_dir(place.dir()).unwrap();
    place.umount().fails(1, &["nothing is mounted here"]);
    lsmfs(["umount", "/"]).fails(1, &["not an lsmfs store", "use umount"]);
}

/// Remounts as `mount -o remount` does for a mount whose helper is not installed in `/sbin`.
fn remount(place: &Place, options: &str) {
    let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/mount-scripts/mount.fuse.lsmfs");
    let mut command = Command::new("sh");
    command.arg(helper).arg(place.store()).arg(place.dir()).args(["-o", &format!("{options},remount")]);
    run(&mut command).ok();
}

#[test]
fn a_remount_makes_it_read_only_and_writable_again() {
    let mount = Mount::new();
    let (dir, file) = (mount.dir(), mount.dir().join("a"));
    fs::write(&file, "one").unwrap();
    let open = fs::File::options().write(true).open(&file).unwrap();
    // Who has a file open for writing is in the way, as on a disk.
    let busy = run(Command::new("mount").args(["-i", "-o", "remount,ro"]).arg(&dir));
    assert_ne!(busy.status, 0, "{busy:?}");
    assert!(busy.err.contains("busy"), "{busy:?}");
    drop(open);
    remount(&mount.place, "rw,noatime,ro");
    let refused = [
        fs::write(dir.join("b"), "two").unwrap_err(),
        fs::File::options().write(true).open(&file).unwrap_err(),
        fs::remove_file(&file).unwrap_err(),
        fs::create_dir(dir.join("d")).unwrap_err(),
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    remount(&mount.place, "rw");
    fs::write(dir.join("b"), "two").unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(fs::read_to_string(dir.join("b")).unwrap(), "two");
    mount.place.umount().ok();
}
