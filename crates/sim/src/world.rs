//! A world in a line: how many devices, on which links, what befalls them.

use std::collections::BTreeSet;
use std::time::Duration;

use peerage_content::{BLOCK_SIZE, PIECE_SIZE};
use peerage_swarm::{Limits, SourceKind};

use crate::link::mbit;
use crate::run::Run;
use crate::{Fault, Manner, Progress, Report, Violation};

/// Bytes that leave a fast link at once: four blocks.
const QUANTUM: u64 = 4 * BLOCK_SIZE as u64;

/// When a device appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// This long after the beginning.
    At(Duration),
    /// When the device before it is complete.
    AfterPrevious,
}

/// One device.
#[derive(Debug, Clone)]
pub struct DeviceSetup {
    /// Uplink in bytes a second.
    pub up: u64,
    /// Downlink in bytes a second.
    pub down: u64,
    /// Devices of one site are LAN peers, others group peers, or strangers on the Internet.
    pub site: usize,
    /// Devices of one subnet of a site are told of each other first.
    pub subnet: u32,
    /// When it appears.
    pub begin: Begin,
    /// Share of the pieces that it has when it appears, in per cent.
    pub has_percent: u32,
    /// Whether it plays by the rules.
    pub manner: Manner,
    /// What its policy allows.
    pub limits: Limits,
    /// What it knows of the origin's rate, in bytes a second.
    pub known_rate: Option<u64>,
}

impl DeviceSetup {
    /// Sets both directions of its link, in Mbit/s.
    pub fn link_mbit(&mut self, down: f64, up: f64) {
        (self.down, self.up) = (mbit(down), mbit(up));
    }
}

/// An HTTP source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerSetup {
    pub(crate) rate: u64,
    /// One way.
    pub(crate) latency: Duration,
}

/// A scenario. Made by [`world`], put together with the methods, and [run](World::run).
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) size: u64,
    pub(crate) origin: Option<ServerSetup>,
    /// Every site has an origin for itself.
    pub(crate) own_origins: bool,
    pub(crate) cache: Option<ServerSetup>,
    /// One way, between two devices of a site.
    pub(crate) latency: Duration,
    /// One way, between two devices of different sites.
    pub(crate) far_latency: Duration,
    /// What devices of other sites are; `None`: nobody hears of them.
    pub(crate) far_kind: Option<SourceKind>,
    /// Links of the sites to the rest of the world, down and up, in bytes a second; the last is that of all further sites.
    /// None: nothing but the devices' own links limits them.
    pub(crate) wans: Vec<(u64, u64)>,
    /// Bytes that leave a fast link at once.
    pub(crate) quantum: u64,
    /// From an announce to its answer.
    pub(crate) announce_time: Duration,
    pub(crate) devices: Vec<DeviceSetup>,
    pub(crate) faults: Vec<(Duration, Fault)>,
    pub(crate) time_limit: Duration,
    pub(crate) diary: bool,
}

/// A world of no devices: an origin with 100 Mbit/s, links of 1 Gbit/s, 0.2 ms between devices, 2 ms to the origin.
pub fn world() -> World {
    World {
        size: 0,
        origin: Some(ServerSetup { rate: mbit(100.0), latency: Duration::from_millis(1) }),
        own_origins: false,
        cache: None,
        latency: Duration::from_micros(200),
        far_latency: Duration::from_millis(20),
        far_kind: Some(SourceKind::Group),
        wans: Vec::new(),
        quantum: QUANTUM,
        announce_time: Duration::from_millis(2),
        devices: Vec::new(),
        faults: Vec::new(),
        time_limit: Duration::from_secs(3600),
        diary: false,
    }
}

impl World {
    /// Adds `count` devices that appear at once, with links of 1 Gbit/s.
    pub fn devices(mut self, count: usize) -> Self {
        let setup = DeviceSetup {
            up: mbit(1000.0),
            down: mbit(1000.0),
            site: 0,
            subnet: 0,
            begin: Begin::At(Duration::ZERO),
            has_percent: 0,
            manner: Manner::Honest,
            limits: Limits::default(),
            known_rate: None,
        };
        self.devices.extend(std::iter::repeat_n(setup, count));
        self
    }

