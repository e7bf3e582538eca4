//! What came out of a run.

use std::time::Duration;

use peerage_swarm::ByKind;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The virtual time; where sites are simulated in turns, that of the last one looked at.
    pub at: Duration,
    /// Events that have happened.
    pub events: u64,
    /// Devices that are complete.
    pub complete: usize,
    /// All devices.
    pub devices: usize,
}

/// Figures of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceReport {
    /// Whether it played by the rules.
    pub honest: bool,
    /// Its site.
    pub site: usize,
    /// When it appeared.
    pub began: Duration,
    /// How long after that it was complete.
    pub took: Option<Duration>,
    /// Bytes received, by kind of source.
    pub received: ByKind,
    /// Bytes sent, by kind of peer.
    pub sent: ByKind,
    /// Bytes received for nothing.
    pub wasted: u64,
    /// Who banned it.
    pub banned_by: Vec<usize>,
}

/// What crossed the link of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SiteReport {
    /// Bytes that came in: from the origin and from other sites.
    pub received: u64,
    /// Bytes that went to other sites.
    pub sent: u64,
}

/// Figures of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Seed of the run.
    pub seed: u64,
    /// Bytes of the content.
    pub size: u64,
    /// Bytes that left the origin.
    pub origin_bytes: u64,
    /// Bytes that left the connected cache.
    pub cache_bytes: u64,
    /// The devices.
    pub devices: Vec<DeviceReport>,
    /// The sites.
    pub sites: Vec<SiteReport>,
    /// When the last honest device was complete.
    pub end: Duration,
    /// No transfer of this content to all devices can be faster (Kumar and Ross, 2006): the largest of F/us, F/d and
    /// N·F/(us+Σu) over the devices that appear without it. Means something when all appear at once.
    pub bound: Duration,
    /// Events that happened.
    pub events: u64,
    /// The diary, if one was kept.
    pub diary: Vec<String>,
}

impl Report {
    /// Bytes that left the origin, as a multiple of the content.
    pub fn origin_copies(&self) -> f64 {
        self.origin_bytes as f64 / self.size as f64
    }

    /// Bytes that crossed from one site to another, between peers, as a multiple of the content.
    pub fn far_copies(&self) -> f64 {
        let far = self.devices.iter().map(|device| device.received.group + device.received.internet);
        far.sum::<u64>() as f64 / self.size as f64
    }

    /// The time of the last device as a multiple of [`Self::bound`].
    pub fn over_bound(&self) -> f64 {
        self.end.as_secs_f64() / self.bound.as_secs_f64()
    }

    /// Share of a device's bytes that came from peers, in per cent.
    pub fn peer_percent(&self, device: usize) -> f64 {
        let received = self.devices.get(device).map(|device| device.received).unwrap_or_default();
        100.0 * received.peers() as f64 / received.total() as f64
    }

    /// Bytes received for nothing by all honest devices.
    pub fn wasted(&self) -> u64 {
        self.devices.iter().filter(|device| device.honest).map(|device| device.wasted).sum()
    }

    /// How long the slowest honest device took, from its own beginning.
    pub fn slowest(&self) -> Duration {
        self.devices
            .iter()
            .filter(|device| device.honest)
            .filter_map(|device| device.took)
            .max()
            .unwrap_or_default()
    }
}

impl std::fmt::Display for Report {
    /// The figures in a line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {}: origin copies {:.3}, last device {:.2} s = {:.3} x bound, slowest {:.2} s, wasted {:.2} MiB, {} events",
            self.seed,
            self.origin_copies(),
            self.end.as_secs_f64(),
            self.over_bound(),
            self.slowest().as_secs_f64(),
            self.wasted() as f64 / f64::from(1 << 20),
            self.events,
        )
    }
}
