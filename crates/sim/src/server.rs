//! An HTTP source.

use std::time::Duration;

use peerage_swarm::{FetchId, SourceKind};

use crate::uplink::Uplink;

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

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: SourceKind,
    pub(crate) uplink: Uplink<Key>,
    /// One way.
    pub(crate) latency: Duration,
    pub(crate) health: Health,
}

impl Server {
    pub(crate) const fn new(kind: SourceKind, rate: u64, quantum: u64, latency: Duration) -> Self {
        Self { kind, uplink: Uplink::new(rate, quantum), latency, health: Health::Fine }
    }
}
