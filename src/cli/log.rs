//! What a daemon has to say: on standard error in the foreground, in the store's `daemon.log`
//! in the background.
//!
//! The log is bounded: at [`LOG_MAX`] bytes all but its newest part is dropped.

use crate::disk::DAEMON_LOG;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
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

/// Leaves out what the FUSE library says when the kernel does not take an answer because the request is over. So it
/// is when a client is killed: the kernel says so in a request of its own, and takes no answer to that one
/// once the client's was answered. Nothing is wrong then.
struct NoLateAnswers;

impl<S: Subscriber> Layer<S> for NoLateAnswers {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut seen = LateAnswer::default();
        event.record(&mut seen);
        !(seen.from_reply && seen.says_so)
    }
}

/// Whether a message is the one that [`NoLateAnswers`] leaves out.
#[derive(Default)]
struct LateAnswer {
    from_reply: bool,
    says_so: bool,
}

impl Visit for LateAnswer {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.from_reply |= field.name() == "log.target" && value == "fuser::reply";
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let over = io::Error::from_raw_os_error(libc::ENOENT);
            self.says_so = format!("{value:?}") == format!("Failed to send FUSE reply: {over}");
        }
    }
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
    use std::sync::Arc;

    #[test]
    fn an_answer_that_nobody_waits_for_is_no_error() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(file.clone());
        tracing::subscriber::with_default(subscriber.finish().with(NoLateAnswers), || {
            // As what the library logs arrives here.
            let failed = |number| {
                let error = io::Error::from_raw_os_error(number);
                tracing::error!(log.target = "fuser::reply", "Failed to send FUSE reply: {error}");
            };
            failed(libc::ENOENT);
            failed(libc::ENODEV);
            tracing::error!(log.target = "fuser::session", "No such file or directory (os error 2)");
            tracing::error!("Failed to send FUSE reply: No such file or directory (os error 2)");
        });
        let mut text = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut text, 0).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("No such device"), "{text}");
    }

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
