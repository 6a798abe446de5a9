//! Many processes at once in the same few directories of a mount: they create, write, link, rename, remove,
//! truncate and list. Afterwards the tree, the link counts and the contents must be what they were told,
//! also after a remount and after the daemon was killed.
//!
//! `LSMFS_STRESS_SECONDS` says how long they work (3 without it).

mod common;

use common::Mount;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROCESSES: u32 = 16;

/// Directories that all work in.
const DIRS: [&str; 3] = ["A", "B", "C"];

/// Names in each of them that nobody touches: every listing shows each once.
const STILL: usize = 200;

/// Files that are appended to, linked and moved, but neither cut nor removed.
const KEPT: u32 = 8;

/// What a process is told by the test that starts it.
const WORK_IN: &str = "LSMFS_STRESS_WORK_IN";

/// The bytes of one record: who wrote it, its number, and both once more, inverted.
const RECORD: usize = 16;

fn record(who: u32, number: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    for (field, value) in bytes.chunks_mut(4).zip([who, number, !who, !number]) {
        field.copy_from_slice(&value.to_be_bytes());
    }
    bytes
}

/// Reads a record; `None` for zeros, which a truncation leaves.
fn read_record(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes == [0; RECORD] {
        return None;
    }
    let field = |i: usize| u32::from_be_bytes(bytes[i * 4..i * 4 + 4].try_into().unwrap());
    let (who, number) = (field(0), field(1));
    assert_eq!(record(who, number), bytes, "a record that nobody wrote");
    Some((who, number))
}

fn check_record(bytes: &[u8]) {
    let _ = read_record(bytes);
}

/// A sequence of numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as u32 % n
    }
}

/// Did it happen? What the others do may prevent it, nothing else.
fn happened<T>(done: Result<T, Errno>) -> Option<T> {
    let races =
        [Errno::NOENT, Errno::EXIST, Errno::NOTEMPTY, Errno::INVAL, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP];
    match done {
        Ok(value) => Some(value),
        Err(e) if races.contains(&e) => None,
        Err(e) => panic!("{e}"),
    }
}

/// One of the processes.
struct Worker {
    dice: Dice,
    who: u32,
    appended: u32,
    /// Names of files, and directories, made less those removed.
    files: i64,
    dirs: i64,
    /// Records that were acknowledged, by the file they are in.
    kept: Vec<(u32, u32)>,
    operations: u64,
}

impl Worker {
    /// A directory, or one in it that may be there.
    fn dir(&mut self) -> PathBuf {
        let dir = PathBuf::from(DIRS[self.dice.below(3) as usize]);
        if self.dice.below(3) == 0 { dir.join(format!("d{}", self.dice.below(4))) } else { dir }
    }

    fn scratch(&mut self) -> PathBuf {
        let dir = self.dir();
        dir.join(format!("s{}", self.dice.below(12)))
    }

    fn kept(&mut self) -> PathBuf {
        Path::new(DIRS[self.dice.below(3) as usize]).join(format!("k{}", self.dice.below(3 * KEPT)))
    }

    fn own(&self) -> PathBuf {
        Path::new("A").join(format!("own{}", self.who))
    }

    fn step(&mut self) {
        self.operations += 1;
        match self.dice.below(16) {
            0 | 1 => self.create(),
            2 => self.link(),
            3 | 4 => self.unlink(),
            5 => self.rename(RenameFlags::NOREPLACE),
            6 => self.rename(RenameFlags::EXCHANGE),
            7 => self.replace_own(),
            8 => self.make_or_remove_dir(),
            9 => self.move_dir(),
            10 => self.truncate(),
            11 => self.list(),
            12 => self.write_scratch(),
            13 => self.move_kept(),
            _ => self.append_kept(),
        }
    }

