//! The client: one request, its redirects, and the judgement of its answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, IF_RANGE, PROXY_AUTHORIZATION,
    RANGE, USER_AGENT,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use url::Url;

use crate::answer::{Answer, location};
use crate::body::{Limits, RangeBody};
use crate::connect::{Connector, WantsLogin};
use crate::error::find;
use crate::headers::{digits, is_strong_etag};
use crate::proxy::{Route, Routes};
use crate::resolve::Names;
use crate::script_source::Scripts;
use crate::{
    ConfigError, Failure, Intake, Known, OriginConfig, OriginError, OriginInfo, RangeRequest, SourceUrl,
    WayOut, tls,
};

/// Redirects followed by one request.
pub const MAX_REDIRECTS: usize = 10;

/// Ways out whose connections are kept.
const MAX_CLIENTS: usize = 16;

const AGENT: &str = concat!("Peerage/", env!("CARGO_PKG_VERSION"));
/// Idle connections are kept this long; servers close theirs after 5 to 75 s, and a reused dead one costs a round trip.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// HTTP/2 flow-control windows. The stream's bounds what is in flight when a body is dropped, and the speed at a
/// long round trip: 4 MiB carry 335 Mbit/s at 100 ms.
const H2_STREAM_WINDOW: u32 = 4 << 20;
const H2_CONNECTION_WINDOW: u32 = 16 << 20;

type Client = legacy::Client<Connector, Empty<Bytes>>;

/// Fetches ranges from HTTP origins. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct OriginClient {
    shared: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    config: OriginConfig,
    tls: ClientConfig,
    routes: Arc<Routes>,
    /// One for each way out that has been gone, for every request that is not held to addresses of its own.
    clients: Mutex<Vec<(Route, Client)>>,
}

