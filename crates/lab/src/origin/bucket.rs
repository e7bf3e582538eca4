//! The uplink: a token bucket that all connections draw from.
//!
//! A draw is a reservation of the next free moment, in the order of asking. Each connection holds at most one
//! reservation, of at most a quantum and what it left unused before, so N busy connections take turns and share the
//! rate evenly, in writes of at most 64 KiB.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What may be sent at once after a pause. Small, so that a reader cannot outrun the rate; large enough to make up
/// for timers that fire a few milliseconds late.
const BURST: Duration = Duration::from_millis(20);
/// A quantum is what the uplink sends in this time.
const TURN: Duration = Duration::from_millis(2);
const MIN_QUANTUM: u64 = 1 << 10;
const MAX_QUANTUM: u64 = 32 << 10;

#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes per second.
    rate: u64,
    /// When the uplink has sent everything reserved so far; `None`: nothing was ever reserved.
    free_at: Mutex<Option<Instant>>,
}

impl Bucket {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_at: Mutex::default() }
    }

    /// What one connection may draw each turn, in bytes.
    pub(super) fn quantum(&self) -> u64 {
        (self.rate / (1000 / TURN.as_millis() as u64)).clamp(MIN_QUANTUM, MAX_QUANTUM)
    }

    /// Reserves room for `bytes`: they may be handed over from the returned moment on, which may have passed. That is
    /// when a link of this rate would have carried the last of them.
    pub(super) fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = free_at.map_or(earliest, |free| free.max(earliest));
        // In nanoseconds and wide, so that rounding stays below one byte even at 100 Gbit/s.
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let end = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        *free_at = Some(end);
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantum_follows_the_rate_within_bounds() {
        assert_eq!(Bucket::new(0).quantum(), 1 << 10);
        assert_eq!(Bucket::new(1_250_000).quantum(), 2_500);
        assert_eq!(Bucket::new(u64::MAX).quantum(), 32 << 10);
    }

    proptest! {
        // Whoever asks whenever: over any stretch no more than rate × time + burst is let go.
        #[test]
        fn the_rate_is_never_exceeded(
            rate in 1_000..1_000_000_000_u64,
            draws in prop::collection::vec((1..65_536_u64, 0..50_000_u64), 1..200),
        ) {
            let bucket = Bucket::new(rate);
            let origin = Instant::now() + Duration::from_secs(1);
            let mut now = origin;
            let mut sent = 0;
            for (bytes, idle_us) in draws {
                now += Duration::from_micros(idle_us);
                now = now.max(bucket.reserve(bytes, now));
                sent += bytes;
                let allowed = rate as f64 * ((now - origin) + BURST).as_secs_f64();
                // A nanosecond is lost to rounding with each draw.
                prop_assert!(sent as f64 <= allowed + 1.0 + 2e-9 * rate as f64 * 200.0, "{sent} sent, {allowed} allowed");
            }
        }

        // A busy uplink is never idle: n draws back to back take n/rate.
        #[test]
        fn nothing_is_lost(rate in 1_000..1_000_000_000_u64, draws in prop::collection::vec(1..65_536_u64, 1..200)) {
            let bucket = Bucket::new(rate);
            let origin = Instant::now() + Duration::from_secs(1);
            let total: u64 = draws.iter().sum();
            let end = draws.iter().map(|bytes| bucket.reserve(*bytes, origin)).last().unwrap();
            let took = (end + BURST - origin).as_secs_f64();
            prop_assert!((took - total as f64 / rate as f64).abs() < 1e-6 * draws.len() as f64);
        }
    }
}
