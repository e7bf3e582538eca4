//! What a decision allows: sources, and with whom a content is shared.

use std::net::IpAddr;

use peerage_content::{Scope, ScopeSet};

use crate::{Facts, GroupId};

/// Which sources may be used, and with whom the content is shared. The origin and connected caches may be used in every
/// mode (product §5), unless a condition of the device says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Ask the coordinator for records, maps and peers.
    pub coordinator: bool,
    /// Scopes whose peers may be fetched from, of those that the coordinator names.
    pub fetch: ScopeSet,
    /// Scopes whose peers may be served, likewise.
    pub serve: ScopeSet,
    /// What may be done with peers found by DNS-SD. They are asked when no coordinator names peers, and always where
    /// `fetch` is empty.
    pub link_local: LinkLocal,
    /// The group that the group scope means.
    pub group: Option<GroupId>,
    /// Peers whose addresses lie outside this device's own subnets ([`Facts::same_subnet`]).
    pub beyond_subnet: bool,
    /// What may be done through the coordinator's relay with peers of `fetch` and `serve` that cannot be reached otherwise.
    pub relay: Relay,
    /// Connected caches.
    pub cache_server: bool,
    /// The download may run now; of the device as a whole: some download may.
    pub download: bool,
}

/// What may be done with peers found by DNS-SD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLocal {
    /// Fetch from them.
    pub fetch: bool,
    /// Serve them.
    pub serve: bool,
    /// Only those that prove to be of [`Allowed::group`].
    pub of_group: bool,
}

impl LinkLocal {
    /// Nothing.
    pub const NONE: Self = Self { fetch: false, serve: false, of_group: false };

    /// Whether they are of any use.
    pub const fn any(self) -> bool {
        self.fetch || self.serve
    }
}

/// What may be done through the coordinator's relay: with peers of other sites alone, whatever `fetch` and `serve` allow besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Fetch through it.
    pub fetch: bool,
    /// Serve through it.
    pub serve: bool,
}

impl Relay {
    /// Nothing.
    pub const NONE: Self = Self { fetch: false, serve: false };

    /// Whether it is of any use.
    pub const fn any(self) -> bool {
        self.fetch || self.serve
    }
}

impl Allowed {
    /// Whether any peer may be fetched from.
    pub const fn fetch_any(&self) -> bool {
        !self.fetch.is_empty() || self.link_local.fetch
    }

    /// Whether any peer may be served.
    pub const fn serve_any(&self) -> bool {
        !self.serve.is_empty() || self.link_local.serve
    }

    /// Whether a peer that the coordinator named in this scope may be connected to through the relay.
    pub const fn through_relay(&self, scope: Scope) -> bool {
        let fetch = self.relay.fetch && self.fetch.contains(scope);
        let serve = self.relay.serve && self.serve.contains(scope);
        !matches!(scope, Scope::Lan) && (fetch || serve)
    }

    /// Whether a peer at `ip` that the coordinator named may be connected to and served.
    pub fn address(&self, ip: IpAddr, facts: &Facts) -> bool {
        self.beyond_subnet || facts.same_subnet(ip)
    }
}
