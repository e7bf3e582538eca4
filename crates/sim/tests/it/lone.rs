//! A device whose peers are no help is as fast as one that downloads over plain HTTP (product §6.1, §9).

use peerage_sim::{Manner, World, world};

use crate::support::{alone, each_seed, ms};

/// One device that wants 200 pieces, beside `peers` of these manners and links that claim to have everything.
fn beside(peers: usize, manner: Manner, link_mbit: f64) -> World {
    world().devices(1 + peers).pieces(200).each(|at, device| {
        if at > 0 {
            device.link_mbit(link_mbit, link_mbit);
            device.manner = manner;
            device.has_percent = 100;
        }
    })
}

fn costs_at_most(name: &str, factor: f64, world: &World) {
    let plain = alone(peerage_sim::world().devices(1).pieces(200));
    each_seed(name, 0..6, world, |report| {
        let took = report.slowest().as_secs_f64();
        assert!(took <= plain * factor, "{took} s, plain HTTP {plain} s, {report}");
    });
}

#[test]
fn the_link_is_never_idle() {
    for (rtt, mbit, pieces, most) in
        [(2, 100.0, 200, 1.01), (50, 100.0, 200, 1.01), (50, 1000.0, 200, 1.03), (200, 100.0, 200, 1.03)]
    {
        let world = world().devices(1).pieces(pieces).origin_rtt(ms(rtt)).origin_mbit(mbit);
        each_seed(&format!("alone, {mbit} Mbit/s, {rtt} ms"), 0..4, &world, |report| {
            // Nothing can come before the first round trip is over.
            let least = report.bound.as_secs_f64() + rtt as f64 / 1000.0;
            assert!(report.end.as_secs_f64() <= least * most, "{report}");
            assert!(report.origin_copies() <= 1.0, "{report}");
        });
    }
}

#[test]
fn one_very_slow_peer() {
    for mbit in [0.1, 0.3, 1.0, 5.0] {
        let name = format!("beside a peer of {mbit} Mbit/s");
        costs_at_most(&name, 1.05, &beside(1, Manner::Honest, mbit));
        costs_at_most(&format!("{name}, foreground"), 1.05, &beside(1, Manner::Honest, mbit).foreground());
    }
}

#[test]
fn peers_somewhat_slower_than_the_origin() {
    for mbit in [20.0, 50.0, 90.0] {
        let world = beside(1, Manner::Honest, mbit).foreground();
        costs_at_most(&format!("beside a peer of {mbit} Mbit/s, foreground"), 1.03, &world);
    }
}

#[test]
fn useless_peers() {
    costs_at_most("beside 5 useless peers", 1.03, &beside(5, Manner::Useless, 1000.0));
}

#[test]
fn silent_peers() {
    costs_at_most("beside 5 mute peers", 1.05, &beside(5, Manner::Mute, 1000.0));
    costs_at_most("beside 5 stalled peers", 1.05, &beside(5, Manner::Stalls(0), 1000.0));
    costs_at_most("beside 5 choking and unchoking peers", 1.05, &beside(5, Manner::Flaps, 1000.0));
}

#[test]
fn peers_that_come_one_after_the_other_and_are_silent() {
    let world = beside(5, Manner::Mute, 1000.0).every(ms(500));
    costs_at_most("beside mute peers, one every 500 ms", 1.05, &world);
}
