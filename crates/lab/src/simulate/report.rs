//! What a simulated run has shown. Its JSON form has the keys of the lab's, and what only a simulation knows.

use std::time::Duration;

use peerage_sim::DeviceReport as Simulated;
use serde::Serialize;

use super::scenario::Scenario;
use super::world::kinds;
use crate::totals::{Totals, Traffic, copies, percent, seconds};

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) totals: Totals,
    /// Shares of the devices by how long each took from its own start.
    pub(crate) percentiles: Percentiles,
    pub(crate) seed: u64,
    pub(crate) events: u64,
    pub(crate) per_site: Vec<SiteReport>,
    pub(crate) per_device: Vec<DeviceReport>,
}

/// Seconds within which so many per cent of the devices were done.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p100: f64,
}

/// One site's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SiteReport {
    pub(crate) site: usize,
    pub(crate) name: String,
    pub(crate) devices: usize,
    /// Bytes that came in over the site's Internet link …
    pub(crate) bytes_in: u64,
    /// … as a multiple of the file …
    pub(crate) copies_in: f64,
    /// … and that went out.
    pub(crate) bytes_out: u64,
    pub(crate) percentiles: Percentiles,
}

/// One device's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DeviceReport {
    pub(crate) device: usize,
    pub(crate) site: usize,
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
    /// From its own start to its end; null if it was off before that.
    pub(crate) seconds: Option<f64>,
    pub(crate) correct: bool,
}

impl Report {
    /// Adds up what was simulated.
    pub(crate) fn new(scenario: &Scenario, run: &peerage_sim::Report) -> Self {
        let together = scenario.sites.iter().all(|site| {
            let (first, only) = (site.start.0.is_zero(), site.devices - site.seeds <= 1);
            first && (only || site.every.0.is_zero())
        });
        let received: u64 = run.devices.iter().map(|device| device.received.total()).sum();
        let from_peers: u64 = run.devices.iter().map(|device| device.received.peers()).sum();
        let mut by_site: Vec<Vec<&Simulated>> = vec![Vec::new(); run.sites.len()];
        for device in &run.devices {
            if let Some(site) = by_site.get_mut(device.site) {
                site.push(device);
            }
        }
        let per_site = run.sites.iter().zip(kinds(scenario)).zip(&by_site).zip(1..);
        let per_site = per_site.map(|(((wan, kind), devices), site)| SiteReport {
            site,
            name: kind.name.clone(),
            devices: devices.len(),
            bytes_in: wan.received,
            copies_in: copies(wan.received, run.size),
            bytes_out: wan.sent,
            percentiles: Percentiles::of(devices.iter().copied()),
        });
        Self {
            totals: Totals {
                devices: scenario.devices(),
                file_bytes: run.size,
                origin_bytes: run.origin_bytes,
                origin_copies: copies(run.origin_bytes, run.size),
                percent_from_peers: percent(from_peers, received),
                seconds: seconds(run.end),
                bound_seconds: together.then(|| seconds(run.bound)),
                all_correct: run.devices.iter().all(|device| device.took.is_some()),
            },
            percentiles: Percentiles::of(run.devices.iter()),
            seed: run.seed,
            events: run.events,
            per_site: per_site.collect(),
            per_device: run
                .devices
                .iter()
                .zip(1..)
                .map(|(device, at)| DeviceReport::new(at, device))
                .collect(),
        }
    }
}

impl Percentiles {
    /// Of the devices that had something to download and came to an end.
    fn of<'a>(devices: impl Iterator<Item = &'a Simulated>) -> Self {
        let took = devices.filter(|device| device.received.total() > 0).filter_map(|device| device.took);
        let mut times: Vec<Duration> = took.collect();
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).map_or(0.0, |time| seconds(*time))
        };
        Self { p50: at(50), p90: at(90), p99: at(99), p100: at(100) }
    }
}

impl DeviceReport {
    fn new(number: usize, device: &Simulated) -> Self {
        let (received, sent) = (device.received, device.sent);
        Self {
            device: number,
            site: device.site + 1,
            traffic: Traffic {
                bytes_from_origin: received.cdn,
                // What is simulated has no connected caches.
                bytes_from_cache_server: 0,
                bytes_from_peers: received.peers(),
                percent_from_peers: percent(received.peers(), received.total()),
                bytes_wasted: device.wasted,
                bytes_uploaded: sent.total(),
            },
            seconds: device.took.map(seconds),
            correct: device.took.is_some(),
        }
    }
}
