//! Facts about the device, as plain values. How they are read is the business of the room `host`.

use std::net::IpAddr;

use jiff::tz::TimeZone;

use crate::{CacheHost, GroupSources};

/// What is known about the device. A fact that is unknown forbids nothing: the settings that ask for it spare weak
/// devices and guard no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Installed RAM, in bytes.
    pub installed_ram: Option<u64>,
    /// The volume that holds the cache.
    pub cache_volume: Option<Volume>,
    /// Bytes uploaded to Internet peers in this calendar month.
    pub internet_uploaded: u64,
    /// Network interfaces that are up.
    pub interfaces: Vec<Interface>,
    /// Connections that a network manager holds or is making.
    pub connections: Vec<Connection>,
    /// Whether the connection to the Internet is paid by the byte.
    pub metered: Option<bool>,
    /// What feeds the device; one without a battery is always on mains.
    pub power: Option<Power>,
    /// The device's time zone; unknown: UTC.
    pub zone: Option<TimeZone>,
    /// Seconds that the device's own clock is ahead of the time by which decisions are made. Hours of the day are those
    /// of the device's own clock; records and tickets are judged by the coordinator's.
    pub clock_ahead: i64,
    /// Why the cache is not, or not wholly, where `modify_cache_drive` wants it.
    pub cache_stays: Option<String>,
    /// What could name the device's group.
    pub group_sources: GroupSources,
    /// Connected caches that DHCP option 235 names.
    pub dhcp_cache_hosts: DhcpCacheHosts,
}

/// What DHCP option 235 says: connected caches, or why it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpCacheHosts(pub Result<Vec<CacheHost>, String>);

impl Default for DhcpCacheHosts {
    /// It has not been looked at.
    fn default() -> Self {
        Self(Err("not looked at".to_owned()))
    }
}

/// A file system's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that an unprivileged process could still write.
    pub free: u64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// The description that an administrator gave it (`ip link set … alias`).
    pub alias: Option<String>,
    /// What it is.
    pub kind: LinkKind,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether a default route leads through it.
    pub default_route: bool,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// What a network interface is, as far as decisions ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkKind {
    /// Anything else.
    #[default]
    Plain,
    /// A tun device: packets go to a program, as those of most VPNs do. A tap device, which virtual machines use, is none.
    Tun,
    /// WireGuard.
    Wireguard,
    /// A point-to-point protocol link.
    Ppp,
}

impl LinkKind {
    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tun => "tun",
            Self::Wireguard => "wireguard",
            Self::Ppp => "ppp",
        }
    }
}

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
}

impl InterfaceAddress {
    /// Whether `ip` lies in the subnet of this address.
    pub fn covers(&self, ip: IpAddr) -> bool {
        let differing = match (self.ip.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(self.prefix)
    }
}

/// A connection of a network manager.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connection {
    /// Its name, given by the user: `Office`, `Corporate VPN`.
    pub id: String,
    /// Whether the network manager takes it for a VPN.
    pub vpn: bool,
}

/// What feeds the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The mains, or a device without battery.
    Mains,
    /// A battery, with its charge in percent as far as it is known.
    Battery {
        /// Percent.
        charge: Option<u8>,
    },
}

/// By what a device is known to be on a VPN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VpnSign {
    /// By what it is, whatever it is called; in words.
    Type(String),
    /// By a word of `vpn_keywords`.
    Keyword {
        /// What has the word in it.
        of: String,
        /// The word.
        word: String,
    },
}

impl std::fmt::Display for VpnSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Type(what) => f.write_str(what),
            Self::Keyword { of, word } => write!(f, "{of} has the keyword {word:?}"),
        }
    }
}

impl Facts {
    /// Whether `ip` lies in a subnet of one of this device's interfaces.
    pub fn same_subnet(&self, ip: IpAddr) -> bool {
        self.interfaces.iter().flat_map(|interface| &interface.addresses).any(|own| own.covers(ip))
    }

