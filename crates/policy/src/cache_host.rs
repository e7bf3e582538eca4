//! The address of a connected cache as settings name it: FQDN or IP, and perhaps a port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest name of DNS (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// The text is not a cache host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a host name or IP address with an optional :port, found {found:?}")]
pub struct CacheHostError {
    /// What was found, shortened to 80 characters.
    pub found: String,
}

/// A connected cache's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheHost {
    host: String,
    port: Option<u16>,
}

impl CacheHost {
    /// The name or address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one was given.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for CacheHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

impl FromStr for CacheHost {
    type Err = CacheHostError;

    fn from_str(text: &str) -> Result<Self, CacheHostError> {
        read(text.trim()).ok_or_else(|| CacheHostError { found: text.chars().take(80).collect() })
    }
}

fn read(text: &str) -> Option<CacheHost> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(CacheHost { host: address.to_string(), port: None });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let host = address.parse::<Ipv6Addr>().ok()?.to_string();
        let port = if rest.is_empty() { None } else { Some(read_port(rest.strip_prefix(':')?)?) };
        return Some(CacheHost { host, port });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(read_port(port)?)),
        None => (text, None),
    };
    // An underscore is no host name's letter (RFC 952), but names inside companies have them.
    let label_ok = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let absolute = host.strip_suffix('.').unwrap_or(host);
    let name_ok = host.len() <= MAX_NAME && absolute.split('.').all(label_ok);
    name_ok.then(|| CacheHost { host: host.to_ascii_lowercase(), port })
}

fn read_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_addresses_and_ports() {
        for (text, host, port) in [
            ("cache.Example", "cache.example", None),
            (" cache_1:8080 ", "cache_1", Some(8080)),
            ("10.0.0.2:80", "10.0.0.2", Some(80)),
            ("fd00::2", "fd00::2", None),
            ("[fd00:0::2]:80", "fd00::2", Some(80)),
            ("cache.example.", "cache.example.", None),
        ] {
            let read: CacheHost = text.parse().unwrap();
            assert_eq!((read.host(), read.port()), (host, port), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "http://cache",
            "a b",
            "a:0",
            "a:65536",
            "a:+80",
            "[::1",
            "[a]:80",
            "a..b",
            ".",
            "a/b",
            "a@b",
            &long,
        ] {
            assert!(bad.parse::<CacheHost>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}|[\\[a-f0-9:.\\]]{0,30}") {
            if let Ok(host) = text.parse::<CacheHost>() {
                prop_assert_eq!(host.to_string().parse::<CacheHost>().unwrap(), host);
            }
        }
    }
}
