//! Answers that nobody waits for any more, and what the FUSE library says of them.

use std::fmt::Debug;
use std::io;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Leaves out what the FUSE library says when the kernel does not take an answer because the request is over. So it
/// is when a client is killed: the kernel says so in a request of its own, and takes no answer to that one
/// once the client's was answered. Nothing is wrong then.
#[derive(Debug)]
pub struct NoLateAnswers;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

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
}
