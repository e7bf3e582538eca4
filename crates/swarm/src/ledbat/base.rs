//! The round trip without any queue: a minimum over minutes (RFC 6817 §4.3, BASE_HISTORY).

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

const BUCKET: Duration = Duration::from_secs(60);
const BUCKETS: usize = 10;
/// A segment is taken for no longer than this, in seconds: what the path can carry is not known at first.
const LONGEST_SEGMENT: f64 = 0.0125;

/// What is shorter counts as this, in seconds. A receiver's kernel tells milliseconds and passes over round trips of none; on a
/// near path it is chance whether a device has met one of 1 ms or remembers the 5 of a queue that went away.
const SHORTEST: f64 = 0.004;

/// What a full segment takes there and its acknowledgement back, without a queue. A handshake is faster by the time that the
/// link is busy with the segment: at 1 Mbit/s 12 ms, which whoever had shaken hands on an empty path would take for
/// a queue, and leave the link to those who had not.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    any: Least,
    full: Least,
    /// What the link is busy with a segment, in seconds, at the rate that the path has carried.
    pub(super) segment: f64,
}

impl Base {
    /// Counts a round trip of whatever was sent, in seconds.
    pub(super) fn add(&mut self, rtt: f64, now: Time) {
        self.any.add(rtt, now);
    }

    /// Counts one of full segments.
    pub(super) fn add_full(&mut self, rtt: f64, now: Time) {
        self.full.add(rtt, now);
    }

    /// Takes in how many bytes a second the path has carried, and how many a full segment has.
    pub(super) fn carries(&mut self, rate: f64, mss: u32) {
        self.segment = (f64::from(mss) / rate.max(1.0)).min(LONGEST_SEGMENT);
    }

    /// The least of all, in seconds; `None` before the first.
    pub(super) fn least(&self) -> Option<f64> {
        self.any.get()
    }

    /// That of full segments, as far as a segment's time explains what it has beyond the least of all.
    pub(super) fn get(&self) -> Option<f64> {
        let least = self.any.get()?;
        let full = self.full.get().map_or(least, |full| full.min(least + self.segment));
        Some(full.max(SHORTEST))
    }
}

/// Minimum of the last ten minutes. A longer route is believed when the shorter one has left the history.
#[derive(Debug, Clone, Default)]
struct Least {
    /// Least values of the buckets, oldest first.
    buckets: VecDeque<f64>,
    /// When the newest bucket began.
    began: Time,
}

impl Least {
    fn add(&mut self, rtt: f64, now: Time) {
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

    fn get(&self) -> Option<f64> {
        self.buckets.iter().copied().reduce(f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_micros(s * 1_000_000)
    }

    #[test]
    fn a_minimum_leaves_after_ten_minutes() {
        let mut base = Base::default();
        assert_eq!(base.get(), None);
        base.add(0.01, at(0));
        (0..599).for_each(|s| base.add(0.05, at(s)));
        assert_eq!(base.get(), Some(0.01));
        (599..700).for_each(|s| base.add(0.05, at(s)));
        assert_eq!(base.get(), Some(0.05));
    }

    #[test]
    fn a_segment_takes_its_time_and_no_more() {
        let mut base = Base::default();
        base.add(0.010, at(0));
        base.carries(1_250_000.0, 1250);
        assert_eq!(base.get(), Some(0.010));
        base.add_full(0.0108, at(1));
        assert_eq!(base.get(), Some(0.0108));
        // The rest is a queue.
        let mut behind = Base::default();
        behind.add(0.010, at(0));
        behind.add_full(0.030, at(0));
        behind.carries(1_250_000.0, 1250);
        assert_eq!((behind.get(), behind.least()), (Some(0.011), Some(0.010)));
        behind.carries(0.0, 1250);
        assert_eq!(behind.get(), Some(0.0225));
    }
}
