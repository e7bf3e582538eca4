//! The latest round trip, from the smoothed one that the kernel tells.

use std::time::Duration;

/// Share that a new measurement has in the smoothed round trip (RFC 6298 §2; Linux takes the same for a receiver's own).
pub(super) const SHARE: f64 = 0.125;

/// The mean of `segments` measurements that took a smoothed round trip from `before` to `now`, all in seconds.
pub(super) fn undone(before: f64, now: f64, segments: u64) -> f64 {
    let kept = (1.0 - SHARE).powf(segments as f64);
    ((now - before * kept) / (1.0 - kept)).max(0.0)
}

/// Undoes the smoothing of one connection's round trip: over eight samples a flow of a few segments a round trip sees the
/// queue as it was two round trips ago, and of a pause of two round trips hardly anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latest {
    smoothed: f64,
    latest: Duration,
}

impl Latest {
    /// Takes in the smoothed round trip after `segments` more have been measured at most, and returns the mean of what these
    /// measured. If fewer were measured than is said, it lies between that and the smoothed one.
    pub fn take(&mut self, smoothed: Duration, segments: u64) -> Duration {
        let (before, now) = (self.smoothed, smoothed.as_secs_f64());
        if before == 0.0 || (segments == 0 && before != now) {
            // Duplicate acknowledgements measure, too, nobody knows how often.
            (self.smoothed, self.latest) = (now, smoothed);
        } else if before != now {
            self.smoothed = now;
            self.latest = Duration::from_secs_f64(undone(before, now, segments));
        }
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_undone() {
        let (mut latest, mut smoothed) = (Latest::default(), 0.060);
        let micros = |seconds: f64| Duration::from_micros((seconds * 1e6_f64).round() as u64);
        assert_eq!(latest.take(micros(smoothed), 1), micros(0.060));
        for (measured, segments) in [(0.060, 3), (0.010, 1), (0.010, 2), (0.080, 5), (0.001, 1)] {
            for _ in 0..segments {
                smoothed += (measured - smoothed) * SHARE;
            }
            let found = latest.take(micros(smoothed), segments).as_secs_f64();
            assert!((found - measured).abs() < 1e-4, "{found} {measured}");
        }
    }

    #[test]
    fn fewer_measurements_than_segments_leave_it_smoother() {
        let mut latest = Latest::default();
        latest.take(Duration::from_millis(80), 1);
        // One of 0 ms, of ten segments.
        let found = latest.take(Duration::from_millis(70), 10);
        assert!(found > Duration::from_millis(60) && found < Duration::from_millis(70), "{found:?}");
        // Nothing measured, nothing new.
        assert_eq!(latest.take(Duration::from_millis(70), 9), found);
        // Measured without anything having arrived.
        assert_eq!(latest.take(Duration::from_millis(90), 0), Duration::from_millis(90));
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut latest = Latest::default();
        for (micros, segments) in [(0, 0), (u64::MAX, u64::MAX), (1, 1), (u64::MAX, 1), (0, u64::MAX)] {
            latest.take(Duration::from_micros(micros), segments);
        }
    }
}
