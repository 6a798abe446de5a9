//! What every disk must do: one suite for all of them, run on an empty disk.

use super::{Disk, DiskError, Object};
use std::io::ErrorKind;
use std::sync::Arc;

/// Runs the suite; `disk` is empty.
pub(super) fn run(disk: &dyn Disk) {
    assert_eq!(names(disk), Vec::<String>::new());
    objects(disk);
    put_if_absent(disk);
    unfinished_objects(disk);
    logs(disk);
    rewritten_logs(disk);
    reused_logs(disk);
    ranges(disk);
    deleted_files_stay_readable(disk);
    lost_files(disk);
    bad_names(disk);
    concurrent_log_writes(disk);
    let space = disk.space().unwrap();
    assert!(space.total >= space.free && space.free >= space.available && space.available > 0);
    assert_eq!(names(disk), Vec::<String>::new(), "each test cleans up");
}

/// Writes a whole object.
pub(super) fn put(disk: &dyn Disk, name: &str, contents: &[u8]) {
    let mut writer = disk.create(name).unwrap();
    writer.write(contents).unwrap();
    writer.finish().unwrap();
}

/// Reads a whole file.
pub(super) fn get(disk: &dyn Disk, name: &str) -> Vec<u8> {
    read_all(&disk.open(name).unwrap())
}

/// The names of all files, in order.
pub(super) fn names(disk: &dyn Disk) -> Vec<String> {
    let mut names: Vec<String> = disk.list().unwrap().into_iter().map(|file| file.name).collect();
    names.sort();
    names
}

fn read_all(object: &Arc<dyn Object>) -> Vec<u8> {
    let len = object.len().unwrap() as usize;
    object.read_at(0, len).unwrap().to_vec()
}

fn kind<T>(result: Result<T, DiskError>) -> Option<ErrorKind> {
    result.err().map(|e| e.source.kind())
}

fn objects(disk: &dyn Disk) {
    // In pieces around and beyond a write buffer.
    let contents: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = disk.create("big").unwrap();
    let mut rest = contents.as_slice();
    for len in [0, 1, 1_000_000, 48_575, 1, 1 << 20, 7, 2_000_000] {
        let (piece, after) = rest.split_at(len);
        writer.write(piece).unwrap();
        rest = after;
    }
    writer.write(rest).unwrap();
    assert_eq!(names(disk), Vec::<String>::new(), "no name before it is finished");
    assert!(disk.open("big").err().unwrap().is_not_found());
    writer.finish().unwrap();
    assert!(get(disk, "big") == contents);
    let listed = disk.list().unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].len), (1, "big", 5_000_000));

    put(disk, "empty", b"");
    assert!(disk.open("empty").unwrap().is_empty().unwrap());
    disk.delete("empty").unwrap();
    disk.delete("big").unwrap();
}

fn put_if_absent(disk: &dyn Disk) {
    put(disk, "object", b"first");
    let mut second = disk.create("object").unwrap();
    second.write(b"second").unwrap();
    assert_eq!(kind(second.finish()), Some(ErrorKind::AlreadyExists));
    assert_eq!(get(disk, "object"), b"first");
    // Two at once: one wins.
    disk.delete("object").unwrap();
    let (mut one, mut other) = (disk.create("object").unwrap(), disk.create("object").unwrap());
    one.write(b"one").unwrap();
    other.write(b"other").unwrap();
    other.finish().unwrap();
    assert_eq!(kind(one.finish()), Some(ErrorKind::AlreadyExists));
    assert_eq!(get(disk, "object"), b"other");
    disk.delete("object").unwrap();
}

fn unfinished_objects(disk: &dyn Disk) {
    let mut writer = disk.create("dropped").unwrap();
    writer.write(b"something").unwrap();
    drop(writer);
    assert!(disk.open("dropped").err().unwrap().is_not_found());
    assert!(disk.delete("dropped").err().unwrap().is_not_found());
    put(disk, "dropped", b"now whole");
    assert_eq!(get(disk, "dropped"), b"now whole");
    disk.delete("dropped").unwrap();
}

fn logs(disk: &dyn Disk) {
    let log = disk.create_log("log").unwrap();
    assert_eq!(kind(disk.create_log("log")), Some(ErrorKind::AlreadyExists));
    assert_eq!(names(disk), ["log"]);
    let reader = disk.open("log").unwrap();
    log.write_at(0, b"hello").unwrap();
    log.sync().unwrap();
    assert_eq!(read_all(&reader), b"hello", "a reader sees what is written after it was opened");
    log.write_at(8, b"gap").unwrap();
    assert_eq!(read_all(&reader), b"hello\0\0\0gap");
    log.write_at(1, b"ipp").unwrap();
    log.truncate(5).unwrap();
    assert_eq!(read_all(&reader), b"hippo");
    log.truncate(7).unwrap();
    assert_eq!(read_all(&reader), b"hippo\0\0");
    log.write_at(7, b"").unwrap();
    assert_eq!(reader.len().unwrap(), 7);
    log.sync().unwrap();
    disk.sync_dir().unwrap();
    disk.delete("log").unwrap();
    log.write_at(0, b"nobody reads it").unwrap();
    disk.sync_dir().unwrap();
}

