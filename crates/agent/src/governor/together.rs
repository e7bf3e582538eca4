//! Several connections seen as one flow.

use std::collections::HashMap;
use std::time::Duration;

use peerage_swarm::ledbat::{FlowId, Sample};

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
}

impl Together {
    /// Among how many connections the window is divided.
    pub(super) fn parts(&self) -> u64 {
        self.moving.max(1)
    }

    /// Adds what has happened since the last look.
    pub(super) fn add(&mut self, samples: &[(FlowId, Sample)]) -> Sample {
        let mut sum = Sample {
            rtt: Duration::ZERO,
            smoothed: Duration::ZERO,
            min_rtt: Duration::ZERO,
            mss: 0,
            delivered: 0,
            resent: 0,
            wanting: false,
        };
        let mut most = 0;
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
        let (rtt, smoothed) = self.rtt;
        Sample { rtt, smoothed, delivered: self.delivered, resent: self.resent, ..sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rtt: u64, delivered: u64, wanting: bool) -> Sample {
        let rtt = Duration::from_millis(rtt);
        Sample { rtt, smoothed: rtt, min_rtt: rtt / 2, mss: 1448, delivered, resent: 0, wanting }
    }

    #[test]
    fn the_sum_goes_on_when_connections_come_and_go() {
        let mut together = Together::default();
        together.add(&[(FlowId(1), sample(10, 1000, true))]);
        let both = together.add(&[(FlowId(1), sample(10, 1500, false)), (FlowId(2), sample(30, 2000, true))]);
        assert_eq!((both.delivered, both.rtt.as_millis(), both.wanting), (3500, 30, true));
        assert_eq!(together.parts(), 2);
        assert_eq!(both.min_rtt.as_millis(), 5);
        let rest = together.add(&[(FlowId(2), sample(31, 2000, false))]);
        assert_eq!((rest.delivered, rest.rtt.as_millis(), rest.wanting), (3500, 30, false));
    }
}
