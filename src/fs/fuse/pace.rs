//! How close together requests come, and what follows from it: how long their reader looks out for the next
//! one, and whether it should look for more behind the one that it has.

use std::time::{Duration, Instant};

/// A request that is read so soon after the answer before it was waiting already, or nearly so.
const AT_ONCE: Duration = Duration::from_micros(3);

/// So many requests in a row that came at once are a backlog.
const BACKLOG: u32 = 8;

/// When looking out for requests is not worth while: requests that come further apart than twice this.
const LINGER_MIN: Duration = Duration::from_micros(5);

/// For so long the processors count as busy when somebody wanted them.
const BUSY: Duration = Duration::from_millis(100);

/// The pace of requests.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The longest time to look out for a request.
    linger_max: Duration,
    /// How long to look out for the next one.
    linger: Duration,
    /// Since when nobody has been handling any.
    answered_at: Option<Instant>,
    /// Requests in a row that came at once.
    at_once: u32,
    /// Until then the processors count as busy.
    busy_until: Option<Instant>,
}

impl Pace {
    /// Requests are looked out for `linger_max` at most.
    pub fn new(linger_max: Duration) -> Pace {
        Pace { linger_max, ..Pace::default() }
    }

    /// A request has come. While others are being handled it took no time. Has it come at once?
    pub fn came(&mut self, now: Instant) -> bool {
        let gap = self.answered_at.take().map(|at| now.saturating_duration_since(at));
        let at_once = gap.is_none_or(|gap| gap <= AT_ONCE);
        self.at_once = if at_once { self.at_once + 1 } else { 0 };
        self.linger = match gap {
            Some(gap) if gap <= self.linger_max => self.linger_max,
            Some(_) => self.linger / 2,
            None => self.linger,
        };
        at_once
    }

    /// Have requests come at once again and again? Asked again, not before as many more have.
    pub fn take_backlog(&mut self) -> bool {
        let backlog = self.at_once >= BACKLOG;
        if backlog {
            self.at_once = 0;
        }
        backlog
    }

    /// A request is answered, or its handler done. How long the only reader looks out for the next one.
    pub fn answered(&mut self, now: Instant) -> Duration {
        self.answered_at = Some(now);
        let busy = self.busy_until.is_some_and(|until| now < until);
        if busy || self.at_once > 0 || self.linger < LINGER_MIN { Duration::ZERO } else { self.linger }
    }

    /// Somebody else wants the processor.
    pub fn note_busy(&mut self, now: Instant) {
        self.busy_until = now.checked_add(BUSY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once what comes after each of these gaps, in microseconds; how long to look out then.
    fn linger_after(pace: &mut Pace, start: Instant, gaps: &[u64]) -> Duration {
        let mut now = start;
        let mut linger = pace.answered(now);
        for gap in gaps {
            now += Duration::from_micros(*gap);
            pace.came(now);
            linger = pace.answered(now);
        }
        linger
    }

    #[test]
    fn the_reader_looks_out_while_requests_come_close_together() {
        let (start, most) = (Instant::now(), Duration::from_micros(100));
        let after = |gaps: &[u64]| linger_after(&mut Pace::new(most), start, gaps);
        assert_eq!(after(&[]), Duration::ZERO);
        assert_eq!(after(&[50]), most);
        assert_eq!(after(&[50, 5000]), most / 2);
        assert_eq!(after(&[50, 5000, 5000, 5000, 5000, 5000]), Duration::ZERO);
        assert_eq!(after(&[50, 1]), Duration::ZERO, "they wait already");
        assert_eq!(linger_after(&mut Pace::new(Duration::ZERO), start, &[50, 1, 50]), Duration::ZERO);
        let mut busy = Pace::new(most);
        busy.note_busy(start);
        assert_eq!(linger_after(&mut busy, start, &[50]), Duration::ZERO);
        assert_eq!(linger_after(&mut busy, start + BUSY, &[50]), most);
    }

    #[test]
    fn requests_that_come_at_once_again_and_again_are_a_backlog() {
        let (start, mut pace) = (Instant::now(), Pace::new(Duration::ZERO));
        let backlogs = (0..BACKLOG * 3).filter(|_| {
            pace.came(start);
            pace.answered(start);
            pace.take_backlog()
        });
        assert_eq!(backlogs.count(), 3);
        linger_after(&mut pace, start, &[1, 1, 1, 50]);
        assert!(!pace.take_backlog());
    }
}
