//! The guard of on-demand fetches: what the coordinator may fetch because a device asked for it.
//!
//! A device could name a URL that only the coordinator reaches: its own admin port, a cloud's metadata service, a
//! neighbour behind the firewall. So, for every hop of a fetch (architecture §3):
//!
//! 1. the URL is `http` or `https` without credentials, and its host is not denied;
//! 2. the name is resolved **once**, each address is judged, and the connection goes only to addresses that passed:
//!    there is no second look-up that could answer differently (DNS rebinding);
//! 3. a redirect starts again at 1, and may not leave TLS;
//! 4. the size is capped by what is announced and by what is received, the time by the clock.
//!
//! With an explicit proxy the proxy resolves names, so point 2 holds for literal addresses only.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use url::Host;

use crate::address::special;
use crate::{Failure, HostRule, Resolver, SourceUrl};

/// Addresses of one name that are tried at most.
const MAX_ADDRESSES: usize = 16;

/// What may be fetched on demand. `deny` wins over `allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Hosts and networks that may be fetched from even though they are not public (`ingest_allow`).
    pub allow: Vec<HostRule>,
    /// Hosts and networks that may not be fetched from (`ingest_deny`).
    pub deny: Vec<HostRule>,
    /// Whether public hosts that `allow` does not name are refused too (`ingest_only_listed`).
    pub only_listed: bool,
    /// Largest file, in bytes (`ingest_max_size`).
    pub max_size: u64,
    /// Longest fetch, redirects included (`ingest_max_time`).
    pub max_time: Duration,
}

impl Default for Guard {
    /// The public Internet; 64 GiB and 6 hours a file.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            only_listed: false,
            max_size: 64 << 30,
            max_time: Duration::from_secs(6 * 3600),
        }
    }
}

/// What the guard refused, and which setting would let it pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A URL with credentials is private.
    #[error("the url carries credentials; such a url is never ingested")]
    Credentials,
    /// On the deny list.
    #[error("{host} is on the list ingest_deny, as {rule}")]
    Denied {
        /// Host or address.
        host: String,
        /// The line that matched.
        rule: String,
    },
    /// Not on the allow list, while only listed hosts may be fetched from.
    #[error("{host} is not listed in ingest_allow, and ingest_only_listed is set")]
    Unlisted {
        /// Host or address.
        host: String,
    },
    /// Not an address of the public Internet.
    #[error("{host} is at {address}, a {class} address; only a line in ingest_allow would allow it")]
    Address {
        /// The host in the URL.
        host: String,
        /// The address it has.
        address: IpAddr,
        /// What kind of address that is.
        class: &'static str,
    },
    /// A redirect from `https` to `http`.
    #[error("redirected from https to http at {host}; no setting allows this")]
    Downgrade {
        /// The host redirected to.
        host: String,
    },
    /// Too large.
    #[error("the file has {found} bytes or more, ingest_max_size allows {max}")]
    Size {
        /// Bytes announced or received.
        found: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// Too slow.
    #[error("the fetch took longer than {max:?}, which ingest_max_time allows")]
    Time {
        /// Time allowed.
        max: Duration,
    },
}

impl Refusal {
    /// The setting that would have to change, if one would help.
    pub const fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Credentials | Self::Downgrade { .. } => None,
            Self::Denied { .. } => Some("ingest_deny"),
            Self::Unlisted { .. } | Self::Address { .. } => Some("ingest_allow"),
            Self::Size { .. } => Some("ingest_max_size"),
            Self::Time { .. } => Some("ingest_max_time"),
        }
    }
}

