//! Where a device says that it can be reached, held against where it is seen.
//!
//! Other devices will connect there, so a claim must not be able to send the fleet to a stranger: a public address of
//! the family that the device is seen in must be of the site that it is seen at, a loopback address is believed only
//! from loopback. Behind NAT the public address is the coordinator's knowledge, the port the device's.

use std::net::{IpAddr, SocketAddr};

use peerage_swarm::matching::{Reach, Sites, is_private};

/// Addresses of one device that are passed on.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// The addresses to pass on, in the device's order, the seen one last when it is not among them.
pub(crate) fn reachable(claimed: &[SocketAddr], seen: IpAddr, sites: &Sites) -> Vec<SocketAddr> {
    let seen = seen.to_canonical();
    let mut kept: Vec<SocketAddr> = Vec::with_capacity(claimed.len().min(MAX_ADDRESSES));
    let mut port = None;
    for claim in claimed.iter().take(4 * MAX_ADDRESSES) {
        let address = SocketAddr::new(claim.ip().to_canonical(), claim.port());
        if address.port() == 0 {
            continue;
        }
        port = port.or(Some(address.port()));
        if believable(address.ip(), seen, sites) && !kept.contains(&address) {
            kept.push(address);
        }
    }
    // Without a claim the device listens nowhere.
    let combined = port.filter(|_| !is_private(seen)).map(|port| SocketAddr::new(seen, port));
    match combined {
        Some(address) if !kept.iter().any(|known| known.ip() == seen) => {
            kept.truncate(MAX_ADDRESSES - 1);
            kept.push(address);
        }
        _ => kept.truncate(MAX_ADDRESSES),
    }
    kept
}

fn believable(ip: IpAddr, seen: IpAddr, sites: &Sites) -> bool {
    let usable = match ip {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        // A link-local address means nothing without the interface of whoever connects.
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    };
    if !usable || (ip.is_loopback() && !seen.is_loopback()) {
        return false;
    }
    let comparable = !is_private(ip) && !is_private(seen) && ip.is_ipv4() == seen.is_ipv4();
    !comparable || sites.site_of(ip) == sites.site_of(seen)
}

/// How a device with these addresses can be connected to.
pub(crate) fn reach(addresses: impl IntoIterator<Item = SocketAddr>) -> Reach {
    addresses.into_iter().fold(Reach::Nowhere, |best, address| match best {
        Reach::Public => Reach::Public,
        _ if is_private(address.ip()) => Reach::Private,
        _ => Reach::Public,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(claims: &[&str], seen: &str) -> Vec<String> {
        let claims: Vec<SocketAddr> = claims.iter().map(|text| text.parse().unwrap()).collect();
        let kept = reachable(&claims, seen.parse().unwrap(), &Sites::default());
        kept.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nat_inside_and_loopback() {
        assert_eq!(kept(&["10.0.0.5:7680"], "198.51.100.1"), ["10.0.0.5:7680", "198.51.100.1:7680"]);
        assert_eq!(kept(&["198.51.100.1:9"], "198.51.100.1"), ["198.51.100.1:9"]);
        assert_eq!(kept(&["10.0.0.5:7680"], "10.0.0.5"), ["10.0.0.5:7680"]);
        assert_eq!(
            kept(&["10.0.0.5:7680"], "10.9.9.9"),
            ["10.0.0.5:7680"],
            "private addresses are not combined"
        );
        assert_eq!(kept(&["127.0.1.1:7680"], "127.0.0.1"), ["127.0.1.1:7680"]);
        assert_eq!(kept(&["127.0.1.1:7680", "[::1]:7680"], "10.0.0.1"), [""; 0]);
        assert_eq!(kept(&[], "198.51.100.1"), [""; 0]);
    }

    #[test]
    fn nobody_is_sent_to_a_stranger() {
        assert_eq!(kept(&["203.0.113.9:80"], "198.51.100.1"), ["198.51.100.1:80"]);
        assert_eq!(kept(&["[2001:db8:9::1]:80"], "2001:db8::1"), ["[2001:db8::1]:80"]);
        let dual = kept(&["[2001:db8::1]:80", "192.168.0.1:80"], "198.51.100.1");
        assert_eq!(
            dual,
            ["[2001:db8::1]:80", "192.168.0.1:80", "198.51.100.1:80"],
            "the other family is believed"
        );
        assert_eq!(kept(&["[2001:db8::7]:80"], "2001:db8::1"), ["[2001:db8::7]:80", "[2001:db8::1]:80"]);
        for odd in [
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "10.0.0.1:0",
        ] {
            assert_eq!(kept(&[odd], "10.0.0.1"), [""; 0], "{odd}");
        }
    }

    #[test]
    fn at_most_eight_and_the_seen_one_among_them() {
        let many: Vec<String> = (1..100).map(|n| format!("10.0.0.{n}:7680")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(kept(&many, "10.0.0.1").len(), 8);
        let outside = kept(&many, "198.51.100.1");
        assert_eq!((outside.len(), outside[7].as_str()), (8, "198.51.100.1:7680"));
        assert_eq!(kept(&["10.0.0.1:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"], "10.0.0.1"), ["10.0.0.1:1"]);
    }
}
