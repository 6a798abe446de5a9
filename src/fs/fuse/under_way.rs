//! The requests that are not answered, or whose handlers are not done.
//!
//! A request takes a place that an earlier one has left: none takes memory of its own. All have the same time
//! until their deadlines, so that one taken in later is due later: where none was due up to a moment, none of
//! those that came since is, and nobody needs to look.

use crate::fs::fuse::answer::Expire;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request's place, and its number, which no other request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    place: usize,
    number: u64,
}

/// The requests.
pub(super) struct UnderWay {
    places: Vec<Option<Request>>,
    free: Vec<usize>,
    /// How long a request may take.
    timeout: Duration,
    /// The number of the next one.
    next: u64,
    /// No request is due before.
    due: Option<Instant>,
    /// Handlers that go on past their deadlines.
    stuck: usize,
}

struct Request {
    number: u64,
    deadline: Instant,
    answer: Option<Arc<dyn Expire>>,
    /// It holds a thread up.
    has_thread: bool,
    expired: bool,
}

impl UnderWay {
    /// None yet. Each may take `timeout`.
    pub fn new(timeout: Duration) -> UnderWay {
        UnderWay { places: Vec::new(), free: Vec::new(), timeout, next: 0, due: None, stuck: 0 }
    }

    /// How many there ever were.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// How long each may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Handlers that go on past their deadlines.
    pub fn stuck(&self) -> usize {
        self.stuck
    }

    /// Takes in a request that has come `now` and holds a thread up.
    pub fn add(&mut self, now: Instant, answer: Option<Arc<dyn Expire>>) -> Id {
        let (deadline, number) = (now + self.timeout, self.next);
        self.next += 1;
        self.due.get_or_insert(deadline);
        let request = Some(Request { number, deadline, answer, has_thread: true, expired: false });
        match self.free.pop() {
            Some(place) => {
                self.places[place] = request;
                Id { place, number }
            }
            None => {
                self.places.push(request);
                Id { place: self.places.len() - 1, number }
            }
        }
    }

    fn get(&mut self, id: Id) -> Option<&mut Request> {
        self.places.get_mut(id.place)?.as_mut().filter(|request| request.number == id.number)
    }

    /// Was it answered at its deadline?
    pub fn is_expired(&mut self, id: Id) -> bool {
        self.get(id).is_some_and(|request| request.expired)
    }

    /// What answers it: for somebody who does so now.
    pub fn take_answer(&mut self, id: Id) -> Option<Arc<dyn Expire>> {
        self.get(id)?.answer.take()
    }

    /// Its handler is done, though it is not answered.
    pub fn keep(&mut self, id: Id) {
        let Some(request) = self.get(id) else { return };
        let was_stuck = request.expired && request.has_thread;
        request.has_thread = false;
        self.stuck -= usize::from(was_stuck);
    }

    /// It is answered, and its handler done. What would have answered it, for the caller to drop.
    pub fn remove(&mut self, id: Id) -> Option<Arc<dyn Expire>> {
        self.get(id)?;
        let request = self.places[id.place].take()?;
        self.free.push(id.place);
        self.stuck -= usize::from(request.expired && request.has_thread);
        request.answer
    }

    /// When to look for requests that are due; `None` while there is nothing to look for.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Those that are due at `now` and were not known to be: their answers.
    pub fn expire(&mut self, now: Instant) -> Vec<Arc<dyn Expire>> {
        let mut answers = Vec::new();
        if self.due.is_none_or(|due| now < due) {
            return answers;
        }
        self.due = None;
        for request in self.places.iter_mut().flatten().filter(|request| !request.expired) {
            if request.deadline <= now {
                request.expired = true;
                self.stuck += usize::from(request.has_thread);
                answers.extend(request.answer.take());
            } else {
                self.due = Some(self.due.map_or(request.deadline, |due| due.min(request.deadline)));
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answer;

    impl Expire for Answer {
        fn expire(&self) -> Option<&'static str> {
            Some("test")
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn what_is_due_expires_once_and_is_stuck_until_it_is_done() {
        let (start, mut requests) = (Instant::now(), UnderWay::new(TIMEOUT));
        let ids = [0, 1, 5].map(|secs| requests.add(at(start, secs), Some(Arc::new(Answer))));
        assert!(requests.expire(at(start, 9)).is_empty());
        assert_eq!(requests.expire(at(start, 11)).len(), 2);
        assert!(requests.expire(at(start, 12)).is_empty());
        assert_eq!((requests.stuck(), requests.due()), (2, Some(at(start, 15))));
        assert!(requests.is_expired(ids[1]) && !requests.is_expired(ids[2]));
        // The second one's answer comes from somewhere else.
        requests.keep(ids[1]);
        assert_eq!(requests.stuck(), 1);
        assert!(requests.remove(ids[0]).is_none());
        assert!(requests.remove(ids[2]).is_some());
        assert_eq!(requests.stuck(), 0);
        assert!(requests.expire(at(start, 30)).is_empty());
        assert_eq!(requests.due(), None);
    }

    #[test]
    fn whoever_comes_after_a_look_is_looked_for() {
        let (start, mut requests) = (Instant::now(), UnderWay::new(TIMEOUT));
        let first = requests.add(start, Some(Arc::new(Answer)));
        requests.remove(first);
        let _second = requests.add(at(start, 3), Some(Arc::new(Answer)));
        assert!(requests.expire(at(start, 10)).is_empty());
        assert_eq!(requests.due(), Some(at(start, 13)));
        assert_eq!(requests.expire(at(start, 13)).len(), 1);
        let _third = requests.add(at(start, 20), Some(Arc::new(Answer)));
        assert_eq!(requests.expire(at(start, 30)).len(), 1);
    }

    #[test]
    fn a_place_that_is_taken_again_is_another_requests() {
        let (start, mut requests) = (Instant::now(), UnderWay::new(TIMEOUT));
        let old = requests.add(start, Some(Arc::new(Answer)));
        assert!(requests.remove(old).is_some());
        let new = requests.add(start, Some(Arc::new(Answer)));
        assert_eq!(new.place, old.place);
        requests.keep(old);
        assert!(requests.remove(old).is_none() && requests.take_answer(old).is_none());
        assert!(requests.take_answer(new).is_some());
        assert_eq!(requests.count(), 2);
    }
}
