//! The one place of the agent that reads clocks.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use peerage_swarm::Time;

/// Monotonic time for the engine, Unix time for records and tickets.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Seconds that the coordinator's clock is ahead of ours. Tickets and records are judged by the coordinator's
    /// clock, because a laptop's may be wrong by hours.
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), ahead: AtomicI64::new(0) }
    }

    /// Engine time. Starts at one second so that "long ago" can be expressed.
    pub(crate) fn now(&self) -> Time {
        Time::from_micros(1_000_000 + self.start.elapsed().as_micros() as u64)
    }

    /// The moment of the tokio clock that an engine time means.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let since = Duration::from_micros(time.micros().saturating_sub(1_000_000));
        tokio::time::Instant::from_std(self.start + since)
    }

    /// Unix seconds by the coordinator's clock, as far as it is known.
    pub(crate) fn unix(&self) -> u64 {
        own_unix().saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }

    /// This device's own clock: Unix time, finer than the coordinator tells it.
    pub(crate) fn own_since_epoch() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Seconds that this device's own clock is ahead of [`Self::unix`].
    pub(crate) fn own_ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed).saturating_neg()
    }

    /// The calendar month of this device: twelve times the year, plus the month from 0.
    pub(crate) fn month(&self) -> u64 {
        let unix = i64::try_from(self.unix()).unwrap_or(0);
        let now =
            jiff::Timestamp::from_second(unix).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
        u64::from(now.year().unsigned_abs()) * 12 + u64::from(now.month().unsigned_abs()) - 1
    }

    /// The coordinator says that it is `time` there.
    pub(crate) fn set_by_coordinator(&self, time: u64) {
        let ahead = i64::try_from(time).unwrap_or(0).saturating_sub_unsigned(own_unix());
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

fn own_unix() -> u64 {
    Clock::own_since_epoch().as_secs()
}