fn rewritten_logs(disk: &dyn Disk) {
    assert!(disk.rewrite_log("log", b"").err().unwrap().is_not_found());
    let log = disk.create_log("log").unwrap();
    log.write_at(0, b"whole, torn").unwrap();
    disk.rewrite_log("log", b"whole").unwrap();
    assert_eq!(get(disk, "log"), b"whole");
    log.write_at(5, b"!").unwrap();
    assert_eq!(get(disk, "log"), b"whole!");
    disk.delete("log").unwrap();
}

fn reused_logs(disk: &dyn Disk) {
    assert!(disk.reuse_log("old", "new").err().unwrap().is_not_found());
    for name in ["old", "taken"] {
        disk.create_log(name).unwrap().write_at(0, name.as_bytes()).unwrap();
    }
    assert_eq!(kind(disk.reuse_log("old", "taken")), Some(ErrorKind::AlreadyExists));
    assert_eq!((get(disk, "old"), get(disk, "taken")), (b"old".to_vec(), b"taken".to_vec()));
    let log = disk.reuse_log("old", "new").unwrap();
    assert_eq!(names(disk), ["new", "taken"]);
    log.write_at(0, b"s").unwrap();
    log.sync().unwrap();
    assert_eq!(get(disk, "new"), b"sld", "it keeps what is not written over");
    disk.delete("new").unwrap();
    disk.delete("taken").unwrap();
}

fn ranges(disk: &dyn Disk) {
    put(disk, "object", b"0123456789");
    let object = disk.open("object").unwrap();
    assert_eq!(&object.read_at(3, 4).unwrap()[..], b"3456");
    assert_eq!(&object.read_at(0, 10).unwrap()[..], b"0123456789");
    assert!(object.read_at(10, 0).unwrap().is_empty());
    for (offset, len) in [(3, 8), (10, 1), (11, 1), (0, 1 << 40), (u64::MAX, 1), (u64::MAX - 3, 100)] {
        let read = object.read_at(offset, len);
        assert_eq!(kind(read), Some(ErrorKind::UnexpectedEof), "{len} bytes at {offset}");
    }
    let error = object.read_at(10, 1).unwrap_err().to_string();
    assert!(error.starts_with("read object: "), "{error}");
    disk.delete("object").unwrap();
}

fn deleted_files_stay_readable(disk: &dyn Disk) {
    put(disk, "object", b"still here");
    let object = disk.open("object").unwrap();
    disk.delete("object").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(names(disk), Vec::<String>::new());
    put(disk, "object", b"another one");
    assert_eq!(read_all(&object), b"still here");
    assert_eq!(get(disk, "object"), b"another one");
    disk.delete("object").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(read_all(&object), b"still here");
}

fn lost_files(disk: &dyn Disk) {
    for contents in [b"one", b"two"] {
        put(disk, "stray", contents);
        disk.move_to_lost("stray").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(names(disk), Vec::<String>::new());
        assert!(disk.open("stray").err().unwrap().is_not_found());
    }
    assert!(disk.move_to_lost("stray").err().unwrap().is_not_found());
}

fn bad_names(disk: &dyn Disk) {
    let long = "n".repeat(201);
    for name in ["", ".", "..", "a/b", "/a", "a\0b", "LOCK", "daemon.log", "lost", "a.lsmfs.tmp", &long] {
        let failures = [
            kind(disk.create(name)),
            kind(disk.open(name)),
            kind(disk.create_log(name)),
            kind(disk.rewrite_log(name, b"")),
            kind(disk.delete(name)),
            kind(disk.move_to_lost(name)),
        ];
        assert_eq!(failures, [Some(ErrorKind::InvalidInput); 6], "{name:?}");
    }
    put(disk, &long[1..], b"just fits");
    disk.move_to_lost(&long[1..]).unwrap();
}

fn concurrent_log_writes(disk: &dyn Disk) {
    const THREADS: u8 = 4;
    const ROUNDS: u64 = 200;
    let log = disk.create_log("log").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = log.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let offset = (round * u64::from(THREADS) + u64::from(thread)) * 10;
                    log.write_at(offset, &[thread; 10]).unwrap();
                    if round % 50 == 0 {
                        log.sync().unwrap();
                    }
                }
            });
        }
    });
    let contents = get(disk, "log");
    assert_eq!(contents.len() as u64, ROUNDS * u64::from(THREADS) * 10);
    for (index, piece) in contents.chunks(10).enumerate() {
        assert_eq!(piece, [(index % THREADS as usize) as u8; 10]);
    }
    disk.delete("log").unwrap();
}
