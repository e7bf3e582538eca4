//! One governed socket: how it is sampled, and how a rate is imposed on it.

use std::sync::Arc;
use std::time::Duration;

use peerage_origin::Throttle;
use peerage_swarm::Time;
use peerage_swarm::ledbat::{Incoming, Latest, Received, Sample};
use peerage_transport::{NOTSENT_LOWAT, Path, PathInfo, TransportError};

/// Time's worth of bytes that a limited sender may have waiting unsent: what a message waits behind.
const BACKLOG: Duration = Duration::from_millis(100);
const LEAST_BACKLOG: u64 = 16 << 10;
/// Time's worth of bytes that a limited sender lets go at once: a queue that several of them make of their bursts is short beside
/// the one that is steered to. A longer one than a segment or two, for a burst costs a timer.
const BURST: Duration = Duration::from_millis(4);
const LEAST_BURST_SEGMENTS: u64 = 2;
/// What the kernel sends at once at most.
const LARGEST_BURST: u64 = 64 << 10;
/// The window of a download that is not limited: no bound, the kernel's own rules hold.
const OPEN_WINDOW: u32 = 1 << 30;

/// Three segments: a window is told in units of up to 16 KiB (RFC 7323 §2.2; 1 KiB with Linux's usual limits), and with
/// less than a segment the sender waits for a timer (RFC 9293 §3.8.6.2.1). Below that, reading slows down.
const LEAST_WINDOW: u64 = 3 * 1460;

/// What may wait unread then, as `SO_RCVBUF` counts (the kernel doubles it): some segments with their overhead.
const NARROW_BUFFER: u32 = 8 << 10;

/// The latest round trip of what is sent over a connection, from what the kernel tells.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    latest: Latest,
    delivered: u64,
    heard: u32,
    mss: u64,
}

impl Echo {
    /// Each segment measures the round trip at most once, and so does each acknowledgement: a burst that the other side takes in as
    /// one has one.
    fn take(&mut self, sample: Sample, segments_in: u32) -> Sample {
        let moved = sample.delivered.saturating_sub(self.delivered);
        self.delivered = sample.delivered;
        self.mss = u64::from(sample.mss.max(1));
        let heard = u64::from(segments_in.wrapping_sub(std::mem::replace(&mut self.heard, segments_in)));
        let sent = moved.div_ceil(self.mss);
        Sample { rtt: self.latest.take(sample.rtt, sent.min(heard)), ..sample }
    }

    /// What may leave at once at `rate` bytes a second, in whole segments; `None`: what the kernel likes.
    fn burst(&self, rate: u64) -> Option<u32> {
        let segments = (rate / (1000 / BURST.as_millis() as u64) / self.mss.max(1)).max(LEAST_BURST_SEGMENTS);
        Some(segments * self.mss).filter(|bytes| *bytes < LARGEST_BURST).map(|bytes| bytes as u32)
    }
}

/// A governed socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Sends: the kernel paces it, at this rate if at any.
    Upload { path: Path, echo: Echo, paced: Option<u64> },
    /// Receives: the window bounds what may be under way (RFC 9840 §3), and where that would be less than some segments,
    /// it is read no faster than allowed.
    Download {
        path: Path,
        incoming: Incoming,
        throttle: Arc<Throttle>,
        /// The bound of the window, if there is one.
        window: Option<u32>,
        /// Whether what waits unread is bounded, too.
        narrow: bool,
    },
}

impl Socket {
    pub(super) fn upload(path: Path) -> Self {
        Self::Upload { path, echo: Echo::default(), paced: None }
    }

    pub(super) fn download(path: Path, throttle: Arc<Throttle>) -> Self {
        Self::Download { path, incoming: Incoming::default(), throttle, window: None, narrow: false }
    }

