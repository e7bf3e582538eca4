//! How fast bytes flow: a sliding window of small buckets, and a smaller meter for what is only shown.

use std::time::Duration;

use crate::Time;

const BUCKETS: usize = 20;
/// The span that a rate is taken over, unless another is asked for.
pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Bytes a second over the last two seconds, or another window (or since the first byte, if that is less).
#[derive(Debug, Clone)]
pub struct RateMeter {
    buckets: [u64; BUCKETS],
    /// Microseconds of one bucket.
    bucket: u64,
    /// Number of the newest bucket since the epoch.
    newest: u64,
    started: Option<Time>,
    last: Option<Time>,
    total: u64,
}

impl Default for RateMeter {
    fn default() -> Self {
        Self::over(WINDOW)
    }
}

impl RateMeter {
    /// A meter whose rates are taken over `window`, at least some milliseconds.
    pub fn over(window: Duration) -> Self {
        let bucket = (window.as_micros() as u64 / BUCKETS as u64).max(1000);
        Self { buckets: [0; BUCKETS], bucket, newest: 0, started: None, last: None, total: 0 }
    }

    const fn bucket_of(&self, now: Time) -> u64 {
        now.micros() / self.bucket
    }

    /// Counts `bytes` at `now`.
    pub fn add(&mut self, bytes: u64, now: Time) {
        self.advance(now);
        self.buckets[(self.newest % BUCKETS as u64) as usize] += bytes;
        self.started.get_or_insert(now);
        self.last = Some(now);
        self.total += bytes;
    }

    /// Bytes a second now.
    pub fn rate(&self, now: Time) -> u64 {
        let Some(started) = self.started else { return 0 };
        let age = self.bucket_of(now).saturating_sub(self.newest);
        if age >= BUCKETS as u64 {
            return 0;
        }
        let first = self.newest.saturating_sub(BUCKETS as u64 - 1 - age);
        let bytes: u64 = (first..=self.newest).map(|at| self.buckets[(at % BUCKETS as u64) as usize]).sum();
        // At least half a bucket, so that the first bytes of a source do not look like an infinite rate.
        let bucket = Duration::from_micros(self.bucket);
        let span = now.since(started).clamp(bucket / 2, bucket * (BUCKETS as u32 - 1));
        (bytes as f64 / span.as_secs_f64()) as u64
    }

    /// All bytes ever counted.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// When bytes were last counted.
    pub const fn last(&self) -> Option<Time> {
        self.last
    }

    fn advance(&mut self, now: Time) {
        let now = self.bucket_of(now);
        if now <= self.newest {
            return;
        }
        for at in self.newest + 1..=now.min(self.newest + BUCKETS as u64) {
            self.buckets[(at % BUCKETS as u64) as usize] = 0;
        }
        self.newest = now;
    }
}

/// Bytes of one neighbour, in all and lately, to be shown to people: each of fifty has two of these, and a window of buckets
/// would be most of what is remembered of it. What came longer ago counts less.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    total: u64,
    /// Bytes, faded.
    recent: f64,
    started: Option<Time>,
    last: Time,
}

/// Bytes fade with this: as old on average as those of [`WINDOW`].
const FADE: Duration = Duration::from_secs(1);

impl Tally {
    /// Counts `bytes` at `now`.
    pub(crate) fn add(&mut self, bytes: u64, now: Time) {
        self.recent = self.recent(now) + bytes as f64;
        self.started.get_or_insert(now);
        self.last = now;
        self.total += bytes;
    }

    /// Bytes a second now.
    pub(crate) fn rate(&self, now: Time) -> u64 {
        let Some(started) = self.started else { return 0 };
        // A flow that has just begun would else look slow; and its first bytes are no infinite rate.
        let span = now.since(started).max(FADE / 20);
        (self.recent(now) / (FADE.as_secs_f64() * (1.0 - faded(span)))) as u64
    }

    /// All bytes ever counted.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    fn recent(&self, now: Time) -> f64 {
        self.recent * faded(now.since(self.last))
    }
}

fn faded(span: Duration) -> f64 {
    (-span.as_secs_f64() / FADE.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_of_a_steady_flow_then_silence() {
        let mut tally = Tally::default();
        let at = |ms: u64| Time::from_micros(ms * 1000);
        for ms in (0..5000).step_by(10) {
            tally.add(10_000, at(ms));
            let rate = tally.rate(at(ms + 10));
            assert!(ms < 50 || (900_000..1_100_000).contains(&rate), "{ms} {rate}");
        }
        assert!(tally.rate(at(8000)) < 60_000 && tally.rate(at(60_000)) == 0);
        assert_eq!(tally.total(), 5_000_000);
    }

    #[test]
    fn steady_flow_then_silence() {
        let mut meter = RateMeter::default();
        let at = |ms: u64| Time::from_micros(ms * 1000);
        for ms in (0..5000).step_by(10) {
            meter.add(10_000, at(ms));
        }
        let rate = meter.rate(at(5000));
        assert!((900_000..1_100_000).contains(&rate), "{rate}");
        assert_eq!(meter.rate(at(9000)), 0);
        assert_eq!(meter.total(), 5_000_000);
        meter.add(1, at(60_000));
        assert!(meter.rate(at(60_000)) < 100);
    }
}
