//! The relay: how a device asks for a way to a peer that it cannot reach, and how that peer is called.

use peerage_content::{ContentId, PeerId, RelayToken};
use serde::{Deserialize, Serialize};

/// Asks for a way to a peer through the relay, after no direct one was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRequest {
    /// The peer, as the coordinator has named it.
    pub peer: PeerId,
    /// The content in whose swarm both are.
    pub content: ContentId,
}

/// Whether there is a way through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RelayResponse {
    /// The peer is being called. The relay is where the coordinator is: same address, same port.
    Calling {
        /// Lets this device in there, once and within seconds.
        token: RelayToken,
    },
    /// There is none.
    Refused {
        /// Why.
        why: NoRelay,
    },
}

/// Why there is no way through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoRelay {
    /// The coordinator's administrator has not switched it on.
    Off,
    /// The peer has not said that it may be called: its policy does not allow it, or it is not there.
    NotCalled,
    /// The two are in no swarm of this content in which they may meet, or are at one site.
    NotNamed,
    /// As much is being relayed as may be, over all devices or for one of the two.
    Full,
    /// The peer has called this device, or is being connected with it already.
    Connected,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

/// A peer waits at the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCall {
    /// Lets this device in there, once and within seconds.
    pub token: RelayToken,
    /// Who waits.
    pub peer: PeerId,
    /// For what.
    pub content: ContentId,
}

/// What the relay does and has done since the coordinator started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RelayCounts {
    /// Devices that say now that they may be called.
    pub callable: u64,
    /// Connections that it carries now.
    pub open: u64,
    /// Connections that it has carried, those among them.
    pub connections: u64,
    /// Bytes that it has passed on, each counted once.
    pub bytes: u64,
    /// Meetings that it had no room for.
    pub turned_away: u64,
}
