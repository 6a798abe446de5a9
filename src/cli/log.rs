//! What a daemon has to say: on standard error in the foreground, in the store's `daemon.log`
//! in the background.
//!
//! The log is bounded: at [`LOG_MAX`] bytes all but its newest part is dropped.

use crate::disk::DAEMON_LOG;
use crate::fs::fuse::NoLateAnswers;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The log never holds more bytes than this and one message.
const LOG_MAX: u64 = 1 << 20;
/// What is kept of a log that has reached [`LOG_MAX`].
const LOG_KEPT: usize = 256 << 10;

/// Logs on standard error.
pub fn to_stderr(level: Level) {
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    subscriber.with_target(false).finish().with(NoLateAnswers).init();
}

/// Leads standard error into `store`'s log, so that the message of a panic is kept.
pub fn take_stderr(store: &Path) -> io::Result<()> {
    let log = DaemonLog::open(&store.join(DAEMON_LOG))?;
    Ok(rustix::stdio::dup2_stderr(&log.file)?)
}

/// Logs into `store`'s log.
pub fn to_store(store: &Path, level: Level) -> io::Result<()> {
    let log = DaemonLog::open(&store.join(DAEMON_LOG))?;
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_target(false);
    subscriber.with_writer(Mutex::new(log)).finish().with(NoLateAnswers).init();
    Ok(())
}

/// A file that is appended to and does not grow past a bound.
struct DaemonLog {
    file: File,
}

impl DaemonLog {
    fn open(path: &Path) -> io::Result<DaemonLog> {
        let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
        Ok(DaemonLog { file })
    }

    /// Drops all but the newest whole lines.
    fn shorten(&mut self, len: u64) -> io::Result<()> {
        let mut kept = vec![0; LOG_KEPT];
        self.file.read_exact_at(&mut kept, len.saturating_sub(LOG_KEPT as u64))?;
        let line = kept.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.file.set_len(0)?;
        self.file.write_all(&kept[line..])
    }
}

impl Write for DaemonLog {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        // Asked of the system each time: standard error appends to the same file.
        let len = self.file.metadata()?.len();
        if len >= LOG_MAX {
            self.shorten(len)?;
        }
        self.file.write(message)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_keeps_its_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DAEMON_LOG);
        let mut log = DaemonLog::open(&path).unwrap();
        let line = |number: u32| format!("{number:>99}\n");
        for number in 0..30_000 {
            log.write_all(line(number).as_bytes()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= LOG_MAX as usize + 100, "{} bytes", text.len());
        assert!(text.ends_with(&line(29_999)));
        assert!(text.lines().all(|line| line.len() == 99));
        assert!(text.len() >= LOG_KEPT - 100);
    }
}