    /// The content has `count` full pieces.
    pub fn pieces(self, count: u32) -> Self {
        self.bytes(u64::from(count) * u64::from(PIECE_SIZE))
    }

    /// The content has `size` bytes.
    pub const fn bytes(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    /// Rate of the origin's uplink.
    pub fn origin_mbit(mut self, rate: f64) -> Self {
        self.origin.iter_mut().for_each(|origin| origin.rate = mbit(rate));
        self
    }

    /// Round trip to the origin.
    pub fn origin_rtt(mut self, rtt: Duration) -> Self {
        self.origin.iter_mut().for_each(|origin| origin.latency = rtt / 2);
        self
    }

    /// Every site has an origin of that rate for itself, as the nodes of a content delivery network are.
    pub const fn own_origins(mut self) -> Self {
        self.own_origins = true;
        self
    }

    /// There is no origin: nobody knows a URL that works.
    pub const fn no_origin(mut self) -> Self {
        self.origin = None;
        self
    }

    /// A connected cache that has everything stands in the site.
    pub fn cache_mbit(mut self, rate: f64) -> Self {
        self.cache = Some(ServerSetup { rate: mbit(rate), latency: self.latency });
        self
    }

    /// Both directions of every device's link.
    pub fn lan_mbit(self, rate: f64) -> Self {
        self.each(|_, device| device.link_mbit(rate, rate))
    }

    /// Time on the way between two devices of a site.
    pub const fn latency(mut self, one_way: Duration) -> Self {
        self.latency = one_way;
        self
    }

    /// Time on the way between two devices of different sites.
    pub const fn far_latency(mut self, one_way: Duration) -> Self {
        self.far_latency = one_way;
        self
    }

    /// Devices of other sites belong to no common group.
    pub const fn strangers(mut self) -> Self {
        self.far_kind = Some(SourceKind::Internet);
        self
    }

    /// Devices know those of their own site only (download mode `lan`).
    pub const fn lan_only(mut self) -> Self {
        self.far_kind = None;
        self
    }

    /// Devices are spread over sites of `count` devices each.
    pub fn sites_of(self, count: usize) -> Self {
        self.each(|at, device| device.site = at / count.max(1))
    }

    /// The link of every site to the rest of the world, which its devices share.
    pub fn wan_mbit(mut self, down: f64, up: f64) -> Self {
        self.wans = vec![(mbit(down), mbit(up))];
        self
    }

    /// The same, site by site; the last is that of all further sites.
    pub fn wans_mbit(mut self, links: &[(f64, f64)]) -> Self {
        self.wans = links.iter().map(|(down, up)| (mbit(*down), mbit(*up))).collect();
        self
    }

    /// Bytes leave fast links a whole request at a time instead of 64 KiB: a fourth of the events, for large fleets.
    pub const fn coarse(mut self) -> Self {
        self.quantum = 4 * QUANTUM;
        self
    }

    /// Time from an announce to its answer.
    pub const fn announce_time(mut self, time: Duration) -> Self {
        self.announce_time = time;
        self
    }

    /// All devices appear at once (they do unless told otherwise).
    pub fn flash(self) -> Self {
        self.each(|_, device| device.begin = Begin::At(Duration::ZERO))
    }

    /// Every device appears when the one before it is complete.
    pub fn staggered(self) -> Self {
        self.each(|at, device| {
            device.begin = if at == 0 { Begin::At(Duration::ZERO) } else { Begin::AfterPrevious };
        })
    }

    /// One device appears every `span`.
    pub fn every(self, span: Duration) -> Self {
        self.each(|at, device| device.begin = Begin::At(span * at as u32))
    }

    /// What every device's policy allows.
    pub fn limits(self, limits: Limits) -> Self {
        self.each(|_, device| device.limits = limits)
    }

    /// Somebody waits for every download.
    pub fn foreground(self) -> Self {
        self.each(|_, device| device.limits.foreground = true)
    }

    /// Changes every device.
    pub fn each(mut self, mut change: impl FnMut(usize, &mut DeviceSetup)) -> Self {
        self.devices.iter_mut().enumerate().for_each(|(at, device)| change(at, device));
        self
    }

    /// Changes device `at`; nothing if there is none.
    pub fn device(mut self, at: usize, change: impl FnOnce(&mut DeviceSetup)) -> Self {
        if let Some(device) = self.devices.get_mut(at) {
            change(device);
        }
        self
    }

    /// Devices `[from, to)` have everything when they appear.
    pub fn seeds(self, from: usize, to: usize) -> Self {
        self.each(|at, device| {
            if (from..to).contains(&at) {
                device.has_percent = 100;
            }
        })
    }

    /// Device `at` has manners of its own.
    pub fn liar(self, at: usize, manner: Manner) -> Self {
        self.device(at, |device| device.manner = manner)
    }

    /// Something happens at `at`.
    pub fn fault(mut self, at: Duration, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self
    }

    /// The run fails if it takes longer than this.
    pub const fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Keeps a diary of what every device was told and did; shown by a [`Violation`], kept in the [`Report`].
    pub const fn diary(mut self) -> Self {
        self.diary = true;
        self
    }

    /// Lets it happen. The same seed gives the same course.
    ///
    /// # Errors
    /// An invariant was broken, or not every honest device came to its end.
    pub fn run(self, seed: u64) -> Result<Report, Violation> {
        self.run_watched(seed, &mut |_| {})
    }

    /// The same; `watch` is told now and then how far it is.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_watched(self, seed: u64, watch: &mut dyn FnMut(Progress)) -> Result<Report, Violation> {
        if self.falls_apart() {
            self.run_apart(seed, watch)
        } else if self.shares_an_origin_only() {
            self.run_shared(seed, watch)
        } else {
            self.run_whole(seed, watch)
        }
    }

