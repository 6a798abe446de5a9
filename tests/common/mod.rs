//! What the tests of the command line and of real mounts share.
#![allow(dead_code, reason = "each test file uses a part")]

use lsmfs::disk::lock::StoreLock;
use lsmfs::fs::mount::table;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The command under test.
pub const LSMFS: &str = env!("CARGO_BIN_EXE_lsmfs");

/// Longer than anything here takes: a test that hangs fails instead.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    pub status: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Done {
    /// The output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Insists that it went well and returns the output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Insists that it failed with `status` and one line on standard error that has all of `words`.
    #[track_caller]
    pub fn fails(self, status: i32, words: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "one line was wanted: {self:?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {:?}", self.err);
        }
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let status = output.status.code().unwrap_or(-1);
        Done { status, out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

/// Runs lsmfs.
pub fn lsmfs<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Done {
    run(Command::new(LSMFS).args(args))
}

/// Runs lsmfs with `input` on its standard input.
pub fn lsmfs_fed<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Done {
    let mut command = Command::new(LSMFS);
    let child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap().into()
    })
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Done {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}")).into()
}

/// Runs a shell script in `dir` and insists that each of its commands goes well.
#[track_caller]
pub fn sh(dir: &Path, script: &str) -> String {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(dir)).ok()
}

/// The names in a directory, in order.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// Several at once make, read, rename and remove files, each with names of its own in one directory that is made, and list
/// it: each finds just what it has left there itself.
#[track_caller]
pub fn change_and_list_together(dir: &Path) {
    const CLIENTS: usize = 6;
    const FILES: usize = 300;
    let work = |client: usize| {
        for number in 0..FILES {
            let (name, moved) = (format!("{client}-{number}"), format!("{client}-{number}-moved"));
            let contents = name.repeat(1 + number % 2000);
            fs::write(dir.join(&name), &contents).unwrap();
            assert_eq!(fs::read_to_string(dir.join(&name)).unwrap(), contents);
            fs::rename(dir.join(&name), dir.join(&moved)).unwrap();
            assert!(fs::metadata(dir.join(&name)).is_err());
            match number % 3 {
                0 => fs::remove_file(dir.join(&moved)).unwrap(),
                _ => assert_eq!(fs::metadata(dir.join(&moved)).unwrap().len(), contents.len() as u64),
            }
            if number % 10 == 0 {
                let mine = format!("{client}-");
                let listed: Vec<_> = names(dir).into_iter().filter(|name| name.starts_with(&mine)).collect();
                let left = (0..=number).filter(|number| number % 3 != 0);
                let mut left: Vec<_> = left.map(|number| format!("{client}-{number}-moved")).collect();
                left.sort();
                assert_eq!(listed, left);
            }
        }
    };
    fs::create_dir(dir).unwrap();
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|client| _ = scope.spawn(move || work(client)));
    });
    assert_eq!(names(dir).len(), CLIENTS * (FILES - FILES.div_ceil(3)));
}

/// Waits until `condition` holds: for what other processes do there is nothing to wait on.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `lsmfs umount`, again for a while where somebody uses the mount: whatever is open here is open in each program, too,
/// that another test of this process is just starting.
pub fn umount(dir: &Path) -> Done {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let done = lsmfs([OsStr::new("umount"), dir.as_os_str()]);
        if !done.err.contains(": busy: ") || Instant::now() >= deadline {
            return done;
        }
    }
}

/// Is the program there?
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Options of every mount: those in `LSMFS_MOUNT_OPTIONS`.
fn more_options() -> Vec<OsString> {
    let options = std::env::var_os("LSMFS_MOUNT_OPTIONS").filter(|options| !options.is_empty());
    options.map_or_else(Vec::new, |options| vec!["-o".into(), options])
}

