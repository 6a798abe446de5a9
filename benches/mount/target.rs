//! What is measured against what: lsmfs, the floors, the disk below, and peers.

use crate::peer::Peer;
use crate::{Result, own_program};
use rustix::process::Pid;
use serde::{Serialize, Serializer};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A file system that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A store in the bench's directory.
    Lsmfs,
    /// A floor that asks the kernel for what lsmfs asks it for.
    Floor,
    /// A floor without options.
    Plain,
    /// The bench's directory itself.
    Disk,
    /// Another file system that a script mounts.
    Peer(&'static Peer),
}

impl Target {
    /// Those of every run, in the order of the table's columns; peers come behind.
    pub const ALWAYS: [Target; 4] = [Target::Lsmfs, Target::Floor, Target::Plain, Target::Disk];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Target::Lsmfs => "lsmfs",
            Target::Floor => "floor",
            Target::Plain => "plain floor",
            Target::Disk => "disk",
            Target::Peer(peer) => &peer.name,
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// A target that is ready for work. Unmounted and removed when it is dropped.
pub struct Place {
    target: Target,
    /// Everything of it is in here.
    base: PathBuf,
    /// Of a floor: it is served until its standard input ends.
    floor: Option<Child>,
}

impl Place {
    /// Starts a target in the new directory `base`, on the processors that this thread may use.
    pub fn start(target: Target, base: PathBuf, threads: usize) -> Result<Place> {
        // Not in what a target left behind that did not end.
        fs::create_dir(&base).map_err(|e| format!("{}: {e}", base.display()))?;
        fs::create_dir(base.join("files"))?;
        let mut place = Place { target, base, floor: None };
        match target {
            Target::Lsmfs | Target::Peer(_) => place.mount()?,
            Target::Floor => place.serve_floor(&["--tuned".to_string(), format!("--threads={threads}")])?,
            Target::Plain => place.serve_floor(&[])?,
            Target::Disk => {}
        }
        Ok(place)
    }

    /// What it is a place of.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The directory to work in.
    pub fn dir(&self) -> PathBuf {
        self.base.join("files")
    }

    /// The store's directory, of lsmfs or a peer.
    pub fn store(&self) -> PathBuf {
        self.base.join("store")
    }

    /// The minor number of its device: a FUSE connection's number in the kernel.
    pub fn connection(&self) -> Result<u32> {
        Ok(rustix::fs::minor(fs::metadata(self.dir())?.dev()))
    }

    /// Mounts the store, with the options in `$LSMFS_MOUNT_OPTIONS`; returns how long that took.
    pub fn mount_timed(&self) -> Result<Duration> {
        let started = Instant::now();
        let options = std::env::var("LSMFS_MOUNT_OPTIONS").unwrap_or_default();
        run(lsmfs().args(["mount", "-o", &options]).arg(self.store()).arg(self.dir()))?;
        Ok(started.elapsed())
    }

    /// Mounts what has a store.
    fn mount(&self) -> Result<()> {
        match self.target {
            Target::Lsmfs => self.mount_timed().map(drop),
            Target::Peer(peer) => {
                peer.start(&self.store(), &self.dir())?;
                // Else the disk below would be measured.
                if is_mounted(&self.dir())? { Ok(()) } else { Err("nothing is mounted".into()) }
            }
            _ => Ok(()),
        }
    }

    /// Unmounts the store; returns how long that took.
    pub fn unmount(&self) -> Result<Duration> {
        let started = Instant::now();
        run(lsmfs().arg("umount").arg(self.dir()))?;
        Ok(started.elapsed())
    }

    /// The store's daemon.
    fn daemon(&self) -> Result<Pid> {
        let lock = fs::read_to_string(self.store().join("LOCK"))?;
        let pid = lock.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok());
        Ok(pid.and_then(Pid::from_raw).ok_or("no daemon's number in the lock")?)
    }

    /// How long the daemon's threads have run.
    pub fn processor_time(&self) -> Result<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.daemon()?.as_raw_nonzero()))?;
        let mut nanos = 0;
        for task in tasks {
            let said = fs::read_to_string(task?.path().join("schedstat"))?;
            let ran = said.split(' ').next().and_then(|ran| ran.parse::<u64>().ok());
            nanos += ran.ok_or("a thread's time is not a number")?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The most memory that the daemon has had, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon()?.as_raw_nonzero()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")).ok_or("no peak in the status")?;
        Ok(peak.parse::<u64>()? << 10)
    }

    /// Ends the store's daemon as a crash does, and waits until it is gone.
    pub fn kill_daemon(&self) -> Result<()> {
        let pid = self.daemon()?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        while rustix::process::test_kill_process(pid).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Puts everything on the disk and empties all caches: the daemon's and, as root, the kernel's.
    pub fn chill(&self) -> Result<()> {
        match self.target {
            Target::Lsmfs => drop(self.unmount()?),
            Target::Peer(peer) => peer.stop(&self.store(), &self.dir())?,
            _ => {}
        }
        sync(&self.base)?;
        fs::write("/proc/sys/vm/drop_caches", "3")
            .map_err(|e| format!("can't empty the kernel's caches: {e}"))?;
        self.mount()
    }

    /// What the store has done since it was mounted.
    pub fn stats(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&fs::read(self.dir().join(".lsmfs/stats.json"))?)?)
    }

    /// The seconds that the store has spent so far in writing its log's file, by those writes that were timed.
    pub fn log_seconds(&self) -> Result<f64> {
        let stats = self.stats()?;
        let writes = stats["disk"]["log_writes"].as_f64().ok_or("no log_writes in the figures")?;
        let mean = stats["latency"]["log"]["mean_ns"].as_f64().ok_or("no latency.log in the figures")?;
        Ok(writes * mean / 1e9)
    }

    fn serve_floor(&mut self, options: &[String]) -> Result<()> {
        let mut command = own_program()?;
        command.arg("serve-floor").arg(self.dir()).args(options);
        let mut floor = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(out) = floor.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        self.floor = Some(floor);
        if said.trim() == "ready" { Ok(()) } else { Err("a floor could not be mounted".into()) }
    }

    fn end(&mut self) -> Result<()> {
        match self.target {
            Target::Lsmfs if is_mounted(&self.dir())? => drop(self.unmount()?),
            Target::Peer(peer) => peer.stop(&self.store(), &self.dir())?,
            _ => {}
        }
        if let Some(mut floor) = self.floor.take() {
            drop(floor.stdin.take());
            floor.wait()?;
        }
        if is_mounted(&self.dir())? {
            return Err(format!("{} is still mounted", self.dir().display()).into());
        }
        Ok(fs::remove_dir_all(&self.base)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            eprintln!("{}: can't clean up: {e}", self.base.display());
        }
    }
}

/// Is something mounted there?
fn is_mounted(dir: &Path) -> Result<bool> {
    let above = dir.parent().ok_or("no directory above")?;
    Ok(match fs::metadata(dir) {
        Ok(found) => found.dev() != fs::metadata(above)?.dev(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    })
}

/// Everything that was written in the file system of `dir` reaches the disk.
pub fn sync(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(dir)?)?)
}

/// The program that is measured: `$LSMFS`, or the one built for this bench.
pub fn lsmfs() -> Command {
    Command::new(std::env::var_os("LSMFS").unwrap_or_else(|| env!("CARGO_BIN_EXE_lsmfs").into()))
}

/// Runs a command that must succeed, without its output.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?}: {}: {}", output.status, said.trim()).into())
        }
    }
}