impl Guard {
    /// Whether a URL may be fetched, as far as its text tells: everything but the addresses of a name.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_url(&self, url: &SourceUrl) -> Result<(), Refusal> {
        if url.has_credentials() {
            return Err(Refusal::Credentials);
        }
        let (host, port) = (url.host(), url.port());
        if let Some(rule) = self.deny.iter().find(|rule| rule.matches_host(&host, port)) {
            return Err(Refusal::Denied { host: host.to_string(), rule: rule.to_string() });
        }
        match host {
            Host::Ipv4(ip) => self.check_address(url, IpAddr::V4(ip)),
            Host::Ipv6(ip) => self.check_address(url, IpAddr::V6(ip)),
            Host::Domain(_) => Ok(()),
        }
    }

    /// Whether `ip`, an address of this URL's host, may be connected to.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_address(&self, url: &SourceUrl, ip: IpAddr) -> Result<(), Refusal> {
        let (host, port) = (url.host(), url.port());
        if let Some(rule) = self.deny.iter().find(|rule| rule.matches_address(ip, port)) {
            return Err(Refusal::Denied { host: ip.to_string(), rule: rule.to_string() });
        }
        if self.allow.iter().any(|rule| rule.matches_host(&host, port) || rule.matches_address(ip, port)) {
            return Ok(());
        }
        if let Some(class) = special(ip) {
            return Err(Refusal::Address { host: host.to_string(), address: ip, class });
        }
        if self.only_listed {
            return Err(Refusal::Unlisted { host: host.to_string() });
        }
        Ok(())
    }

    /// Whether a URL may be asked of a proxy, which resolves its name itself.
    pub(crate) fn check_by_name(&self, url: &SourceUrl) -> Result<(), Refusal> {
        self.check_url(url)?;
        let (host, port) = (url.host(), url.port());
        let listed = self.allow.iter().any(|rule| rule.matches_host(&host, port));
        match host {
            Host::Domain(name) if self.only_listed && !listed => {
                Err(Refusal::Unlisted { host: name.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// The addresses that may be connected to for `url`: never empty.
    pub(crate) async fn admit(
        &self,
        url: &SourceUrl,
        resolver: &dyn Resolver,
    ) -> Result<Vec<IpAddr>, Failure> {
        self.check_url(url)?;
        let name = match url.host() {
            Host::Ipv4(ip) => return Ok(vec![IpAddr::V4(ip)]),
            Host::Ipv6(ip) => return Ok(vec![IpAddr::V6(ip)]),
            // With the dot that makes a name absolute, if it has one: else a resolver may try it in other domains too.
            Host::Domain(name) => url.as_url().host_str().unwrap_or(name).to_owned(),
        };
        let dns = |error: io::Error| Failure::Dns { host: name.clone(), cause: error.to_string() };
        let mut passed = Vec::new();
        let mut refusal = None;
        for ip in resolver.lookup(&name).await.map_err(dns)?.into_iter().take(MAX_ADDRESSES) {
            match self.check_address(url, ip) {
                Ok(()) => passed.push(ip),
                Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        match refusal {
            _ if !passed.is_empty() => Ok(passed),
            Some(why) => Err(why.into()),
            None => Err(Failure::Dns { host: name, cause: "the name has no addresses".to_owned() }),
        }
    }

    /// Whether a redirect may be followed, beside what [`Self::check_url`] says of its target.
    pub(crate) fn check_redirect(&self, from: &SourceUrl, to: &SourceUrl) -> Result<(), Refusal> {
        if from.is_https() && !to.is_https() {
            return Err(Refusal::Downgrade { host: to.host().to_string() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SourceUrl {
        SourceUrl::parse(text).unwrap()
    }

    fn rules(list: &[&str]) -> Vec<HostRule> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn literal_addresses_in_every_form_are_refused() {
        let guard = Guard::default();
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.01/",
            "http://127.1:7690/",
            "http://0/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "http://100.64.0.1/",
            "http://192.168.1.1/",
            "http://224.0.0.1/",
        ] {
            let refusal = guard.check_url(&url(text)).unwrap_err();
            assert!(matches!(refusal, Refusal::Address { .. }), "{text}: {refusal}");
            assert_eq!(refusal.setting(), Some("ingest_allow"));
        }
        assert_eq!(guard.check_url(&url("http://1.1.1.1/")), Ok(()));
    }

    #[test]
    fn credentials_are_refused_even_where_the_host_is_listed() {
        let guard = Guard { allow: rules(&["h.example"]), ..Guard::default() };
        assert_eq!(guard.check_url(&url("https://u:p@h.example/")), Err(Refusal::Credentials));
        assert_eq!(guard.check_url(&url("https://u@h.example/")), Err(Refusal::Credentials));
    }

    #[test]
    fn deny_wins_over_allow() {
        let guard = Guard {
            allow: rules(&["10.0.0.0/8", "bad.example"]),
            deny: rules(&["10.6.0.0/16", "bad.example"]),
            ..Guard::default()
        };
        assert_eq!(guard.check_url(&url("http://10.5.0.1/")), Ok(()));
        assert!(matches!(guard.check_url(&url("http://10.6.0.1/")), Err(Refusal::Denied { .. })));
        assert!(matches!(guard.check_url(&url("http://[::ffff:10.6.0.1]/")), Err(Refusal::Denied { .. })));
        assert!(matches!(guard.check_url(&url("http://BAD.example./")), Err(Refusal::Denied { .. })));
        // A name that leads to a denied address.
        let named = guard.check_address(&url("http://good.example/"), [10, 6, 0, 9].into());
        assert!(matches!(named, Err(Refusal::Denied { .. })));
    }

    #[test]
    fn only_listed_hosts() {
        let guard =
            Guard { allow: rules(&["*.example:443", "1.1.0.0/16"]), only_listed: true, ..Guard::default() };
        let at = |text, ip: [u8; 4]| guard.check_address(&url(text), ip.into());
        assert_eq!(at("https://a.example/", [9, 9, 9, 9]), Ok(()));
        assert!(matches!(at("http://a.example/", [9, 9, 9, 9]), Err(Refusal::Unlisted { .. })));
        assert_eq!(at("http://other.test/", [1, 1, 2, 2]), Ok(()));
        assert!(matches!(guard.check_by_name(&url("http://other.test/")), Err(Refusal::Unlisted { .. })));
        assert_eq!(guard.check_by_name(&url("https://a.example/")), Ok(()));
    }
}
