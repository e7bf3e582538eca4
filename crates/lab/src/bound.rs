//! What physics allows: the shortest time in which a fleet can have a file.
//!
//! The bound of peer-assisted distribution (product §9): the file crosses the uplink at least once, every device takes
//! it in through its own link, and all copies together leave through the uplink and the devices' links.

use crate::args::Start;

/// Rates in bytes per second; infinite where nothing limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Links {
    /// The origin's, shared by all.
    pub(crate) uplink: f64,
    /// Into each device.
    pub(crate) down: f64,
    /// Out of each device.
    pub(crate) up: f64,
}

impl Links {
    /// A lab's: the devices' links are the loopback interface.
    pub(crate) fn of_lab(uplink: Option<u64>) -> Self {
        let uplink = uplink.map_or(f64::INFINITY, |rate| rate as f64);
        Self { uplink, down: f64::INFINITY, up: f64::INFINITY }
    }
}

/// The least seconds from the first start until `devices` devices have a file of `size` bytes; `None`: nothing limits.
pub(crate) fn bound_seconds(size: u64, devices: u32, links: Links, start: Start) -> Option<f64> {
    let bytes = size as f64;
    let together = |devices: u32| {
        let n = f64::from(devices);
        let all_out = links.uplink + n * links.up;
        (bytes / links.uplink).max(bytes / links.down).max(n * bytes / all_out)
    };
    let seconds = match start {
        Start::Together => together(devices),
        Start::FirstAlone => {
            let others = f64::from(devices.saturating_sub(1));
            let rest =
                (bytes / links.down).max(others * bytes / (links.uplink + f64::from(devices) * links.up));
            together(1) + if others > 0.0 { rest } else { 0.0 }
        }
        Start::Every(interval) => {
            let last_start = interval.saturating_mul(devices.saturating_sub(1));
            let last = (bytes / links.down).max(bytes / (links.uplink + f64::from(devices) * links.up));
            together(devices).max(last_start.as_secs_f64() + last)
        }
    };
    let limited = links.uplink.is_finite() || links.down.is_finite() || matches!(start, Start::Every(_));
    (limited && seconds.is_finite()).then_some(seconds)
}

/// Says in words what the bound is made of.
pub(crate) fn in_words(start: Start, uplink: Option<u64>) -> &'static str {
    match (start, uplink) {
        (Start::Every(_), None) => "the last device's start",
        (_, None) => "none (no --uplink, and the devices' links are loopback)",
        (Start::Together, Some(_)) => "file / uplink (the devices' links are loopback: no limit)",
        (Start::FirstAlone, Some(_)) => "file / uplink for the first (the other links: no limit)",
        (Start::Every(_), Some(_)) => "file / uplink, or the last start (the other links: no limit)",
    }
}

/// How far `seconds` are from the bound, as a factor; `None` where there is no bound.
pub(crate) fn factor(seconds: f64, bound: Option<f64>) -> Option<f64> {
    bound.filter(|bound| *bound > 0.0).map(|bound| seconds / bound)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const EVERY: Start = Start::Every(Duration::from_secs(2));

    #[test]
    fn a_lab_is_bound_by_its_uplink() {
        let links = Links::of_lab(Some(1000));
        assert_eq!(bound_seconds(5000, 8, links, Start::Together), Some(5.0));
        assert_eq!(bound_seconds(5000, 8, links, Start::FirstAlone), Some(5.0));
        assert_eq!(bound_seconds(5000, 8, links, EVERY), Some(14.0));
        assert_eq!(bound_seconds(50_000, 8, links, EVERY), Some(50.0));
        let free = Links::of_lab(None);
        assert_eq!(bound_seconds(5000, 8, free, Start::Together), None);
        assert_eq!(bound_seconds(5000, 8, free, Start::FirstAlone), None);
        assert_eq!(bound_seconds(5000, 8, free, EVERY), Some(14.0));
        assert_eq!(bound_seconds(0, 8, links, Start::Together), Some(0.0));
    }

    #[test]
    fn each_link_can_be_the_narrow_one() {
        let links = Links { uplink: 100.0, down: 1000.0, up: 100.0 };
        // 8 copies leave through 100 + 800.
        let expected = 8.0 * 900.0 / 900.0;
        assert_eq!(bound_seconds(900, 8, links, Start::Together), Some(9.0_f64.max(expected)));
        let narrow_down = Links { down: 10.0, ..links };
        assert_eq!(bound_seconds(900, 8, narrow_down, Start::Together), Some(90.0));
        let narrow_up = Links { up: 1.0, ..links };
        assert_eq!(bound_seconds(1080, 9, narrow_up, Start::Together), Some(9.0 * 1080.0 / 109.0));
        assert_eq!(bound_seconds(900, 1, narrow_down, Start::FirstAlone), Some(90.0));
        assert_eq!(bound_seconds(900, 2, narrow_down, Start::FirstAlone), Some(180.0));
    }

    proptest! {
        #[test]
        fn more_devices_and_later_starts_are_never_faster(
            size in 1..1_u64 << 40, n in 1..1000_u32, uplink in 1..1_u64 << 40, down in 1.0..1e12, up in 1.0..1e12,
        ) {
            let links = Links { uplink: uplink as f64, down, up };
            for start in [Start::Together, Start::FirstAlone, EVERY] {
                let few = bound_seconds(size, n, links, start).unwrap();
                let more = bound_seconds(size, n + 1, links, start).unwrap();
                prop_assert!(more >= few * 0.999_999);
                prop_assert!(few >= size as f64 / links.uplink * 0.999_999);
            }
        }
    }
}