/// A place for a store and a mount point, gone at the end of the test.
#[derive(Debug)]
pub struct Place {
    root: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { root: tempfile::tempdir().unwrap() }
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.join("store")
    }

    pub fn dir(&self) -> PathBuf {
        self.join("dir")
    }

    /// Runs lsmfs with the store as the first argument after `command`.
    pub fn lsmfs(&self, command: &str, args: &[&str]) -> Done {
        let store = self.store();
        lsmfs([OsStr::new(command), store.as_os_str()].into_iter().chain(args.iter().map(OsStr::new)))
    }

    /// `lsmfs mount`, with options.
    pub fn mount(&self, options: &[&str]) -> Done {
        require_fuse();
        let (store, dir) = (self.store(), self.dir());
        let paths = [store.as_os_str(), dir.as_os_str()];
        let options = more_options().into_iter().chain(options.iter().map(OsString::from));
        lsmfs([OsString::from("mount")].into_iter().chain(options).chain(paths.map(OsString::from)))
    }

    /// `lsmfs umount`.
    pub fn umount(&self) -> Done {
        umount(&self.dir())
    }

    /// Is something mounted on the directory?
    pub fn is_mounted(&self) -> bool {
        let dir = self.dir();
        table::read().unwrap().iter().any(|entry| entry.mount_point == dir)
    }

    /// The process that has the store open.
    pub fn daemon(&self) -> Option<u32> {
        StoreLock::owner(&self.store()).unwrap().and_then(|owner| owner.pid)
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.daemon().expect("a daemon has the store open");
        run(Command::new("kill").args([&format!("-{name}"), &pid.to_string()])).ok();
    }

    /// Waits until nobody has the store open.
    #[track_caller]
    pub fn wait_closed(&self) {
        wait_until("the store is closed", || StoreLock::owner(&self.store()).unwrap().is_none());
    }

    /// What the daemons in the background had to say.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.store().join("daemon.log")).unwrap_or_default()
    }

    /// `lsmfs mount -f`, as a process of this test.
    pub fn mount_in_foreground(&self) -> Foreground {
        require_fuse();
        let mut command = Command::new(LSMFS);
        command.args(["mount", "-f"]).args(more_options()).arg(self.store()).arg(self.dir());
        let process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the mount is there", || self.is_mounted());
        Foreground { process }
    }
}

impl Drop for Place {
    /// Leaves neither mounts nor daemons behind, also when the test failed.
    fn drop(&mut self) {
        let daemon = self.daemon();
        for _ in 0..8 {
            if !self.is_mounted() {
                break;
            }
            let dir = self.dir();
            let left = run(Command::new(LSMFS).arg("umount").arg(&dir));
            if left.status != 0 {
                run(Command::new("umount").arg("-l").arg(&dir));
            }
        }
        if let Some(pid) = daemon.filter(|pid| Some(*pid) == self.daemon()) {
            run(Command::new("kill").args(["-9", &pid.to_string()]));
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.daemon_log());
        }
    }
}

/// A daemon in the foreground; ended with the test.
pub struct Foreground {
    pub process: Child,
}

impl Foreground {
    /// Waits for its end.
    pub fn finish(mut self) -> Done {
        let stderr = self.process.stderr.take();
        let status = self.process.wait().unwrap().code().unwrap_or(-1);
        let err = stderr.map(|mut pipe| {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut pipe, &mut text).unwrap();
            text
        });
        Done { status, out: Vec::new(), err: err.unwrap_or_default() }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// A store mounted in the background on a directory of its own, unmounted at the end of the test.
#[derive(Debug)]
pub struct Mount {
    pub place: Place,
}

impl Mount {
    /// Mounts a new store.
    #[track_caller]
    pub fn new() -> Mount {
        Mount::with(&[])
    }

    /// Mounts a new store with options.
    #[track_caller]
    pub fn with(options: &[&str]) -> Mount {
        let place = Place::new();
        place.mount(options).ok();
        Mount { place }
    }

    /// The directory it is mounted on.
    pub fn dir(&self) -> PathBuf {
        self.place.dir()
    }

    /// Unmounts it and mounts it again.
    #[track_caller]
    pub fn remount(&self) {
        self.place.umount().ok();
        self.place.mount(&[]).ok();
    }

    /// Kills the daemon and mounts the store again.
    #[track_caller]
    pub fn crash(&self) {
        self.place.signal("KILL");
        self.place.wait_closed();
        self.place.mount(&[]).ok();
    }
}

/// Fails, with the reason, where nothing can be mounted: a test that passes without having tested
/// would be worse.
#[track_caller]
fn require_fuse() {
    if let Err(error) = lsmfs::fs::mount::check_device() {
        panic!("these tests mount file systems, and that can't be done here: {error}");
    }
}
