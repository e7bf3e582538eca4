//! Which files are served when not all may be at once (`upload_slots`).
//!
//! Files take turns: whoever has been served for a while makes room when another one waits, and of those that wait the one
//! that has waited longest is next.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_content::ContentId;

use crate::Time;

/// How long a file is served at least when others wait.
const TURN: Duration = Duration::from_secs(30);
/// Whoever has not asked for this long no longer waits.
const FORGET: Duration = Duration::from_secs(5);

/// The places, of which policy says how many there are.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    /// Since when each is served.
    served: BTreeMap<ContentId, Time>,
    /// Since when each waits, and when it last asked.
    waiting: BTreeMap<ContentId, (Time, Time)>,
}

impl Slots {
    /// Whether `id`, which somebody wants, may be served now. To be asked again and again while it is wanted; `most`: places, or
    /// as many as there are files.
    pub fn ask(&mut self, id: ContentId, most: Option<u64>, now: Time) -> bool {
        let Some(most) = most else {
            *self = Self::default();
            return true;
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.waiting.retain(|_, (_, asked)| now.since(*asked) < FORGET);
        if let Some(since) = self.served.get(&id) {
            let older = self.served.values().filter(|other| *other < since).count();
            let over = self.served.len() > most && older >= most;
            let others_wait = self.served.len() >= most && self.waiting.keys().any(|other| *other != id);
            let turn_over = others_wait && now.since(*since) >= TURN;
            if !over && !turn_over {
                return true;
            }
            self.served.remove(&id);
            self.waiting.insert(id, (now, now));
            return false;
        }
        let since = self.waiting.get(&id).map_or(now, |(since, _)| *since);
        self.waiting.insert(id, (since, now));
        let free = most.saturating_sub(self.served.len());
        let before =
            self.waiting.iter().filter(|(other, (waits, _))| (*waits, **other) < (since, id)).count();
        if before >= free {
            return false;
        }
        self.waiting.remove(&id);
        self.served.insert(id, now);
        true
    }

    /// Nobody wants `id` any more.
    pub fn leave(&mut self, id: ContentId) {
        self.served.remove(&id);
        self.waiting.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ContentId {
        ContentId::from_bytes([number; 32])
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros((seconds + 1) * 1_000_000)
    }

    #[test]
    fn files_take_turns_and_the_longest_waiting_is_next() {
        let mut slots = Slots::default();
        assert!(slots.ask(id(3), Some(1), at(0)) && !slots.ask(id(2), Some(1), at(0)));
        assert!(!slots.ask(id(1), Some(1), at(1)) && slots.ask(id(3), Some(1), at(1)));
        slots.leave(id(3));
        assert!(!slots.ask(id(1), Some(1), at(2)), "another one has waited longer");
        assert!(slots.ask(id(2), Some(1), at(2)));
        for second in 3..32 {
            assert!(!slots.ask(id(1), Some(1), at(second)) && slots.ask(id(2), Some(1), at(second)));
        }
        assert!(!slots.ask(id(2), Some(1), at(32)), "its turn is over");
        assert!(slots.ask(id(1), Some(1), at(32)) && !slots.ask(id(2), Some(1), at(32)));
    }

    #[test]
    fn fewer_places_send_the_last_away_and_no_limit_serves_all() {
        let mut slots = Slots::default();
        assert!((1..=3).all(|number| slots.ask(id(number), Some(3), at(number.into()))));
        let served: Vec<u8> = (1..=3).filter(|number| slots.ask(id(*number), Some(1), at(9))).collect();
        assert_eq!(served, [1]);
        assert!((1..=9).all(|number| slots.ask(id(number), None, at(10))));
    }

    #[test]
    fn whoever_stops_asking_is_forgotten() {
        let mut slots = Slots::default();
        assert!(slots.ask(id(1), Some(1), at(0)) && !slots.ask(id(2), Some(1), at(0)));
        slots.leave(id(1));
        assert!(!slots.ask(id(3), Some(1), at(1)));
        assert!(slots.ask(id(3), Some(1), at(6)), "the first of the queue has gone");
    }
}
