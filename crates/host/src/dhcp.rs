//! DHCP options 234 (group id), 235 (connected caches) and 252 (proxy auto-configuration script), from whoever holds the
//! lease, else asked for.
//!
//! Order: NetworkManager (D-Bus), the lease files of systemd-networkd and dhclient, then an own DHCPINFORM (RFC 2131
//! §4.4.3), which needs port 68 and takes no lease. Whoever answers first with 234 or 235 is believed for both; clients
//! ask for 252 of their own accord and for the others only when told to, so it is a matter of its own.
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
/// The option that holds the URL of a proxy auto-configuration script (WPAD; never standardised, in use since 1999).
pub const SCRIPT_OPTION: u8 = 252;
/// Longest value taken in, in bytes: what one option holds.
const MAX_VALUE: usize = 255;
/// Caches that one option may name: as many as the setting may.
const MAX_HOSTS: usize = 64;
/// Interfaces that are asked.
const MAX_INTERFACES: usize = 8;

/// The options as they came; `None`: not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// Option 234.
    pub group: Option<Vec<u8>>,
    /// Option 235.
    pub cache_hosts: Option<Vec<u8>>,
    /// Option 252.
    pub script: Option<Vec<u8>>,
}

/// What is wanted of DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Options 234 and 235.
    pub names: bool,
    /// Option 252.
    pub script: bool,
}

impl Wanted {
    /// Whether anything is.
    pub const fn any(self) -> bool {
        self.names || self.script
    }
}

impl Offered {
    /// Whether none is there.
    pub const fn is_empty(&self) -> bool {
        !self.has_names() && self.script.is_none()
    }

    const fn has_names(&self) -> bool {
        self.group.is_some() || self.cache_hosts.is_some()
    }

    /// What is wanted and not there.
    const fn lacks(&self, wanted: Wanted) -> Wanted {
        Wanted { names: wanted.names && !self.has_names(), script: wanted.script && self.script.is_none() }
    }

    /// Takes in one option, if it is one of these.
    fn take(&mut self, option: u8, value: Vec<u8>) {
        match option {
            GROUP_OPTION => self.group = Some(value),
            CACHE_HOST_OPTION => self.cache_hosts = Some(value),
            SCRIPT_OPTION => self.script = Some(value),
            _ => {}
        }
    }

