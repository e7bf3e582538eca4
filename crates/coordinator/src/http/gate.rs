//! The gate before every handler: where the request comes from, whose it is, and how long it may take.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts as Head;
use peerage_api::Code;
use peerage_content::{EnrolToken, PeerId};
use subtle::ConstantTimeEq;

use super::routes::Auth;
use crate::state::{Failure, Parts, Shared};

/// Longest that a request may take, its body included: the longest poll, and the upload of a map over a slow link.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is known of who asks: by the server from the start, by the gate once it has looked. One value, since each
/// extension of a request is an allocation, and announces are many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visitor {
    /// The other end of the connection.
    remote: SocketAddr,
    /// The address that the device is seen at, behind known proxies too.
    seen: Option<IpAddr>,
    /// The device whose session was shown.
    device: Option<PeerId>,
}

impl Visitor {
    pub(crate) const fn at(remote: SocketAddr) -> Self {
        Self { remote, seen: None, device: None }
    }
}

/// A device with a session, and the address that it is seen at.
pub(super) struct Caller {
    pub(super) peer: PeerId,
    pub(super) seen: IpAddr,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Head, _: &S) -> Result<Self, Failure> {
        match head.extensions.get() {
            Some(Visitor { seen: Some(seen), device: Some(peer), .. }) => {
                Ok(Self { peer: *peer, seen: *seen })
            }
            _ => Err(Failure::new(Code::Internal, "the gate before this endpoint asks for no session")),
        }
    }
}

/// The source address of a request without credentials, once the rate limit has let it in: before its body is read.
pub(super) struct Door(pub(super) IpAddr);

impl FromRequestParts<Shared> for Door {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Head, state: &Shared) -> Result<Self, Failure> {
        let seen = head.extensions.get().and_then(|visitor: &Visitor| visitor.seen).ok_or_else(no_address)?;
        state.admit(seen)?;
        Ok(Self(seen))
    }
}

fn no_address() -> Failure {
    Failure::new(Code::Internal, "the connection has no address")
}

/// What stands before one route.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) auth: Auth,
    pub(super) state: Shared,
}

/// Lets a request through to its handler, or not.
pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match admit(&gate, &mut request) {
        Ok(()) => {}
        Err(failure) => return failure.into_response(),
    }
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::new(Code::NoProgress, "the request took longer than 90 s").into_response(),
    }
}

fn admit(gate: &Gate, request: &mut Request) -> Result<(), Failure> {
    let Gate { auth, state } = gate;
    // Without an address nothing can be limited or matched; the server always sets one.
    let visitor: Visitor = *request.extensions().get().ok_or_else(no_address)?;
    let seen = state.proxies.client(visitor.remote.ip(), request.headers());
    let device = match auth {
        Auth::None => None,
        Auth::Session => Some(device(state, request.headers())?),
        Auth::Admin => {
            administrator(state, request.headers())?;
            None
        }
    };
    if let Some(visitor) = request.extensions_mut().get_mut::<Visitor>() {
        (visitor.seen, visitor.device) = (Some(seen), device);
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Failure::new(Code::Unauthorized, "no bearer token"))
}

fn device(state: &Parts, headers: &HeaderMap) -> Result<PeerId, Failure> {
    let session = state
        .sessions
        .check(bearer(headers)?, state.clock.unix())
        .filter(|session| state.roster.honours(session))
        .ok_or_else(|| Failure::new(Code::Unauthorized, "the session is unknown, ended or revoked"))?;
    Ok(session.peer)
}

/// The admin token: its secret alone, as the client sends it, or its whole text form, as it stands in the file.
pub(super) fn administrator(state: &Parts, headers: &HeaderMap) -> Result<(), Failure> {
    let denied = || Failure::new(Code::Unauthorized, "not the admin token");
    let text = bearer(headers)?;
    let secret: [u8; 16] = match text.parse::<EnrolToken>() {
        Ok(token) => token.secret,
        Err(_) => URL_SAFE_NO_PAD.decode(text).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(denied)?,
    };
    if bool::from(secret.ct_eq(&state.admin.secret)) { Ok(()) } else { Err(denied()) }
}
