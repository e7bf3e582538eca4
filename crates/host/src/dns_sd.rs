//! DNS-SD (RFC 6763) over multicast DNS (RFC 6762): how devices of one link find each other without a coordinator.
//!
//! One service type, [`SERVICE`]; a device shows its peer port and one opaque text, the advert, under a name that is
//! random each time. What an advert says and whom it is from is not known here. The port 5353 is shared with other
//! responders (Avahi, systemd-resolved).
//!
//! Everything that comes in is foreign: it is cut to limits here and believed nowhere.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mdns_sd::{IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use peerage_policy::Interface;

/// The service type.
pub const SERVICE: &str = "_peerage._tcp.local.";
/// The key of the TXT record that holds the advert.
const ADVERT: &str = "a";
/// Longest advert taken in, in bytes: what one string of a TXT record holds beside its key.
pub const MAX_ADVERT: usize = 252;
/// Longest name in the DNS, in bytes.
const MAX_NAME: usize = 255;
/// Addresses taken in of one neighbour.
pub const MAX_ADDRESSES: usize = 8;

/// DNS-SD does not work (any more) on this device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not {what} by multicast dns: {why}")]
pub struct DnsSdError {
    what: &'static str,
    why: String,
}

fn failed(what: &'static str) -> impl FnOnce(mdns_sd::Error) -> DnsSdError {
    move |error| DnsSdError { what, why: error.to_string() }
}

/// Something happened on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// A device is there, or says something else than before.
    Seen {
        /// The name it goes by at present.
        name: String,
        /// Its advert.
        advert: String,
        /// Where it says that it can be reached, best first; at most [`MAX_ADDRESSES`].
        addresses: Vec<SocketAddr>,
    },
    /// A device is no longer there.
    Gone {
        /// The name it went by.
        name: String,
    },
}

/// The open door to the link. Closing it takes back what was advertised.
pub struct DnsSd {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    listen: IpAddr,
    advertised: Option<String>,
}

impl fmt::Debug for DnsSd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, advertised, .. } = self;
        f.debug_struct("DnsSd")
            .field("listen", listen)
            .field("advertised", advertised)
            .finish_non_exhaustive()
    }
}

