//! DHCP options 234 (group id) and 235 (connected caches), from whoever holds the lease, else asked for.
//!
//! Order: NetworkManager (D-Bus), the lease files of systemd-networkd and dhclient, then an own DHCPINFORM (RFC 2131
//! §4.4.3), which needs port 68 and takes no lease. Whoever answers first with one of the two is believed for both.
//!
//! DHCP proves nothing: anybody on the link can answer. What it says is text of limited length, chooses among what policy
//! allows and admits nobody. Malformed values are passed over, with the reason.

mod inform;
mod lease_file;
mod network_manager;

use std::net::Ipv4Addr;
use std::path::Path;

use peerage_policy::{CacheHost, DhcpCacheHosts, Interface, SourceSays};

pub use inform::parse_reply;
pub use lease_file::{parse_dhclient, parse_networkd};

/// The option that holds the group id (DO reference §1.3).
pub const GROUP_OPTION: u8 = 234;
/// The option that holds connected caches (DO reference §1.6).
pub const CACHE_HOST_OPTION: u8 = 235;
/// Longest value taken in, in bytes: what one option holds.
const MAX_VALUE: usize = 255;
/// Caches that one option may name: as many as the setting may.
const MAX_HOSTS: usize = 64;
/// Interfaces that are asked.
const MAX_INTERFACES: usize = 8;

/// The two options as they came; `None`: not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// Option 234.
    pub group: Option<Vec<u8>>,
    /// Option 235.
    pub cache_hosts: Option<Vec<u8>>,
}

impl Offered {
    /// Whether neither is there.
    pub const fn is_empty(&self) -> bool {
        self.group.is_none() && self.cache_hosts.is_none()
    }

    /// Takes in one option, if it is one of the two.
    fn take(&mut self, option: u8, value: Vec<u8>) {
        match option {
            GROUP_OPTION => self.group = Some(value),
            CACHE_HOST_OPTION => self.cache_hosts = Some(value),
            _ => {}
        }
    }
}

/// What DHCP says, or why it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DhcpSays {
    offered: Offered,
    /// Why a source, or each of them, gave nothing.
    silent: Vec<String>,
}

impl DhcpSays {
    /// Whether somebody offered one of the two.
    pub const fn answers(&self) -> bool {
        !self.offered.is_empty()
    }

    /// The group, as text.
    pub fn group(&self) -> SourceSays {
        match &self.offered.group {
            Some(value) => text_of(value).map_err(|why| format!("option 234 is malformed: {why}")),
            None => Err(self.why("option 234")),
        }
    }

    /// The connected caches.
    pub fn cache_hosts(&self) -> DhcpCacheHosts {
        DhcpCacheHosts(match &self.offered.cache_hosts {
            Some(value) => hosts_of(value).map_err(|why| format!("option 235 is malformed: {why}")),
            None => Err(self.why("option 235")),
        })
    }

    fn why(&self, option: &str) -> String {
        if !self.offered.is_empty() || self.silent.is_empty() {
            return format!("DHCP gives no {option}");
        }
        format!("DHCP gives no {option} ({})", self.silent.join("; "))
    }
}

/// Text of an option. Windows DHCP servers end it with a NUL (DO reference §1.3).
fn text_of(value: &[u8]) -> Result<String, String> {
    if value.len() > MAX_VALUE {
        return Err(format!("{} bytes, allowed are {MAX_VALUE}", value.len()));
    }
    let text = std::str::from_utf8(value).map_err(|_| "not text".to_owned())?;
    let text = text.trim_end_matches('\0').trim();
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.contains(char::is_control) {
        return Err("not one line of text".to_owned());
    }
    Ok(text.to_owned())
}

