//! The coordinator's endpoints for an enrolled device, and its session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use peerage_content::{ContentId, PieceMap, SecretKey};
use serde::Serialize;

use super::coordinator::{Answer, CoordinatorClient, MAX_ANSWER};
use crate::coordinator::{
    AnnounceRequest, AnnounceResponse, RelayRequest, RelayResponse, ResolveRequest, ResolveResponse,
    SessionRequest, SessionResponse, session_proof,
};
use crate::{ApiError, Code};

/// Longest piece map read: that of 1 TiB is 32 MiB and a head.
const MAX_MAP: usize = (32 << 20) + 64;
/// A session is renewed this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

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
    pub(super) fn new(client: CoordinatorClient, credentials: DeviceCredentials) -> Self {
        Self { client, credentials, session: Arc::default() }
    }

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

    /// `POST /v1/relay`.
    ///
    /// # Errors
    /// Unreachable; [`Code::TooMany`] when the device has asked too often.
    pub async fn relay(&self, request: &RelayRequest) -> Result<RelayResponse, ApiError> {
        self.ask(Method::POST, "v1/relay", Some(request), Duration::ZERO, MAX_ANSWER).await?.json()
    }

    /// Host and port of the coordinator, which are the relay's too.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let base = &self.client.base;
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = base.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some((host, base.port_or_known_default()?))
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
