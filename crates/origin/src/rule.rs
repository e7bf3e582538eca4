//! One line of an allow or deny list: `host[:port]`, `*.domain[:port]`, an address, or a CIDR.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use url::Host;

use crate::address::embedded;

/// The text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {found:?}: {why}; allowed are host, host:port, *.domain, address, [IPv6]:port, or a CIDR")]
pub struct HostRuleError {
    /// The text.
    pub found: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Which hosts a line of a list means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    target: Target,
    /// `None`: any port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Name(String),
    /// Every name below this one, not the name itself.
    Below(String),
    Net(IpNet),
}

impl HostRule {
    /// Whether a URL's host (as its text says) is meant.
    pub fn matches_host(&self, host: &Host<&str>, port: u16) -> bool {
        match host {
            Host::Ipv4(ip) => self.matches_address(IpAddr::V4(*ip), port),
            Host::Ipv6(ip) => self.matches_address(IpAddr::V6(*ip), port),
            Host::Domain(name) => self.fits_port(port) && self.matches_name(name),
        }
    }

    /// Whether an address is meant, plainly or as the IPv4 address that it embeds.
    pub fn matches_address(&self, ip: IpAddr, port: u16) -> bool {
        let Target::Net(net) = &self.target else { return false };
        self.fits_port(port)
            && (net.contains(&ip) || embedded(ip).is_some_and(|inner| net.contains(&IpAddr::V4(inner))))
    }

    fn fits_port(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }

    fn matches_name(&self, name: &str) -> bool {
        match &self.target {
            Target::Name(own) => own == name,
            Target::Below(own) => {
                name.strip_suffix(own.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Target::Net(_) => false,
        }
    }
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why| HostRuleError { found: text.to_owned(), why };
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self { target: Target::Net(net), port: None });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { target: Target::Net(ip.into()), port: None });
        }
        // The colons of an IPv6 address stand in brackets, so the last colon outside of them starts the port.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| error("bad port"))?;
                (host, Some(port))
            }
            _ => (text, None),
        };
        let (below, host) = match host.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, host),
        };
        // The same normalisation as URLs get: lower case, punycode, odd forms of IPv4.
        let target = match Host::parse(host).map_err(|_| error("bad host"))? {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
                if name.is_empty() || name.contains('*') {
                    return Err(error("bad host"));
                }
                if below { Target::Below(name) } else { Target::Name(name) }
            }
            _ if below => return Err(error("a wildcard stands before a name")),
            Host::Ipv4(ip) => Target::Net(IpAddr::V4(ip).into()),
            Host::Ipv6(ip) => Target::Net(IpAddr::V6(ip).into()),
        };
        Ok(Self { target, port })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        match &self.target {
            Target::Name(name) => f.write_str(name)?,
            Target::Below(name) => write!(f, "*.{name}")?,
            Target::Net(IpNet::V6(net)) if self.port.is_some() => write!(f, "[{}]", net.addr())?,
            Target::Net(net) if single(net) => write!(f, "{}", net.addr())?,
            Target::Net(net) => write!(f, "{net}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> HostRule {
        text.parse().unwrap()
    }

    #[test]
    fn names_match_whole_labels() {
        let host = |rule: &HostRule, name: &str, port| rule.matches_host(&Host::Domain(name), port);
        let plain = rule("Mirror.Example.");
        assert!(host(&plain, "mirror.example", 80) && host(&plain, "mirror.example", 8080));
        assert!(!host(&plain, "a.mirror.example", 80) && !host(&plain, "xmirror.example", 80));
        let below = rule("*.example:8080");
        assert!(host(&below, "a.example", 8080) && host(&below, "a.b.example", 8080));
        assert!(!host(&below, "a.example", 80) && !host(&below, "example", 8080));
        assert!(!host(&below, "badexample", 8080) && !host(&below, ".example", 8080));
    }

    #[test]
    fn addresses_match_in_every_disguise() {
        let net = rule("10.0.0.0/8");
        for ip in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::"] {
            assert!(net.matches_address(ip.parse().unwrap(), 80), "{ip}");
        }
        assert!(!net.matches_address("11.0.0.0".parse().unwrap(), 80));
        assert!(rule("[::1]:8080").matches_address("::1".parse().unwrap(), 8080));
        assert!(!rule("[::1]:8080").matches_address("::1".parse().unwrap(), 80));
        assert!(rule("0x7f.1:80").matches_host(&Host::Ipv4([127, 0, 0, 1].into()), 80));
        assert!(!rule("10.0.0.0/8").matches_host(&Host::Domain("10.example"), 80));
    }

    #[test]
    fn refuses_what_means_nothing() {
        for bad in
            ["", "*", "*.", "a b", "h:0", "h:99999", "h:x", "a.*.b", "*.10.0.0.1", "10.0.0.0/33", "[::1"]
        {
            assert!(bad.parse::<HostRule>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(
            text in "(\\*\\.)?[a-z]{1,8}(\\.[a-z]{2,5})?(:[1-9][0-9]{0,3})?|10\\.[0-9]\\.0\\.0/16|\\[fd00::[1-9]\\]:80|::1"
        ) {
            let rule = rule(&text);
            prop_assert_eq!(&rule.to_string().parse::<HostRule>().unwrap(), &rule);
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,40}") {
            let _ = text.parse::<HostRule>();
        }
    }
}
