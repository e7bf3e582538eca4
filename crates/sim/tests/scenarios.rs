//! Whole sites in virtual time: how many copies leave the origin, and how close to the physical bound the last device is.
//! Every invariant of the engine is checked after every event; a violation fails the run and names its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use peerage_sim::{Report, World, world};

/// Runs a world with three seeds; every report must please.
fn each_seed(name: &str, make: impl Fn() -> World, please: impl Fn(&Report) -> bool) {
    for seed in [1, 2, 3] {
        let report = make().run(seed).unwrap_or_else(|violation| panic!("{name}, seed {seed}: {violation}"));
        let (copies, over) = (report.origin_copies(), report.over_bound());
        let from_peers = report.peer_percent(report.devices.len() - 1);
        let figures =
            format!("{copies:.3} copies, {over:.3} x bound, last device {from_peers:.2} % from peers");
        assert!(please(&report), "{name}, seed {seed}: {figures}");
    }
}

#[test]
fn devices_that_start_together_share_one_copy() {
    for devices in [2, 3, 8, 16] {
        each_seed(
            &format!("{devices} at once"),
            || world().devices(devices).pieces(200).flash(),
            |report| report.origin_copies() <= 1.03 && report.over_bound() <= 1.10,
        );
    }
}

#[test]
fn a_later_device_leaves_the_origin_alone() {
    each_seed(
        "three, one after the other",
        || world().devices(3).pieces(200).staggered(),
        |report| report.origin_copies() <= 1.005 && report.peer_percent(2) >= 99.5,
    );
}

#[test]
fn one_joining_now_and_then_costs_nothing_more() {
    each_seed(
        "six, one every three seconds",
        || world().devices(6).pieces(200).every(Duration::from_secs(3)),
        |report| report.origin_copies() <= 1.03,
    );
}

#[test]
fn a_lone_device_fills_a_long_link() {
    each_seed(
        "alone, 50 ms away",
        || world().devices(1).pieces(200).origin_rtt(Duration::from_millis(50)),
        |report| report.over_bound() <= 1.05,
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || world().devices(5).pieces(60).flash().run(9).unwrap();
    let (one, other) = (run(), run());
    assert_eq!((one.end, one.events), (other.end, other.events));
}
