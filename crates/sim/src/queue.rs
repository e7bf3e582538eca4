//! What will happen, and when: ordered by time, then by order of entry, so that a run replays exactly.
//!
//! Time only goes on, so what lies far ahead need not be sorted yet (a radix heap: Ahuja, Mehlhorn, Orlin, Tarjan 1990).
//! Entries lie in buckets by the highest bit in which their time differs from the present, and move to lower buckets
//! as it comes nearer: in order of memory, where a binary heap of a large fleet's events would jump about. Invariant: all
//! entries of one time lie in one bucket, in the order in which they were entered.

use std::collections::VecDeque;

use peerage_swarm::Time;

/// Events to come, and the virtual time.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    now: Time,
    /// What happens now.
    present: VecDeque<T>,
    /// By the highest bit that differs from now.
    later: [Vec<(Time, T)>; u64::BITS as usize],
    /// Which of these hold something.
    filled: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        let later = [const { Vec::new() }; u64::BITS as usize];
        Self { now: Time::ZERO, present: VecDeque::new(), later, filled: 0 }
    }

    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// Enters `what` at `at`, or now if that has passed.
    pub(crate) fn push(&mut self, at: Time, what: T) {
        let differs = at.max(self.now).micros() ^ self.now.micros();
        match differs.checked_ilog2() {
            None => self.present.push_back(what),
            Some(bit) => {
                self.filled |= 1 << bit;
                self.later[bit as usize].push((at, what));
            }
        }
    }

    /// Goes on to the next event, if it is before `until`. Whatever is entered later may lie between now and `until`.
    pub(crate) fn pop_before(&mut self, until: Time) -> Option<T> {
        if self.present.is_empty() && self.filled != 0 {
            let bit = self.filled.trailing_zeros();
            let nearest = &mut self.later[bit as usize];
            let next = nearest.iter().map(|(at, _)| *at).min().filter(|next| *next < until)?;
            let mut nearest = std::mem::take(nearest);
            self.filled &= !(1 << bit);
            self.now = next;
            // All of them agree with the new present in this bit, so none comes back.
            nearest.drain(..).for_each(|(at, what)| self.push(at, what));
            self.later[bit as usize] = nearest;
        }
        self.present.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use peerage_swarm::Rng;

    use super::*;

    impl<T> Queue<T> {
        fn pop(&mut self) -> Option<T> {
            self.pop_before(Time::from_micros(u64::MAX))
        }
    }

    #[test]
    fn what_is_entered_later_may_come_first() {
        let mut queue = Queue::new();
        let at = Time::from_micros;
        queue.push(at(700), 'b');
        assert_eq!((queue.pop_before(at(700)), queue.now()), (None, Time::ZERO));
        queue.push(at(600), 'a');
        queue.push(at(700), 'c');
        assert_eq!((queue.pop_before(at(601)), queue.now()), (Some('a'), at(600)));
        assert_eq!((queue.pop_before(at(700)), queue.pop_before(at(701))), (None, Some('b')));
        assert_eq!((queue.pop(), queue.pop(), queue.now()), (Some('c'), None, at(700)));
    }

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

    #[test]
    fn in_the_order_of_a_sorted_list() {
        let (mut queue, mut list, mut rng) = (Queue::new(), Vec::new(), Rng::new(7));
        for number in 0..900u32 {
            let bits = rng.below(20);
            let span = rng.below(1 << bits);
            let at = Time::from_micros(queue.now().micros() + u64::from(span));
            queue.push(at, number);
            list.push((at, number));
            if rng.below(3) == 0 {
                let (first, _) = list.iter().enumerate().min_by_key(|(_, entry)| **entry).unwrap();
                let (at, number) = list.remove(first);
                assert_eq!((queue.pop(), queue.now()), (Some(number), at));
            }
        }
        list.sort_unstable();
        let rest: Vec<u32> = list.into_iter().map(|(_, number)| number).collect();
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), rest);
    }
}
