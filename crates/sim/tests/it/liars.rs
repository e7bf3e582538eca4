//! Devices that lie: every honest device is complete, and not much later.

use peerage_sim::{Begin, Manner, Report, World, world};

use crate::support::{alone, each_seed, ms, secs};

const LIARS: usize = 2;
const HONEST: usize = 8;

fn among(manner: Manner) -> World {
    world().devices(HONEST + LIARS).pieces(200).each(|at, device| {
        if at >= HONEST {
            device.manner = manner;
            device.has_percent = if matches!(manner, Manner::Corrupts | Manner::Stalls(_)) { 100 } else { 0 };
        } else {
            // Liars do not dial: one that announces itself last of all nobody meets, and nobody could ban.
            device.begin = Begin::At(ms(5));
        }
    })
}

fn little_harm(report: &Report) {
    assert!(report.over_bound() <= 1.10 && report.origin_copies() <= 1.10, "{report}");
    for (at, device) in report.devices.iter().enumerate().take(HONEST) {
        assert!(device.banned_by.is_empty(), "device {at} was banned by {:?}, {report}", device.banned_by);
    }
}

fn are_banned(report: &Report) {
    for (at, device) in report.devices.iter().enumerate().skip(HONEST) {
        assert!(!device.banned_by.is_empty(), "liar {at} was not banned, {report}");
    }
}

#[test]
fn wrong_bytes() {
    each_seed("8 honest, 2 send wrong bytes", 0..3, &among(Manner::Corrupts), |report| {
        little_harm(report);
        are_banned(report);
        // Three wrong pieces of each liar at each device, and some mixed ones.
        assert!(report.wasted() <= (HONEST * LIARS * 5) as u64 * (1 << 20), "{report}");
    });
}

#[test]
fn wrong_parts_of_a_small_content() {
    // Parts of one piece come from several: nobody answers for another's bytes, and the piece comes in the end.
    for pieces in [1, 2, 4, 20] {
        let world = world().devices(HONEST + LIARS).pieces(pieces).each(|at, device| {
            if at >= HONEST {
                (device.manner, device.has_percent) = (Manner::Corrupts, 100);
            }
        });
        each_seed(&format!("8 honest, 2 send wrong bytes, {pieces} pieces"), 0..12, &world, |report| {
            for (at, device) in report.devices.iter().enumerate().take(HONEST) {
                assert!(device.banned_by.is_empty(), "{at} was banned by {:?}, {report}", device.banned_by);
            }
            // Three wrong pieces of each liar at each device, and as many mixed ones.
            assert!(
                report.wasted() <= (HONEST * LIARS * 6) as u64 * (1 << 20) && report.end <= secs(12),
                "{report}"
            );
        });
    }
}

#[test]
fn pieces_that_they_lack() {
    each_seed("8 honest, 2 reject everything", 0..3, &among(Manner::Lacks), |report| {
        little_harm(report);
        are_banned(report);
    });
}

#[test]
fn claims_that_are_not_made_good() {
    each_seed("8 honest, 2 claim everything", 0..4, &among(Manner::Hoards), little_harm);
}

#[test]
fn claims_on_a_small_content() {
    let world = world().devices(4).pieces(3).liar(3, Manner::Hoards);
    each_seed("3 honest, 1 claims all 3 pieces", 0..8, &world, |report| {
        assert!(report.end <= secs(12), "{report}");
    });
}

#[test]
fn one_who_claims_and_never_delivers_costs_little_and_once() {
    for pieces in [1, 3, 8, 20] {
        let world = world().devices(2).pieces(pieces).liar(1, Manner::Hoards);
        let plain = alone(peerage_sim::world().devices(1).pieces(pieces));
        each_seed(&format!("1 honest, 1 claims all {pieces} pieces"), 0..20, &world, |report| {
            let late = report.devices[0].took.map(|took| took.as_secs_f64() - plain);
            // As long as nothing is known of the origin, a piece may honestly take most of a second.
            assert!(late.is_some_and(|late| late <= 3.1), "{late:?} s later, {report}");
        });
    }
}

#[test]
fn requests_for_everything() {
    each_seed("8 honest, 2 ask for everything", 0..3, &among(Manner::Greedy), |report| {
        little_harm(report);
        are_banned(report);
    });
}

#[test]
fn silence() {
    each_seed("8 honest, 2 mute", 0..3, &among(Manner::Mute), little_harm);
    each_seed("8 honest, 2 stall", 0..3, &among(Manner::Stalls(3 << 20)), little_harm);
}

#[test]
fn chokes() {
    each_seed("8 honest, 2 choke and unchoke", 0..3, &among(Manner::Flaps), little_harm);
}

#[test]
fn more_liars_than_honest_devices() {
    for manner in
        [Manner::Corrupts, Manner::Lacks, Manner::Hoards, Manner::Mute, Manner::Flaps, Manner::Greedy]
    {
        let world = world().devices(8).pieces(100).each(|at, device| {
            if at > 1 {
                device.manner = manner;
                device.has_percent = 100;
            }
        });
        each_seed(&format!("2 honest, 6 {manner:?}"), 0..3, &world, |report| {
            assert!(report.end <= secs(12), "{report}");
        });
    }
}

#[test]
fn all_sorts() {
    let sorts = [
        Manner::Corrupts,
        Manner::Lacks,
        Manner::Hoards,
        Manner::Mute,
        Manner::Flaps,
        Manner::Greedy,
        Manner::Stalls(1 << 20),
    ];
    let world = world().devices(HONEST + sorts.len()).pieces(200).each(|at, device| {
        if let Some(manner) = at.checked_sub(HONEST).and_then(|at| sorts.get(at)) {
            device.manner = *manner;
            device.has_percent = 100;
        }
    });
    each_seed("8 honest, 7 liars of all sorts", 0..2, &world, |report| {
        assert!(report.over_bound() <= 1.15 && report.origin_copies() <= 1.15, "{report}");
    });
}
