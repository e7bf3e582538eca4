//! What the coordinator is told: one flat TOML file, each key also a flag (product §4).
//!
//! Unknown keys are refused. [`Config::check`] finds every value that cannot hold before anything is bound or written.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use peerage_content::MAX_CONTENT_SIZE;
use peerage_origin::{Guard, HostRule};
use peerage_policy::units::{UnitError, parse_rate, parse_size};
use peerage_swarm::matching::Sites;
use serde::{Deserialize, Deserializer};

/// The configuration. `Default` is a coordinator for the public Internet on all addresses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where keys, tokens, catalog and piece maps are kept. Made if missing; for this daemon's user alone.
    pub data_dir: PathBuf,
    /// Address and port of the API; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Certificate chain (PEM) of your own; with `tls_key`. Without: a self-signed one, pinned by the tokens.
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Reverse proxies whose word on the client's address is taken.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they give it.
    pub proxy_header: String,
    /// Named sites and their networks, for a coordinator that sees private addresses (product §2).
    #[serde(deserialize_with = "sites")]
    pub sites: BTreeMap<String, Vec<IpNet>>,
    /// How many bits of a public IPv6 address name a site.
    pub ipv6_site_prefix: u8,
    /// Hosts and networks that may be ingested from though they are not public: host, host:port, *.domain, CIDR.
    pub ingest_allow: Vec<String>,
    /// Hosts and networks that may not be ingested from.
    pub ingest_deny: Vec<String>,
    /// Whether only hosts in `ingest_allow` may be ingested from.
    pub ingest_only_listed: bool,
    /// Largest file ingested, in bytes or as text (`64GiB`).
    #[serde(deserialize_with = "size")]
    pub ingest_max_size: u64,
    /// Longest fetch of one file, in seconds.
    pub ingest_max_time: u64,
    /// Files fetched at the same time; for administrators there is one place more.
    pub ingest_concurrency: usize,
    /// An HTTP proxy to fetch through.
    pub ingest_proxy: Option<String>,
    /// PEM files of certificates that origins may use beside the system's.
    pub ingest_ca: Vec<PathBuf>,
    /// Whether an enrolled device may have an unknown URL ingested.
    pub on_demand: bool,
    /// Seconds that a new record is valid.
    pub record_valid_s: u64,
    /// Seconds between two announces of a device.
    pub announce_interval_s: u64,
    /// Connections held at once.
    pub max_connections: usize,
    /// Whether devices of different sites that cannot reach each other may meet through this coordinator.
    pub relay: bool,
    /// What is passed on for them at most, all together and both directions, in bytes a second or as text (`20mbit`).
    #[serde(deserialize_with = "rate")]
    pub relay_rate: u64,
    /// Connections between two devices that are carried at once.
    pub relay_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        let guard = Guard::default();
        Self {
            data_dir: "/var/lib/peerage/coordinator".into(),
            listen: SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 7690),
            tls_cert: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            proxy_header: "X-Forwarded-For".to_owned(),
            sites: BTreeMap::new(),
            ipv6_site_prefix: 64,
            ingest_allow: Vec::new(),
            ingest_deny: Vec::new(),
            ingest_only_listed: guard.only_listed,
            ingest_max_size: guard.max_size,
            ingest_max_time: guard.max_time.as_secs(),
            ingest_concurrency: 4,
            ingest_proxy: None,
            ingest_ca: Vec::new(),
            on_demand: true,
            record_valid_s: 30 * 86_400,
            announce_interval_s: 60,
            max_connections: 20_000,
            relay: false,
            relay_rate: 2_500_000,
            relay_connections: 16,
        }
    }
}

/// A configuration that cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// A value that is not allowed.
    #[error("{key} is {found}, allowed is {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
}

/// The configuration in the form that the parts use.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) sites: Sites,
    pub(crate) guard: Guard,
    pub(crate) proxy_header: HeaderName,
}

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// [`ConfigError::Toml`], with line and column.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Toml(error.to_string()))
    }

    /// Checks every value; [`Config::build`] does it too.
    ///
    /// # Errors
    /// The first [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        self.checked().map(drop)
    }

    pub(crate) fn checked(&self) -> Result<Checked, ConfigError> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(value("tls_cert", "given without the other", "tls_cert and tls_key together"));
        }
        range("ingest_max_size", self.ingest_max_size, 1, MAX_CONTENT_SIZE)?;
        range("ingest_max_time", self.ingest_max_time, 1, 7 * 86_400)?;
        range("ingest_concurrency", self.ingest_concurrency as u64, 1, 256)?;
        range("record_valid_s", self.record_valid_s, 60, 10 * 366 * 86_400)?;
        range("announce_interval_s", self.announce_interval_s, 5, 3600)?;
        range("max_connections", self.max_connections as u64, 1, 10_000_000)?;
        range("relay_rate", self.relay_rate, 10_000, 100_000_000_000)?;
        range("relay_connections", self.relay_connections as u64, 1, 10_000)?;
        // Each takes two, and the fleet must still get at its policy.
        if self.relay && self.relay_connections.saturating_mul(4) > self.max_connections {
            let allowed = format!("a quarter of max_connections, which is {}", self.max_connections);
            return Err(value("relay_connections", self.relay_connections.to_string(), allowed));
        }
        let named = self.sites.iter().map(|(name, nets)| (name.clone(), nets.clone()));
        let sites = Sites::new(named, self.ipv6_site_prefix).map_err(|error| {
            value("sites", error.to_string(), "networks of one site each, ipv6_site_prefix 16 to 64")
        })?;
        let guard = Guard {
            allow: rules("ingest_allow", &self.ingest_allow)?,
            deny: rules("ingest_deny", &self.ingest_deny)?,
            only_listed: self.ingest_only_listed,
            max_size: self.ingest_max_size,
            max_time: Duration::from_secs(self.ingest_max_time),
        };
        let proxy_header = self
            .proxy_header
            .parse()
            .map_err(|_| value("proxy_header", format!("{:?}", self.proxy_header), "a header name"))?;
        Ok(Checked { sites, guard, proxy_header })
    }
}