    /// By what this device is known to be on a VPN; `None`: it is on none. `keywords` are parts of names, in either
    /// case; what is known by its type needs none.
    pub fn vpn(&self, keywords: &[String]) -> Option<VpnSign> {
        let keywords: Vec<String> = keywords.iter().map(|word| word.to_lowercase()).collect();
        let keyword = |text: &str| {
            let text = text.to_lowercase();
            keywords.iter().find(|word| text.contains(word.as_str()))
        };
        let by_interface = self.interfaces.iter().filter(|interface| !interface.loopback).find_map(|link| {
            let Interface { name, alias, kind, .. } = link;
            if *kind != LinkKind::Plain {
                return Some(VpnSign::Type(format!("{name} is a {} interface", kind.name())));
            }
            let word = keyword(name).or_else(|| keyword(alias.as_deref().unwrap_or_default()))?.clone();
            Some(VpnSign::Keyword { of: format!("the name or description of {name}"), word })
        });
        by_interface.or_else(|| {
            self.connections.iter().find_map(|Connection { id, vpn }| {
                if *vpn {
                    return Some(VpnSign::Type(format!("the connection {id:?} is a VPN")));
                }
                let of = format!("the name of the connection {id:?}");
                keyword(id).map(|word| VpnSign::Keyword { of, word: word.clone() })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: LinkKind) -> Interface {
        Interface { name: name.to_owned(), kind, ..Interface::default() }
    }

    #[test]
    fn a_vpn_is_known_by_type_name_description_or_connection() {
        let words: Vec<String> = ["vpn", "Secure"].map(String::from).to_vec();
        let of = |interface| Facts { interfaces: vec![interface], ..Facts::default() };
        let connection = |id: &str, vpn| Facts {
            connections: vec![Connection { id: id.to_owned(), vpn }],
            ..Facts::default()
        };
        let alias = |text: &str| Interface { alias: Some(text.to_owned()), ..link("eth1", LinkKind::Plain) };
        for (facts, on) in [
            (of(link("tun0", LinkKind::Tun)), true),
            (of(link("wg0", LinkKind::Wireguard)), true),
            (of(link("ppp0", LinkKind::Ppp)), true),
            (of(link("tap0", LinkKind::Plain)), false),
            (of(link("myVPN3", LinkKind::Plain)), true),
            (of(alias("SECURE line to head office")), true),
            (of(alias("uplink")), false),
            (connection("Head office", true), true),
            (connection("Corporate vpn", false), true),
            (connection("Wired", false), false),
            (of(Interface { loopback: true, ..link("vpn-lo", LinkKind::Plain) }), false),
            (Facts::default(), false),
        ] {
            assert_eq!(facts.vpn(&words).is_some(), on, "{facts:?}");
        }
        assert!(of(link("tun0", LinkKind::Tun)).vpn(&[]).unwrap().to_string().contains("tun0"));
        assert_eq!(of(link("myvpn", LinkKind::Plain)).vpn(&[]), None);
    }

    #[test]
    fn subnets_hold_their_addresses() {
        let own = |ip: &str, prefix| InterfaceAddress { ip: ip.parse().unwrap(), prefix };
        for (own, ip, inside) in [
            (own("10.1.2.3", 24), "10.1.2.200", true),
            (own("10.1.2.3", 24), "10.1.3.200", false),
            (own("10.1.2.3", 24), "::ffff:10.1.2.9", true),
            (own("10.1.2.3", 0), "192.0.2.1", true),
            (own("10.1.2.3", 32), "10.1.2.3", true),
            (own("10.1.2.3", 32), "10.1.2.2", false),
            (own("fd77::1", 64), "fd77::ff:1", true),
            (own("fd77::1", 64), "fd77:0:0:1::1", false),
            (own("fd77::1", 128), "fd77::1", true),
            (own("fd77::1", 0), "10.1.2.3", false),
        ] {
            assert_eq!(own.covers(ip.parse().unwrap()), inside, "{own:?} {ip}");
        }
    }
}
