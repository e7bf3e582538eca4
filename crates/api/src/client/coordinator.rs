//! The coordinator's client, over HTTPS with kept-alive connections.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use peerage_content::{ContentId, EnrolToken, PeerId, PieceMap, SecretKey, Sha256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::http_json::{chain, failure, read, too_long, unreachable};
use super::trust::{SeenPin, TlsTrust, client_config};
use crate::coordinator::{
    AnnounceRequest, AnnounceResponse, Device, EnrollRequest, EnrollResponse, Health, IngestRequest,
    NewTokenRequest, NewTokenResponse, PublishRequest, PublishResponse, ResolveRequest, ResolveResponse,
    SessionRequest, SessionResponse, enroll_proof, session_proof,
};
use crate::{ApiError, Code};

const WHO: &str = "coordinator";
/// Longest JSON answer read. A thousand contents with peers stay below it.
pub(super) const MAX_ANSWER: usize = 32 << 20;
/// Longest piece map read: that of 1 TiB is 32 MiB and a head.
const MAX_MAP: usize = (32 << 20) + 64;
/// A session is renewed this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Shows a dead HTTP/2 connection (a NAT that forgot it) before the next request runs into it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How the coordinator is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The local address to connect from.
    pub local_address: Option<IpAddr>,
    /// Time to connect and agree on TLS.
    pub connect_timeout: Duration,
    /// Time for a whole request, beside what it asks the coordinator to wait.
    pub timeout: Duration,
    /// A proxy (`http://…`) to go through; the environment's proxy variables are not read.
    pub proxy: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            local_address: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
            proxy: None,
        }
    }
}

/// The endpoints that need no credentials. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct CoordinatorClient {
    http: reqwest::Client,
    base: Url,
    trust: TlsTrust,
    seen: SeenPin,
    timeout: Duration,
}

impl CoordinatorClient {
    /// A client of the coordinator at `base_url` (`https://host[:port]`). Connects nowhere yet.
    ///
    /// # Errors
    /// [`Code::BadRequest`]: the URL or the roots are unusable.
    pub fn new(base_url: &str, trust: TlsTrust) -> Result<Self, ApiError> {
        Self::with_options(base_url, trust, ClientOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_options(base_url: &str, trust: TlsTrust, options: ClientOptions) -> Result<Self, ApiError> {
        let bad = |why: String| ApiError::new(Code::BadRequest, why);
        let base = base_of(base_url).map_err(|why| bad(format!("coordinator url: {why}")))?;
        let (tls, seen) = client_config(&trust).map_err(|error| bad(error.to_string()))?;
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("Peerage/", env!("CARGO_PKG_VERSION")))
            // A coordinator never redirects, and credentials must not follow somebody who does.
            .redirect(reqwest::redirect::Policy::none())
            .local_address(options.local_address)
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_initial_stream_window_size(1 << 20)
            .no_proxy();
        let builder = match &options.proxy {
            None => builder,
            Some(proxy) => {
                builder.proxy(reqwest::Proxy::all(proxy).map_err(|error| bad(format!("proxy: {error}")))?)
            }
        };
        let http = builder.build().map_err(|error| bad(chain(&error)))?;
        Ok(Self { http, base, trust, seen, timeout: options.timeout })
    }

    /// `GET /v1/health`.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn health(&self) -> Result<Health, ApiError> {
        self.ask(Method::GET, "v1/health", None, None::<&()>, Duration::ZERO).await?.json()
    }

    /// `POST /v1/enroll`: joins the device that holds `key`.
    ///
    /// # Errors
    /// Unreachable; [`Code::Unauthorized`] when the token is unknown, used up or expired.
    pub async fn enroll(
        &self,
        token: &EnrolToken,
        key: &SecretKey,
        name: &str,
    ) -> Result<EnrollResponse, ApiError> {
        let (peer, secret) = (key.public(), URL_SAFE_NO_PAD.encode(token.secret));
        let proof = URL_SAFE_NO_PAD.encode(key.sign(&enroll_proof(&peer, &secret)).0);
        let request = EnrollRequest { peer, secret, name: name.to_owned(), proof };
        self.ask(Method::POST, "v1/enroll", None, Some(&request), Duration::ZERO).await?.json()
    }

    /// The endpoints of an enrolled device.
    pub fn device(&self, credentials: DeviceCredentials) -> DeviceClient {
        DeviceClient { client: self.clone(), credentials, session: Arc::default() }
    }

