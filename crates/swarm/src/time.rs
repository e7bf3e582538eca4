//! Time as an argument: microseconds since an epoch that the driver chooses.

use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment. Never read from a clock in this room; must not run backwards between calls.
///
/// Kept as one more than its microseconds, so that a moment that may not have come takes no more room than one that has:
/// an engine keeps a dozen of them for each of its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU64);

const _: () = assert!(size_of::<Option<Time>>() == 8);

impl Time {
    /// The epoch.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The moment `micros` after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> u64 {
        self.0.get() - 1
    }

    /// How long ago `earlier` was; zero if it was not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self::from_micros(self.micros().saturating_sub(micros(span)))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