    /// What the kernel knows.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn sample(&mut self, now: Time) -> Result<Sample, TransportError> {
        match self {
            Self::Upload { path, echo, .. } => {
                path.info().map(|info| echo.take(sending(&info), info.segments_in))
            }
            Self::Download { path, incoming, window, .. } => {
                Ok(incoming.take(&receiving(&path.info()?), window.map(u64::from), now))
            }
        }
    }

    /// The brake that it shares with all downloads of its way.
    pub(super) fn throttle(&self) -> Option<&Throttle> {
        match self {
            Self::Upload { .. } => None,
            Self::Download { throttle, .. } => Some(throttle),
        }
    }

    /// Imposes a rate in bytes/s and a window in bytes, or lifts them. Returns whether that is too little for a window: then
    /// it is to be read no faster than at the rate.
    ///
    /// # Errors
    /// The connection has ended, or the kernel refuses.
    pub(super) fn apply(&mut self, rate: Option<u64>, allowed: Option<u64>) -> Result<bool, TransportError> {
        match self {
            Self::Upload { path, echo, paced } => {
                if *paced == rate {
                    return Ok(false);
                }
                path.set_pacing(rate)?;
                *paced = rate;
                path.set_burst(rate.and_then(|rate| echo.burst(rate)));
                let backlog = rate.map_or(u64::from(NOTSENT_LOWAT), |rate| {
                    (rate / (1000 / BACKLOG.as_millis() as u64))
                        .clamp(LEAST_BACKLOG, u64::from(NOTSENT_LOWAT))
                });
                path.set_backlog(backlog as u32)?;
                Ok(false)
            }
            Self::Download { path, window, narrow, .. } => {
                // The window alone decides, as long as it can: what waits unread would hide longer round trips.
                // Twice as wide before it is left: it must not change with every sample.
                let limit = if *narrow { 2 * LEAST_WINDOW } else { LEAST_WINDOW };
                let now_narrow = allowed.is_some_and(|bytes| bytes < limit);
                if now_narrow != *narrow {
                    *narrow = now_narrow;
                    path.set_unread(now_narrow.then_some(NARROW_BUFFER))?;
                }
                let wanted = allowed.map(|bytes| bytes.clamp(LEAST_WINDOW, u64::from(OPEN_WINDOW)) as u32);
                let near = |one: u32, other: u32| one.abs_diff(other) < one / 16;
                if wanted == *window || wanted.zip(*window).is_some_and(|(one, other)| near(one, other)) {
                    return Ok(now_narrow);
                }
                *window = wanted;
                path.set_window(wanted.unwrap_or(OPEN_WINDOW))?;
                Ok(now_narrow)
            }
        }
    }
}

fn sending(info: &PathInfo) -> Sample {
    Sample {
        rtt: info.rtt,
        smoothed: info.rtt,
        min_rtt: info.min_rtt,
        mss: info.mss,
        delivered: info.bytes_acked,
        resent: info.bytes_resent,
        wanting: info.notsent > 0 || (info.unacked > 0 && !info.app_limited),
    }
}

fn receiving(info: &PathInfo) -> Received {
    Received {
        rtt: info.rcv_rtt,
        min_rtt: info.min_rtt,
        quiet: info.quiet,
        mss: info.rcv_mss,
        delivered: info.bytes_received,
        out_of_order: u64::from(info.out_of_order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1448;

    fn sample(rtt: u64, segments: u64) -> Sample {
        let rtt = Duration::from_micros(rtt);
        let delivered = segments * u64::from(MSS);
        Sample { rtt, smoothed: rtt, min_rtt: rtt, mss: MSS, delivered, resent: 0, wanting: true }
    }

    /// A burst of 45 segments that the other side takes in as one is acknowledged once: of 40 ms smoothed over eight
    /// measurements an empty path leaves 35.
    #[test]
    fn a_burst_measures_as_often_as_it_is_acknowledged() {
        let mut echo = Echo::default();
        echo.take(sample(40_000, 45), 1);
        let one = echo.take(sample(35_000, 90), 2).rtt;
        assert!(one < Duration::from_millis(1), "{one:?}");
        let each = echo.take(sample(34_000, 135), 47).rtt;
        assert!(each > Duration::from_millis(33), "{each:?}");
    }

    #[test]
    fn a_slow_sender_lets_little_go_at_once() {
        let mut echo = Echo::default();
        echo.take(sample(10_000, 1), 1);
        assert_eq!(echo.burst(1000), Some(2 * MSS));
        assert_eq!(echo.burst(2_000_000), Some(5 * MSS));
        assert_eq!(echo.burst(20_000_000), None);
    }
}
