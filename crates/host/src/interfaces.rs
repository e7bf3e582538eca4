//! Network interfaces and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use peerage_policy::{Interface, InterfaceAddress};
use rustix::io::Errno;

use crate::error::HostError;

/// The interfaces that are up, in the kernel's order, with their IP addresses (none for one without).
///
/// # Errors
/// The kernel does not list them.
pub fn interfaces() -> Result<Vec<Interface>, HostError> {
    let entries = getifaddrs()
        .map_err(|error| HostError::Interfaces { source: Errno::from_raw_os_error(error as i32) })?;
    let mut found: Vec<Interface> = Vec::new();
    for entry in entries.filter(|entry| entry.flags.contains(InterfaceFlags::IFF_UP)) {
        let address = entry.address.as_ref().and_then(ip).map(|ip| InterfaceAddress {
            ip,
            prefix: entry.netmask.as_ref().and_then(self::ip).map_or(host_prefix(ip), mask_bits),
        });
        match found.iter_mut().find(|interface| interface.name == entry.interface_name) {
            Some(interface) => interface.addresses.extend(address),
            None => found.push(Interface {
                loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                addresses: address.into_iter().collect(),
                name: entry.interface_name,
            }),
        }
    }
    Ok(found)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The prefix of a subnet with this address alone.
const fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Leading ones of a netmask.
fn mask_bits(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => Ipv4Addr::to_bits(mask).leading_ones(),
        IpAddr::V6(mask) => Ipv6Addr::to_bits(mask).leading_ones(),
    };
    u8::try_from(ones).unwrap_or(host_prefix(mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_become_prefixes() {
        for (mask, bits) in [
            ("255.255.255.0", 24),
            ("0.0.0.0", 0),
            ("255.255.255.255", 32),
            ("ffff:ffff:ffff:ffff::", 64),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 128),
        ] {
            assert_eq!(mask_bits(mask.parse().unwrap()), bits, "{mask}");
        }
    }

    #[test]
    fn the_loopback_of_this_device_is_listed_once_with_its_subnet() {
        let found = interfaces().unwrap();
        let loopbacks: Vec<_> = found.iter().filter(|interface| interface.loopback).collect();
        assert_eq!(loopbacks.len(), 1, "{found:?}");
        let local = InterfaceAddress { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix: 8 };
        assert!(loopbacks[0].addresses.contains(&local), "{found:?}");
        let mut names: Vec<_> = found.iter().map(|interface| &interface.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), found.len(), "each interface once");
    }
}
