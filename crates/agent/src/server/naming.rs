//! The group of the device and the caches that DHCP names, as `GET /v1/config` shows them.

use peerage_policy::{CacheChoice, CacheFrom, CacheHost, DhcpCacheHosts, GroupChoice, GroupIdSource, Key};
use serde::Serialize;

use crate::caches::Rest;
use crate::shared::Shared;

/// The group of the device and how it was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Group {
    group_id: Option<String>,
    /// As reports show it (DO reference §1.3).
    hashed_group_id: Option<String>,
    /// `group_id`, or the source that named it.
    source: Option<&'static str>,
    failed: Vec<Silent>,
}

/// A source that names no group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Silent {
    source: &'static str,
    why: String,
}

/// What DHCP option 235 says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CacheHosts {
    hosts: Vec<String>,
    why_none: Option<String>,
}

/// The connected caches in use, in the order in which they are tried.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CachesInUse {
    hosts: Vec<Cache>,
    /// Who named them: `cache_host` or `dhcp_option`.
    source: Option<&'static str>,
    /// Why DHCP named none, where it was asked.
    why_none: Option<String>,
}

/// One of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cache {
    host: String,
    /// Seconds for which it is left alone, because it failed.
    out_of_use: Option<u64>,
    why: Option<String>,
    /// Whose files it is not asked for; `None`: anybody's.
    origin: Option<String>,
}

impl CachesInUse {
    pub(super) fn of(shared: &Shared, choice: CacheChoice) -> Self {
        let now = shared.clock.now();
        let state = |host: &CacheHost| {
            let rest = shared.caches.out_of_use(host, now);
            let host = host.to_string();
            match rest {
                None => Cache { host, out_of_use: None, why: None, origin: None },
                Some(Rest { left, why, origin }) => {
                    Cache { host, out_of_use: Some(left.as_secs()), why: Some(why), origin }
                }
            }
        };
        Self {
            hosts: choice.hosts.iter().map(state).collect(),
            source: choice.from.map(CacheFrom::name),
            why_none: choice.failed,
        }
    }
}

impl Group {
    pub(super) fn of(choice: &GroupChoice) -> Self {
        let failed =
            choice.failed.iter().map(|(source, why)| Silent { source: source.name(), why: why.clone() });
        Self {
            group_id: choice.group.map(|group| group.to_string()),
            hashed_group_id: choice.group.map(|group| group.reported_hash()),
            source: choice.source.map(GroupIdSource::name).or(choice.group.map(|_| Key::GroupId.name())),
            failed: failed.collect(),
        }
    }
}

impl CacheHosts {
    pub(super) fn of(found: &DhcpCacheHosts) -> Self {
        match &found.0 {
            Ok(hosts) => Self { hosts: hosts.iter().map(ToString::to_string).collect(), why_none: None },
            Err(why) => Self { hosts: Vec::new(), why_none: Some(why.clone()) },
        }
    }
}
