//! What the bottleneck's buffer holds, learned from losses, and the queue that may stand in it.

use std::time::Duration;

use super::{MAX_FILL, TARGET};
use crate::Time;

/// A loss is believed for one to two of these: a minute later another path may be in use.
const EPOCH: Duration = Duration::from_secs(60);
/// Below this a queue cannot be told from the noise of clocks, schedulers and delayed acknowledgements; and random losses
/// with an empty queue must not talk the target down to nothing.
const LEAST: f64 = 0.005;
/// Share of [`TARGET`] that is steered to: the draft leaves slow start there (§4.3), and the rest is for swings.
const AIM: f64 = 0.75;

/// Largest queue at which packets were lost, lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffer {
    /// Of this epoch and the one before, in seconds of delay.
    held: [Option<f64>; 2],
    began: Time,
}

impl Buffer {
    /// Packets were lost while the queue was `delay` seconds long.
    pub(super) fn lost(&mut self, delay: f64, now: Time) {
        self.turn(now);
        self.held[0] = Some(self.held[0].map_or(delay, |held| held.max(delay)));
    }

    /// The queue to steer to, in seconds.
    pub(super) fn target(&mut self, now: Time) -> f64 {
        self.turn(now);
        let aim = TARGET.as_secs_f64() * AIM;
        let held = self.held.iter().flatten().copied().reduce(f64::max);
        held.map_or(aim, |held| (held * MAX_FILL).clamp(LEAST, aim))
    }

    fn turn(&mut self, now: Time) {
        let age = now.since(self.began);
        if age >= EPOCH {
            self.held = [None, if age < EPOCH * 2 { self.held[0] } else { None }];
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_follows_what_was_learned_and_forgets() {
        let (mut buffer, at) = (Buffer::default(), |s: u64| Time::from_micros(s * 1_000_000));
        let is = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        is(buffer.target(at(0)), 0.045);
        buffer.lost(0.001, at(1));
        is(buffer.target(at(1)), LEAST);
        buffer.lost(0.020, at(2));
        is(buffer.target(at(2)), 0.010);
        is(buffer.target(at(100)), 0.010);
        is(buffer.target(at(170)), 0.045);
        buffer.lost(0.5, at(171));
        is(buffer.target(at(171)), 0.045);
    }
}
