//! The coordinator's client, over HTTPS with kept-alive connections: requests, answers, and what needs no credentials.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use peerage_content::{EnrolToken, SecretKey, Sha256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::admin::{AdminClient, bearer_of};
use super::device::{DeviceClient, DeviceCredentials};
use super::http_json::{chain, failure, read, too_long, unreachable};
use super::trust::{SeenPin, TlsTrust, client_config};
use crate::coordinator::{EnrollRequest, EnrollResponse, Health, enroll_proof};
use crate::{ApiError, Code};

const WHO: &str = "coordinator";
/// Longest JSON answer read. A thousand contents with peers stay below it.
pub(super) const MAX_ANSWER: usize = 32 << 20;
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
    pub(super) base: Url,
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

    /// How messages name the other side.
    fn who(&self) -> String {
        format!("{WHO} {}", self.base.as_str().trim_end_matches('/'))
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
        DeviceClient::new(self.clone(), credentials)
    }

    /// The endpoints of an administrator or publisher.
    pub fn admin(&self, token: &EnrolToken) -> AdminClient {
        AdminClient::new(self.clone(), bearer_of(token))
    }

    /// The key of the coordinator: the pinned one, or the one that it shows.
    pub(super) async fn pin(&self) -> Result<Sha256, ApiError> {
        if let TlsTrust::Pin(pin) = self.trust {
            return Ok(pin);
        }
        if self.seen.get().is_none() {
            self.health().await?;
        }
        self.seen.get().ok_or_else(|| unreachable(WHO, "it showed no certificate"))
    }

    pub(super) async fn ask<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&T>,
        extra: Duration,
    ) -> Result<Answer, ApiError> {
        self.ask_limited(method, path, bearer, body, extra, MAX_ANSWER).await
    }

    pub(super) async fn ask_limited<T: Serialize + ?Sized>(
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
            request.send().await.map_err(|error| unreachable(&self.who(), chain(&error.without_url())))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(bytes) =
            response.chunk().await.map_err(|error| unreachable(&self.who(), chain(&error.without_url())))?
        {
            if body.len() + bytes.len() > limit {
                return Err(too_long(WHO, limit));
            }
            body.extend_from_slice(&bytes);
        }
        if status.is_success() { Ok(Answer { status, body }) } else { Err(failure(WHO, status, &body)) }
    }
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
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read(WHO, &self.body)
    }
}
