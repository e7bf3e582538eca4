//! How fast a file must come, so that an origin which sends next to nothing does not keep a place for hours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Refused;

/// Least bytes a second, over [`WINDOW`]: an eighth of a megabit.
const LEAST: u64 = 16 << 10;
/// Long enough for a slow first byte and for the pauses after a broken fetch.
const WINDOW: Duration = Duration::from_secs(60);

/// Bytes that have arrived, in whatever order.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    pub(super) fn add(&self, len: usize) {
        self.0.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Returns when less than that came in a window.
    pub(super) async fn too_slow(&self) -> Refused {
        let mut before = 0;
        loop {
            tokio::time::sleep(WINDOW).await;
            if let Some(refused) = self.judge(&mut before) {
                return refused;
            }
        }
    }

    /// Judges the window that ends now; `before`: what had arrived when it began.
    fn judge(&self, before: &mut u64) -> Option<Refused> {
        let now = self.0.load(Ordering::Relaxed);
        let (rate, seconds) = ((now - *before) / WINDOW.as_secs(), WINDOW.as_secs());
        *before = now;
        (rate < LEAST).then(|| {
            Refused::origin(format!(
                "the origin sent {rate} bytes a second for {seconds} s; at least {LEAST} are asked for"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_given_up_and_a_slow_line_is_not() {
        let (pace, mut before) = (Pace::default(), 0);
        let whole = (LEAST * WINDOW.as_secs()) as usize;
        for _ in 0..10 {
            pace.add(whole);
            assert!(pace.judge(&mut before).is_none());
        }
        pace.add(whole - 1);
        assert!(pace.judge(&mut before).is_some(), "what came earlier does not count");
        assert!(Pace::default().judge(&mut 0).is_some());
    }
}
