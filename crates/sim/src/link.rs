//! A link in one direction: bytes leave it one after the other at its rate.

use std::time::Duration;

use peerage_swarm::Time;

/// Bytes a second of `mbit` Mbit/s.
pub(crate) fn mbit(mbit: f64) -> u64 {
    (mbit * 125_000.0) as u64
}

/// One direction of an access link. Loss is modelled as a lower rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// When its last byte leaves, in nanoseconds: at 10 Gbit/s a block takes 13 µs, and rounding adds up.
    free_at: u64,
}

impl Link {
    pub(crate) const fn new(rate: u64) -> Self {
        Self { rate, free_at: 0 }
    }

    /// How long bytes that come at `at` wait.
    pub(crate) fn queue(&self, at: Time) -> Duration {
        Duration::from_nanos(self.free_at.saturating_sub(at.micros() * 1000))
    }

    /// When the next bytes leave at the earliest.
    pub(crate) const fn free(&self) -> Time {
        Time::from_micros(self.free_at / 1000)
    }

    /// Puts `bytes` on the link, not before `from`; returns when the first and when the last of them leave.
    pub(crate) fn take(&mut self, bytes: u64, from: Time) -> (Time, Time) {
        let start = self.free_at.max(from.micros() * 1000);
        self.free_at = start + (bytes as u128 * 1_000_000_000 / u128::from(self.rate.max(1))) as u64;
        (Time::from_micros(start / 1000), Time::from_micros(self.free_at.div_ceil(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_queue_up() {
        let mut link = Link::new(mbit(8.0));
        let at = Time::from_micros;
        assert_eq!(link.take(1000, at(500)), (at(500), at(1500)));
        assert_eq!(link.take(1000, at(600)), (at(1500), at(2500)));
        assert_eq!(link.take(1, at(9000)), (at(9000), at(9001)));
    }
}
