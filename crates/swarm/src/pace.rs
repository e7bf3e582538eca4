//! How fast a source delivers while something is asked of it: what it can do, not what it was asked to do.

use std::time::Duration;

use crate::Time;

/// Older experience fades with this much time spent waiting for the source.
const MEMORY: Duration = Duration::from_secs(1);
/// Bytes after which there is experience.
pub(crate) const EVIDENCE: u64 = 64 << 10;

/// Bytes a second while something is owed. Time in which nothing is asked of the source does not count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// All bytes ever.
    total: u64,
    /// Bytes and time waited, both faded.
    bytes: f64,
    seconds: f64,
    /// All time waited ever, in seconds.
    waited: f64,
    /// Since when something has been owed, or when bytes last arrived.
    mark: Option<Time>,
}

impl Pace {
    /// Something is owed from now on.
    pub(crate) fn begin(&mut self, now: Time) {
        self.mark.get_or_insert(now);
    }

    /// Nothing is owed any more.
    pub(crate) const fn end(&mut self) {
        self.mark = None;
    }

    /// Bytes arrived; something is still owed unless [`Self::end`] is called.
    pub(crate) fn add(&mut self, bytes: u64, now: Time) {
        let span = self.mark.map_or(0.0, |mark| now.since(mark).as_secs_f64());
        let keep = (-span / MEMORY.as_secs_f64()).exp();
        self.total += bytes;
        self.waited += span;
        self.bytes = self.bytes * keep + bytes as f64;
        self.seconds = self.seconds * keep + span;
        self.mark = Some(now);
    }

    /// Bytes a second on average over all that has come, if that is at least `evidence` bytes.
    pub(crate) fn average(&self, evidence: u64) -> Option<f64> {
        (self.total >= evidence).then(|| self.total as f64 / self.waited.max(1e-4))
    }

    /// Since when it has owed bytes without delivering any.
    pub(crate) const fn silent_since(&self) -> Option<Time> {
        self.mark
    }

    /// All bytes ever.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes a second, the present silence included; `None`: no experience yet.
    pub(crate) fn rate(&self, now: Time) -> Option<f64> {
        self.rate_of(EVIDENCE, now)
    }

    /// The same, if at least `evidence` bytes bear it out.
    pub(crate) fn rate_of(&self, evidence: u64, now: Time) -> Option<f64> {
        let silence = self.mark.map_or(0.0, |mark| now.since(mark).as_secs_f64());
        (self.total >= evidence).then(|| self.bytes / (self.seconds + silence).max(1e-4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn idle_time_does_not_count_and_silence_does() {
        let mut pace = Pace::default();
        for second in 0..5 {
            pace.begin(at(second * 10_000));
            (1..=10).for_each(|i| pace.add(100_000, at(second * 10_000 + i * 10)));
            pace.end();
        }
        let rate = pace.rate(at(90_000)).unwrap();
        assert!((9.9e6..10.1e6).contains(&rate), "{rate}");
        pace.begin(at(90_000));
        assert!(pace.rate(at(95_000)).unwrap() < 1e6);
    }

    #[test]
    fn old_experience_fades() {
        let mut pace = Pace::default();
        assert_eq!(pace.rate(at(0)), None);
        pace.begin(at(0));
        (1..=100).for_each(|i| pace.add(1_000_000, at(i * 10)));
        (1..=50).for_each(|i| pace.add(10_000, at(1000 + i * 100)));
        let rate = pace.rate(at(6000)).unwrap();
        assert!((95_000.0..1_000_000.0).contains(&rate), "{rate}");
    }
}
