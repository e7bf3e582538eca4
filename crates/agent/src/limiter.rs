//! Rate limits: one bucket for each class of traffic, drawn from before bytes are read or sent.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A bucket holds at most this much time's worth of bytes.
const BURST: Duration = Duration::from_millis(100);
/// Longest wait before the rate is looked at again: a change of policy takes effect at once.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Bucket {
    rate: Option<u64>,
    /// Bytes that may be passed now; negative: a debt that has to be waited off.
    credit: f64,
    filled: Instant,
}

/// Lets at most so many bytes a second pass, for all who share it.
#[derive(Debug)]
pub(crate) struct Limiter(Mutex<Bucket>);

impl Limiter {
    /// No limit.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bucket { rate: None, credit: 0.0, filled: Instant::now() }))
    }

    /// Sets the limit in bytes a second; `None`: no limit.
    pub(crate) fn set(&self, rate: Option<u64>) {
        let mut bucket = self.0.lock();
        if bucket.rate != rate {
            *bucket = Bucket { rate, credit: 0.0, filled: Instant::now() };
        }
    }

    /// Waits until `bytes` may pass. A passage may run into debt, so that no size of passage is too large for a rate.
    pub(crate) async fn pass(&self, bytes: u64) {
        while let Some(wait) = self.try_pass(bytes, Instant::now()) {
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
    }

    fn try_pass(&self, bytes: u64, now: Instant) -> Option<Duration> {
        let mut bucket = self.0.lock();
        let rate = bucket.rate? as f64;
        let earned = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.credit = (bucket.credit + earned).min(rate * BURST.as_secs_f64());
        bucket.filled = now;
        if bucket.credit >= 0.0 {
            bucket.credit -= bytes as f64;
            return None;
        }
        // Rounded up: a debt of less than a nanosecond's bytes must not become a wait of nothing, which earns nothing.
        let wait = (-bucket.credit / rate.max(1.0)).min(60.0);
        Some(Duration::from_secs_f64(wait) + Duration::from_nanos(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(50);

    #[test]
    fn holds_the_rate_whatever_the_size_of_passages() {
        // The last rate is one whose debts are smaller than what a nanosecond earns, again and again.
        for (size, limit) in
            [(1_000u64, 1_000_000u64), (16_384, 1_000_000), (1_048_576, 1_000_000), (16_384, 3_000_000_007)]
        {
            let limiter = Limiter::new();
            limiter.set(Some(limit));
            let start = Instant::now();
            let (mut now, mut passed) = (start, 0);
            while now < start + LENGTH {
                match limiter.try_pass(size, now) {
                    None => passed += size,
                    Some(wait) => now += wait,
                }
            }
            let share = passed as f64 / LENGTH.as_secs_f64() / limit as f64;
            assert!((0.96..1.05).contains(&share), "{size} B at {limit} B/s: {share}");
        }
        let free = Limiter::new();
        assert!(free.try_pass(u64::MAX, Instant::now()).is_none());
    }
}
