//! An HTTP source.

use std::time::Duration;

use peerage_swarm::{FetchError, FetchId, SourceKind};

use crate::uplink::Uplink;

/// A driver gives a request up that is not answered for this long.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// How an HTTP source behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Fine,
    /// 503: to be tried again, after `Retry-After` if it says so.
    Busy(Option<Duration>),
    /// 404 and the like: it cannot serve the content.
    Gone,
    /// It takes requests and sends nothing.
    Silent,
    /// It serves something else than the content.
    Wrong,
}

impl Health {
    /// How it answers requests that it does not take.
    pub(crate) const fn refuses(self) -> Option<FetchError> {
        match self {
            Self::Fine | Self::Silent | Self::Wrong => None,
            Self::Busy(wish) => Some(FetchError::Retry(wish)),
            Self::Gone => Some(FetchError::Unusable),
        }
    }

    /// What becomes of the ranges under way when it is like this from now on, and after which time; `None`: they go on.
    pub(crate) const fn breaks_off(self) -> Option<(Duration, FetchError)> {
        match (self, self.refuses()) {
            (Self::Silent, _) => Some((HTTP_TIMEOUT, FetchError::Retry(None))),
            (_, Some(error)) => Some((Duration::ZERO, error)),
            (_, None) => None,
        }
    }
}

/// Who asked: a device in one of its lives, and its name for the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    device: u32,
    pub(crate) life: u32,
    pub(crate) fetch: FetchId,
}

impl Key {
    /// Names the range that device `at` knows as `fetch`.
    pub(crate) const fn new(at: usize, life: u32, fetch: FetchId) -> Self {
        Self { device: at as u32, life, fetch }
    }

    /// The device.
    pub(crate) const fn device(self) -> usize {
        self.device as usize
    }
}

/// What a site says to an HTTP source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word {
    /// A request for `[start, end)` of the content.
    Ask { key: Key, start: u64, end: u64 },
    /// The end of one.
    Close(Key),
    /// So many bytes of its answer have arrived.
    Landed(Key, u32),
}

/// `F` names a range: a [`Key`], with the site where several share it.
#[derive(Debug)]
pub(crate) struct Server<F = Key> {
    pub(crate) kind: SourceKind,
    pub(crate) uplink: Uplink<F>,
    /// One way.
    pub(crate) latency: Duration,
    pub(crate) health: Health,
}

impl<F: Ord + Copy> Server<F> {
    pub(crate) const fn new(kind: SourceKind, rate: u64, quantum: u64, latency: Duration) -> Self {
        Self { kind, uplink: Uplink::new(rate, quantum), latency, health: Health::Fine }
    }
}