/// One or more host names or addresses, separated by commas. One that is none makes the whole value malformed, as in
/// DO.
fn hosts_of(value: &[u8]) -> Result<Vec<CacheHost>, String> {
    let text = text_of(value)?;
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let hosts = names
        .take(MAX_HOSTS)
        .map(|name| name.parse::<CacheHost>().map_err(|error| error.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    if hosts.is_empty() { Err("empty".to_owned()) } else { Ok(hosts) }
}

/// Asks those who hold the device's lease, without sending anything to the network.
pub async fn read_leases(root: &Path, now: u64) -> DhcpSays {
    let mut says = DhcpSays::default();
    match network_manager::offered().await {
        Ok(offered) => says.offered = offered,
        Err(why) => says.silent.push(why),
    }
    if says.offered.is_empty() {
        let root = root.to_owned();
        let found = tokio::task::spawn_blocking(move || lease_file::offered(&root, now)).await;
        match found.map_err(|error| error.to_string()).flatten() {
            Ok(offered) => says.offered = offered,
            Err(why) => says.silent.push(why),
        }
    }
    says
}

/// Adds what the DHCP servers of the link say when asked, if nobody who holds a lease knew.
pub async fn ask_servers(mut says: DhcpSays, interfaces: &[Interface]) -> DhcpSays {
    if !says.offered.is_empty() {
        return says;
    }
    let own = |interface: &Interface| {
        let mut addresses = interface.addresses.iter();
        addresses.find_map(|own| match own.ip {
            std::net::IpAddr::V4(ip) if !ip.is_link_local() && own.prefix < 32 => Some(ip),
            _ => None,
        })
    };
    let asked: Vec<(String, Ipv4Addr)> = interfaces
        .iter()
        .filter(|interface| !interface.loopback)
        .filter_map(|interface| Some((interface.name.clone(), own(interface)?)))
        .take(MAX_INTERFACES)
        .collect();
    if asked.is_empty() {
        says.silent.push("no interface has an IPv4 subnet".to_owned());
    }
    for (name, ip) in asked {
        match inform::ask(&name, ip).await {
            Ok(offered) if !offered.is_empty() => {
                says.offered = offered;
                break;
            }
            Ok(_) => says.silent.push(format!("the server on {name} offers neither")),
            Err(why) => says.silent.push(why),
        }
    }
    says
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn says(group: Option<&[u8]>, hosts: Option<&[u8]>) -> DhcpSays {
        let offered = Offered { group: group.map(<[u8]>::to_vec), cache_hosts: hosts.map(<[u8]>::to_vec) };
        DhcpSays { offered, silent: vec!["nobody".into()] }
    }

    #[test]
    fn a_group_is_one_line_of_text() {
        for (value, group) in [
            (&b"8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11\0"[..], Some("8a1c3a52-6f5e-4d0e-9d0b-0f3f6f1c2d11")),
            (b" Paris ", Some("Paris")),
            (b"", None),
            (b"\0\0", None),
            (b"a\0b", None),
            (b"a\nb", None),
            (b"\xff\xfe", None),
            (&[b'x'; 256], None),
        ] {
            let found = says(Some(value), None).group();
            assert_eq!(found.as_deref().ok(), group, "{found:?}");
            assert!(found.is_ok() || found.unwrap_err().contains("malformed"));
        }
        assert_eq!(says(None, None).group().unwrap_err(), "DHCP gives no option 234 (nobody)");
        assert_eq!(says(None, Some(b"h")).group().unwrap_err(), "DHCP gives no option 234");
    }

    #[test]
    fn caches_are_a_list_of_hosts() {
        let hosts = |value: &[u8]| says(None, Some(value)).cache_hosts().0;
        let found = hosts(b"cache.example, 10.0.0.5:8080\0").unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["cache.example", "10.0.0.5:8080"]
        );
        for bad in [&b""[..], b",", b"cache example", b"http://x", b"\xff", b"ok, b@d"] {
            assert!(hosts(bad).unwrap_err().contains("malformed"), "{bad:?}");
        }
        assert!(says(None, None).cache_hosts().0.is_err());
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let says = says(Some(&value), Some(&value));
            if let Ok(text) = says.group() {
                prop_assert!(!text.is_empty() && text.len() <= MAX_VALUE && !text.contains(char::is_control));
            }
            let _ = says.cache_hosts();
        }
    }
}
