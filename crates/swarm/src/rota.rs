//! The rota of the connected caches: whose turn it is, who is left alone for a while, and how long the origin waits.
//!
//! One failure is enough: the next cache has the turn, and the one that failed is out of use for [`OUT_OF_USE`] (product
//! §8). When nobody is left it is the origin's turn. While a delay in favour of the caches runs the origin waits instead,
//! and the turn goes round among all of them, each after a pause that grows with its failures (product §5).

use std::time::Duration;

use crate::{SourceId, Time};

/// A cache that failed is not asked for so long, unless nobody else may be.
pub const OUT_OF_USE: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
struct Cache {
    source: SourceId,
    failures: u32,
    /// Not to be asked before, even if the origin waits.
    pause_until: Time,
    /// Not to be asked before, unless the origin waits.
    out_until: Time,
}

/// The caches of one download, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub struct Rota {
    caches: Vec<Cache>,
    /// Who has the turn, if it can be asked.
    turn: usize,
    /// Since when nothing but the caches has held the origin back.
    since: Option<Time>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// This cache's.
    Cache(SourceId),
    /// The origin's.
    Origin,
    /// Nobody's: the origin waits for caches that have a pause.
    Nobody,
}

impl Rota {
    /// Another cache, to be tried after those that there are.
    pub fn join(&mut self, source: SourceId) {
        self.caches.push(Cache { source, failures: 0, pause_until: Time::ZERO, out_until: Time::ZERO });
    }