    /// The endpoints of an administrator or publisher.
    pub fn admin(&self, token: &EnrolToken) -> AdminClient {
        AdminClient { client: self.clone(), bearer: bearer_of(token) }
    }

    /// The key of the coordinator: the pinned one, or the one that it shows.
    async fn pin(&self) -> Result<Sha256, ApiError> {
        if let TlsTrust::Pin(pin) = self.trust {
            return Ok(pin);
        }
        if self.seen.get().is_none() {
            self.health().await?;
        }
        self.seen.get().ok_or_else(|| unreachable(WHO, "it showed no certificate"))
    }

    async fn ask<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&T>,
        extra: Duration,
    ) -> Result<Answer, ApiError> {
        self.ask_limited(method, path, bearer, body, extra, MAX_ANSWER).await
    }

    async fn ask_limited<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&T>,
        extra: Duration,
        limit: usize,
    ) -> Result<Answer, ApiError> {
        let url = self.base.join(path).map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
        let mut request = self.http.request(method, url).timeout(self.timeout + extra);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response =
            request.send().await.map_err(|error| unreachable(WHO, chain(&error.without_url())))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(bytes) =
            response.chunk().await.map_err(|error| unreachable(WHO, chain(&error.without_url())))?
        {
            if body.len() + bytes.len() > limit {
                return Err(too_long(WHO, limit));
            }
            body.extend_from_slice(&bytes);
        }
        if status.is_success() { Ok(Answer { status, body }) } else { Err(failure(WHO, status, &body)) }
    }
}

/// The `Authorization: Bearer` value of an admin token: its secret.
pub fn bearer_of(token: &EnrolToken) -> String {
    URL_SAFE_NO_PAD.encode(token.secret)
}

fn base_of(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() != "https" {
        return Err(format!("scheme is {:?}, allowed is \"https\"", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("it may carry neither credentials nor a query".into());
    }
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

pub(super) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read(WHO, &self.body)
    }
}

/// Who a device is.
#[derive(Debug, Clone)]
pub struct DeviceCredentials {
    /// Its key.
    pub key: SecretKey,
}

struct Session {
    token: String,
    renew_at: Instant,
    answer: SessionResponse,
}

/// The endpoints of an enrolled device. Opens and renews its session by itself. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct DeviceClient {
    client: CoordinatorClient,
    credentials: DeviceCredentials,
    session: Arc<Mutex<Option<Session>>>,
}

impl std::fmt::Debug for DeviceClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceClient")
            .field("base", &self.client.base.as_str())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl DeviceClient {
    /// What the coordinator said when the session in use was opened; opens one if need be. `fresh` asks again: for
    /// the clock, the trusted keys and the address that the device is seen at.
    ///
    /// # Errors
    /// Unreachable; [`Code::Unauthorized`] when the device is not (or no longer) enrolled.
    pub async fn session(&self, fresh: bool) -> Result<SessionResponse, ApiError> {
        if !fresh && let Some(answer) = self.with_session(|session| session.answer.clone()) {
            return Ok(answer);
        }
        self.open().await
    }

    /// `POST /v1/resolve`.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ApiError> {
        let wait = Duration::from_millis(request.wait_ms);
        self.ask(Method::POST, "v1/resolve", Some(request), wait, MAX_ANSWER).await?.json()
    }

    /// `POST /v1/announce`.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn announce(&self, request: &AnnounceRequest) -> Result<AnnounceResponse, ApiError> {
        self.ask(Method::POST, "v1/announce", Some(request), Duration::ZERO, MAX_ANSWER).await?.json()
    }

    /// `GET /v1/maps/{id}`, proven against `id`.
    ///
    /// # Errors
    /// Unreachable; [`Code::NotFound`]; [`Code::Integrity`] when what came is not the map of `id`.
    pub async fn map(&self, id: ContentId) -> Result<PieceMap, ApiError> {
        // Half a minute for a map of 32 MiB over a slow link, on top of the usual time.
        let extra = Duration::from_secs(30);
        let answer = self.ask(Method::GET, &format!("v1/maps/{id}"), None::<&()>, extra, MAX_MAP).await?;
        PieceMap::from_bytes(&answer.body, id)
            .map_err(|error| ApiError::new(Code::Integrity, error.to_string()))
    }

    pub(super) async fn ask<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
        extra: Duration,
        limit: usize,
    ) -> Result<Answer, ApiError> {
        let token = match self.with_session(|session| session.token.clone()) {
            Some(token) => token,
            None => self.open().await?.token,
        };
        let ask = |token: String, method: Method| async move {
            self.client.ask_limited(method, path, Some(&token), body, extra, limit).await
        };
        match ask(token, method.clone()).await {
            // The session may have ended early (another coordinator key, a clock that jumped): once more with a new one.
            Err(error) if error.code == Code::Unauthorized => ask(self.open().await?.token, method).await,
            other => other,
        }
    }

    fn with_session<T>(&self, read: impl FnOnce(&Session) -> T) -> Option<T> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.as_ref().filter(|session| Instant::now() < session.renew_at).map(read)
    }

    async fn open(&self) -> Result<SessionResponse, ApiError> {
        let (peer, pin) = (self.credentials.key.public(), self.client.pin().await?);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let proof = URL_SAFE_NO_PAD.encode(self.credentials.key.sign(&session_proof(&peer, time, &pin)).0);
        let request = SessionRequest { peer, time, proof };
        let answer: SessionResponse = self
            .client
            .ask(Method::POST, "v1/session", None, Some(&request), Duration::ZERO)
            .await?
            .json()?;
        let life = Duration::from_secs(answer.expires_in.min(86_400)).saturating_sub(RENEW_BEFORE);
        let session =
            Session { token: answer.token.clone(), renew_at: Instant::now() + life, answer: answer.clone() };
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        Ok(answer)
    }
}

