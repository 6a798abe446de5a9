//! Writes that ask for more than to be written, on a real mount: to be durable when they are answered, to pass
//! by the kernel's cache, to go to the end whoever else writes there.

mod common;

use common::Mount;
use rustix::fs::{Mode, OFlags, open};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};

const PAGE: usize = 4096;

/// How often the log was synced.
fn syncs(mount: &Mount) -> u64 {
    let stats = fs::read(mount.dir().join(".lsmfs/stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    stats["disk"]["log_syncs"].as_u64().unwrap()
}

fn open_with(mount: &Mount, name: &str, flags: OFlags) -> File {
    let flags = flags | OFlags::RDWR | OFlags::CREATE;
    File::from(open(mount.dir().join(name), flags, Mode::from_raw_mode(0o644)).unwrap())
}

/// A page of one byte, where direct I/O can take it from.
#[repr(align(4096))]
struct Page([u8; PAGE]);

#[test]
fn each_write_of_a_synchronous_file_is_synced_before_its_answer() {
    let mount = Mount::new();
    let flags = [OFlags::SYNC, OFlags::DSYNC, OFlags::DIRECT | OFlags::DSYNC, OFlags::DIRECT | OFlags::SYNC];
    for (number, flags) in flags.into_iter().enumerate() {
        let file = open_with(&mount, "file", flags);
        for page in 0..5 {
            // Nobody else asks for syncs: at most the one of the second comes in between.
            let before = syncs(&mount);
            file.write_all_at(&Page([number as u8 + 1; PAGE]).0, page * PAGE as u64).unwrap();
            assert!(syncs(&mount) > before, "{flags:?}, page {page}");
        }
    }
    mount.crash();
    assert_eq!(fs::read(mount.dir().join("file")).unwrap(), [flags.len() as u8; 5 * PAGE]);
}

#[test]
fn direct_and_cached_readers_and_writers_agree() {
    let mount = Mount::new();
    let cached = open_with(&mount, "file", OFlags::empty());
    let direct = open_with(&mount, "file", OFlags::DIRECT);
    let mut page = Page([0; PAGE]);
    for number in 1..40_u8 {
        let at = u64::from(number % 20) * PAGE as u64;
        cached.write_all_at(&[number; PAGE], at).unwrap();
        direct.read_exact_at(&mut page.0, at).unwrap();
        assert_eq!(page.0, [number; PAGE]);
        direct.write_all_at(&Page([number | 128; PAGE]).0, at).unwrap();
        let mut seen = [0; PAGE];
        cached.read_exact_at(&mut seen, at).unwrap();
        assert_eq!(seen, [number | 128; PAGE]);
    }
}

/// Maps `len` bytes of a file, hands them to `use_it`, and unmaps them.
fn with_map<R>(file: &File, len: usize, flags: MapFlags, use_it: impl FnOnce(*mut u8) -> R) -> R {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the address is the kernel's choice, so the mapping takes no memory that Rust knows of.
    let start = unsafe { mmap(std::ptr::null_mut(), len, rights, flags, file, 0) }.unwrap();
    let result = use_it(start.cast());
    // SAFETY: the mapping made above, whole; `use_it`, which alone knew of it, has returned.
    unsafe { munmap(start, len) }.unwrap();
    result
}

#[test]
fn what_msync_and_fsync_answered_of_a_mapping_outlives_the_daemon() {
    let mount = Mount::new();
    let len = 20 * PAGE;
    let file = open_with(&mount, "file", OFlags::empty());
    file.set_len(len as u64).unwrap();
    with_map(&file, len, MapFlags::SHARED, |start| {
        for (page, value) in [(0, 1), (7, 2), (19, 3)] {
            let before = syncs(&mount);
            // SAFETY: within the mapping, which the file is as long as; nobody else touches it.
            unsafe { start.add(page * PAGE).write_bytes(value, PAGE) };
            match value {
                // SAFETY: the mapping, whole.
                1 => unsafe { msync(start.cast(), len, MsyncFlags::SYNC) }.unwrap(),
                2 => file.sync_data().unwrap(),
                _ => file.sync_all().unwrap(),
            }
            assert!(syncs(&mount) > before);
        }
    });
    // What is changed in a private mapping stays there.
    with_map(&file, len, MapFlags::PRIVATE, |start| {
        // SAFETY: as above.
        unsafe { start.write_bytes(9, len) };
        file.sync_all().unwrap();
    });
    drop(file);
    mount.crash();
    let mut wanted = vec![0; len];
    for (page, value) in [(0, 1), (7, 2), (19, 3)] {
        wanted[page * PAGE..][..PAGE].fill(value);
    }
    assert!(fs::read(mount.dir().join("file")).unwrap() == wanted);
}

#[test]
fn what_many_processes_append_is_all_there_in_whole_lines() {
    const PROCESSES: usize = 6;
    const LINES: usize = 150;
    let mount = Mount::new();
    let script = format!("for i in $(seq {LINES}); do echo \"$0 $i {}\"; done >> all", "x".repeat(90));
    let appenders: Vec<_> = (0..PROCESSES)
        .map(|who| {
            let mut command = Command::new("sh");
            command.args(["-c", &script, &who.to_string()]).current_dir(mount.dir()).stdin(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut appender in appenders {
        assert!(appender.wait().unwrap().success());
    }
    mount.remount();
    let text = fs::read_to_string(mount.dir().join("all")).unwrap();
    let mut next = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [who, number, rest] = words[..] else { panic!("not a whole line: {line:?}") };
        assert_eq!(rest.len(), 90, "{line:?}");
        let next = next.entry(who.to_string()).or_insert(1);
        assert_eq!(number.parse::<usize>().unwrap(), *next, "of {who}");
        *next += 1;
    }
    assert_eq!(next.len(), PROCESSES);
    assert!(next.values().all(|&next| next == LINES + 1));
}

#[test]
fn inode_numbers_last() {
    let mount = Mount::new();
    let dir = mount.dir();
    fs::create_dir(dir.join("d")).unwrap();
    File::create(dir.join("d/file")).unwrap().write_all(b"contents").unwrap();
    fs::hard_link(dir.join("d/file"), dir.join("other")).unwrap();
    std::os::unix::fs::symlink("d", dir.join("link")).unwrap();
    let number = |name: &str| fs::symlink_metadata(dir.join(name)).unwrap().ino();
    let numbers = || ["", "d", "d/file", "other", "link"].map(number);
    let before = numbers();
    assert_eq!(before[2], before[3]);
    mount.remount();
    assert_eq!(numbers(), before);
    mount.crash();
    assert_eq!(numbers(), before);
    fs::rename(dir.join("d"), dir.join("e")).unwrap();
    fs::rename(dir.join("e"), dir.join("d")).unwrap();
    assert_eq!(numbers(), before);
}
