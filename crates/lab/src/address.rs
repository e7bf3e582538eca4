//! Who lives where: 127.77.0.0/16, which every Linux machine has without set-up.
//!
//! All devices are one site; beyond a hundred they fill several /24, as floors of a building do, so that ranking by
//! subnet is at work. Ports are chosen by the kernel, so several labs run side by side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most devices of one lab.
pub(crate) const MAX_DEVICES: u32 = 1000;
const DEVICES_PER_SUBNET: u32 = 100;
/// The last byte of the first device of each subnet.
const FIRST: u32 = 10;

/// Where the coordinator listens.
pub(crate) const COORDINATOR: SocketAddr = on(0, 1);
/// Where the origin listens.
pub(crate) const ORIGIN: SocketAddr = on(0, 2);

const fn on(subnet: u8, host: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 77, subnet, host)), 0)
}

/// Where device `number` (from 1) listens.
pub(crate) fn device(number: u32) -> SocketAddr {
    let index = number.saturating_sub(1).min(MAX_DEVICES);
    on((index / DEVICES_PER_SUBNET) as u8, (FIRST + index % DEVICES_PER_SUBNET) as u8)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_device_has_its_own() {
        let all: HashSet<_> = (1..=MAX_DEVICES).map(device).chain([COORDINATOR, ORIGIN]).collect();
        assert_eq!(all.len(), MAX_DEVICES as usize + 2);
        assert_eq!(device(1).to_string(), "127.77.0.10:0");
        assert_eq!(device(100).to_string(), "127.77.0.109:0");
        assert_eq!(device(101).to_string(), "127.77.1.10:0");
    }
}
