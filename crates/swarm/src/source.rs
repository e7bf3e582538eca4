//! Sources: where pieces come from. One shape, five kinds that differ in price and manners (architecture §2.4).

use serde::{Deserialize, Serialize};

/// A source of one transfer; given by the driver, never reused within a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// The kinds of sources, named as DO's reports name them (product §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SourceKind {
    /// A peer found by DNS-SD.
    LinkLocal,
    /// A peer of the same site.
    Lan,
    /// A peer of the same group in another site.
    Group,
    /// Any other peer.
    Internet,
    /// A connected cache.
    CacheServer,
    /// The HTTP origin.
    Cdn,
}

impl SourceKind {
    /// Whether it is a device that shares.
    pub const fn is_peer(self) -> bool {
        !matches!(self, Self::CacheServer | Self::Cdn)
    }

    /// Whether it is on this side of the Internet link.
    pub const fn is_near(self) -> bool {
        matches!(self, Self::Lan | Self::LinkLocal)
    }
}

/// Bytes by kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ByKind {
    /// DNS-SD peers.
    pub link_local: u64,
    /// LAN peers.
    pub lan: u64,
    /// Group peers.
    pub group: u64,
    /// Internet peers.
    pub internet: u64,
    /// Connected caches.
    pub cache_server: u64,
    /// The origin.
    pub cdn: u64,
}

impl ByKind {
    /// The counter of one kind.
    pub const fn get_mut(&mut self, kind: SourceKind) -> &mut u64 {
        match kind {
            SourceKind::LinkLocal => &mut self.link_local,
            SourceKind::Lan => &mut self.lan,
            SourceKind::Group => &mut self.group,
            SourceKind::Internet => &mut self.internet,
            SourceKind::CacheServer => &mut self.cache_server,
            SourceKind::Cdn => &mut self.cdn,
        }
    }

    /// From or to peers of any kind.
    pub const fn peers(&self) -> u64 {
        self.link_local + self.lan + self.group + self.internet
    }

    /// From origin and caches.
    pub const fn http(&self) -> u64 {
        self.cache_server + self.cdn
    }

    /// Both together.
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            link_local: self.link_local + other.link_local,
            lan: self.lan + other.lan,
            group: self.group + other.group,
            internet: self.internet + other.internet,
            cache_server: self.cache_server + other.cache_server,
            cdn: self.cdn + other.cdn,
        }
    }

    /// What has been counted after `earlier`.
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            link_local: self.link_local.saturating_sub(earlier.link_local),
            lan: self.lan.saturating_sub(earlier.lan),
            group: self.group.saturating_sub(earlier.group),
            internet: self.internet.saturating_sub(earlier.internet),
            cache_server: self.cache_server.saturating_sub(earlier.cache_server),
            cdn: self.cdn.saturating_sub(earlier.cdn),
        }
    }

    /// All of it.
    pub const fn total(&self) -> u64 {
        self.peers() + self.http()
    }
}
