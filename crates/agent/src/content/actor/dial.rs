//! The way to a peer: its own addresses first, then, for a peer of another site, the relay.

use std::net::SocketAddr;

use peerage_content::{PeerId, Scope};
use peerage_store::Content;
use peerage_swarm::{Event, SourceKind};
use peerage_transport as transport;

use crate::admission::{self, Admitted};
use crate::content::Command;
use crate::relay::{self, Unmet};
use crate::shared::Shared;

/// Connects to a peer; what comes of it is for the actor. `relay`: whether policy lets it be met there, if it is of another site.
pub(super) async fn reach(
    shared: &Shared,
    peer: PeerId,
    addresses: &[SocketAddr],
    kind: SourceKind,
    relay: Option<bool>,
    content: &Content,
) -> Command {
    let failed = match dial(shared, peer, addresses, kind, content).await {
        Ok(admitted) => return Command::Connected(Box::new(admitted)),
        Err(failed) => failed,
    };
    tracing::debug!(peer = %peer.short(), %failed, ?relay, "no direct connection");
    let met = match (failed, relay) {
        (Failed::Unreached(_), Some(true)) => meet(shared, peer, kind, content).await,
        (Failed::Unreached(_), Some(false)) => Err(Unmet::Forbidden),
        (Failed::Unreached(_), None) | (Failed::Refused(_), _) => {
            return Command::Event(Event::DialFailed { peer });
        }
    };
    match met {
        Ok(admitted) => Command::Connected(Box::new(admitted)),
        Err(why) => Command::Unmet { peer, why },
    }
}

/// The scope of a peer of another site.
pub(super) const fn far_scope(kind: SourceKind) -> Option<Scope> {
    match kind {
        SourceKind::Group => Some(Scope::Group),
        SourceKind::Internet => Some(Scope::Internet),
        _ => None,
    }
}

/// Why there is no direct connection.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// Nobody is to be found at its addresses, or somebody else.
    #[error("not reachable: {0}")]
    Unreached(String),
    /// It is there, and does not take us in.
    #[error(transparent)]
    Refused(#[from] admission::Refused),
}

/// Meets a peer at the relay and exchanges hellos.
async fn meet(shared: &Shared, peer: PeerId, kind: SourceKind, content: &Content) -> Result<Admitted, Unmet> {
    let connection = relay::connect(shared, peer, content.id()).await?;
    let (id, layout, have) = (content.id(), content.layout(), content.have());
    let greeted = admission::greet(shared, connection, kind, id, layout, have).await;
    let admitted = greeted.map_err(|refused| {
        tracing::debug!(peer = %peer.short(), %refused, "met at the relay, to no end");
        Unmet::Failed
    })?;
    Ok(Admitted { relayed: true, ..admitted })
}

/// Connects to one of a peer's addresses and exchanges hellos.
async fn dial(
    shared: &Shared,
    peer: PeerId,
    addresses: &[SocketAddr],
    kind: SourceKind,
    content: &Content,
) -> Result<Admitted, Failed> {
    let mut why = "no address".to_owned();
    for address in addresses {
        let options = shared.options_towards(*address);
        match transport::connect(*address, peer, &shared.identity, &options).await {
            Ok(connection) => {
                let have = content.have();
                let greeted =
                    admission::greet(shared, connection, kind, content.id(), content.layout(), have);
                return Ok(greeted.await?);
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(Failed::Unreached(why))
}
