//! What the bottleneck's buffer holds, learned from losses, and the queue that may stand in it.

use std::time::Duration;

use super::{MAX_FILL, TARGET};
use crate::Time;

/// A loss is believed for one to two of these: a minute later another path may be in use.
const EPOCH: Duration = Duration::from_secs(60);
/// A loss is noticed a round trip after the packets ahead of it have told how long the queue was.
const MOMENT: Duration = Duration::from_millis(100);
/// Below this a queue cannot be told from the noise of clocks, schedulers and delayed acknowledgements; and random losses
/// with an empty queue must not talk the target down to nothing.
const LEAST: f64 = 0.005;
/// Share of [`TARGET`] that is steered to: the draft leaves slow start there (§4.3), and the rest is for swings.
const AIM: f64 = 0.75;

/// Longest round trip at which packets were lost, lately. Not the queue: what is thought of the path without one may yet turn out
/// to have been too much.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Buffer {
    /// Of this epoch and the one before, in seconds.
    full: [Option<f64>; 2],
    began: Time,
    /// Until then round trips are those of a loss.
    until: Time,
    /// The longest round trip of this moment and of the one before, and when this one began.
    recent: [f64; 2],
    moment: Time,
}

impl Buffer {
    /// Packets were lost. `aftermath`: what the kernel tells of the queue at that moment comes within this time.
    pub(super) fn lost(&mut self, aftermath: Duration, now: Time) {
        self.turn(now);
        self.until = now + aftermath;
        self.fill(self.recent[0].max(self.recent[1]));
    }

    /// The round trip is `rtt` seconds.
    pub(super) fn see(&mut self, rtt: f64, now: Time) {
        if now.since(self.moment) >= MOMENT {
            self.recent = [0.0, self.recent[0]];
            self.moment = now;
        }
        self.recent[0] = self.recent[0].max(rtt);
        if now < self.until {
            self.fill(rtt);
        }
    }

    fn fill(&mut self, rtt: f64) {
        self.full[0] = Some(self.full[0].map_or(rtt, |full| full.max(rtt)));
    }

    /// The queue to steer to, in seconds, where the round trip without one is `base`.
    pub(super) fn target(&mut self, base: f64, now: Time) -> f64 {
        self.turn(now);
        let aim = TARGET.as_secs_f64() * AIM;
        let full = self.full.iter().flatten().copied().reduce(f64::max);
        full.map_or(aim, |full| ((full - base) * MAX_FILL).clamp(LEAST, aim))
    }

    fn turn(&mut self, now: Time) {
        let age = now.since(self.began);
        if age >= EPOCH {
            self.full = [None, if age < EPOCH * 2 { self.full[0] } else { None }];
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTERMATH: Duration = Duration::from_millis(80);

    #[test]
    fn the_target_follows_what_was_learned_and_forgets() {
        let (mut buffer, at) = (Buffer::default(), |s: u64| Time::from_micros(s * 1_000_000));
        let is = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        is(buffer.target(0.1, at(0)), 0.045);
        buffer.see(0.101, at(1));
        buffer.lost(AFTERMATH, at(1));
        is(buffer.target(0.1, at(1)), LEAST);
        buffer.see(0.120, at(2));
        buffer.lost(AFTERMATH, at(2));
        is(buffer.target(0.1, at(2)), 0.010);
        // The base was shorter than it seemed.
        is(buffer.target(0.09, at(2)), 0.015);
        is(buffer.target(0.1, at(100)), 0.010);
        is(buffer.target(0.1, at(170)), 0.045);
        buffer.see(0.6, at(171));
        buffer.lost(AFTERMATH, at(171));
        is(buffer.target(0.1, at(171)), 0.045);
    }

    #[test]
    fn a_loss_is_of_the_longest_queue_around_it() {
        let (mut buffer, at) = (Buffer::default(), |ms: u64| Time::from_micros(1_000_000 + ms * 1000));
        let is = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        buffer.see(0.09, at(0));
        buffer.see(0.02, at(300));
        buffer.see(0.03, at(360));
        buffer.see(0.01, at(420));
        buffer.lost(AFTERMATH, at(420));
        is(buffer.target(0.0, at(420)), 0.015);
        buffer.see(0.04, at(440));
        is(buffer.target(0.0, at(440)), 0.020);
        buffer.see(0.05, at(500));
        is(buffer.target(0.0, at(500)), 0.020);
    }
}
