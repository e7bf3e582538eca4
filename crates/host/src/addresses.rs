//! The addresses that a device tells its peers.

use std::net::IpAddr;

use peerage_policy::Interface;

/// The most addresses that are told; a device with more has them from containers and tunnels.
pub const MAX_ANNOUNCED: usize = 16;

/// The addresses under which peers can reach a device that listens on `listen`.
///
/// An address that was chosen is told alone. Where every address listens, those of the interfaces are told that mean
/// something to other devices: not link-local ones, which need a zone, and loopback ones only where nothing else is (a fleet
/// on one machine). Public addresses are told too: peers of one LAN may have them (DO reference §1.2).
/// Each is told once, at most [`MAX_ANNOUNCED`] in the interfaces' order.
pub fn announce_addresses(listen: IpAddr, interfaces: &[Interface]) -> Vec<IpAddr> {
    let listen = listen.to_canonical();
    if !listen.is_unspecified() {
        return vec![listen];
    }
    // `::` listens for IPv4 too, `0.0.0.0` does not for IPv6.
    let heard = |ip: &IpAddr| listen.is_ipv6() || ip.is_ipv4();
    let all = interfaces.iter().flat_map(|interface| &interface.addresses).map(|address| address.ip);
    let all = all.filter(heard).collect::<Vec<_>>();
    let mut told: Vec<IpAddr> = Vec::new();
    let chosen = [is_reachable as fn(&IpAddr) -> bool, IpAddr::is_loopback];
    for kind in chosen {
        for ip in all.iter().filter(|ip| kind(ip)) {
            if told.len() < MAX_ANNOUNCED && !told.contains(ip) {
                told.push(*ip);
            }
        }
        if !told.is_empty() {
            break;
        }
    }
    told
}

/// Whether another device can mean this one by the address.
fn is_reachable(ip: &IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use peerage_policy::InterfaceAddress;

    use super::*;

    fn interface(name: &str, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|ip| InterfaceAddress { ip: ip.parse().unwrap(), prefix: 24 });
        Interface {
            name: name.into(),
            loopback: name == "lo",
            addresses: addresses.collect(),
            ..Interface::default()
        }
    }

    fn told(listen: &str, interfaces: &[Interface]) -> Vec<String> {
        let listen = listen.parse().unwrap();
        announce_addresses(listen, interfaces).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn what_other_devices_can_reach() {
        let lo = interface("lo", &["127.0.0.1", "::1"]);
        let eth = interface("eth0", &["192.168.7.2", "169.254.1.1", "fe80::1", "fd00::2", "2001:db8::2"]);
        let wan = interface("eth1", &["203.0.113.9", "192.168.7.2", "224.0.0.1", "::ffff:10.0.0.1"]);
        let all = [lo.clone(), eth, wan];
        assert_eq!(told("::", &all), ["192.168.7.2", "fd00::2", "2001:db8::2", "203.0.113.9"]);
        assert_eq!(told("0.0.0.0", &all), ["192.168.7.2", "203.0.113.9"]);
        assert_eq!(told("127.0.0.5", &all), ["127.0.0.5"]);
        assert_eq!(told("::ffff:10.1.2.3", &all), ["10.1.2.3"]);
        assert_eq!(told("::", &[lo.clone(), interface("eth0", &["fe80::1"])]), ["127.0.0.1", "::1"]);
        assert_eq!(told("0.0.0.0", &[lo]), ["127.0.0.1"]);
        assert!(told("::", &[]).is_empty());
    }

    #[test]
    fn at_most_sixteen() {
        let many: Vec<_> = (0..40).map(|at| interface("br", &[&format!("10.0.{at}.1")])).collect();
        assert_eq!(told("::", &many).len(), MAX_ANNOUNCED);
    }
}
