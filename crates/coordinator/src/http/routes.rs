//! The table of routes. Default-deny by construction: the only way to add a route is [`Routes::add`], which takes its
//! auth class and puts the gate before the handler; a test knocks at every listed route without credentials.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};
use http::Method;

use super::gate::{Gate, pass};
use super::handlers as h;
use crate::state::Shared;

/// Bodies of this size need no thought.
const SMALL: usize = 64 << 10;
/// A policy of 32 KiB, escaped.
const POLICY: usize = 256 << 10;
/// A thousand items.
const ANNOUNCE: usize = 1 << 20;
/// The map of 1 TiB in base64url, and the rest of a publish request.
const PUBLISH: usize = 45 << 20;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Anybody: it checks by itself what it must.
    None,
    /// An enrolled device with a session.
    Session,
    /// Whoever holds the admin token.
    Admin,
}

/// One route as it was added.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) auth: Auth,
}

struct Routes {
    router: Router<Shared>,
    listed: Vec<Listed>,
    state: Shared,
}

impl Routes {
    fn add<H, T>(
        mut self,
        (filter, method): (MethodFilter, Method),
        path: &'static str,
        auth: Auth,
        body: usize,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let gate = Gate { auth, state: self.state.clone() };
        let route = on(filter, handler)
            .route_layer(DefaultBodyLimit::max(body))
            .route_layer(from_fn_with_state(gate, pass));
        self.router = self.router.route(path, route);
        self.listed.push(Listed { method, path, auth });
        self
    }
}

const GET: (MethodFilter, Method) = (MethodFilter::GET, Method::GET);
const POST: (MethodFilter, Method) = (MethodFilter::POST, Method::POST);
const DELETE: (MethodFilter, Method) = (MethodFilter::DELETE, Method::DELETE);

fn routes(state: Shared) -> Routes {
    use Auth::{Admin, None, Session};
    Routes { router: Router::new(), listed: Vec::new(), state }
        .add(GET, "/v1/health", None, 0, h::health)
        .add(POST, "/v1/enroll", None, SMALL, h::enroll)
        .add(POST, "/v1/session", None, SMALL, h::session)
        .add(POST, "/v1/resolve", Session, SMALL, h::resolve)
        .add(POST, "/v1/announce", Session, ANNOUNCE, h::announce)
        .add(GET, "/v1/maps/{id}", Session, 0, h::map)
        .add(GET, "/v1/policy", Session, 0, h::policy)
        .add(POST, "/v1/relay", Session, SMALL, h::relay)
        .add(GET, "/v1/policies", Admin, 0, h::policies)
        .add(POST, "/v1/policies", Admin, POLICY, h::push_policy)
        .add(POST, "/v1/policies/rollback", Admin, SMALL, h::roll_back_policy)
        .add(POST, "/v1/policies/remove", Admin, SMALL, h::remove_policy)
        .add(POST, "/v1/publish", Admin, PUBLISH, h::publish)
        .add(POST, "/v1/ingest", Admin, SMALL, h::ingest)
        .add(POST, "/v1/tokens", Admin, SMALL, h::tokens)
        .add(GET, "/v1/devices", Admin, 0, h::devices)
        .add(DELETE, "/v1/devices/{peer}", Admin, 0, h::revoke)
}

/// The router over all routes.
pub(crate) fn router(state: Shared) -> Router {
    let Routes { router, state, listed } = routes(state);
    for Listed { method, path, auth } in listed {
        tracing::debug!(%method, path, ?auth, "route");
    }
    router.fallback(h::nowhere).method_not_allowed_fallback(h::nowhere).with_state(state)
}

/// All routes, for the test that knocks at each.
#[cfg(test)]
pub(crate) fn listed(state: Shared) -> Vec<Listed> {
    routes(state).listed
}
