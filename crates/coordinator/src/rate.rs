//! Rate limits: a bucket of credit for each source, refilled at a steady pace.
//!
//! A request needs some credit to be heard at all; how much it costs is known only afterwards, so that a site of two
//! thousand devices behind one address can open its sessions at once while somebody who guesses is soon silenced.
//! Invariant: at most [`MAX_SOURCES`] buckets; sources beyond that share one.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const MAX_SOURCES: usize = 65_536;

/// Size and pace of the buckets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Credit of a source not seen for long.
    pub(crate) burst: f64,
    /// Credit regained in a second.
    pub(crate) per_second: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    credit: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.credit = (self.credit + passed * rate.per_second).min(rate.burst);
        self.at = now;
    }
}

/// The buckets of all sources.
#[derive(Debug)]
pub(crate) struct RateLimit<K> {
    rate: Rate,
    buckets: Mutex<HashMap<Option<K>, Bucket>>,
}

impl<K: Hash + Eq + Copy> RateLimit<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes `cost` from the source's credit, which may go below zero; nothing when it has less than 1.
    ///
    /// # Errors
    /// How long until it may ask again.
    pub(crate) fn take(&self, source: K, cost: f64, now: Instant) -> Result<(), Duration> {
        self.with_bucket(source, now, |bucket| {
            if bucket.credit < 1.0 {
                let wait = (1.0 - bucket.credit) / self.rate.per_second;
                return Err(Duration::from_secs_f64(wait.min(86_400.0)));
            }
            bucket.credit -= cost;
            Ok(())
        })
    }

    /// Takes `cost` whatever the credit: a request turned out to be a costly one.
    pub(crate) fn charge(&self, source: K, cost: f64, now: Instant) {
        // Debt is limited to one burst, or a source could be locked out for days.
        let floor = -self.rate.burst;
        self.with_bucket(source, now, |bucket| bucket.credit = (bucket.credit - cost).max(floor));
    }

    fn with_bucket<T>(&self, source: K, now: Instant, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let rate = self.rate;
        let mut buckets = self.buckets.lock();
        let mut key = Some(source);
        if buckets.len() >= MAX_SOURCES && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.credit < rate.burst
            });
            if buckets.len() >= MAX_SOURCES {
                key = None;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { credit: rate.burst, at: now });
        bucket.refill(rate, now);
        act(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_pace_then_debt() {
        let limit = RateLimit::new(Rate { burst: 3.0, per_second: 0.5 });
        let now = Instant::now();
        let later = |s| now + Duration::from_secs(s);
        for _ in 0..3 {
            limit.take(1, 1.0, now).unwrap();
        }
        assert_eq!(limit.take(1, 1.0, now), Err(Duration::from_secs(2)));
        limit.take(2, 1.0, now).unwrap();
        limit.take(1, 1.0, later(2)).unwrap();
        limit.charge(1, 100.0, later(2));
        assert_eq!(limit.take(1, 1.0, later(2)), Err(Duration::from_secs(8)), "debt ends at one burst");
        limit.take(1, 1.0, later(10)).unwrap();
    }

    #[test]
    fn endless_sources_share_one_bucket() {
        let limit = RateLimit::new(Rate { burst: 10.0, per_second: 1.0 });
        let now = Instant::now();
        for source in 0..MAX_SOURCES + 10 {
            limit.take(source, 1.0, now).unwrap();
        }
        assert!(limit.take(MAX_SOURCES + 99, 1.0, now).is_err());
        assert!(limit.buckets.lock().len() <= MAX_SOURCES + 1);
        limit.take(MAX_SOURCES + 99, 1.0, now + Duration::from_secs(10)).unwrap();
        assert!(limit.buckets.lock().len() < 10, "full buckets are forgotten");
    }
}
