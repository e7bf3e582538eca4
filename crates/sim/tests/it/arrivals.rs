//! Devices come one after the other.

use peerage_sim::{Report, world};
use peerage_swarm::Limits;

use crate::support::{each_seed, ms, secs};

fn from_peers(report: &Report, least: f64) {
    for device in 1..report.devices.len() {
        let percent = report.peer_percent(device);
        assert!(percent >= least, "device {device}: {percent:.3} % from peers, {report}");
    }
}

#[test]
fn the_next_after_the_last_is_complete() {
    let world = world().devices(4).pieces(200).staggered();
    each_seed("staggered", 0..4, &world, |report| {
        from_peers(report, 99.5);
        let later = report.devices.iter().skip(1).filter_map(|device| device.took).max().unwrap();
        // A seed's uplink of 1 Gbit/s moves the content in 1.68 s.
        assert!(later <= ms(1900), "{later:?}");
    });
    each_seed("staggered, foreground", 0..4, &world.foreground(), |report| from_peers(report, 99.5));
}

#[test]
fn a_delay_keeps_everything_from_the_origin() {
    let limits = Limits { origin_delay: secs(60), ..Limits::default() };
    let world = world().devices(3).pieces(200).staggered();
    let world = world.each(|at, device| {
        if at > 0 {
            device.limits = limits;
        }
    });
    each_seed("staggered, origin delayed", 0..3, &world, |report| from_peers(report, 99.9));
}

#[test]
fn a_delay_ends_when_nobody_is_known() {
    let limits = Limits { origin_delay: secs(60), ..Limits::default() };
    let world = world().devices(1).pieces(20).limits(limits);
    each_seed("alone, origin delayed", 0..1, &world, |report| assert!(report.end <= secs(2), "{report}"));
}

#[test]
fn one_every_ten_seconds() {
    for devices in [3, 8, 16, 32] {
        let world = world().devices(devices).pieces(200).every(secs(10));
        each_seed(&format!("{devices} devices, one every 10 s"), 700..702, &world, |report| {
            assert!(report.origin_copies() <= 1.03, "{report}");
            // The first two share what the origin gives, 16.8 s for one copy; whoever comes later finds it all.
            assert!(report.slowest() <= ms(17_500), "{report}");
            for device in 2..devices {
                let percent = report.peer_percent(device);
                assert!(percent >= 99.5, "device {device}: {percent:.3} % from peers, {report}");
            }
        });
    }
}

#[test]
fn a_second_wave() {
    for devices in [3, 8, 16, 32] {
        let first = world().devices(2 * devices).pieces(100);
        let waves =
            first.each(|at, device| device.begin = peerage_sim::Begin::At(secs(12) * (at / devices) as u32));
        let delay = Limits { origin_delay: secs(60), ..Limits::default() };
        let delayed = waves.clone().each(|at, device| {
            if at >= devices {
                device.limits = delay;
            }
        });
        for (name, world, least) in [("second wave", waves, 99.5), ("second wave, delayed", delayed, 99.9)] {
            each_seed(&format!("{name} of {devices}"), 800..802, &world, |report| {
                assert!(report.origin_copies() <= 1.03, "{report}");
                for device in devices..2 * devices {
                    let percent = report.peer_percent(device);
                    assert!(percent >= least, "device {device}: {percent:.3} % from peers, {report}");
                }
            });
        }
    }
}

#[test]
fn one_every_second() {
    let world = world().devices(8).pieces(200).every(secs(1));
    each_seed("one every second", 0..4, &world, |report| {
        assert!(report.origin_copies() <= 1.03, "{report}");
        assert!(report.end <= ms(17_500), "{report}");
    });
}

#[test]
fn one_seed_and_no_origin() {
    let late = |at: usize| if at == 0 { ms(0) } else { ms(100) };
    let world = world().devices(9).pieces(200).seeds(0, 1).no_origin();
    let world = world.each(|at, device| device.begin = peerage_sim::Begin::At(late(at)));
    each_seed("1 seed, 8 devices, no origin", 0..3, &world, |report| {
        assert!(report.origin_bytes == 0 && report.end <= ms(3000), "{report}");
    });
}

#[test]
fn parts_that_make_a_whole() {
    let world = world().devices(6).pieces(100).each(|_, device| device.has_percent = 85).no_origin();
    each_seed("6 devices with 85 % each, no origin", 0..4, &world, |report| {
        assert!(report.end <= secs(2), "{report}");
    });
}

#[test]
fn a_cache_spares_the_origin() {
    let world = world().devices(8).pieces(200).cache_mbit(1000.0);
    each_seed("8 devices and a cache", 0..3, &world, |report| {
        assert!(report.origin_copies() <= 0.01, "{report}");
        assert!(report.cache_bytes <= report.size * 103 / 100, "{report}");
        assert!(report.end <= ms(2300), "{report}");
    });
}
