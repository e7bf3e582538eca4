//! What the downlink can carry, learnt from what it has carried.
//!
//! The best two seconds of recent hours count. A cap must not teach that the link is as slow as the cap: hours in which
//! a cap was in force can raise the estimate and never lower it.

use std::time::Duration;

use crate::Time;

/// Hours of traffic that are remembered.
const SLOTS: usize = 24;
const SLOT: Duration = Duration::from_secs(3600);
/// A window is at least this long: shorter ones measure buffers.
const WINDOW: Duration = Duration::from_secs(2);
/// A window with a pause in it says nothing.
const STALE: Duration = Duration::from_secs(3);
/// Nor does one with fewer bytes.
const EVIDENCE: u64 = 256 << 10;

/// The estimate of the downlink's capacity.
#[derive(Debug, Clone, Default)]
pub struct Downlink {
    /// When the present window began, and what has come in it.
    window: Option<(Time, u64)>,
    /// The best rate of each hour in which traffic flowed without a cap, the newest last.
    best: [u64; SLOTS],
    /// When the newest hour began.
    began: Option<Time>,
}

impl Downlink {
    /// An estimate that was learnt before, in bytes a second.
    pub fn remembered(rate: u64) -> Self {
        let mut best = [0; SLOTS];
        best[SLOTS - 1] = rate;
        Self { best, ..Self::default() }
    }

    /// Counts bytes that came over the downlink; `capped`: while a cap held them back.
    pub fn add(&mut self, bytes: u64, capped: bool, now: Time) {
        let (start, so_far) = *self.window.get_or_insert((now, 0));
        let span = now.since(start);
        if span < WINDOW {
            self.window = Some((start, so_far + bytes));
            return;
        }
        self.window = Some((now, bytes));
        if span > STALE || so_far < EVIDENCE {
            return;
        }
        if now.since(*self.began.get_or_insert(now)) >= SLOT && !capped {
            self.best.rotate_left(1);
            self.best[SLOTS - 1] = 0;
            self.began = Some(now);
        }
        let rate = (so_far as f64 / span.as_secs_f64()) as u64;
        self.best[SLOTS - 1] = self.best[SLOTS - 1].max(rate);
    }

    /// Bytes a second; `None`: nothing is known yet.
    pub fn rate(&self) -> Option<u64> {
        self.best.iter().copied().max().filter(|rate| *rate > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rate` bytes a second for `seconds` from `from` on.
    fn flow(link: &mut Downlink, rate: u64, capped: bool, from: u64, seconds: u64) -> u64 {
        for tick in 0..seconds * 20 {
            let now = Time::from_micros((from * 20 + tick) * 50_000 + 1_000_000);
            link.add(rate / 20, capped, now);
        }
        from + seconds
    }

    #[test]
    fn learns_the_best_and_forgets_after_a_day_of_traffic() {
        let mut link = Downlink::default();
        assert_eq!(link.rate(), None);
        let mut now = flow(&mut link, 10_000_000, false, 0, 20);
        let learnt = link.rate().unwrap();
        assert!((9_500_000..=11_000_000).contains(&learnt), "{learnt}");
        // A cap of a tenth for two days changes nothing.
        for _ in 0..48 {
            now = flow(&mut link, 1_000_000, true, now + 3600, 5);
        }
        assert_eq!(link.rate(), Some(learnt));
        // A slower line for a day of hours with traffic does.
        for _ in 0..25 {
            now = flow(&mut link, 5_000_000, false, now + 3600, 5);
        }
        let slower = link.rate().unwrap();
        assert!((4_700_000..=5_500_000).contains(&slower), "{slower}");
    }

    #[test]
    fn a_few_bytes_say_nothing_and_the_past_can_be_given() {
        let mut link = Downlink::default();
        flow(&mut link, 1_000, false, 0, 10);
        assert_eq!(link.rate(), None);
        assert_eq!(Downlink::remembered(7).rate(), Some(7));
    }
}