fn value(key: &'static str, found: impl Into<String>, allowed: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, found: found.into(), allowed: allowed.into() }
}

fn range(key: &'static str, found: u64, from: u64, to: u64) -> Result<(), ConfigError> {
    if (from..=to).contains(&found) {
        Ok(())
    } else {
        Err(value(key, found.to_string(), format!("{from} to {to}")))
    }
}

fn rules(key: &'static str, lines: &[String]) -> Result<Vec<HostRule>, ConfigError> {
    lines
        .iter()
        .map(|line| line.parse().map_err(|error| value(key, format!("{line:?}"), format!("{error}"))))
        .collect()
}

/// A network, or a single address as the network of only itself.
fn network<E: serde::de::Error>(text: &str) -> Result<IpNet, E> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| single()).map_err(|_| E::custom(format!("{text:?} is not an address or CIDR")))
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| network(text)).collect()
}

fn sites<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<IpNet>>, D::Error> {
    BTreeMap::<String, Vec<String>>::deserialize(deserializer)?
        .into_iter()
        .map(|(name, nets)| {
            let nets = nets.iter().map(|text| network::<D::Error>(text)).collect::<Result<_, _>>();
            let nets = nets.map_err(|error: D::Error| {
                serde::de::Error::custom(format!(
                    "site {name:?}: {error} (a key that is no site stands above [sites])"
                ))
            })?;
            Ok((name, nets))
        })
        .collect()
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer
        .deserialize_any(Amount { expected: "a size in bytes, or as text like \"64GiB\"", parse: parse_size })
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Amount {
        expected: "a rate in bytes a second, or as text like \"20mbit\"",
        parse: parse_rate,
    })
}

/// A number, or text with a unit.
struct Amount {
    expected: &'static str,
    parse: fn(&str) -> Result<u64, UnitError>,
}

impl serde::de::Visitor<'_> for Amount {
    type Value = u64;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expected)
    }
    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }
    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::custom("it cannot be negative"))
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_book_shows() {
        let config = Config::from_toml(
            r#"
            data_dir = "/srv/peerage"
            listen = "127.0.0.1:0"
            trusted_proxies = ["10.0.0.1", "10.1.0.0/24"]
            ingest_allow = ["*.corp.example", "10.2.0.0/16", "mirror.example:8080"]
            ingest_max_size = "10GiB"
            on_demand = false
            relay = true
            relay_rate = "40mbit"
            [sites]
            paris = ["10.1.0.0/16", "fd00:1::/32"]
            "#,
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!((config.ingest_max_size, config.on_demand), (10 << 30, false));
        assert_eq!(config.trusted_proxies[0], "10.0.0.1/32".parse().unwrap());
        assert_eq!(config.record_valid_s, 30 * 86_400);
        assert_eq!((config.relay, config.relay_rate, config.relay_connections), (true, 5_000_000, 16));
        assert!(!Config::default().relay, "off unless somebody wants it");
        assert_eq!(Config::from_toml("ingest_max_size = 5").unwrap().ingest_max_size, 5);
        Config::default().check().unwrap();
    }

    #[test]
    fn a_key_below_the_sites_is_named() {
        let text = "[sites]\nparis = [\"10.1.0.0/16\"]\ningest_allow = [\"mirror.example\"]";
        let error = Config::from_toml(text).unwrap_err().to_string();
        assert!(
            error.contains("site \"ingest_allow\": \"mirror.example\"") && error.contains("above [sites]"),
            "{error}"
        );
    }

    #[test]
    fn refuses_with_the_key_and_what_is_allowed() {
        for bad in [
            "listn = 1",
            "listen = 1",
            "trusted_proxies = [\"x\"]",
            "ingest_max_size = -1",
            "relay_rate = \"4\"",
            "x",
        ] {
            assert!(matches!(Config::from_toml(bad), Err(ConfigError::Toml(_))), "{bad}");
        }
        for (bad, key) in [
            ("tls_cert = \"/a\"", "tls_cert"),
            ("announce_interval_s = 1", "announce_interval_s"),
            ("ingest_allow = [\"a b\"]", "ingest_allow"),
            ("ingest_max_size = \"2TiB\"", "ingest_max_size"),
            ("ipv6_site_prefix = 128", "sites"),
            ("proxy_header = \"a b\"", "proxy_header"),
            ("ingest_concurrency = 0", "ingest_concurrency"),
            ("relay_rate = 10", "relay_rate"),
            ("relay_connections = 0", "relay_connections"),
            ("relay = true\nmax_connections = 63", "relay_connections"),
        ] {
            let error = Config::from_toml(bad).unwrap().check().unwrap_err();
            assert!(matches!(&error, ConfigError::Value { key: found, .. } if *found == key), "{error}");
        }
    }
}
