//! The handlers: unpack, ask the part that knows, pack.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use peerage_api::Code;
use peerage_api::coordinator::{
    AnnounceRequest, AnnounceResponse, Counts, Device, EnrollRequest, EnrollResponse, Health, HistoryQuery,
    IngestRequest, NewTokenRequest, NewTokenResponse, PolicyQuery, PolicyResponse, PolicyRevision,
    PublishRequest, PublishResponse, PushPolicyRequest, RelayRequest, RelayResponse, RemovePolicyRequest,
    ResolveRequest, ResolveResponse, RollbackRequest, SessionRequest, SessionResponse,
};
use peerage_content::{ContentId, PeerId};

use super::gate::{Caller, Door, administrator};
use super::io::{Input, Output};
use crate::state::{Failure, Shared};

type Answer<T> = Result<Output<T>, Failure>;

fn ok<T>(value: T) -> Answer<T> {
    Ok(Output(StatusCode::OK, value))
}

pub(super) async fn nowhere() -> Failure {
    Failure::new(Code::NotFound, "there is no such endpoint")
}

// Rate-limited like the other two that anybody may ask: counting is not free.
pub(super) async fn health(State(state): State<Shared>, Door(_): Door, headers: HeaderMap) -> Answer<Health> {
    // Strangers need not know how large the fleet is.
    let counts = match administrator(&state, &headers) {
        Ok(()) => Some(Counts {
            contents: state.records.count().await?,
            devices: state.roster.len() as u64,
            members: state.registry.members().await,
            relay: state.relay.as_ref().map(|relay| relay.counts()),
        }),
        Err(_) => None,
    };
    ok(Health { version: env!("CARGO_PKG_VERSION").to_owned(), counts })
}

pub(super) async fn enroll(
    State(state): State<Shared>,
    Door(seen): Door,
    Input(request): Input<EnrollRequest>,
) -> Answer<EnrollResponse> {
    ok(state.enrol(seen, &request).await?)
}

pub(super) async fn session(
    State(state): State<Shared>,
    Door(seen): Door,
    Input(request): Input<SessionRequest>,
) -> Answer<SessionResponse> {
    ok(state.open_session(seen, &request)?)
}

pub(super) async fn resolve(
    State(state): State<Shared>,
    Caller { peer, seen }: Caller,
    Input(request): Input<ResolveRequest>,
) -> Answer<ResolveResponse> {
    ok(state.resolve(peer, seen, request).await?)
}

pub(super) async fn announce(
    State(state): State<Shared>,
    Caller { peer, seen }: Caller,
    Input(request): Input<AnnounceRequest>,
) -> Answer<AnnounceResponse> {
    ok(state.announce(peer, seen, &request).await?)
}

pub(super) async fn relay(
    State(state): State<Shared>,
    Caller { peer, .. }: Caller,
    Input(request): Input<RelayRequest>,
) -> Answer<RelayResponse> {
    ok(state.meet(peer, request).await?)
}

pub(super) async fn map(
    State(state): State<Shared>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let id: ContentId = id.parse().map_err(|error| Failure::bad(format!("content id: {error}")))?;
    let map: Option<Bytes> = state.records.map(id).await?;
    let map = map.ok_or_else(|| Failure::new(Code::NotFound, "there is no piece map of this content"))?;
    Ok(([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")], map))
}

type Asked<T> = Result<Query<T>, QueryRejection>;

fn asked<T>(query: Asked<T>) -> Result<T, Failure> {
    query.map(|Query(query)| query).map_err(|error| Failure::bad(format!("query: {}", error.body_text())))
}

pub(super) async fn policy(
    State(state): State<Shared>,
    Caller { peer, seen }: Caller,
    query: Asked<PolicyQuery>,
) -> Answer<PolicyResponse> {
    ok(state.policy(peer, seen, &asked(query)?).await?)
}

pub(super) async fn policies(
    State(state): State<Shared>,
    query: Asked<HistoryQuery>,
) -> Answer<Vec<PolicyRevision>> {
    ok(state.policy_history(&asked(query)?).await?)
}

pub(super) async fn push_policy(
    State(state): State<Shared>,
    Input(request): Input<PushPolicyRequest>,
) -> Answer<PolicyRevision> {
    ok(state.push_policy(request).await?)
}

pub(super) async fn roll_back_policy(
    State(state): State<Shared>,
    Input(request): Input<RollbackRequest>,
) -> Answer<PolicyRevision> {
    ok(state.roll_back_policy(&request).await?)
}

pub(super) async fn remove_policy(
    State(state): State<Shared>,
    Input(request): Input<RemovePolicyRequest>,
) -> Answer<PolicyRevision> {
    ok(state.remove_policy(&request).await?)
}

pub(super) async fn publish(
    State(state): State<Shared>,
    Input(request): Input<PublishRequest>,
) -> Answer<PublishResponse> {
    ok(state.publish(request).await?)
}

pub(super) async fn ingest(
    State(state): State<Shared>,
    Input(request): Input<IngestRequest>,
) -> Result<axum::response::Response, Failure> {
    Ok(match state.ingest(&request).await? {
        Ok(done) => Output(StatusCode::OK, done).into_response(),
        Err(pending) => Output(StatusCode::ACCEPTED, pending).into_response(),
    })
}

pub(super) async fn tokens(
    State(state): State<Shared>,
    Input(request): Input<NewTokenRequest>,
) -> Answer<NewTokenResponse> {
    ok(state.new_token(&request).await?)
}

pub(super) async fn devices(State(state): State<Shared>) -> Answer<Vec<Device>> {
    ok(state.devices().await?)
}

pub(super) async fn revoke(
    State(state): State<Shared>,
    Path(peer): Path<String>,
) -> Result<StatusCode, Failure> {
    let peer: PeerId = peer.parse().map_err(|error| Failure::bad(format!("peer id: {error}")))?;
    state.revoke(peer).await?;
    Ok(StatusCode::NO_CONTENT)
}
