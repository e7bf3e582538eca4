//! A scenario as a world of the simulator.

use std::time::Duration;

use peerage_sim::{Begin, Fault, Health, Limits, World, world};

use super::scenario::{self, Mode, Scenario, What};

/// From so many devices on bytes move a whole request at a time.
const MANY: u64 = 300;

/// The world that `scenario` describes.
pub(crate) fn build(scenario: &Scenario) -> World {
    let limits = limits(scenario);
    let (origin, latency) = (scenario.origin, Duration::from_micros(200));
    let mut built = world()
        .bytes(scenario.size.0)
        .devices(usize::try_from(scenario.devices()).unwrap_or(usize::MAX))
        .origin_mbit(origin.rate.mbit())
        .origin_rtt(origin.round_trip.0.max(2 * latency))
        .time_limit(scenario.time_limit.0)
        .limits(limits);
    built = match scenario.mode {
        Mode::Lan | Mode::HttpOnly => built.lan_only(),
        Mode::Group => built,
        Mode::Internet => built.strangers(),
    };
    if origin.each_site {
        built = built.own_origins();
    }
    if scenario.devices() > MANY {
        built = built.coarse();
    }
    let mut seats = seats(scenario);
    let links: Vec<(f64, f64)> =
        kinds(scenario).map(|kind| (kind.downlink.mbit(), kind.uplink.mbit())).collect();
    built = built.wans_mbit(&links).each(|_, device| {
        let Some((site, kind, place)) = seats.next() else { return };
        device.link_mbit(kind.lan.mbit(), kind.lan.mbit());
        device.site = site;
        device.has_percent = if place < kind.seeds { 100 } else { 0 };
        let turn = u32::try_from(place.saturating_sub(kind.seeds)).unwrap_or(u32::MAX);
        let waits = if place < kind.seeds {
            Duration::ZERO
        } else {
            kind.start.0 + kind.every.0.saturating_mul(turn)
        };
        device.begin = Begin::At(waits);
    });
    scenario.faults.iter().fold(built, |built, fault| built.fault(fault.at.0, happening(fault)))
}

fn limits(scenario: &Scenario) -> Limits {
    let (settings, usual) = (scenario.settings, Limits::default());
    let delay = if scenario.foreground {
        settings.delay_foreground_download_from_http
    } else {
        settings.delay_background_download_from_http
    };
    let peers = scenario.mode != Mode::HttpOnly;
    Limits {
        max_peers: settings.max_peer_connections.map_or(usual.max_peers, usize::from),
        download_from_peers: peers,
        upload_to_peers: peers,
        origin_delay: Duration::from_secs(u64::from(delay)),
        cache_delay: usual.cache_delay,
        min_rate: settings.min_background_qos.map_or(usual.min_rate, |rate| u64::from(rate) * 1000),
        foreground: scenario.foreground,
    }
}

/// The kind of every site, in order.
pub(crate) fn kinds(scenario: &Scenario) -> impl Iterator<Item = &scenario::Site> {
    scenario.sites.iter().flat_map(|kind| (0..kind.count).map(move |_| kind))
}

/// Site, kind of site and place in it of every device, in order.
fn seats(scenario: &Scenario) -> impl Iterator<Item = (usize, &scenario::Site, u64)> {
    kinds(scenario)
        .enumerate()
        .flat_map(|(site, kind)| (0..kind.devices).map(move |place| (site, kind, place)))
}

fn happening(fault: &scenario::Fault) -> Fault {
    // Both were checked to be there where they are needed.
    let device = fault.device.map_or(0, |device| usize::try_from(device - 1).unwrap_or(usize::MAX));
    let rate = fault.rate.map_or(0.0, |rate| rate.mbit());
    match fault.what {
        What::PowerCut => Fault::PowerCut(device),
        What::ShutDown => Fault::ShutDown(device),
        What::Return => Fault::Return(device),
        What::Link => Fault::Link(device, rate, rate),
        What::OriginDown => Fault::Origin(Health::Busy(None)),
        What::OriginUp => Fault::Origin(Health::Fine),
        What::OriginRate => Fault::OriginMbit(rate),
        What::CoordinatorDown => Fault::Coordinator(false),
        What::CoordinatorUp => Fault::Coordinator(true),
        What::Partition => Fault::Partition(device),
        What::Heal => Fault::Heal,
    }
}
