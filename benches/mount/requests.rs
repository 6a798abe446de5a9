//! Counts the requests that the kernel sends to a FUSE mount, with a trace event of its own. For root, and
//! where the kernel has the event (6.11 or later); else there are no counts.

use crate::Result;
use crate::report::Line;
use crate::target::{Place, Target};
use std::fs;
use std::path::{Path, PathBuf};

const TRACING: &str = "/sys/kernel/tracing";
const EVENT: &str = "events/fuse/fuse_request_send";

/// Requests are counted with at most so many files: counting takes some of the time of each, so it has runs of its own.
pub const FILES_MAX: usize = 10_000;

/// Bytes of a large file, at most, when requests are counted.
pub const LARGE_MAX: u64 = 256 << 20;

/// Those that the kernel sends requests to, where they can be counted: with the plain floor or without.
pub fn targets(with_plain: bool) -> impl Iterator<Item = Target> {
    let all = [Target::Lsmfs, Target::Floor, Target::Plain];
    all.into_iter().filter(move |target| (with_plain || *target != Target::Plain) && can_be_counted())
}

/// Does `work`. How many requests the kernel sent to a mount meanwhile; `None` where they can't be counted.
pub fn during<T>(place: &Place, work: impl FnOnce() -> Result<T>) -> Result<Option<u64>> {
    let requests = Requests::of(place.connection()?);
    work()?;
    requests.map(|requests| requests.sum()).transpose()
}

/// Does `work`, which is so many operations, and notes how many requests each of them took.
pub fn count<T>(
    line: &mut Line,
    place: &Place,
    operations: usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<()> {
    let sent = during(place, work)?;
    sent.into_iter().for_each(|sent| line.set_requests(place.target(), sent as f64 / operations as f64));
    Ok(())
}

/// A count under way. Gone from the kernel when it is dropped.
struct Requests {
    instance: PathBuf,
}

impl Requests {
    /// Counts the requests of a FUSE connection from now on; `None` where that can't be done.
    fn of(connection: u32) -> Option<Requests> {
        if !can_be_counted() {
            return None;
        }
        let instance = Path::new(TRACING).join(format!("instances/lsmfs-bench-{}", std::process::id()));
        fs::create_dir(&instance).ok()?;
        let requests = Requests { instance };
        let event = requests.instance.join(EVENT);
        fs::write(event.join("filter"), format!("connection == {connection}")).ok()?;
        fs::write(event.join("enable"), "1").ok()?;
        Some(requests)
    }

    /// The requests so far.
    fn sum(&self) -> Result<u64> {
        let mut sum = 0;
        for processor in fs::read_dir(self.instance.join("per_cpu"))? {
            let stats = fs::read_to_string(processor?.path().join("stats"))?;
            sum += stats.lines().filter_map(events).sum::<u64>();
        }
        Ok(sum)
    }
}

/// Is the event there? It is mounted if need be.
fn can_be_counted() -> bool {
    let tracing = Path::new(TRACING);
    if !tracing.join("instances").exists() {
        let data = None::<&std::ffi::CStr>;
        let _ =
            rustix::mount::mount(c"tracefs", tracing, c"tracefs", rustix::mount::MountFlags::empty(), data);
    }
    tracing.join(EVENT).exists()
}

/// Events that a line of a processor's statistics tells of: those kept, and those that new ones replaced.
fn events(line: &str) -> Option<u64> {
    let (name, count) = line.split_once(": ")?;
    matches!(name, "entries" | "overrun").then(|| count.trim().parse().ok())?
}

impl Drop for Requests {
    fn drop(&mut self) {
        let _ = fs::write(self.instance.join(EVENT).join("enable"), "0");
        let _ = fs::remove_dir(&self.instance);
    }
}