impl DnsSd {
    /// Begins to look for neighbours of a device whose peers connect to `listen`: on the interface of that address, or
    /// on every one but the loopback when it is unspecified.
    ///
    /// # Errors
    /// The system gives no thread or no socket to wake it with.
    pub fn open(listen: IpAddr) -> Result<Self, DnsSdError> {
        let listen = listen.to_canonical();
        let daemon = ServiceDaemon::new().map_err(failed("start"))?;
        let chosen = if listen.is_unspecified() {
            daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])
        } else {
            let only = daemon.disable_interface(IfKind::All);
            only.and_then(|()| daemon.enable_interface(IfKind::Addr(listen)))
        };
        let events = chosen.and_then(|()| daemon.browse(SERVICE)).map_err(failed("look for neighbours"))?;
        Ok(Self { daemon, events, listen, advertised: None })
    }

    /// Advertises this device, in place of what it advertised before. `name` should be random: it is all that a
    /// stranger can know the device by.
    ///
    /// # Errors
    /// The advert is longer than [`MAX_ADVERT`], the port is 0, or the daemon's thread has ended.
    pub fn advertise(&mut self, name: &str, port: u16, advert: &str) -> Result<(), DnsSdError> {
        self.withdraw();
        if advert.len() > MAX_ADVERT || port == 0 {
            let why = format!("found an advert of {} bytes and port {port}", advert.len());
            return Err(DnsSdError { what: "advertise", why });
        }
        let host = format!("{name}.local.");
        let texts = [(ADVERT, advert)];
        let made = if self.listen.is_unspecified() {
            // `::` listens for IPv4 too, `0.0.0.0` does not for IPv6.
            let families = if self.listen.is_ipv4() { IfKind::IPv4 } else { IfKind::All };
            ServiceInfo::new(SERVICE, name, &host, "", port, &texts[..]).map(|info| {
                let mut info = info.enable_addr_auto();
                info.set_interfaces(vec![families]);
                info
            })
        } else {
            ServiceInfo::new(SERVICE, name, &host, self.listen, port, &texts[..])
        };
        let info = made.map_err(failed("advertise"))?;
        let full = info.get_fullname().to_owned();
        self.daemon.register(info).map_err(failed("advertise"))?;
        self.advertised = Some(full);
        Ok(())
    }

    /// Takes back what was advertised, if anything was; neighbours are told.
    pub fn withdraw(&mut self) {
        if let Some(name) = self.advertised.take() {
            // When the daemon's thread has ended, nothing is advertised any more either.
            let _ = self.daemon.unregister(&name);
        }
    }

    /// What happens next on the link. Cancel-safe.
    ///
    /// # Errors
    /// The daemon's thread has ended.
    pub async fn next(&mut self) -> Result<Sight, DnsSdError> {
        loop {
            let event = self
                .events
                .recv_async()
                .await
                .map_err(|error| DnsSdError { what: "look for neighbours", why: error.to_string() })?;
            let sight = match event {
                ServiceEvent::ServiceResolved(found) => self.sight(&found),
                ServiceEvent::ServiceRemoved(_, name) => Some(Sight::Gone { name }),
                _ => None,
            };
            if let Some(sight) = sight {
                return Ok(sight);
            }
        }
    }

    fn sight(&self, found: &ResolvedService) -> Option<Sight> {
        if self.advertised.as_deref() == Some(found.fullname.as_str()) {
            return None;
        }
        let addresses = found.addresses.iter().map(|address| match address {
            ScopedIp::V6(v6) => (IpAddr::V6(*v6.addr()), v6.scope_id().index),
            other => (other.to_ip_addr(), 0),
        });
        read_sight(&found.fullname, found.port, found.get_property_val(ADVERT)??, addresses)
    }
}

impl Drop for DnsSd {
    fn drop(&mut self) {
        self.withdraw();
        // Its thread says goodbye and ends; there is nobody left who would want to know how.
        let _ = self.daemon.shutdown();
    }
}

/// What a neighbour says, if it can be used: `addresses` come with the index of the interface they were seen on.
pub fn read_sight(
    name: &str,
    port: u16,
    advert: &[u8],
    addresses: impl Iterator<Item = (IpAddr, u32)>,
) -> Option<Sight> {
    let advert = std::str::from_utf8(advert).ok()?;
    let fits = |text: &str, most: usize| !text.is_empty() && text.len() <= most;
    if port == 0 || !fits(name, MAX_NAME) || !fits(advert, MAX_ADVERT) {
        return None;
    }
    let mut addresses: Vec<SocketAddr> =
        addresses.filter(|(ip, _)| is_a_neighbours(ip)).map(|(ip, zone)| with_zone(ip, port, zone)).collect();
    // IPv4 before IPv6 before what needs a zone; the same for everybody.
    addresses.sort_by_key(|address| (is_zoned(&address.ip()), *address));
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    let (name, advert) = (name.to_owned(), advert.to_owned());
    (!addresses.is_empty()).then_some(Sight::Seen { name, advert, addresses })
}

/// Whether another device can have this address.
fn is_a_neighbours(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || broadcast || mapped)
}

fn is_zoned(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn with_zone(ip: IpAddr, port: u16, zone: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, zone).into(),
        ip => SocketAddr::new(ip, port),
    }
}

/// Whether `ip` is on a link of this device: an address of one of its subnets, or a link-local one. What DNS-SD says
/// beyond that would let a neighbour point the whole link at somebody else.
pub fn is_on_link(ip: IpAddr, interfaces: &[Interface]) -> bool {
    let ip = ip.to_canonical();
    match ip {
        IpAddr::V4(v4) if v4.is_link_local() => return true,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => return true,
        _ => {}
    }
    let own = interfaces.iter().flat_map(|interface| &interface.addresses);
    own.into_iter().any(|own| same_subnet(own.ip, ip, own.prefix))
}

