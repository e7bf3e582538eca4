//! What capped downloads leave unread.
//!
//! A cap slows down how fast is read; meanwhile the kernel takes in as much as its buffer holds, megabytes if it is let,
//! and the link carries them in one go. So while a cap holds, the receive buffers of what it concerns hold little more
//! than the cap lets pass between two reads.

use std::time::Duration;

use peerage_policy::Class;
use peerage_transport::{Path, TransportError};
use tokio::time::Instant;

use crate::budgets::{Budgets, Gate};

/// How often the buffers follow the caps.
const EVERY: Duration = Duration::from_millis(250);
/// Between two reads; beside it the buffer bridges two round trips.
const BETWEEN_READS: Duration = Duration::from_millis(20);
/// Some segments, so that the sender need not wait for timers.
const LEAST: u64 = 32 << 10;
/// More than the kernel gives to programs without privileges (`net.core.rmem_max`): then its own tuning is better.
const MOST: u64 = 200 << 10;

/// Whose cap concerns a connection.
#[derive(Debug)]
pub(super) enum Of {
    /// That of all downloads of a class over the downlink.
    Class(Class),
    /// That of the content which comes over it.
    Gate(Gate),
}

/// A connection over which bytes may come that a cap concerns.
#[derive(Debug)]
pub(crate) struct Capped {
    path: Path,
    of: Of,
    bound: Option<u32>,
    received: u64,
}

impl Capped {
    pub(super) const fn new(path: Path, of: Of) -> Self {
        Self { path, of, bound: None, received: 0 }
    }

    fn cap(&self, budgets: &Budgets) -> Option<u64> {
        match &self.of {
            Of::Class(class) => budgets.cap(*class),
            Of::Gate(gate) => gate.cap(),
        }
    }

    /// Sets the bound, or lifts it if it was set here.
    fn apply(&mut self, wanted: Option<u32>) -> Result<(), TransportError> {
        let near = |one: u32, other: u32| one.abs_diff(other) < one / 4;
        let same = match (self.bound, wanted) {
            (Some(one), Some(other)) => near(one, other),
            (one, other) => one == other,
        };
        if same {
            return Ok(());
        }
        self.bound = wanted;
        self.path.set_unread(wanted)
    }
}

/// How much may wait unread, in bytes; `None`: as much as the kernel likes.
fn bound(cap: u64, round_trip: Duration, sharing: u64) -> Option<u32> {
    let span = round_trip.saturating_mul(2).saturating_add(BETWEEN_READS);
    let bytes = u128::from(cap / sharing.max(1)).saturating_mul(span.as_micros()) / 1_000_000;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).max(LEAST);
    (bytes <= MOST).then_some(bytes as u32)
}

/// All of them.
#[derive(Debug)]
pub(super) struct Unread {
    connections: Vec<Capped>,
    due: Instant,
    /// Connections over which something came between the last two looks.
    moving: u64,
}

impl Unread {
    pub(super) fn new() -> Self {
        Self { connections: Vec::new(), due: Instant::now(), moving: 1 }
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// When to look again; nothing to look at: never.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.connections.is_empty()).then_some(self.due)
    }

    /// Takes in a connection. Its buffer is bounded at once: it is open from the first byte on.
    pub(super) fn add(&mut self, connection: Capped, budgets: &Budgets) {
        self.connections.push(connection);
        self.look(budgets);
    }

    pub(super) fn look(&mut self, budgets: &Budgets) {
        let (sharing, mut moving) = (self.moving, 0);
        self.connections.retain_mut(|connection| {
            // An error means that the connection has ended.
            let Ok(info) = connection.path.info() else { return false };
            moving += u64::from(info.bytes_received != connection.received);
            connection.received = info.bytes_received;
            let cap = connection.cap(budgets);
            let wanted = cap.and_then(|cap| bound(cap, info.min_rtt, sharing));
            if let Err(error) = connection.apply(wanted) {
                tracing::debug!(%error, "what waits unread cannot be bounded");
            }
            true
        });
        if Instant::now() >= self.due {
            self.moving = moving.max(1);
            self.due = Instant::now() + EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_the_cap_and_the_round_trip() {
        let ms = Duration::from_millis;
        assert_eq!(bound(1_000_000, ms(0), 1), Some(32 << 10));
        assert_eq!(bound(1_000_000, ms(50), 1), Some(120_000));
        assert_eq!(bound(1_000_000, ms(50), 3), Some(39_999));
        // Never less than some segments, and no bound that the kernel would cut.
        assert_eq!(bound(1_000, ms(0), 1), Some(32 << 10));
        assert_eq!(bound(0, ms(0), 0), Some(32 << 10));
        assert_eq!(bound(100_000_000, ms(10), 1), None);
        assert_eq!(bound(u64::MAX, Duration::MAX, 1), None);
    }
}
