//! One governed socket: how it is sampled, and how a rate is imposed on it.

use std::time::Duration;

use peerage_swarm::ledbat::Sample;
use peerage_transport::{NOTSENT_LOWAT, Path, PathInfo, TransportError};

/// Time's worth of bytes that a limited sender may have waiting unsent: what a message waits behind.
const BACKLOG: Duration = Duration::from_millis(100);
const LEAST_BACKLOG: u64 = 16 << 10;

/// A governed socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Sends: the kernel paces it.
    Upload(Path),
}

impl Socket {
    /// What the kernel knows.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn sample(&self) -> Result<Sample, TransportError> {
        match self {
            Self::Upload(path) => path.info().map(|info| sending(&info)),
        }
    }

    /// Imposes a rate in bytes/s, or lifts it.
    ///
    /// # Errors
    /// The connection has ended, or the kernel refuses.
    pub(super) fn apply(&self, rate: Option<u64>, _window: Option<u64>) -> Result<(), TransportError> {
        match self {
            Self::Upload(path) => {
                if path.pacing()? == rate {
                    return Ok(());
                }
                path.set_pacing(rate)?;
                let backlog = rate.map_or(u64::from(NOTSENT_LOWAT), |rate| {
                    (rate / (1000 / BACKLOG.as_millis() as u64))
                        .clamp(LEAST_BACKLOG, u64::from(NOTSENT_LOWAT))
                });
                path.set_backlog(backlog as u32)
            }
        }
    }
}

fn sending(info: &PathInfo) -> Sample {
    Sample {
        rtt: info.rtt,
        min_rtt: info.min_rtt,
        mss: info.mss,
        delivered: info.bytes_acked,
        resent: info.bytes_resent,
        wanting: info.notsent > 0 || (info.unacked > 0 && !info.app_limited),
    }
}