fn same_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let (one, other, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (widened(one.to_bits()), widened(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (Ipv6Addr::to_bits(one), Ipv6Addr::to_bits(other), 128),
        _ => return false,
    };
    // A subnet without a prefix would be everything: nothing is known then.
    prefix > 0 && (one ^ other).checked_shr(u32::from(width - prefix.min(width))).unwrap_or(0) == 0
}

fn widened(bits: u32) -> u128 {
    u128::from(bits)
}

#[cfg(test)]
mod tests {
    use peerage_policy::InterfaceAddress;

    use super::*;

    fn seen(addresses: &[(&str, u32)]) -> Vec<String> {
        let addresses = addresses.iter().map(|(ip, zone)| (ip.parse().unwrap(), *zone));
        match read_sight("n", 7680, b"x", addresses) {
            Some(Sight::Seen { addresses, .. }) => addresses.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn addresses_that_a_neighbour_can_have_best_first() {
        let all = seen(&[
            ("fe80::7", 3),
            ("2001:db8::7", 3),
            ("10.1.2.3", 3),
            ("127.0.0.1", 1),
            ("::1", 1),
            ("224.0.0.251", 3),
            ("0.0.0.0", 3),
            ("255.255.255.255", 3),
            ("::ffff:10.0.0.1", 3),
            ("10.1.2.3", 4),
        ]);
        assert_eq!(all, ["10.1.2.3:7680", "[2001:db8::7]:7680", "[fe80::7%3]:7680"]);
        let many: Vec<_> = (0..40).map(|at| (IpAddr::from([10, 0, 0, at]), 2)).collect();
        let Some(Sight::Seen { addresses, .. }) = read_sight("n", 1, b"x", many.into_iter()) else {
            panic!()
        };
        assert_eq!(addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn limits_and_nonsense() {
        let here = || [(IpAddr::from([10, 0, 0, 1]), 2)].into_iter();
        assert!(read_sight("n", 7680, b"x", here()).is_some());
        for (name, port, advert) in [
            ("", 7680, &b"x"[..]),
            ("n", 0, b"x"),
            ("n", 7680, b""),
            ("n", 7680, b"\xff\xfe"),
            ("n", 7680, &[b'x'; MAX_ADVERT + 1]),
        ] {
            assert_eq!(read_sight(name, port, advert, here()), None);
        }
        assert_eq!(read_sight(&"n".repeat(MAX_NAME + 1), 7680, b"x", here()), None);
        assert_eq!(read_sight("n", 7680, b"x", std::iter::empty()), None);
    }

    #[test]
    fn the_link_ends_at_the_subnet() {
        let address = |ip: &str, prefix| InterfaceAddress { ip: ip.parse().unwrap(), prefix };
        let interface = |addresses| Interface { name: "eth0".into(), addresses, ..Interface::default() };
        let own = [
            interface(vec![address("10.1.2.3", 24), address("fd00::1", 64)]),
            interface(vec![address("192.168.0.9", 0)]),
        ];
        for (ip, on) in [
            ("10.1.2.255", true),
            ("10.1.3.1", false),
            ("169.254.9.9", true),
            ("fe80::9", true),
            ("fd00::ffff", true),
            ("fd00:0:0:1::1", false),
            ("::ffff:10.1.2.9", true),
            ("192.168.0.10", false),
            ("203.0.113.1", false),
        ] {
            assert_eq!(is_on_link(ip.parse().unwrap(), &own), on, "{ip}");
        }
        assert!(is_on_link("10.1.2.3".parse().unwrap(), &[interface(vec![address("10.1.2.3", 32)])]));
    }
}
