//! What `/proc` counts for this process, what a directory takes on the disk, and waiting for the calm.

use crate::Result;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The process is calm when its other threads sleep each time that this many looks find them …
const CALM_LOOKS: usize = 15;
/// … this far apart.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// An engine that is not calm by then never is.
const CALM_LIMIT: Duration = Duration::from_secs(120);

/// Bytes that system calls of this process have moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// By reads, from the page cache or the disk.
    pub read: u64,
    /// By writes.
    pub written: u64,
}

/// What this process has moved up to now.
pub fn moved() -> Result<Moved> {
    let io = fs::read_to_string("/proc/self/io")?;
    Ok(Moved { read: field(&io, "rchar:")?, written: field(&io, "wchar:")? })
}

/// The processor time that this process has had.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The most memory that this process has had, in bytes.
pub fn peak_memory() -> Result<u64> {
    Ok(field(&fs::read_to_string("/proc/self/status")?, "VmHWM:")? * 1024)
}

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("no field {name} in /proc"))?.parse()?)
}

/// Waits until the engine's threads have nothing left to do; gives the time that they still worked.
pub fn wait_for_calm() -> Result<Duration> {
    let start = Instant::now();
    let (mut calm, mut last_busy) = (0, start);
    while calm < CALM_LOOKS {
        if start.elapsed() > CALM_LIMIT {
            return Err("the engine still works long after the last operation".into());
        }
        sleep(LOOK_INTERVAL);
        if others_sleep()? {
            calm += 1;
        } else {
            (calm, last_busy) = (0, Instant::now());
        }
    }
    Ok(last_busy - start)
}

/// Do all threads but this one sleep? One that waits for the disk does not count as sleeping.
fn others_sleep() -> Result<bool> {
    let own = fs::read_link("/proc/thread-self")?;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        if Some(task.file_name().as_os_str()) == own.file_name() {
            continue;
        }
        // One that has ended since the directory was read is calm enough.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        if state != Some("S") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes that a directory's files take on the disk: holes do not count.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}