impl OriginClient {
    /// Makes a client. Reads the system's root certificates, connects nowhere.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: OriginConfig) -> Result<Self, ConfigError> {
        let tls = tls::client_config(&config)?;
        let routes = Arc::new(Routes::new(&config)?);
        Ok(Self { shared: Arc::new(Parts { config, tls, routes, clients: Mutex::default() }) })
    }

    /// The same client with connections of its own, which `intake` is told of. What is known of proxies is shared.
    #[must_use]
    pub fn with_intake(&self, intake: Arc<dyn Intake>) -> Self {
        let Parts { config, tls, routes, .. } = &*self.shared;
        let config = OriginConfig { intake: Some(intake), ..config.clone() };
        let (tls, routes) = (tls.clone(), Arc::clone(routes));
        Self { shared: Arc::new(Parts { config, tls, routes, clients: Mutex::default() }) }
    }

    /// The network is another one: whatever is asked from now on goes over new connections. What is under way is not touched.
    pub fn reconnect(&self) {
        self.shared.clients.lock().clear();
        self.shared.routes.moved();
    }

    /// Says where this network has proxy auto-configuration scripts; `None`: somebody is looking, and requests wait for the
    /// answer, for up to 10 s. Heeded with [`ProxyMode::Discover`](crate::ProxyMode::Discover) alone.
    pub fn scripts(&self, scripts: Option<Scripts>) {
        if let Some(auto) = self.shared.routes.auto() {
            auto.look_at(scripts);
        }
    }

    /// Reads the proxy auto-configuration script now, if one is configured and has not been read of late.
    pub async fn read_script(&self) {
        if let Some(auto) = self.shared.routes.auto() {
            auto.read().await;
        }
    }

    /// What is known of the way that requests go out.
    pub fn way_out(&self) -> WayOut {
        self.shared.routes.way_out()
    }

    /// Asks for a range, and returns once the head of the answer has been found good.
    ///
    /// `known` is what the file is expected to be: with a strong ETag the origin is asked to send the range only if
    /// it still has that (`If-Range`, RFC 9110 §13.1.5), and an answer that contradicts what is known is an error. An
    /// origin that ignores ranges answers with the whole file: see [`RangeBody::start`].
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn open(
        &self,
        url: &SourceUrl,
        range: RangeRequest,
        known: &Known,
    ) -> Result<RangeBody, OriginError> {
        if let Some(to) = range.to.filter(|to| *to <= range.from) {
            return Err(OriginError::new(url, Failure::EmptyRange { from: range.from, to }));
        }
        let limits = Limits::new(self.shared.config.guard.as_ref());
        let headers = range_headers(range, known);
        let (at, response) = self.follow(&Method::GET, url, &headers, &limits).await?;
        let (status, length) = (response.status(), response.body().size_hint().exact());
        let answer = Answer::to_get(status, response.headers(), length, range, known, SystemTime::now())
            .and_then(|answer| {
                limits.check_size(answer.found.size.or(answer.end).unwrap_or(0))?;
                Ok(answer)
            })
            .map_err(|failure| OriginError::new(&at, failure))?;
        Ok(RangeBody::new(at, answer, response.into_body(), self.shared.config.read_timeout, limits))
    }

    /// Asks what the origin holds: by HEAD, and where HEAD is refused or tells no size, by asking for the first byte.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn probe(&self, url: &SourceUrl) -> Result<OriginInfo, OriginError> {
        match self.head(url).await {
            Ok(info) if info.size.is_some() => return Ok(info),
            Ok(_) => {}
            // URLs signed for GET answer 403 to HEAD, simple servers 400, 405 or 501, some encode what HEAD describes.
            Err(error) => match error.failure {
                Failure::Status { .. } | Failure::Denied { .. } | Failure::Header { .. } => {}
                _ => return Err(error),
            },
        }
        let first = RangeRequest { from: 0, to: Some(1) };
        let body = match self.open(url, first, &Known::default()).await {
            // An empty file has no first byte.
            Err(OriginError { failure: Failure::OutOfRange { .. }, .. }) => {
                self.open(url, RangeRequest::ALL, &Known::default()).await?
            }
            other => other?,
        };
        Ok(body.info().clone())
    }

    /// Whether the guard lets `url` be fetched, its name resolved but nothing asked of it. Without a guard: always.
    ///
    /// For a fetch that somebody else (a connected cache) carries out.
    ///
    /// # Errors
    /// [`OriginError`], of the kinds `Refused` and `Dns`.
    pub async fn vet(&self, url: &SourceUrl) -> Result<(), OriginError> {
        let limits = Limits::new(self.shared.config.guard.as_ref());
        let vetted = async {
            for route in self.shared.routes.to(url).await {
                self.client_for(url, &route, &limits).await?;
            }
            Ok::<(), Failure>(())
        };
        vetted.await.map_err(|failure| OriginError::new(url, failure))
    }

    async fn head(&self, url: &SourceUrl) -> Result<OriginInfo, OriginError> {
        let limits = Limits::new(self.shared.config.guard.as_ref());
        let headers = range_headers(RangeRequest::ALL, &Known::default());
        let (at, response) = self.follow(&Method::HEAD, url, &headers, &limits).await?;
        // A HEAD has no body whose length the library could tell.
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| digits(value.to_str().ok()?));
        let answer = Answer::to_head(response.status(), response.headers(), length, SystemTime::now())
            .and_then(|answer| {
                limits.check_size(answer.end.unwrap_or(0))?;
                Ok(answer)
            })
            .map_err(|failure| OriginError::new(&at, failure))?;
        let Known { size, validators } = answer.found;
        Ok(OriginInfo { final_url: at, size, validators, supports_ranges: answer.supports_ranges })
    }

    /// Sends a request, and the same one again to wherever the answers redirect.
    async fn follow(
        &self,
        method: &Method,
        url: &SourceUrl,
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<(SourceUrl, Response<Incoming>), OriginError> {
        let mut at = url.clone();
        let limit = self.shared.config.redirects;
        for _ in 0..=limit {
            let fail = |failure| OriginError::new(&at, failure);
            let response = self.send(method, &at, headers, limits).await.map_err(fail)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((at, response));
            }
            let next = self.next_hop(&at, &response).map_err(fail)?;
            tracing::debug!(from = %at, to = %next, "redirected");
            at = next;
        }
        Err(OriginError::new(&at, Failure::Redirects { limit }))
    }

    fn next_hop(&self, at: &SourceUrl, response: &Response<Incoming>) -> Result<SourceUrl, Failure> {
        let next = at.join(location(response.headers())?).map_err(Failure::Location)?;
        if let Some(guard) = &self.shared.config.guard {
            guard.check_redirect(at, &next)?;
        }
        Ok(next)
    }

    /// Sends a request along the first way that can be connected to.
    async fn send(
        &self,
        method: &Method,
        url: &SourceUrl,
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Response<Incoming>, Failure> {
        let Parts { config, routes, .. } = &*self.shared;
        let ways = limits.wait(config.connect_timeout, routes.to(url)).await?;
        let mut last = None;
        for route in ways {
            let client = self.client_for(url, &route, limits).await?;
            let request = self.request(method, url, headers, &route)?;
            // The connection has its own, shorter time-out inside of this one.
            let patience = config.connect_timeout.saturating_add(config.read_timeout);
            let error = match limits.wait(patience, client.request(request)).await? {
                Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    return Err(routes.refused(&route));
                }
                Ok(response) => {
                    routes.works(&route);
                    return Ok(response);
                }
                Err(error) => error,
            };
            if find::<WantsLogin>(&error).is_some() {
                return Err(routes.refused(&route));
            }
            let failure = Failure::of_transfer(&error, &url.host().to_string(), 0, None);
            if !error.is_connect() {
                return Err(failure);
            }
            let failure = match (route.name(), failure) {
                (Some(proxy), Failure::Connect { cause }) => Failure::ProxyConnect { proxy, cause },
                (_, failure) => failure,
            };
            if route != Route::Direct {
                tracing::debug!(?route, %failure, "proxy cannot be used");
                routes.failed(&route);
            }
            last.get_or_insert(failure);
        }
        // There is at least one way.
        Err(last.unwrap_or(Failure::Connect { cause: "no way out".to_owned() }))
    }

    fn request(
        &self,
        method: &Method,
        url: &SourceUrl,
        headers: &HeaderMap,
        route: &Route,
    ) -> Result<Request<Empty<Bytes>>, Failure> {
        let malformed = |error: &dyn std::error::Error| Failure::Malformed { cause: error.to_string() };
        let mut bare = url.as_url().clone();
        // Neither can fail for a URL with a host.
        let _ = bare.set_username("").and_then(|()| bare.set_password(None));
        let uri: Uri = bare.as_str().parse().map_err(|error: http::uri::InvalidUri| malformed(&error))?;
        let mut headers = headers.clone();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        // The dot that makes a name absolute is for resolvers; servers know themselves without it.
        if let Some(authority) = uri.authority().filter(|at| !url.is_https() && at.host().ends_with('.')) {
            let port = authority.port().map_or_else(String::new, |port| format!(":{port}"));
            let host = format!("{}{port}", authority.host().trim_end_matches('.'));
            headers.insert(HOST, HeaderValue::try_from(host).map_err(|error| malformed(&error))?);
        }
        if url.has_credentials() {
            headers.insert(AUTHORIZATION, basic(url.as_url()).map_err(|error| malformed(&error))?);
        }
        if let Some(value) = route.authorization(&uri) {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        let mut request = Request::new(Empty::new());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method.clone(), uri, headers);
        Ok(request)
    }

    /// The HTTP client for one hop. A guarded hop has one of its own, which knows only the addresses that passed.
    async fn client_for(&self, url: &SourceUrl, route: &Route, limits: &Limits) -> Result<Client, Failure> {
        let Parts { config, tls, .. } = &*self.shared;
        let Some(guard) = &config.guard else { return Ok(self.common_client(route)) };
        if *route != Route::Direct {
            guard.check_by_name(url)?;
            return Ok(self.common_client(route));
        }
        let addresses = limits.wait(config.connect_timeout, guard.admit(url, &*config.resolver)).await??;
        Ok(build(Connector::new(config, tls, Route::Direct, Names::Pinned(addresses))))
    }

    fn common_client(&self, route: &Route) -> Client {
        let Parts { config, tls, clients, .. } = &*self.shared;
        let mut clients = clients.lock();
        if let Some((_, client)) = clients.iter().find(|(one, _)| one == route) {
            return client.clone();
        }
        if clients.len() >= MAX_CLIENTS {
            // The oldest; what it is doing goes on.
            clients.remove(0);
        }
        let names = Names::Asked(Arc::clone(&config.resolver));
        let client = build(Connector::new(config, tls, route.clone(), names));
        clients.push((route.clone(), client.clone()));
        client
    }
}

fn range_headers(range: RangeRequest, known: &Known) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(range) = range.header().and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(RANGE, range);
        let tag = &known.validators.etag;
        // Only with a strong tag: bytes of two files must never be joined on a weak one (RFC 9110 §13.1.5).
        if is_strong_etag(tag)
            && let Ok(tag) = HeaderValue::from_str(tag)
        {
            headers.insert(IF_RANGE, tag);
        }
    }
    headers
}

/// What a URL's user name and password are as a header (RFC 7617 §2).
fn basic(url: &Url) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut text = percent_decode_str(url.username()).collect::<Vec<u8>>();
    text.push(b':');
    text.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value =
        HeaderValue::try_from(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)))?;
    value.set_sensitive(true);
    Ok(value)
}

fn build(connector: Connector) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http2_initial_stream_window_size(H2_STREAM_WINDOW)
        .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
        .build(connector)
}