    /// Adds what somebody else offers where nothing is yet.
    fn fill(&mut self, other: Self) {
        if !self.has_names() {
            (self.group, self.cache_hosts) = (other.group, other.cache_hosts);
        }
        self.script = self.script.take().or(other.script);
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
    /// Whether something is wanted that nobody has offered.
    pub const fn lacks(&self, wanted: Wanted) -> bool {
        self.offered.lacks(wanted).any()
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

    /// The URL of a proxy auto-configuration script, as text that begins as one of HTTP.
    pub fn script(&self) -> SourceSays {
        let Some(value) = &self.offered.script else { return Err(self.why("option 252")) };
        let url = text_of(value).map_err(|why| format!("option 252 is malformed: {why}"))?;
        let http = ["http://", "https://"]
            .iter()
            .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        if http { Ok(url) } else { Err("option 252 is malformed: not a URL of http or https".to_owned()) }
    }

    fn why(&self, option: &str) -> String {
        if self.offered.has_names() || self.silent.is_empty() {
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
    let text = std::str::from_utf8(value).map_err(|_| format!("not text but {}", bytes_of(value)))?;
    let text = text.trim_end_matches('\0').trim();
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.contains(char::is_control) {
        return Err(format!("not one line of text but {}", bytes_of(value)));
    }
    Ok(text.to_owned())
}

/// What a server has sent instead of text. Four bytes for each are what dnsmasq makes of addresses without quotes.
fn bytes_of(value: &[u8]) -> String {
    const SHOWN: usize = 16;
    let shown: Vec<String> = value.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = if value.len() > SHOWN { " …" } else { "" };
    let (addresses, rest) = value.as_chunks::<4>();
    let named: Vec<String> = addresses.iter().map(|address| Ipv4Addr::from(*address).to_string()).collect();
    let address = match (named.as_slice(), rest) {
        ([one], []) => format!(" (the address {one} as number; it must be sent as text)"),
        ([_, .., _], []) if named.len() <= SHOWN / 4 => {
            format!(" (perhaps the addresses {} as numbers; they must be sent as text)", named.join(", "))
        }
        _ => String::new(),
    };
    format!("the bytes {}{more}{address}", shown.join(" "))
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
    let all = Wanted { names: true, script: true };
    let mut says = DhcpSays::default();
    match network_manager::offered().await {
        Ok(offered) => says.offered = offered,
        Err(why) => says.silent.push(why),
    }
    if says.lacks(all) {
        let root = root.to_owned();
        let found = tokio::task::spawn_blocking(move || lease_file::offered(&root, now)).await;
        match found.map_err(|error| error.to_string()).flatten() {
            Ok(offered) => says.offered.fill(offered),
            Err(why) => says.silent.push(why),
        }
    }
    says
}

/// Adds what the DHCP servers of the link say when asked, if nobody who holds a lease knew what is wanted.
pub async fn ask_servers(mut says: DhcpSays, interfaces: &[Interface], wanted: Wanted) -> DhcpSays {
    if !says.lacks(wanted) {
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
        let lacking = says.offered.lacks(wanted);
        match inform::ask(&name, ip).await {
            Ok(offered) => {
                says.offered.fill(offered);
                if says.offered.lacks(wanted) == lacking {
                    says.silent.push(format!("the server on {name} offers nothing of it"));
                }
            }
            Err(why) => says.silent.push(why),
        }
        if !says.lacks(wanted) {
            break;
        }
    }
    says
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn says(group: Option<&[u8]>, hosts: Option<&[u8]>) -> DhcpSays {
        let offered = Offered {
            group: group.map(<[u8]>::to_vec),
            cache_hosts: hosts.map(<[u8]>::to_vec),
            ..Offered::default()
        };
        DhcpSays { offered, silent: vec!["nobody".into()] }
    }

    #[test]
    fn what_is_no_text_is_shown() {
        let why = |value: &[u8]| says(None, Some(value)).cache_hosts().0.unwrap_err();
        assert!(why(&[10, 61, 0, 1]).ends_with(
            "not one line of text but the bytes 0a 3d 00 01 (the address 10.61.0.1 as number; it must be sent as text)"
        ));
        assert!(
            why(&[10, 1, 0, 5, 10, 1, 0, 6]).ends_with(
                "(perhaps the addresses 10.1.0.5, 10.1.0.6 as numbers; they must be sent as text)"
            )
        );
        assert!(
            why(&[0xff; 99])
                .ends_with("not text but the bytes ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff …")
        );
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

    #[test]
    fn a_script_is_a_url_of_http() {
        let script = |value: &[u8]| {
            let offered = Offered { script: Some(value.to_vec()), ..Offered::default() };
            DhcpSays { offered, silent: Vec::new() }.script()
        };
        assert_eq!(script(b"http://wpad.example/wpad.dat\0").unwrap(), "http://wpad.example/wpad.dat");
        assert_eq!(script(b"HTTPS://p/x\n").unwrap(), "HTTPS://p/x");
        // What administrators give to switch it off, and what nobody should be made to read.
        for bad in [&b"\n"[..], b"", b"file:///etc/passwd", b"ftp://p/x", b"wpad.example", b"\xff"] {
            assert!(script(bad).unwrap_err().contains("malformed"), "{bad:?}");
        }
        assert!(says(Some(b"g"), None).script().unwrap_err().contains("no option 252"));
    }

    #[test]
    fn a_lease_with_a_script_alone_does_not_answer_for_the_names() {
        let mut offered = Offered { script: Some(b"s".to_vec()), ..Offered::default() };
        let (names, script) = (Wanted { names: true, script: false }, Wanted { names: false, script: true });
        assert!(offered.lacks(names).any() && !offered.lacks(script).any());
        let other = Offered { group: Some(b"g".to_vec()), cache_hosts: None, script: Some(b"t".to_vec()) };
        offered.fill(other);
        assert_eq!((offered.group.as_deref(), offered.script.as_deref()), (Some(&b"g"[..]), Some(&b"s"[..])));
        offered.fill(Offered { cache_hosts: Some(b"c".to_vec()), ..Offered::default() });
        assert_eq!(offered.cache_hosts, None, "who named the group is believed for both");
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let says = says(Some(&value), Some(&value));
            if let Ok(text) = says.group() {
                prop_assert!(!text.is_empty() && text.len() <= MAX_VALUE && !text.contains(char::is_control));
            }
            let _ = says.cache_hosts();
            let offered = Offered { script: Some(value), ..Offered::default() };
            if let Ok(url) = (DhcpSays { offered, silent: Vec::new() }).script() {
                prop_assert!(url.len() <= MAX_VALUE && url.to_ascii_lowercase().starts_with("http"));
            }
        }
    }
}