    fn create(&mut self) {
        let path = self.scratch();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let Some(file) = happened(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))) else { return };
        self.files += 1;
        let records = self.dice.below(1000);
        let data: Vec<u8> = (0..records).flat_map(|number| record(self.who, number)).collect();
        assert_eq!(rustix::io::write(&file, &data).unwrap(), data.len());
    }

    fn link(&mut self) {
        let (from, to) = (self.scratch(), self.scratch());
        self.files += i64::from(happened(rustix::fs::link(&from, &to)).is_some());
    }

    fn unlink(&mut self) {
        let path = self.scratch();
        self.files -= i64::from(happened(rustix::fs::unlink(&path)).is_some());
    }

    fn rename(&mut self, flags: RenameFlags) {
        let (from, to) = (self.scratch(), self.scratch());
        happened(rustix::fs::renameat_with(CWD, &from, CWD, &to, flags));
    }

    /// Moves a file that all know over one of this process alone, which is then gone.
    fn replace_own(&mut self) {
        let (from, own) = (self.scratch(), self.own());
        std::fs::write(&own, record(self.who, 0)).unwrap();
        // It had one name and now has none: no name more or less than before the rename.
        happened(rustix::fs::rename(&from, &own)).inspect(|()| self.files -= 1);
        rustix::fs::unlink(&own).unwrap();
    }

    fn make_or_remove_dir(&mut self) {
        let dir = self.dir().join(format!("d{}", self.dice.below(4)));
        if self.dice.below(3) > 0 {
            let made = happened(rustix::fs::mkdir(&dir, Mode::from_raw_mode(0o755)));
            self.dirs += i64::from(made.is_some());
        } else {
            self.dirs -= i64::from(happened(rustix::fs::rmdir(&dir)).is_some());
        }
    }

    fn move_dir(&mut self) {
        let (from, to) = (self.dir(), self.dir());
        let (from, to) =
            (from.join(format!("d{}", self.dice.below(4))), to.join(format!("d{}", self.dice.below(4))));
        happened(rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE));
    }

    fn truncate(&mut self) {
        let path = self.scratch();
        let Some(file) = happened(rustix::fs::open(&path, OFlags::WRONLY, Mode::empty())) else { return };
        rustix::fs::ftruncate(&file, u64::from(self.dice.below(1000)) * RECORD as u64).unwrap();
    }

    fn write_scratch(&mut self) {
        let path = self.scratch();
        let Some(file) = happened(rustix::fs::open(&path, OFlags::RDWR, Mode::empty())) else { return };
        let at = u64::from(self.dice.below(6000)) * RECORD as u64;
        let bytes = record(self.who, self.dice.below(1000));
        assert_eq!(rustix::io::pwrite(&file, &bytes, at).unwrap(), RECORD);
        let mut read = vec![0; 4096];
        let read = rustix::io::pread(&file, &mut read[..], at).map(|len| &read[..len]).unwrap();
        read.chunks_exact(RECORD).for_each(check_record);
    }

    fn move_kept(&mut self) {
        let (from, to) = (self.kept(), self.kept());
        let flags = if self.dice.below(2) == 0 { RenameFlags::NOREPLACE } else { RenameFlags::EXCHANGE };
        happened(rustix::fs::renameat_with(CWD, &from, CWD, &to, flags));
    }

    fn append_kept(&mut self) {
        let path = self.kept();
        let flags = OFlags::RDWR | OFlags::APPEND;
        let Some(file) = happened(rustix::fs::open(&path, flags, Mode::empty())) else { return };
        let mut first = [0; RECORD];
        assert_eq!(rustix::io::pread(&file, &mut first, 0).unwrap(), RECORD);
        let (_, id) = read_record(&first).unwrap();
        self.appended += 1;
        let bytes = record(self.who, self.appended);
        assert_eq!(rustix::io::write(&file, &bytes).unwrap(), RECORD);
        self.kept.push((id, self.appended));
    }

    /// Lists a directory: what was there throughout is there, once.
    fn list(&mut self) {
        let dir = DIRS[self.dice.below(3) as usize];
        let dir = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut names = BTreeSet::new();
        for entry in rustix::fs::Dir::read_from(dir).unwrap() {
            let name = entry.unwrap().file_name().to_owned();
            assert!(names.insert(name.clone()), "{name:?} was listed twice");
        }
        let still = names.iter().filter(|name| name.to_bytes().starts_with(b"still")).count();
        assert_eq!(still, STILL);
    }
}

/// Not a test by itself: what each process does.
#[test]
#[ignore = "started by the other test"]
fn work() {
    let Ok(told) = std::env::var(WORK_IN) else { return };
    let told: Vec<&str> = told.split(',').collect();
    let (who, seconds): (u32, u64) = (told[1].parse().unwrap(), told[2].parse().unwrap());
    std::env::set_current_dir(told[0]).unwrap();
    let dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (u64::from(who) + 1) << 20);
    let mut worker = Worker { dice, who, appended: 0, files: 0, dirs: 0, kept: Vec::new(), operations: 0 };
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        worker.step();
    }
    let mut report = std::fs::File::create(told[3]).unwrap();
    writeln!(report, "{} {} {}", worker.files, worker.dirs, worker.operations).unwrap();
    worker.kept.iter().for_each(|(id, number)| writeln!(report, "{id} {number}").unwrap());
}