    /// A cache that is not to be used any more.
    pub fn leave(&mut self, source: SourceId) {
        let Some(at) = self.caches.iter().position(|cache| cache.source == source) else { return };
        self.caches.remove(at);
        self.turn = if at < self.turn { self.turn - 1 } else { self.turn };
        self.turn = if self.turn < self.caches.len() { self.turn } else { 0 };
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// Whether it is one of these.
    pub fn contains(&self, source: SourceId) -> bool {
        self.caches.iter().any(|cache| cache.source == source)
    }

    /// Whether one of them has the turn now, wherever else the turn may go.
    pub fn is_in_use(&self, now: Time) -> bool {
        self.cache(false, now).is_some()
    }

    /// Whether it is one of these and has not failed since it last brought bytes.
    pub fn is_sound(&self, source: SourceId) -> bool {
        self.caches.iter().any(|cache| cache.source == source && cache.failures == 0)
    }

    /// It failed: the next one has the turn.
    pub fn failed(&mut self, source: SourceId, now: Time) {
        let Some(at) = self.caches.iter().position(|cache| cache.source == source) else { return };
        let next = (at + 1) % self.caches.len();
        let Some(cache) = self.caches.get_mut(at) else { return };
        // Ranges that it served side by side fail side by side: that is one failure.
        if now >= cache.pause_until {
            let pause = FIRST_PAUSE * 2u32.pow(cache.failures.min(6));
            cache.pause_until = now + pause.min(LAST_PAUSE);
            cache.failures += 1;
        }
        cache.out_until = now + OUT_OF_USE;
        if self.turn == at {
            self.turn = next;
        }
    }

    /// It failed elsewhere: it is out of use for what is left of that time.
    pub fn rests(&mut self, source: SourceId, left: Duration, now: Time) {
        if let Some(cache) = self.caches.iter_mut().find(|cache| cache.source == source) {
            cache.out_until = cache.out_until.max(now + left.min(OUT_OF_USE));
        }
    }

    /// It brought bytes.
    pub fn delivered(&mut self, source: SourceId) {
        if let Some(cache) = self.caches.iter_mut().find(|cache| cache.source == source) {
            (cache.failures, cache.pause_until, cache.out_until) = (0, Time::ZERO, Time::ZERO);
        }
    }

    /// Past failures count no longer: the network is another one.
    pub fn forgive(&mut self) {
        for cache in &mut self.caches {
            (cache.failures, cache.pause_until, cache.out_until) = (0, Time::ZERO, Time::ZERO);
        }
        self.turn = 0;
    }

    /// Whose turn it is at `now`, when the origin is to wait for `delay` from the moment on when this is first asked.
    pub fn turn(&mut self, delay: Duration, now: Time) -> Turn {
        let since = *self.since.get_or_insert(now);
        let waits = !self.caches.is_empty() && now.since(since) < delay;
        match self.cache(waits, now) {
            Some(source) => Turn::Cache(source),
            None if waits => Turn::Nobody,
            None => Turn::Origin,
        }
    }

    /// The cache whose turn it is while something else holds the origin back for good.
    pub fn turn_without_origin(&self, now: Time) -> Option<SourceId> {
        self.cache(true, now)
    }

    fn cache(&self, waits: bool, now: Time) -> Option<SourceId> {
        let (before, from) = self.caches.split_at(self.turn.min(self.caches.len()));
        let mut round = from.iter().chain(before);
        let ready = |cache: &&Cache| now >= cache.pause_until && (waits || now >= cache.out_until);
        round.find(ready).map(|cache| cache.source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_DELAY: Duration = Duration::ZERO;
    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);

    fn at(ms: u64) -> Time {
        Time::from_micros(1_000_000 + ms * 1000)
    }

    fn rota() -> Rota {
        let mut rota = Rota::default();
        [A, B].into_iter().for_each(|source| rota.join(source));
        rota
    }

    #[test]
    fn one_failure_leads_to_the_next_then_to_the_origin() {
        let mut rota = rota();
        assert_eq!(rota.turn(NO_DELAY, at(0)), Turn::Cache(A));
        rota.failed(A, at(0));
        assert_eq!(rota.turn(NO_DELAY, at(0)), Turn::Cache(B));
        rota.failed(B, at(1000));
        assert_eq!(rota.turn(NO_DELAY, at(1000)), Turn::Origin);
        assert_eq!(rota.turn(NO_DELAY, at(299_999)), Turn::Origin);
        assert_eq!(rota.turn(NO_DELAY, at(300_000)), Turn::Cache(A));
        rota.delivered(A);
        assert_eq!(rota.turn(NO_DELAY, at(301_000)), Turn::Cache(A));
    }

    #[test]
    fn who_took_over_keeps_the_turn() {
        let mut rota = rota();
        rota.failed(A, at(0));
        rota.delivered(B);
        assert_eq!(rota.turn(NO_DELAY, at(600_000)), Turn::Cache(B));
    }

    #[test]
    fn while_the_origin_waits_the_turn_goes_round() {
        let (mut rota, delay) = (rota(), Duration::from_secs(60));
        assert_eq!(rota.turn(delay, at(0)), Turn::Cache(A));
        rota.failed(A, at(0));
        rota.failed(A, at(0));
        assert_eq!(rota.turn(delay, at(0)), Turn::Cache(B));
        rota.failed(B, at(100));
        assert_eq!(rota.turn(delay, at(100)), Turn::Nobody);
        assert_eq!(rota.turn(delay, at(500)), Turn::Cache(A), "two ranges that fail at once are one failure");
        rota.failed(A, at(500));
        assert_eq!(rota.turn(delay, at(600)), Turn::Cache(B));
        rota.failed(B, at(600));
        assert_eq!(rota.turn(delay, at(1499)), Turn::Nobody);
        assert_eq!(rota.turn(delay, at(1500)), Turn::Cache(A));
        rota.failed(A, at(59_000));
        rota.failed(B, at(59_000));
        assert_eq!(rota.turn(delay, at(59_999)), Turn::Nobody);
        assert_eq!(rota.turn(delay, at(60_000)), Turn::Origin);
        // A longer delay holds from the same beginning; a shorter one lets go at once.
        assert_eq!(rota.turn(delay * 2, at(60_000)), Turn::Nobody);
        assert_eq!(rota.turn(NO_DELAY, at(60_000)), Turn::Origin);
    }

    #[test]
    fn without_caches_nothing_waits() {
        let mut rota = rota();
        [A, B].into_iter().for_each(|source| rota.leave(source));
        assert_eq!(rota.turn(Duration::from_secs(60), at(0)), Turn::Origin);
        assert!(rota.is_empty());
    }

    #[test]
    fn what_failed_elsewhere_rests_unless_the_origin_waits() {
        let mut rota = rota();
        rota.rests(A, Duration::from_secs(7), at(0));
        assert_eq!(rota.turn(NO_DELAY, at(0)), Turn::Cache(B));
        assert_eq!(rota.turn_without_origin(at(0)), Some(A));
        rota.failed(B, at(0));
        assert_eq!(rota.turn(NO_DELAY, at(6999)), Turn::Origin);
        assert_eq!(rota.turn(NO_DELAY, at(7000)), Turn::Cache(A));
        rota.failed(A, at(7000));
        rota.forgive();
        assert_eq!(rota.turn(NO_DELAY, at(7000)), Turn::Cache(A));
    }

    proptest! {
        #[test]
        fn the_origin_never_waits_beyond_the_delay(
            steps in prop::collection::vec((0u8..5, 0u32..5, 0u64..20_000), 0..60), delay in 0u64..30_000,
        ) {
            let (mut rota, mut now) = (Rota::default(), 0);
            let delay = Duration::from_millis(delay);
            let first = at(0);
            rota.turn(delay, first);
            for (what, source, wait) in steps {
                let source = SourceId(source);
                match what {
                    0 if !rota.contains(source) => rota.join(source),
                    1 => rota.leave(source),
                    2 => rota.failed(source, at(now)),
                    3 => rota.delivered(source),
                    _ => now += wait,
                }
                match rota.turn(delay, at(now)) {
                    Turn::Cache(source) => prop_assert!(rota.contains(source)),
                    Turn::Nobody => prop_assert!(!rota.is_empty() && at(now).since(first) < delay),
                    Turn::Origin => prop_assert!(rota.is_empty() || at(now).since(first) >= delay),
                }
            }
        }
    }
}
