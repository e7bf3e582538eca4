//! `min_background_qos` (product §5): in the background HTTP tops up when peers stay below it on average over 20 s, and
//! lets go again when they do not.

use peerage_sim::{Begin, Fault, Report, World, world};

use crate::support::{each_seed, ms, secs};

/// A device that comes when a neighbour with this link is known to have all of 200 pieces; nobody waits for them.
fn beside_a_neighbour(mbit: f64) -> World {
    let world = world().devices(2).pieces(200).seeds(1, 2);
    let world = world.device(0, |device| device.begin = Begin::At(ms(100)));
    world.device(1, |device| device.link_mbit(mbit, mbit))
}

fn min_rate(world: World, bytes_a_second: u64) -> World {
    world.each(|_, device| device.limits.min_rate = bytes_a_second)
}

fn from_origin(report: &Report) -> f64 {
    report.devices[0].received.cdn as f64 / report.size as f64
}

#[test]
fn peers_above_it_are_left_alone_though_the_origin_is_faster() {
    // 30 Mbit/s, where 20 (the default) are enough.
    each_seed("a neighbour above the rate", 0..4, &beside_a_neighbour(30.0), |report| {
        assert!(from_origin(report) <= 0.005, "{report}");
    });
    each_seed(
        "a slow one, and less is enough",
        0..4,
        &min_rate(beside_a_neighbour(4.0), 300_000),
        |report| {
            assert!(from_origin(report) <= 0.005, "{report}");
        },
    );
}

#[test]
fn a_link_as_fast_as_the_rate_is_enough() {
    // 20 Mbit/s carry 2500 KB/s, and of files what headers leave of that.
    for mbit in [20.0, 19.0, 18.3] {
        each_seed("as fast as the rate", 0..3, &beside_a_neighbour(mbit), |report| {
            assert!(from_origin(report) <= 0.005, "{mbit} Mbit/s: {report}");
        });
    }
    each_seed("slower than that", 0..3, &beside_a_neighbour(16.0), |report| {
        assert!(from_origin(report) >= 0.1, "{report}");
    });
}

#[test]
fn http_tops_up_when_peers_stay_below_it() {
    each_seed("a neighbour below the rate", 0..4, &beside_a_neighbour(10.0), |report| {
        // Both together: 110 Mbit/s for 1678 Mbit.
        let took = report.devices[0].took.unwrap();
        assert!(from_origin(report) >= 0.8 && took <= secs(17), "{report}");
    });
    // Also when the origin is the slower of the two.
    let slow_origin = beside_a_neighbour(10.0).origin_mbit(5.0);
    each_seed("below the rate, and a slower origin", 0..2, &slow_origin, |report| {
        assert!((0.25..0.4).contains(&from_origin(report)), "{report}");
    });
}

#[test]
fn among_many_http_tops_up_to_it_and_no_further() {
    // With one copy from the origin each can have 21 Mbit/s from the others, where 20 are to be. Were each to fetch what it can get
    // while it has less, three copies would come.
    let world =
        world().devices(16).pieces(60).origin_mbit(200.0).each(|_, device| device.link_mbit(100.0, 20.0));
    each_seed("16 at 100/20 Mbit/s", 0..4, &world, |report| {
        assert!(report.origin_copies() <= 1.7 && report.over_bound() <= 1.6, "{report}");
    });
    each_seed("16 at 100/20 Mbit/s, foreground", 0..4, &world.foreground(), |report| {
        assert!(report.origin_copies() <= 1.9 && report.over_bound() <= 1.6, "{report}");
    });
}

#[test]
fn a_short_weakness_is_forgiven() {
    // Ten seconds at 40 Mbit/s, three at 4: the average stays above 20.
    let weak = beside_a_neighbour(40.0)
        .fault(secs(10), Fault::Link(1, 4.0, 4.0))
        .fault(secs(13), Fault::Link(1, 40.0, 40.0));
    each_seed("weak for three seconds", 0..4, &weak, |report| {
        assert!(from_origin(report) <= 0.005, "{report}");
    });
}

#[test]
fn http_lets_go_when_peers_deliver_again() {
    // Weak from 2 s to 4 s, when the average falls below the rate; from then on as fast as the origin.
    let recovers = beside_a_neighbour(25.0)
        .pieces(600)
        .fault(secs(2), Fault::Link(1, 2.0, 2.0))
        .fault(secs(4), Fault::Link(1, 100.0, 100.0));
    each_seed("weak for two seconds, then strong", 0..4, &recovers, |report| {
        let share = from_origin(report);
        assert!(share > 0.01 && share <= 0.1, "{share} {report}");
    });
}

#[test]
fn it_means_nothing_to_whoever_waits() {
    let waits = min_rate(beside_a_neighbour(30.0), 300_000).foreground();
    each_seed("foreground", 0..2, &waits, |report| {
        // The origin gives 100 Mbit/s beside the neighbour's 30.
        assert!(from_origin(report) >= 0.6, "{report}");
    });
}
