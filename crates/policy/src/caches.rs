//! Connected caches: which hosts are asked before the origin, who named them, and which contents they may serve.
//!
//! A cache is somebody between the device and the origin. What DHCP names may only serve what a record verifies, or what
//! comes in clear text anyway (architecture §3: anybody on the link can answer for a DHCP server).

use std::net::IpAddr;

use crate::choice::CacheHostSource;
use crate::decision::{Case, Class, Decision, RecordState};
use crate::reason::{Code, Reason};
use crate::table::{Key, Settings};
use crate::{CacheHost, DhcpCacheHosts};

/// What the URL of a content means to whoever stands between the device and its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OriginUrl {
    /// `http`, or no URL is known.
    #[default]
    Clear,
    /// `https`.
    Secure,
    /// It carries a password or a signature, or speaks to a cache itself: nobody else is told of it.
    Private,
}

/// Who named the caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheFrom {
    /// The setting `cache_host`.
    Setting,
    /// DHCP option 235.
    Dhcp,
}

impl CacheFrom {
    /// Its name, as `peerage config` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setting => "cache_host",
            Self::Dhcp => "dhcp_option",
        }
    }

    const fn key(self) -> Key {
        match self {
            Self::Setting => Key::CacheHost,
            Self::Dhcp => Key::CacheHostSource,
        }
    }
}

/// The caches of a device (DO reference §1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheChoice {
    /// In the order in which they are tried, each once.
    pub hosts: Vec<CacheHost>,
    /// Who named them; `None`: nobody was asked, or nobody named any.
    pub from: Option<CacheFrom>,
    /// Why DHCP named none, where it was asked.
    pub failed: Option<String>,
}

impl CacheChoice {
    /// What settings and DHCP together say. A `cache_host` that is set to nothing counts as set.
    pub fn of(settings: &Settings, dhcp: &DhcpCacheHosts) -> Self {
        let own = settings.cache_host.as_deref();
        let named = |hosts: Vec<CacheHost>, failed| {
            let from = (!hosts.is_empty()).then_some(CacheFrom::Setting);
            Self { hosts, from, failed }
        };
        match (settings.cache_host_source, own) {
            (None | Some(CacheHostSource::DnsSdOff), _) | (Some(CacheHostSource::DhcpOption), Some(_)) => {
                named(once(own.unwrap_or_default()), None)
            }
            (Some(CacheHostSource::DhcpOption | CacheHostSource::DhcpOptionForce), _) => match others(dhcp) {
                Ok(hosts) => Self { hosts, from: Some(CacheFrom::Dhcp), failed: None },
                Err(why) => named(once(own.unwrap_or_default()), Some(why)),
            },
        }
    }
}

/// What DHCP names, without this device itself and addresses that are nobody's: no request is to be led there.
fn others(dhcp: &DhcpCacheHosts) -> Result<Vec<CacheHost>, String> {
    let elsewhere = |host: &&CacheHost| {
        let name = host.host().strip_suffix('.').unwrap_or(host.host());
        let local = name == "localhost" || name.ends_with(".localhost");
        let nobody = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
        match name.parse::<IpAddr>() {
            Ok(ip) => !nobody(ip.to_canonical()),
            // `127.1` and `0x7f000001` are addresses too where URLs are read, and no name ends with a number.
            Err(_) => !local && !name.rsplit('.').next().is_some_and(is_number),
        }
    };
    let named = dhcp.0.as_ref().map_err(Clone::clone)?;
    let hosts: Vec<CacheHost> = named.iter().filter(elsewhere).cloned().collect();
    if hosts.is_empty() { Err("option 235 names no other device".to_owned()) } else { Ok(once(&hosts)) }
}

fn is_number(label: &str) -> bool {
    label.starts_with("0x") || label.bytes().all(|b| b.is_ascii_digit())
}

fn once(hosts: &[CacheHost]) -> Vec<CacheHost> {
    let mut all: Vec<CacheHost> = Vec::new();
    for host in hosts {
        if !all.contains(host) {
            all.push(host.clone());
        }
    }
    all
}

/// The rule: stands after those that may forbid caches altogether.
pub(crate) fn rule(case: &Case<'_>, decision: &mut Decision) {
    let settings = case.settings;
    let CacheChoice { hosts, from, failed } = CacheChoice::of(settings, &case.facts.dhcp_cache_hosts);
    if !decision.allowed.cache_server {
        return;
    }
    if let Some(why) = failed {
        decision.because(Reason::of_setting(Code::NoCacheFromDhcp { why }, Key::CacheHostSource, settings));
    }
    let Some(from) = from else { return };
    let refused = case.content.and_then(|content| {
        let verified =
            matches!(content.record, RecordState::Held(record) if record.check_time(case.now).is_ok());
        let named_by_anybody = from == CacheFrom::Dhcp && !verified;
        match content.origin {
            OriginUrl::Private => Some(Code::CachesNotForPrivate),
            OriginUrl::Secure if named_by_anybody => Some(Code::CachesUnproven { vpn: false }),
            // What comes through a VPN is not for whoever answers on the local link.
            OriginUrl::Clear if named_by_anybody && case.facts.vpn(&settings.vpn_keywords).is_some() => {
                Some(Code::CachesUnproven { vpn: true })
            }
            OriginUrl::Secure | OriginUrl::Clear => None,
        }
    });
    if let Some(code) = refused {
        decision.allowed.cache_server = false;
        decision.because(Reason::of_setting(code, from.key(), settings));
        return;
    }
    let names = hosts.iter().map(ToString::to_string).collect();
    decision.because(Reason::of_setting(Code::CachesNamed { hosts: names }, from.key(), settings));
    decision.caches = hosts;
}

/// The rule of the delay in favour of the caches: looks at what the others have left.
pub(crate) fn delay_rule(case: &Case<'_>, decision: &mut Decision) {
    let Some(content) = case.content.filter(|_| !decision.caches.is_empty()) else { return };
    let settings = case.settings;
    let (seconds, key) = match content.class {
        Class::Foreground => {
            (settings.delay_cache_server_fallback_foreground, Key::DelayCacheServerFallbackForeground)
        }
        Class::Background => {
            (settings.delay_cache_server_fallback_background, Key::DelayCacheServerFallbackBackground)
        }
    };
    if seconds > 0 {
        decision.limits.cache_delay = seconds;
        decision.because(Reason::of_setting(Code::CacheFallbackHeldBack { seconds }, key, settings));
    }
}

#[cfg(test)]
mod tests;
