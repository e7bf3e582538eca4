//! A device whose peers are no help is as fast as one that downloads over plain HTTP (product §6.1, §9).

use peerage_sim::{Begin, Fault, Manner, World, world};

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
        costs_at_most(&name, 1.01, &beside(1, Manner::Honest, mbit));
        costs_at_most(&format!("{name}, foreground"), 1.01, &beside(1, Manner::Honest, mbit).foreground());
    }
}

#[test]
fn peers_somewhat_slower_than_the_origin() {
    for mbit in [20.0, 50.0, 90.0] {
        let world = beside(1, Manner::Honest, mbit).foreground();
        costs_at_most(&format!("beside a peer of {mbit} Mbit/s, foreground"), 1.0, &world);
    }
}

#[test]
fn useless_peers() {
    costs_at_most("beside 5 useless peers", 1.01, &beside(5, Manner::Useless, 1000.0));
}

#[test]
fn silent_peers() {
    costs_at_most("beside 5 mute peers", 1.01, &beside(5, Manner::Mute, 1000.0));
    costs_at_most("beside 5 stalled peers", 1.01, &beside(5, Manner::Stalls(0), 1000.0));
    costs_at_most("beside 5 choking and unchoking peers", 1.01, &beside(5, Manner::Flaps, 1000.0));
}

#[test]
fn peers_that_come_one_after_the_other_and_are_silent() {
    let world = beside(5, Manner::Mute, 1000.0).every(ms(500));
    costs_at_most("beside mute peers, one every 500 ms", 1.01, &world);
}

/// A device that comes when a neighbour that has everything is known, which has this link and these manners.
fn named(pieces: u32, origin_mbit: f64, link_mbit: f64, manner: Manner) -> World {
    let world = world().devices(2).pieces(pieces).origin_mbit(origin_mbit).seeds(1, 2);
    let world = world.device(0, |device| device.begin = Begin::At(ms(100)));
    world.device(1, |device| {
        device.link_mbit(link_mbit, link_mbit);
        device.manner = manner;
    })
}

#[test]
fn whatever_the_size_a_useless_neighbour_costs_next_to_nothing() {
    for (pieces, origin) in [(4, 100.0), (32, 100.0), (200, 100.0), (4, 500.0), (32, 500.0), (200, 500.0)] {
        let plain = alone(world().devices(1).pieces(pieces).origin_mbit(origin));
        let neighbours = [
            ("a mute one", named(pieces, origin, 1000.0, Manner::Mute)),
            ("one that flaps", named(pieces, origin, 1000.0, Manner::Flaps)),
            ("one that lacks it", named(pieces, origin, 1000.0, Manner::Lacks)),
            (
                "one behind a dropped port",
                named(pieces, origin, 1000.0, Manner::Honest).fault(ms(99), Fault::Partition(0)),
            ),
            ("one of 1 Mbit/s", named(pieces, origin, 1.0, Manner::Honest)),
            ("one of 5 Mbit/s", named(pieces, origin, 5.0, Manner::Honest)),
            ("one of 15 Mbit/s", named(pieces, origin, 15.0, Manner::Honest)),
        ];
        for (name, world) in neighbours {
            for (class, world) in [("background", world.clone()), ("foreground", world.foreground())] {
                let name = format!("{pieces} MiB at {origin} Mbit/s beside {name}, {class}");
                each_seed(&name, 0..2, &world, |report| {
                    let took = report.devices[0].took.unwrap().as_secs_f64();
                    // It is waited for no longer than for a hundredth of that; if nobody waits, for a handshake's time too.
                    let most = if class == "foreground" { plain * 1.011 } else { plain * 1.02 + 0.025 };
                    assert!(took <= most, "{took} s, plain HTTP {plain} s, {report}");
                });
            }
        }
    }
}

#[test]
fn a_good_neighbour_leaves_the_origin_alone() {
    for (pieces, origin) in [(4, 100.0), (32, 100.0), (200, 100.0), (4, 500.0), (32, 500.0), (200, 500.0)] {
        let world = named(pieces, origin, 1000.0, Manner::Honest);
        for (class, world) in [("background", world.clone()), ("foreground", world.foreground())] {
            each_seed(
                &format!("{pieces} MiB, {origin} Mbit/s, from a neighbour, {class}"),
                0..4,
                &world,
                |report| {
                    // Here the first bytes are asked for before the coordinator's answer, as a device does that remembers the
                    // record; and where the origin needs no tenth of a second, it does not wait for a handshake either.
                    assert!(report.origin_bytes <= report.size / 200 + (300 << 10), "{report}");
                },
            );
        }
    }
}

#[test]
fn neighbours_with_narrow_uplinks_make_nobody_wait() {
    // What the origin brought in their place made them look fast, so it let go again; and at the end some waited for the last
    // piece of several who were slow together, or for the turn of others to fetch what nobody delivered. Up to 1.9 x.
    for (devices, down, up, origin, pieces) in [
        (2, 100.0, 2.0, 100.0, 40),
        (3, 100.0, 2.0, 100.0, 8),
        (4, 100.0, 5.0, 50.0, 20),
        (5, 1000.0, 10.0, 100.0, 8),
        (20, 100.0, 10.0, 100.0, 5),
    ] {
        let world = world().devices(devices).pieces(pieces).origin_mbit(origin).foreground();
        let world = world.each(|_, device| device.link_mbit(down, up));
        let plain = alone(world.clone().each(|_, device| {
            (device.limits.upload_to_peers, device.limits.download_from_peers) = (false, false);
        }));
        let name = format!("{devices} with {down}/{up} Mbit/s, origin {origin}, {pieces} MiB");
        each_seed(&name, 700..702, &world, |report| {
            let took = report.slowest().as_secs_f64();
            assert!(took <= plain * 1.06, "{took} s, plain HTTP {plain} s, {report}");
        });
    }
}
