//! The table of routes, and the way of a request through it. Default-deny by construction: a route leads to an endpoint, an
//! endpoint is of one class, and nothing of a class is reached but through [`Endpoint::answer`], which asks for its credentials;
//! a test knocks at every route without any.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use peerage_api::Code;

use super::endpoints::Endpoint::{self, Admin, Device, Open};
use super::endpoints::{ForAdmins as A, ForAll as O, ForDevices as D};
use super::io::{Ask, Reply};
use crate::state::{Failure, Shared};

/// Bodies of this size need no thought.
const SMALL: usize = 64 << 10;
/// A policy of 32 KiB, escaped.
const POLICY: usize = 256 << 10;
/// A thousand items.
const ANNOUNCE: usize = 1 << 20;
/// The map of 1 TiB in base64url, and the rest of a publish request.
const PUBLISH: usize = 45 << 20;

/// Longest that a request may take, its body included: the longest poll, and the upload of a map over a slow link.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a request is, where it leads, and how large its body may be.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// `{…}` stands for one part.
    pub(crate) path: &'static str,
    pub(crate) endpoint: Endpoint,
    body: usize,
}

const fn get(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: Method::GET, path, endpoint, body: 0 }
}

const fn post(path: &'static str, endpoint: Endpoint, body: usize) -> Route {
    Route { method: Method::POST, path, endpoint, body }
}

/// All routes, the commonest first.
pub(crate) static ROUTES: [Route; 17] = [
    post("/v1/announce", Device(D::Announce), ANNOUNCE),
    get("/v1/policy", Device(D::Policy)),
    post("/v1/resolve", Device(D::Resolve), SMALL),
    get("/v1/maps/{id}", Device(D::Map)),
    post("/v1/relay", Device(D::Relay), SMALL),
    get("/v1/health", Open(O::Health)),
    post("/v1/enroll", Open(O::Enroll), SMALL),
    post("/v1/session", Open(O::Session), SMALL),
    get("/v1/policies", Admin(A::Policies)),
    post("/v1/policies", Admin(A::PushPolicy), POLICY),
    post("/v1/policies/rollback", Admin(A::RollBackPolicy), SMALL),
    post("/v1/policies/remove", Admin(A::RemovePolicy), SMALL),
    post("/v1/publish", Admin(A::Publish), PUBLISH),
    post("/v1/ingest", Admin(A::Ingest), SMALL),
    post("/v1/tokens", Admin(A::Tokens), SMALL),
    get("/v1/devices", Admin(A::Devices)),
    Route { method: Method::DELETE, path: "/v1/devices/{peer}", endpoint: Admin(A::Revoke), body: 0 },
];

impl Route {
    fn leads(&self, method: &Method, path: &str) -> bool {
        let same = match self.path.split_once('{') {
            None => self.path == path,
            Some((before, _)) => {
                path.strip_prefix(before).is_some_and(|name| !name.is_empty() && !name.contains('/'))
            }
        };
        same && (self.method == *method || (self.method == Method::GET && *method == Method::HEAD))
    }
}

/// Answers a request that came from `remote`.
pub(crate) async fn answer(state: Shared, remote: SocketAddr, request: Request<Incoming>) -> Reply {
    let (method, path) = (request.method(), request.uri().path());
    let Some(route) = ROUTES.iter().find(|route| route.leads(method, path)) else {
        return Failure::new(Code::NotFound, "there is no such endpoint").into();
    };
    let head_only = *method == Method::HEAD;
    let (head, body) = request.into_parts();
    let ask = Ask { head, body, limit: route.body };
    let answered = tokio::time::timeout(PATIENCE, route.endpoint.answer(&state, remote, ask)).await;
    let late = |_| Err(Failure::new(Code::NoProgress, "the request took longer than 90 s"));
    let mut reply = answered.unwrap_or_else(late).unwrap_or_else(Reply::from);
    if head_only {
        let length = reply.body().size_hint().lower();
        reply.headers_mut().insert(CONTENT_LENGTH, length.into());
        *reply.body_mut() = Full::<Bytes>::default();
    }
    reply
}
