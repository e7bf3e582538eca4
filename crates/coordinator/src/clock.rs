//! The two clocks: Unix time for what is signed and stored, seconds since start for what only this process knows.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The clocks of one coordinator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Unix seconds. May jump when somebody sets the clock.
    pub(crate) fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Seconds since start, plus one day so that subtracting an age stays above zero. Never runs backwards.
    pub(crate) fn uptime(&self) -> u32 {
        let passed = Instant::now().saturating_duration_since(self.start).as_secs();
        u32::try_from(passed.saturating_add(86_400)).unwrap_or(u32::MAX)
    }
}
