//! What will happen, and when: ordered by time, then by order of entry, so that a run replays exactly.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use peerage_swarm::Time;

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    sequence: u64,
    what: T,
}

/// Events to come, and the virtual time.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    sequence: u64,
    now: Time,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0, now: Time::ZERO }
    }

    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// Enters `what` at `at`, or now if that has passed.
    pub(crate) fn push(&mut self, at: Time, what: T) {
        self.sequence += 1;
        self.heap.push(Entry { at: at.max(self.now), sequence: self.sequence, what });
    }

    /// Goes on to the next event.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }
}

impl<T> Ord for Entry<T> {
    /// Reversed: the heap yields its greatest entry, which is to be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_by_entry() {
        let mut queue = Queue::new();
        for (micros, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(Time::from_micros(micros), what);
        }
        assert_eq!(queue.pop(), Some('a'));
        queue.push(Time::ZERO, 'x');
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<String>(), "xbcd");
        assert_eq!(queue.now(), Time::from_micros(5));
    }
}