/// What the processes were told.
#[derive(Debug, Default)]
struct Acknowledged {
    files: i64,
    dirs: i64,
    operations: u64,
    /// By file: who appended which record.
    kept: BTreeMap<u32, BTreeSet<(u32, u32)>>,
}

impl Acknowledged {
    fn add(&mut self, who: u32, report: &str) {
        let mut lines = report.lines().map(|line| line.split(' ').map(|word| word.parse::<i64>().unwrap()));
        let mut counts = lines.next().unwrap();
        self.files += counts.next().unwrap();
        self.dirs += counts.next().unwrap();
        self.operations += counts.next().unwrap() as u64;
        for mut line in lines {
            let (id, number) = (line.next().unwrap() as u32, line.next().unwrap() as u32);
            self.kept.entry(id).or_default().insert((who, number));
        }
    }
}

/// A file of the tree: its inode number, links, size, and the hash of its contents.
type Seen = (u64, u64, u64, u64);

/// Walks the mount and checks it against what was acknowledged. Returns all that was seen.
fn check(root: &Path, told: &Acknowledged) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let (mut files, mut dirs, mut kept) = (0, 0, BTreeMap::new());
    let mut names: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut ways = vec![root.to_path_buf()];
    while let Some(dir) = ways.pop() {
        let mut below = 0;
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let mut hash = 0;
            if meta.is_dir() {
                below += 1;
                dirs += 1;
                ways.push(path.clone());
            } else {
                let contents = std::fs::read(&path).unwrap();
                assert_eq!(contents.len() as u64, meta.len(), "{path:?}");
                hash = contents.iter().fold(7u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte));
                names.entry(meta.ino()).or_insert((meta.nlink(), 0)).1 += 1;
                match path.file_name().unwrap().as_encoded_bytes()[0] {
                    b'k' => drop(kept.insert(meta.ino(), contents)),
                    b's' if contents != b"still" => {
                        files += 1;
                        contents.chunks(RECORD).for_each(check_record);
                    }
                    _ => assert_eq!(contents, b"still", "{path:?}"),
                }
            }
            seen.insert(path, (meta.ino(), meta.nlink(), meta.len(), hash));
        }
        let links = std::fs::symlink_metadata(&dir).unwrap().nlink();
        assert_eq!(links, 2 + below, "links of {dir:?}");
    }
    for (ino, (links, found)) in names {
        assert_eq!(links, found, "links of inode {ino}");
    }
    assert_eq!((files, dirs - DIRS.len() as i64), (told.files, told.dirs), "names of files and directories");
    assert_eq!(kept.len(), KEPT as usize);
    for contents in kept.into_values() {
        let mut records = contents.chunks_exact(RECORD).map(|record| read_record(record).unwrap());
        let (_, id) = records.next().unwrap();
        let (mut found, mut last) = (BTreeSet::new(), BTreeMap::new());
        for (who, number) in records {
            assert!(found.insert((who, number)), "a record stands twice in {id}");
            assert!(last.insert(who, number).is_none_or(|before| before < number), "records out of order");
        }
        assert_eq!(found, told.kept.get(&id).cloned().unwrap_or_default(), "records of {id}");
    }
    seen
}

/// Makes what is there from the start.
fn prepare(root: &Path) {
    for dir in DIRS {
        std::fs::create_dir(root.join(dir)).unwrap();
        for i in 0..STILL {
            std::fs::write(root.join(dir).join(format!("still{i}")), "still").unwrap();
        }
    }
    for id in 0..KEPT {
        std::fs::write(root.join(DIRS[id as usize % 3]).join(format!("k{id}")), record(0, id)).unwrap();
    }
}

#[test]
fn what_many_processes_were_told_is_there() {
    let seconds = std::env::var("LSMFS_STRESS_SECONDS").unwrap_or("3".to_string());
    let mount = Mount::new();
    let root = mount.dir();
    prepare(&root);
    let report = |who: u32| mount.place.join(&format!("report{who}"));
    let running: Vec<_> = (1..=PROCESSES)
        .map(|who| {
            let told = format!("{},{who},{seconds},{}", root.display(), report(who).display());
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "--ignored", "work"]).env(WORK_IN, told);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let done: Vec<_> = running.into_iter().map(|process| process.wait_with_output().unwrap()).collect();
    for output in done {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let mut told = Acknowledged::default();
    (1..=PROCESSES).for_each(|who| told.add(who, &std::fs::read_to_string(report(who)).unwrap()));
    assert!(told.operations > 1000);
    println!("{} operations", told.operations);
    let seen = check(&root, &told);
    mount.remount();
    assert_eq!(check(&root, &told), seen);
    mount.crash();
    assert_eq!(check(&root, &told), seen);
}
