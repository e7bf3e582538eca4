//! Large swarms, in which nobody is connected to all.

use peerage_sim::world;

use crate::support::each_seed;

#[test]
fn a_hundred_devices() {
    each_seed("flash 100", 0..1, &world().devices(100).pieces(40), |report| {
        assert!(report.origin_copies() <= 1.03 && report.over_bound() <= 1.25, "{report}");
    });
}

#[test]
fn two_hundred_devices() {
    each_seed("flash 200", 0..1, &world().devices(200).pieces(24), |report| {
        assert!(report.origin_copies() <= 1.05 && report.over_bound() <= 1.5, "{report}");
    });
}

#[test]
fn a_thousand_devices() {
    each_seed("flash 1000", 0..1, &world().devices(1000).pieces(6), |report| {
        assert!(report.origin_copies() <= 1.10, "{report}");
        // The last piece leaves the origin after half a second and has two or three neighbourhoods to cross.
        assert!(report.end.as_secs_f64() <= 3.0, "{report}");
    });
}

/// A small piece of the largest world that `peerage lab --simulate` takes, and like it: every site fetches for itself.
#[test]
fn four_sites_of_fifty() {
    let world = world().devices(200).sites_of(50).pieces(100).lan_only().origin_mbit(2000.0);
    each_seed("4 x 50", 0..1, &world.wan_mbit(100.0, 100.0).coarse(), |report| {
        let worst = report.sites.iter().map(|site| site.received).max().unwrap();
        assert!(worst as f64 <= 1.03 * report.size as f64 && report.over_bound() <= 1.1, "{report}");
        assert!(report.sites.iter().all(|site| site.sent == 0), "{report}");
    });
}