    /// Lets it happen in one run, whatever its sites have to do with each other.
    pub(crate) fn run_whole(self, seed: u64, watch: &mut dyn FnMut(Progress)) -> Result<Report, Violation> {
        let again = (!self.diary).then(|| self.clone().diary());
        let outcome = Run::new(self, seed).and_then(|run| run.run(watch));
        match (outcome, again) {
            // Once more, to tell how it came to that.
            (Err(_), Some(world)) => world.run_whole(seed, watch),
            (outcome, _) => outcome,
        }
    }

    /// The link of `site`, down and up, if it has one.
    pub(crate) fn wan(&self, site: usize) -> Option<(u64, u64)> {
        self.wans.get(site).or(self.wans.last()).copied()
    }

    /// See [`Report::bound`].
    pub(crate) fn bound(&self) -> Duration {
        let seconds = |bytes: u64, rate: u64| bytes as f64 / rate.max(1) as f64;
        let origins = if self.own_origins { self.sites() as u64 } else { 1 };
        let origins = self.origin.map_or(0, |origin| origin.rate.saturating_mul(origins));
        let servers = origins.saturating_add(self.cache.map_or(0, |cache| cache.rate));
        let (seeds, others): (Vec<_>, Vec<_>) = self
            .devices
            .iter()
            .filter(|device| device.manner.is_honest())
            .partition(|device| device.has_percent == 100);
        let first = servers.saturating_add(seeds.iter().map(|device| device.up).sum::<u64>());
        let up: u64 = others.iter().map(|device| device.up).sum();
        let down = others.iter().map(|device| device.down).min().unwrap_or(u64::MAX);
        let sites: BTreeSet<usize> = others.iter().map(|device| device.site).collect();
        let supplied: BTreeSet<usize> = seeds.iter().map(|device| device.site).collect();
        let without: Vec<(u64, u64)> =
            sites.difference(&supplied).filter_map(|site| self.wan(*site)).collect();
        let out = |sum: u64, site: &usize| sum.saturating_add(self.wan(*site).map_or(u64::MAX, |wan| wan.1));
        let far = if self.far_kind.is_some() { sites.union(&supplied).fold(0, out) } else { 0 };
        let bounds = [
            seconds(self.size, first),
            seconds(self.size, down),
            seconds(self.size * others.len() as u64, first.saturating_add(up)),
            // One copy into every site, through its link, from the servers and the other sites' links.
            without.iter().map(|wan| seconds(self.size, wan.0)).fold(0.0, f64::max),
            seconds(self.size * without.len() as u64, servers.saturating_add(far)),
        ];
        Duration::from_secs_f64(bounds.into_iter().fold(0.0, f64::max))
    }
}
