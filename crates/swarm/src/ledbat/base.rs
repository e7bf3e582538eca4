//! The round trip without any queue: a minimum over minutes (RFC 6817 §4.3, BASE_HISTORY).

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

const BUCKET: Duration = Duration::from_secs(60);
const BUCKETS: usize = 10;

/// Minimum of the last ten minutes. A longer route is believed when the shorter one has left the history.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    /// Least values of the buckets, oldest first.
    buckets: VecDeque<f64>,
    /// When the newest bucket began.
    began: Time,
}

impl Base {
    /// Counts one round trip, in seconds.
    pub(super) fn add(&mut self, rtt: f64, now: Time) {
        if self.buckets.is_empty() || now.since(self.began) >= BUCKET {
            self.buckets.push_back(rtt);
            self.began = now;
            if self.buckets.len() > BUCKETS {
                self.buckets.pop_front();
            }
        } else if let Some(newest) = self.buckets.back_mut() {
            *newest = newest.min(rtt);
        }
    }

    /// The minimum, in seconds; `None` before the first sample.
    pub(super) fn get(&self) -> Option<f64> {
        self.buckets.iter().copied().reduce(f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_leaves_after_ten_minutes() {
        let mut base = Base::default();
        assert_eq!(base.get(), None);
        let at = |s: u64| Time::from_micros(s * 1_000_000);
        base.add(0.01, at(0));
        (0..599).for_each(|s| base.add(0.05, at(s)));
        assert_eq!(base.get(), Some(0.01));
        (599..700).for_each(|s| base.add(0.05, at(s)));
        assert_eq!(base.get(), Some(0.05));
    }
}
