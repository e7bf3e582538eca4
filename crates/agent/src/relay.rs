//! Ways through the coordinator's relay, to peers of other sites that cannot be reached otherwise.
//!
//! Who cannot reach a peer asks the coordinator, which calls the peer in answer to the question for its policy that the
//! peer always has out ([`crate::fleet`]). Both then connect to the relay and speak to each other as over any connection:
//! keys, tickets and hellos are the same, and the relay sees ciphertext. Invariant: neither side does so while its own
//! policy does not allow it, nor with a peer of its own site.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peerage_api::coordinator::{NoRelay, RelayCall, RelayRequest, RelayResponse};
use peerage_api::why::Because;
use peerage_content::{ContentId, PeerId, RelayToken};
use peerage_policy::Reason;
use peerage_swarm::SourceKind;
use peerage_transport::{Connection, Relayed, TransportError};
use tokio::time::Instant;

use crate::admission::{self, Admitted, Refused};
use crate::content::Command;
use crate::policy::PolicyView;
use crate::shared::Shared;
use crate::why;

/// A coordinator without a relay is not asked again for so long.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Addresses of the coordinator that are tried.
const MAX_ADDRESSES: usize = 4;

/// What is known of the relay.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// There is none; until then nobody asks.
    off: Mutex<Option<Instant>>,
}

/// Why a peer that could not be reached was not met through the relay either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// This device's policy does not allow it.
    Forbidden,
    /// The coordinator says no.
    Refused(NoRelay),
    /// The coordinator or its relay did not answer, or the peer did not come.
    Failed,
}

impl Unmet {
    /// Said of one peer.
    pub(crate) const fn note(self) -> &'static str {
        match self {
            Self::Forbidden => "not reachable; allow_relay is off",
            Self::Refused(NoRelay::Off) => "not reachable; the coordinator has no relay",
            Self::Refused(NoRelay::NotCalled) => {
                "not reachable; it does not let itself be called to the relay"
            }
            Self::Refused(NoRelay::Full) => "not reachable; the relay is full",
            Self::Refused(_) | Self::Failed => "not reachable; the meeting at the relay failed",
        }
    }

    /// Said of a download, with what to change.
    pub(crate) fn because(self, policy: &PolicyView) -> Because {
        let (code, what, remedy) = match self {
            Self::Forbidden => {
                return why::because(&Reason::relay_forbidden(&policy.settings), &policy.layers);
            }
            Self::Refused(NoRelay::Off) => (
                "relay_off",
                "the coordinator has no relay",
                "give `relay = true` in the coordinator's configuration",
            ),
            Self::Refused(NoRelay::NotCalled) => (
                "relay_not_called",
                "they do not let themselves be called to the relay: allow_relay is off there, or they are gone",
                "give true for allow_relay on those devices, too",
            ),
            Self::Refused(NoRelay::Full) => (
                "relay_full",
                "the coordinator's relay carries as many connections as it may",
                "raise relay_connections in the coordinator's configuration",
            ),
            Self::Refused(_) | Self::Failed => (
                "relay_failed",
                "the meeting at the coordinator's relay failed",
                "let plain TCP pass to the coordinator's port: a reverse proxy that ends TLS does not carry the relay",
            ),
        };
        Because {
            code: code.to_owned(),
            sentence: format!("peers of other sites could not be reached, and {what}"),
            remedy: Some(remedy.to_owned()),
            ..Because::default()
        }
    }
}

/// A connection to `peer`, after no direct one could be made.
pub(crate) async fn connect(shared: &Shared, peer: PeerId, content: ContentId) -> Result<Connection, Unmet> {
    if shared.relay.off.lock().is_some_and(|until| Instant::now() < until) {
        return Err(Unmet::Refused(NoRelay::Off));
    }
    let token = match shared.coordinator.relay(&RelayRequest { peer, content }).await {
        Ok(RelayResponse::Calling { token }) => token,
        Ok(RelayResponse::Refused { why: NoRelay::Off }) => return Err(is_off(shared)),
        Ok(RelayResponse::Refused { why }) => return Err(Unmet::Refused(why)),
        Err(error) => {
            tracing::debug!(peer = %peer.short(), %error, "no way through the relay");
            return Err(Unmet::Failed);
        }
    };
    at_the_relay(shared, End::Asks, token, peer).await.map_err(|error| {
        tracing::debug!(peer = %peer.short(), error = crate::file_status::chain(&error), "no meeting at the relay");
        Unmet::Failed
    })
}

fn is_off(shared: &Shared) -> Unmet {
    *shared.relay.off.lock() = Some(Instant::now() + ASK_AGAIN);
    Unmet::Refused(NoRelay::Off)
}

/// Goes to the relay that a peer has called this device to.
pub(crate) fn answer(shared: &Arc<Shared>, call: RelayCall) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let peer = call.peer.short();
        match receive(&shared, call).await {
            Ok(()) => tracing::debug!(peer, "a peer called this device to the relay"),
            Err(why) => tracing::debug!(peer, why, "a call to the relay came to nothing"),
        }
    });
}

async fn receive(shared: &Arc<Shared>, call: RelayCall) -> Result<(), String> {
    let RelayCall { token, peer, content } = call;
    if !shared.decide_device().allowed.relay.any() || shared.is_banned(&peer) {
        return Err("policy does not allow it, or the peer is banned".to_owned());
    }
    let connection = at_the_relay(shared, End::IsCalled, token, peer).await;
    let connection = connection.map_err(|error| crate::file_status::chain(&error))?;
    let (handle, admitted) =
        admission::receive(shared, connection).await.map_err(|refused: Refused| refused.to_string())?;
    // By its ticket it is at this site, or it claims to be a neighbour on the link: such a one needs no relay.
    let far = matches!(admitted.kind, SourceKind::Group | SourceKind::Internet);
    if !far || handle.id != content {
        return Err("the peer is not who or where the coordinator says".to_owned());
    }
    handle.tell(Command::Connected(Box::new(Admitted { relayed: true, ..admitted }))).await;
    Ok(())
}

/// Which end of the meeting this device is.
#[derive(Debug, Clone, Copy)]
enum End {
    Asks,
    IsCalled,
}

/// Meets a peer; tries the coordinator's addresses until one can be connected to.
async fn at_the_relay(
    shared: &Shared,
    end: End,
    token: RelayToken,
    peer: PeerId,
) -> Result<Connection, TransportError> {
    let mut last = TransportError::Ended;
    for relay in addresses(shared).await {
        let (meeting, options) = (Relayed { relay, token, peer }, shared.options_towards(relay));
        let met = match end {
            End::Asks => meeting.connect(&shared.identity, &options).await,
            End::IsCalled => meeting.accept(&shared.identity, &options).await,
        };
        match met {
            // The token is still good: nobody has shown it.
            Err(error @ (TransportError::Connect { .. } | TransportError::ConnectTimeout { .. })) => {
                last = error
            }
            met => return met,
        }
    }
    Err(last)
}

/// Where the coordinator is.
async fn addresses(shared: &Shared) -> Vec<SocketAddr> {
    let Some((host, port)) = shared.coordinator.host_and_port() else { return Vec::new() };
    match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(found) => found.take(MAX_ADDRESSES).collect(),
        Err(error) => {
            tracing::debug!(host, %error, "the coordinator's name is not known");
            Vec::new()
        }
    }
}
