//! The relay's rate: one line that the bytes of all connections pass, one gulp after the other.
//!
//! Each connection has at most one gulp in the line for each direction, so those that have more to say wait their turn and
//! none is starved.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// Time's worth of bytes that may pass at once after a silence.
const SAVED: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second.
    rate: u64,
    /// When all that was let in has passed.
    free: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free: Mutex::new(Instant::now()) }
    }

    /// Waits until it is these bytes' turn.
    pub(super) async fn pass(&self, bytes: usize) {
        let wait = self.reserve(bytes, Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Takes a place in the line; returns how long it is until that comes.
    fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        let span = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let mut free = self.free.lock();
        let earliest = now.checked_sub(SAVED).unwrap_or(now);
        *free = (*free).max(earliest) + span;
        free.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_keep_to_the_rate_and_share_it() {
        let (pace, began) = (Arc::new(Pace::new(1_000_000)), Instant::now());
        let until = began + Duration::from_secs(10);
        let flow = |gulp: usize| {
            let pace = Arc::clone(&pace);
            async move {
                let mut bytes = 0;
                while Instant::now() < until {
                    pace.pass(gulp).await;
                    bytes += gulp;
                }
                bytes
            }
        };
        let (one, two, three) = tokio::join!(flow(20_000), flow(20_000), flow(20_000));
        let all = one + two + three;
        assert!((9_900_000..=10_200_000).contains(&all), "{all}");
        assert!(
            [one, two, three].iter().all(|bytes| bytes.abs_diff(all / 3) <= 40_000),
            "{one} {two} {three}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_not_saved_up() {
        let pace = Pace::new(1000);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let now = Instant::now();
        assert_eq!(pace.reserve(100, now), Duration::ZERO);
        assert_eq!(pace.reserve(500, now), Duration::from_millis(500));
    }
}