/// What became of an [`IngestRequest`].
#[derive(Debug, Clone)]
pub enum Ingested {
    /// The content is registered.
    Done(Box<PublishResponse>),
    /// Still being fetched.
    Pending {
        /// Bytes fetched so far.
        fetched: u64,
        /// Size, when known.
        size: Option<u64>,
    },
}

/// The endpoints of an administrator or publisher. Cheap to clone.
#[derive(Clone)]
pub struct AdminClient {
    client: CoordinatorClient,
    bearer: String,
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminClient").field("base", &self.client.base.as_str()).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// `GET /v1/health`, with its counts.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn health(&self) -> Result<Health, ApiError> {
        self.ask(Method::GET, "v1/health", None::<&()>, Duration::ZERO).await?.json()
    }

    /// `POST /v1/publish`.
    ///
    /// # Errors
    /// Unreachable; [`Code::Integrity`] when the map does not prove the id.
    pub async fn publish(&self, request: &PublishRequest) -> Result<PublishResponse, ApiError> {
        // A map of 32 MiB over a slow link takes a while.
        self.ask(Method::POST, "v1/publish", Some(request), Duration::from_secs(30)).await?.json()
    }

    /// `POST /v1/ingest`.
    ///
    /// # Errors
    /// Unreachable; [`Code::Guarded`] or [`Code::Origin`] when the URL will not or cannot be fetched.
    pub async fn ingest(&self, request: &IngestRequest) -> Result<Ingested, ApiError> {
        let wait = Duration::from_millis(request.wait_ms);
        let answer = self.ask(Method::POST, "v1/ingest", Some(request), wait).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Ok(Ingested::Done(Box::new(answer.json()?)));
        }
        match answer.json()? {
            ResolveResponse::Pending { fetched, size } => Ok(Ingested::Pending { fetched, size }),
            _ => Err(ApiError::new(Code::Internal, "coordinator accepted without saying how far it is")),
        }
    }

    /// `POST /v1/tokens`.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn new_token(&self, request: &NewTokenRequest) -> Result<NewTokenResponse, ApiError> {
        self.ask(Method::POST, "v1/tokens", Some(request), Duration::ZERO).await?.json()
    }

    /// `GET /v1/devices`.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn devices(&self) -> Result<Vec<Device>, ApiError> {
        self.ask(Method::GET, "v1/devices", None::<&()>, Duration::ZERO).await?.json()
    }

    /// `DELETE /v1/devices/{peer}`.
    ///
    /// # Errors
    /// Unreachable; [`Code::NotFound`].
    pub async fn revoke(&self, peer: PeerId) -> Result<(), ApiError> {
        self.ask(Method::DELETE, &format!("v1/devices/{peer}"), None::<&()>, Duration::ZERO).await.map(drop)
    }

    pub(super) async fn ask<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
        extra: Duration,
    ) -> Result<Answer, ApiError> {
        self.client.ask(method, path, Some(&self.bearer), body, extra).await
    }
}
