//! The coordinator's endpoints for an administrator or publisher.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use peerage_content::{EnrolToken, PeerId};
use serde::Serialize;

use super::coordinator::{Answer, CoordinatorClient};
use crate::coordinator::{
    Device, Health, IngestRequest, NewTokenRequest, NewTokenResponse, PublishRequest, PublishResponse,
    ResolveResponse,
};
use crate::{ApiError, Code};

/// The `Authorization: Bearer` value of an admin token: its secret.
pub fn bearer_of(token: &EnrolToken) -> String {
    URL_SAFE_NO_PAD.encode(token.secret)
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
    pub(super) const fn new(client: CoordinatorClient, bearer: String) -> Self {
        Self { client, bearer }
    }

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
        match answer.json::<ResolveResponse>()? {
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
