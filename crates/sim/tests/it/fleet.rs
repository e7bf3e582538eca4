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
