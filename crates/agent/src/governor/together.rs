//! Several connections seen as one flow.

use std::collections::HashMap;
use std::time::Duration;

use peerage_swarm::Time;
use peerage_swarm::ledbat::{FlowId, Sample};

/// A round trip that has not changed for so long is an old one.
const DEAF: Duration = Duration::from_secs(1);

/// The sum of connections that come and go.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// Delivered and resent of each, at the last look.
    last: HashMap<FlowId, (u64, u64)>,
    delivered: u64,
    resent: u64,
    /// Connections over which something came since the last look.
    moving: u64,
    /// Of the connection that moved most when something last moved: the latest, and the smoothed.
    rtt: (Duration, Duration),
    /// When that last changed.
    heard: Time,
}

impl Together {
    /// Among how many connections the window is divided.
    pub(super) fn parts(&self) -> u64 {
        self.moving.max(1)
    }

    /// Whether nothing has been measured lately. Of all connections together: one that rests hears nothing, ever.
    pub(super) fn is_deaf(&self, now: Time) -> bool {
        now.since(self.heard) >= DEAF
    }

    /// Adds what has happened since the last look.
    pub(super) fn add(&mut self, samples: &[(FlowId, Sample)], now: Time) -> Sample {
        let mut sum = Sample {
            rtt: Duration::ZERO,
            smoothed: Duration::ZERO,
            min_rtt: Duration::ZERO,
            mss: 0,
            delivered: 0,
            resent: 0,
            wanting: false,
        };
        let (mut most, before) = (0, self.rtt);
        let mut moving = 0;
        let last = std::mem::take(&mut self.last);
        for (id, sample) in samples {
            let (delivered, resent) = last.get(id).copied().unwrap_or_default();
            let moved = sample.delivered.saturating_sub(delivered);
            self.delivered += moved;
            moving += u64::from(moved > 0);
            self.resent += sample.resent.saturating_sub(resent);
            if moved > most && !sample.rtt.is_zero() {
                (most, self.rtt) = (moved, (sample.rtt, sample.smoothed));
            }
            sum.mss = sum.mss.max(sample.mss);
            sum.wanting |= sample.wanting;
            if !sample.min_rtt.is_zero() && (sum.min_rtt.is_zero() || sample.min_rtt < sum.min_rtt) {
                sum.min_rtt = sample.min_rtt;
            }
            self.last.insert(*id, (sample.delivered, sample.resent));
        }
        if moving > 0 {
            self.moving = moving;
        }
        if self.rtt != before {
            self.heard = now;
        }
        let (rtt, smoothed) = self.rtt;
        Sample { rtt, smoothed, delivered: self.delivered, resent: self.resent, ..sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn sample(rtt: u64, delivered: u64, wanting: bool) -> Sample {
        let rtt = Duration::from_millis(rtt);
        Sample { rtt, smoothed: rtt, min_rtt: rtt / 2, mss: 1448, delivered, resent: 0, wanting }
    }

    #[test]
    fn the_sum_goes_on_when_connections_come_and_go() {
        let mut together = Together::default();
        together.add(&[(FlowId(1), sample(10, 1000, true))], at(0));
        let both = together
            .add(&[(FlowId(1), sample(10, 1500, false)), (FlowId(2), sample(30, 2000, true))], at(20));
        assert_eq!((both.delivered, both.rtt.as_millis(), both.wanting), (3500, 30, true));
        assert_eq!(together.parts(), 2);
        assert_eq!(both.min_rtt.as_millis(), 5);
        let rest = together.add(&[(FlowId(2), sample(31, 2000, false))], at(40));
        assert_eq!((rest.delivered, rest.rtt.as_millis(), rest.wanting), (3500, 30, false));
    }
    /// Kept-alive connections of a way rest while another one brings everything.
    #[test]
    fn a_connection_that_rests_makes_nobody_deaf() {
        let mut together = Together::default();
        for look in 0..200 {
            let moving = sample(10 + look % 2, 1000 * look, true);
            together.add(&[(FlowId(1), moving), (FlowId(2), sample(30, 2000, false))], at(20 * look));
        }
        assert!(!together.is_deaf(at(20 * 200)));
        let same = sample(10, 1_000_000, true);
        for look in 200..260 {
            together.add(&[(FlowId(1), same), (FlowId(2), sample(30, 2000, false))], at(20 * look));
        }
        assert!(together.is_deaf(at(20 * 260)));
    }
}
