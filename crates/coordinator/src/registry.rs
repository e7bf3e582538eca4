//! Soft state: who is in which swarm (architecture §5). Lost at a restart and healed by re-announce within one
//! interval, so nothing here is ever written down.

mod device;
mod memory;
mod swarm;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use peerage_content::{ContentId, PeerId, Scope, ScopeSet};
use peerage_swarm::matching::{GroupKey, Site};

pub(crate) use memory::MemoryRegistry;

use crate::tickets::Stub;

/// A device as its announce and the coordinator's own eyes describe it.
#[derive(Debug, Clone)]
pub(crate) struct Announcer {
    pub(crate) peer: PeerId,
    pub(crate) site: Site,
    /// Seen at a private address.
    pub(crate) inside: bool,
    pub(crate) group: Option<GroupKey>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// One content of an announce.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) content: ContentId,
    /// What both the device's policy and the record allow; never empty.
    pub(crate) scopes: ScopeSet,
    pub(crate) seed: bool,
    /// Peers asked for.
    pub(crate) want: usize,
}

/// A device's place in a swarm.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// In the order of arrival, from 0.
    pub(crate) ordinal: u32,
    /// Devices that share a scope with this one, itself included. In a large swarm an estimate by circles.
    pub(crate) members: u32,
    /// How many of them are seeds.
    pub(crate) seeds: u32,
    /// The ticket remembered from before.
    pub(crate) ticket: Option<Stub>,
    /// Peers, best first.
    pub(crate) peers: Vec<Neighbour>,
}

/// A peer to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Who it is and where: the beginning of its `PeerInfo` in JSON, up to and without the scope. Written once for each
    /// device, since every announce of a download names fifty.
    pub(crate) entry: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) seed: bool,
}

/// Keeps swarms. `now` counts seconds from any fixed moment and never runs backwards.
pub(crate) trait SwarmRegistry: Send + Sync {
    /// Notes that a device is in these swarms; one seat for each claim.
    fn announce<'a>(
        &'a self,
        device: &'a Announcer,
        claims: &'a [Claim],
        now: u32,
    ) -> BoxFuture<'a, Vec<Seat>>;

    /// Notes that a device has left these swarms.
    fn leave<'a>(&'a self, peer: PeerId, contents: &'a [ContentId]) -> BoxFuture<'a, ()>;

    /// Takes a device out of all swarms: it was revoked.
    fn banish(&self, peer: PeerId) -> BoxFuture<'_, ()>;

    /// Whether `asker` may be told of `other` in this swarm, as of a device of another site.
    fn introduces<'a>(
        &'a self,
        asker: &'a PeerId,
        other: &'a PeerId,
        content: ContentId,
    ) -> BoxFuture<'a, bool>;

    /// Remembers a ticket, if the device is still in the swarm.
    fn keep_ticket(&self, peer: PeerId, content: ContentId, ticket: Stub) -> BoxFuture<'_, ()>;

    /// Forgets members not heard of since `before`.
    fn expire(&self, before: u32) -> BoxFuture<'_, ()>;

    /// Members of all swarms.
    fn members(&self) -> BoxFuture<'_, u64>;
}
