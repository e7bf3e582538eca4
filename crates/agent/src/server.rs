//! The local API: HTTP over a unix socket, and beside it the socket that hands out finished files.
//!
//! Anyone on the device may download and look (as with DO's cmdlets); only root and the agent's own user may change the
//! cache, the enrolment or a setting. The caller is known from the socket (SO_PEERCRED), not from anything it says.

pub(crate) mod doctor;
pub(crate) mod downloads;
pub(crate) mod facts;
pub(crate) mod files;
pub(crate) mod handout;
mod naming;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod why;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::serve::IncomingStream;
use peerage_api::agent::{EnrollRequest, Health};
use peerage_api::{ApiError, Code};
use peerage_content::EnrolToken;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use crate::shared::Shared;

/// Longest request body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// A policy file of 256 KiB, escaped.
const MAX_POLICY_BODY: usize = 2 << 20;

/// Who is at the other end of the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Who {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|cred| cred.uid()) }
    }
}

/// A failure as an answer.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) ApiError);

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(ApiError::new(code, message))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<peerage_store::StoreError> for Failure {
    fn from(error: peerage_store::StoreError) -> Self {
        use peerage_store::StoreError as E;
        let code = match error {
            E::Removed { .. } | E::Unknown { .. } => Code::NotFound,
            E::Pinned { .. } | E::Busy { .. } => Code::Conflict,
            E::ExpiryTooFar { .. } => Code::BadRequest,
            _ => Code::Disk,
        };
        Self::new(code, crate::file_status::chain(&error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

/// A JSON body; what is wrong with it is told as every failure is.
#[derive(Debug)]
pub(crate) struct Input<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = Json::from_request(request, state).await;
        read.map(|Json(value)| Self(value)).map_err(|error| Failure::new(Code::BadRequest, error.body_text()))
    }
}

/// A query string; what is wrong with it is told as every failure is.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value))
            .map_err(|error| Failure::new(Code::BadRequest, error.body_text()))
    }
}

/// Whoever may change the device: root, or the user that the agent runs as.
pub(crate) struct Administrator;

impl FromRequestParts<Arc<Shared>> for Administrator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Shared>) -> Result<Self, Failure> {
        let who = ConnectInfo::<Who>::from_request_parts(parts, state).await.ok().and_then(|who| who.0.uid);
        let own = rustix::process::geteuid().as_raw();
        if who.is_some_and(|uid| uid == 0 || uid == own) {
            return Ok(Self);
        }
        Err(Failure::new(Code::Forbidden, "only root or the agent's own user may do this"))
    }
}

/// Both sockets, bound and not yet served.
pub(crate) struct Sockets {
    api: UnixListener,
    files: UnixListener,
    paths: [PathBuf; 2],
}

/// The socket that hands out files, beside the API's.
pub(crate) fn files_socket(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".files");
    PathBuf::from(name)
}

impl Sockets {
    /// Binds both. A socket file that nobody answers on is left over from a crash and replaced.
    pub(crate) fn bind(socket: &Path) -> io::Result<Self> {
        let paths = [socket.to_owned(), files_socket(socket)];
        if let Some(parent) = socket.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let [api, files] = [&paths[0], &paths[1]].map(|path| bind_one(path));
        Ok(Self { api: api?, files: files?, paths })
    }

    /// Serves both until the future is dropped.
    pub(crate) async fn serve(self, shared: Arc<Shared>) -> io::Result<()> {
        let _clean = CleanUp(self.paths);
        let app = routes(Arc::clone(&shared)).into_make_service_with_connect_info::<Who>();
        let files = handout::serve(Arc::clone(&shared), self.files);
        let api = async { axum::serve(self.api, app).await };
        tokio::select! {
            served = api => served,
            () = files => Ok(()),
        }
    }
}

fn bind_one(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let message = format!("another agent serves {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Removes the socket files when serving ends.
struct CleanUp([PathBuf; 2]);

impl Drop for CleanUp {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/doctor", get(doctor::doctor))
        .route("/v1/enroll", post(enroll))
        .route("/v1/config", get(settings::config))
        .route("/v1/settings/{name}", put(settings::set).delete(settings::unset))
        .route("/v1/policy/diff", post(settings::diff).layer(DefaultBodyLimit::max(MAX_POLICY_BODY)))
        .route("/v1/status", get(status::status))
        .route("/v1/why", get(why::why))
        .route("/v1/downloads", post(downloads::download))
        .route("/v1/files", get(files::list))
        .route("/v1/files/{id}", axum::routing::delete(files::remove))
        .route("/v1/files/{id}/{what}", post(files::change))
        .fallback(|| async { Failure::new(Code::NotFound, "no such thing in the agent's API") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(traced))
        .with_state(shared)
}

async fn traced(request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    tracing::debug!(what, status = response.status().as_u16(), "request");
    response
}

async fn health(State(shared): State<Arc<Shared>>) -> Json<Health> {
    Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_id: shared.identity.peer(),
        coordinator: shared.coordinator.url(),
        coordinator_reachable: shared.coordinator.is_reachable(),
        peers_listen: *shared.listening.borrow(),
        neighbours: shared.neighbours.now().len(),
    })
}

async fn enroll(
    State(shared): State<Arc<Shared>>,
    _: Administrator,
    Input(request): Input<EnrollRequest>,
) -> Result<Json<()>, Failure> {
    let token: EnrolToken =
        request.token.parse().map_err(|error| Failure::new(Code::BadRequest, format!("token: {error}")))?;
    shared.coordinator.enrol(&request.coordinator, &token).await?;
    shared.announcer.announce_all();
    Ok(Json(()))
}
