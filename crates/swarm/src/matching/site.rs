//! Sites and subnets: what "the same LAN" means to somebody who only sees addresses (product §2).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Shortest and longest IPv6 prefix that can stand for a site.
const IPV6_PREFIXES: std::ops::RangeInclusive<u8> = 16..=64;

/// The site rules cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SitesError {
    /// The IPv6 prefix is out of range.
    #[error("ipv6 site prefix is {found}, allowed are 16 to 64")]
    Prefix {
        /// The prefix length found.
        found: u8,
    },
    /// More names than can be told apart.
    #[error("{found} named sites, allowed are 65535")]
    TooMany {
        /// Their number.
        found: usize,
    },
    /// Two sites claim one network.
    #[error("network {network} belongs to two sites, {first:?} and {second:?}")]
    Twice {
        /// The network.
        network: IpNet,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
}

/// Where a device is. Equal values are one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// The configured site of this index.
    Named(u16),
    /// A private address that no configured site covers.
    Private,
    /// Behind this public IPv4 address.
    V4(u32),
    /// In this public IPv6 prefix.
    V6(u64),
}

/// The subnet of an address: /24 for IPv4, /64 for IPv6, since devices do not announce prefix lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subnet {
    /// The upper 24 bits.
    V4(u32),
    /// The upper 64 bits.
    V6(u64),
}

impl Subnet {
    /// The subnet of the first IPv4 address, else of the first IPv6 address: two devices that list the same kinds of
    /// addresses in another order must not miss each other.
    pub fn of(addresses: impl IntoIterator<Item = SocketAddr> + Clone) -> Option<Self> {
        let ips = || addresses.clone().into_iter().map(|address| address.ip().to_canonical());
        let v4 = ips().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(Self::V4(ip.to_bits() >> 8)),
            IpAddr::V6(_) => None,
        });
        v4.or_else(|| {
            ips().find_map(|ip| match ip {
                IpAddr::V6(ip) => Some(Self::V6((ip.to_bits() >> 64) as u64)),
                IpAddr::V4(_) => None,
            })
        })
    }
}

/// Whether `ip` means something only inside one network: RFC 1918, RFC 6598 (carrier NAT), link-local, unique local,
/// and loopback (a whole fleet on one machine).
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.to_bits() >> 22 == 0b01_1001_0001; // 100.64.0.0/10
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The rules that tell sites apart.
#[derive(Debug, Clone)]
pub struct Sites {
    /// Longest prefix first, so that the first hit is the most specific one.
    networks: Vec<(IpNet, u16)>,
    names: Vec<String>,
    ipv6_prefix: u8,
}

impl Default for Sites {
    fn default() -> Self {
        Self { networks: Vec::new(), names: Vec::new(), ipv6_prefix: 64 }
    }
}

impl Sites {
    /// Sites by configuration: names with their networks, and how many bits of a public IPv6 address are the site.
    ///
    /// # Errors
    /// The prefix is out of range, or two sites claim one network.
    pub fn new(
        named: impl IntoIterator<Item = (String, Vec<IpNet>)>,
        ipv6_prefix: u8,
    ) -> Result<Self, SitesError> {
        if !IPV6_PREFIXES.contains(&ipv6_prefix) {
            return Err(SitesError::Prefix { found: ipv6_prefix });
        }
        let (mut names, mut networks) = (Vec::new(), Vec::new());
        for (name, nets) in named {
            let index = names.len();
            names.push(name);
            let index = u16::try_from(index).map_err(|_| SitesError::TooMany { found: names.len() })?;
            networks.extend(nets.into_iter().map(|net| (net.trunc(), index)));
        }
        networks.sort_by_key(|(net, index)| (std::cmp::Reverse(net.prefix_len()), *net, *index));
        networks.dedup();
        let twice = networks.windows(2).find_map(|pair| match pair {
            [(a, first), (b, second)] if a == b => Some((*a, *first, *second)),
            _ => None,
        });
        let sites = Self { networks, names, ipv6_prefix };
        match twice {
            None => Ok(sites),
            Some((network, first, second)) => {
                let name = |index| sites.name(Site::Named(index)).unwrap_or_default().to_owned();
                Err(SitesError::Twice { network, first: name(first), second: name(second) })
            }
        }
    }

    /// The site of a device seen at `ip`.
    pub fn site_of(&self, ip: IpAddr) -> Site {
        let ip = ip.to_canonical();
        if let Some((_, index)) = self.networks.iter().find(|(net, _)| net.contains(&ip)) {
            return Site::Named(*index);
        }
        match ip {
            ip if is_private(ip) => Site::Private,
            IpAddr::V4(ip) => Site::V4(ip.to_bits()),
            IpAddr::V6(ip) => {
                let upper = (ip.to_bits() >> 64) as u64;
                let shift = u32::from(64 - self.ipv6_prefix);
                Site::V6(upper >> shift << shift)
            }
        }
    }

    /// The configured name of a site.
    pub fn name(&self, site: Site) -> Option<&str> {
        match site {
            Site::Named(index) => self.names.get(usize::from(index)).map(String::as_str),
            _ => None,
        }
    }
}
