//! Several sites: what crosses the link between them crosses it once (product §2).

use peerage_sim::{Begin, World, world};

use crate::support::{each_seed, ms};

/// `far` seeds with 50 Mbit/s uplinks in one site, `near` devices in another, which begin a moment later.
fn two_sites(far: usize, near: usize) -> World {
    world().devices(far + near).pieces(100).seeds(0, far).each(|at, device| {
        if at < far {
            device.link_mbit(50.0, 50.0);
        } else {
            device.site = 1;
            device.begin = Begin::At(ms(100));
        }
    })
}

#[test]
fn one_far_seed() {
    each_seed("1 far seed, 8 devices, no origin", 0..4, &two_sites(1, 8).no_origin(), |report| {
        assert!(
            report.far_copies() <= 1.05 && report.over_bound() <= 1.10,
            "{} {report}",
            report.far_copies()
        );
    });
}

#[test]
fn three_far_seeds() {
    each_seed("3 far seeds, 8 devices, no origin", 0..4, &two_sites(3, 8).no_origin(), |report| {
        assert!(
            report.far_copies() <= 1.10 && report.over_bound() <= 1.6,
            "{} {report}",
            report.far_copies()
        );
    });
}

#[test]
fn a_group_in_two_sites() {
    let world = world().devices(8).pieces(200).each(|at, device| device.site = at / 4);
    each_seed("2 sites of 4", 0..3, &world, |report| {
        assert!(report.origin_copies() <= 1.03 && report.over_bound() <= 1.10, "{report}");
        // Either site fetches half of it from the origin and gets the other half from the other site, once.
        assert!(report.far_copies() <= 1.05, "{} {report}", report.far_copies());
    });
}

#[test]
fn strangers_do_not_keep_the_origin_waiting() {
    let strangers = two_sites(1, 1).strangers();
    each_seed("1 stranger has everything", 0..3, &strangers, |report| {
        // Origin and stranger together: 150 Mbit/s.
        assert!(report.devices[1].took.is_some_and(|took| took <= ms(6200)), "{report}");
    });
}
