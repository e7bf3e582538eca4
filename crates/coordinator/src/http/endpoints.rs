//! The endpoints: unpack, ask the part that knows, pack.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use peerage_api::Code;
use peerage_api::coordinator::{AnnounceRequest, Counts, Health, ResolveRequest};
use peerage_content::{ContentId, PeerId};

use super::gate::{administrator, device};
use super::io::{Ask, Reply, json, ok, reply};
use crate::state::{Failure, Parts, Shared};

/// What a request can ask for, and who may.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint {
    /// Anybody: it checks by itself what it must.
    Open(ForAll),
    /// An enrolled device with a session.
    Device(ForDevices),
    /// Whoever holds the admin token.
    Admin(ForAdmins),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ForAll {
    Health,
    Enroll,
    Session,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ForDevices {
    Resolve,
    Announce,
    Map,
    Policy,
    Relay,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ForAdmins {
    Policies,
    PushPolicy,
    RollBackPolicy,
    RemovePolicy,
    Publish,
    Ingest,
    Tokens,
    Devices,
    Revoke,
}

/// A device with a session, and the address that it is seen at.
struct Caller {
    peer: PeerId,
    seen: IpAddr,
}

impl Endpoint {
    /// Asks for the credentials, then does what is asked.
    pub(super) async fn answer(self, state: &Shared, remote: SocketAddr, ask: Ask) -> Result<Reply, Failure> {
        let seen = state.proxies.client(remote.ip(), &ask.head.headers);
        // What is rare is boxed, so that an announce does not carry the room for it.
        match self {
            Self::Device(endpoint) => {
                let peer = device(state, &ask.head.headers)?;
                endpoint.answer(state, Caller { peer, seen }, ask).await
            }
            Self::Open(endpoint) => {
                // Before the body is read.
                state.admit(seen)?;
                Box::pin(endpoint.answer(state, seen, ask)).await
            }
            Self::Admin(endpoint) => {
                administrator(state, &ask.head.headers)?;
                Box::pin(endpoint.answer(state, ask)).await
            }
        }
    }
}

impl ForAll {
    async fn answer(self, state: &Shared, seen: IpAddr, ask: Ask) -> Result<Reply, Failure> {
        match self {
            Self::Health => ok(&health(state, &ask).await?),
            Self::Enroll => ok(&state.enrol(seen, &ask.body().await?).await?),
            Self::Session => ok(&state.open_session(seen, &ask.body().await?)?),
        }
    }
}

// Rate-limited like the other two that anybody may ask: counting is not free.
async fn health(state: &Parts, ask: &Ask) -> Result<Health, Failure> {
    // Strangers need not know how large the fleet is.
    let counts = match administrator(state, &ask.head.headers) {
        Ok(()) => Some(Counts {
            contents: state.records.count().await?,
            devices: state.roster.len() as u64,
            members: state.registry.members().await,
            relay: state.relay.as_ref().map(|relay| relay.counts()),
        }),
        Err(_) => None,
    };
    Ok(Health { version: env!("CARGO_PKG_VERSION").to_owned(), counts })
}

impl ForDevices {
    async fn answer(self, state: &Shared, caller: Caller, ask: Ask) -> Result<Reply, Failure> {
        let Caller { peer, seen } = caller;
        match self {
            Self::Announce => {
                let request: AnnounceRequest = ask.body().await?;
                let answer = state.announce(peer, seen, &request).await?;
                Ok(reply(StatusCode::OK, "application/json", answer))
            }
            Self::Resolve => {
                let request: ResolveRequest = ask.body().await?;
                ok(&Box::pin(state.resolve(peer, seen, request)).await?)
            }
            Self::Map => Box::pin(map(state, &ask)).await,
            Self::Policy => ok(&Box::pin(state.policy(peer, seen, &ask.query()?)).await?),
            Self::Relay => ok(&Box::pin(state.meet(peer, ask.body().await?)).await?),
        }
    }
}

async fn map(state: &Parts, ask: &Ask) -> Result<Reply, Failure> {
    let id: ContentId = ask.name().parse().map_err(|error| Failure::bad(format!("content id: {error}")))?;
    let map = state.records.map(id).await?;
    let map = map.ok_or_else(|| Failure::new(Code::NotFound, "there is no piece map of this content"))?;
    Ok(reply(StatusCode::OK, "application/octet-stream", map))
}

impl ForAdmins {
    async fn answer(self, state: &Shared, ask: Ask) -> Result<Reply, Failure> {
        match self {
            Self::Policies => ok(&state.policy_history(&ask.query()?).await?),
            Self::PushPolicy => ok(&state.push_policy(ask.body().await?).await?),
            Self::RollBackPolicy => ok(&state.roll_back_policy(&ask.body().await?).await?),
            Self::RemovePolicy => ok(&state.remove_policy(&ask.body().await?).await?),
            Self::Publish => ok(&state.publish(ask.body().await?).await?),
            Self::Ingest => Ok(match state.ingest(&ask.body().await?).await? {
                Ok(done) => json(StatusCode::OK, &done),
                Err(pending) => json(StatusCode::ACCEPTED, &pending),
            }),
            Self::Tokens => ok(&state.new_token(&ask.body().await?).await?),
            Self::Devices => ok(&state.devices().await?),
            Self::Revoke => {
                let peer: PeerId =
                    ask.name().parse().map_err(|error| Failure::bad(format!("peer id: {error}")))?;
                state.revoke(peer).await?;
                let mut done = Reply::default();
                *done.status_mut() = StatusCode::NO_CONTENT;
                Ok(done)
            }
        }
    }
}
